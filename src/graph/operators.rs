//! `+ - * /` between tensors, results of tensors, and numbers, as Candle has them: each makes a
//! `Result`, and takes one on either side.

use super::node::LazyTensor;
use crate::error::{Error, Result};
use std::borrow::Borrow;
use std::ops::{Add, Div, Mul, Sub};

macro_rules! operator {
    ($trait:ident, $name:ident, $mul:expr, $add:expr) => {
        impl<B: Borrow<LazyTensor>> $trait<B> for LazyTensor {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: B) -> Self::Output {
                LazyTensor::$name(&self, rhs.borrow())
            }
        }

        impl<B: Borrow<LazyTensor>> $trait<B> for &LazyTensor {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: B) -> Self::Output {
                LazyTensor::$name(self, rhs.borrow())
            }
        }

        impl<B: Borrow<LazyTensor>> $trait<LazyTensor> for Result<B, Error> {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: LazyTensor) -> Self::Output {
                LazyTensor::$name(self?.borrow(), &rhs)
            }
        }

        impl<B: Borrow<LazyTensor>> $trait<&LazyTensor> for Result<B, Error> {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: &LazyTensor) -> Self::Output {
                LazyTensor::$name(self?.borrow(), rhs)
            }
        }

        impl<B: Borrow<LazyTensor>> $trait<Result<B, Error>> for LazyTensor {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: Result<B, Error>) -> Self::Output {
                LazyTensor::$name(&self, rhs?.borrow())
            }
        }

        impl<B: Borrow<LazyTensor>> $trait<Result<B, Error>> for &LazyTensor {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: Result<B, Error>) -> Self::Output {
                LazyTensor::$name(self, rhs?.borrow())
            }
        }

        impl $trait<f64> for LazyTensor {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: f64) -> Self::Output {
                self.affine($mul(rhs), $add(rhs))
            }
        }

        impl $trait<f64> for &LazyTensor {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: f64) -> Self::Output {
                self.affine($mul(rhs), $add(rhs))
            }
        }
    };
}

operator!(Add, add, |_| 1.0, |v| v);
operator!(Sub, sub, |_| 1.0, |v: f64| -v);
operator!(Mul, mul, |v| v, |_| 0.0);
operator!(Div, div, |v| 1.0 / v, |_| 0.0);

macro_rules! number_first {
    ($trait:ident, $name:ident, |$lhs:ident, $rhs:ident| $make:expr) => {
        impl $trait<LazyTensor> for f64 {
            type Output = Result<LazyTensor>;

            fn $name(self, rhs: LazyTensor) -> Self::Output {
                self.$name(&rhs)
            }
        }

        impl $trait<&LazyTensor> for f64 {
            type Output = Result<LazyTensor>;

            fn $name(self, $rhs: &LazyTensor) -> Self::Output {
                let $lhs = self;
                $make
            }
        }
    };
}

number_first!(Add, add, |lhs, rhs| rhs.affine(1.0, lhs));
number_first!(Mul, mul, |lhs, rhs| rhs.affine(lhs, 0.0));
number_first!(Sub, sub, |lhs, rhs| rhs.affine(-1.0, lhs));
number_first!(Div, div, |lhs, rhs| rhs.recip()?.affine(lhs, 0.0));
