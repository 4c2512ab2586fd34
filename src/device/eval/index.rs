//! Operations that look things up by index.

use crate::error::Cause;
use crate::graph::Op;
use candle_core::{DType, Device, Error, Tensor};

type Result<T, E = Error> = std::result::Result<T, E>;

/// Runs an index operation. An index that is out of range is an error and never reaches a
/// device, where it would be the end of the whole context.
///
/// The largest value of the indices' dtype means "none", as in Candle: reading it gives zeros,
/// writing to it nothing.
pub(super) fn eval(op: &Op, inputs: &[&Tensor]) -> Result<Tensor, Cause> {
    if let (Op::IndexSelect(dim) | Op::Gather(dim), [x, ids])
    | (Op::ScatterAdd(dim) | Op::IndexAdd(dim), [x, ids, _]) = (op, inputs)
        && !ids.device().is_cpu()
    {
        check(ids, x.dims()[*dim])?;
    }
    run(op, inputs).map_err(cause)
}

fn run(op: &Op, inputs: &[&Tensor]) -> Result<Tensor> {
    match (op, inputs) {
        (Op::IndexSelect(dim), [x, ids]) => x.contiguous()?.index_select(&ids.contiguous()?, *dim),
        (Op::Gather(dim), [x, ids]) => gather(x, ids, *dim),
        (Op::ScatterAdd(dim), [x, ids, src]) => {
            x.contiguous()?
                .scatter_add(&ids.contiguous()?, &src.contiguous()?, *dim)
        }
        (Op::IndexAdd(dim), [x, ids, src]) => {
            x.contiguous()?
                .index_add(&ids.contiguous()?, &src.contiguous()?, *dim)
        }
        _ => unreachable!("the graph checked the number of operands"),
    }
}

/// Candle counts rows by the indices' shape, which is right only if the other dimensions of `x`
/// are no larger.
fn gather(x: &Tensor, ids: &Tensor, dim: usize) -> Result<Tensor> {
    let mut x = x.clone();
    for (i, &size) in ids.dims().iter().enumerate() {
        if i != dim && x.dims()[i] > size {
            x = x.narrow(i, 0, size)?;
        }
    }
    x.contiguous()?.gather(&ids.contiguous()?, dim)
}

/// Looks at the indices on the host.
fn check(ids: &Tensor, size: usize) -> Result<(), Cause> {
    let none = match ids.dtype() {
        DType::U8 => i64::from(u8::MAX),
        DType::I16 => i64::from(i16::MAX),
        DType::I32 => i64::from(i32::MAX),
        DType::U32 => i64::from(u32::MAX),
        _ => i64::MAX,
    };
    let values = |ids: &Tensor| -> Result<Vec<i64>> {
        let ids = ids.to_device(&Device::Cpu)?.to_dtype(DType::I64)?;
        ids.flatten_all()?.to_vec1()
    };
    for index in values(ids).map_err(Cause::Candle)? {
        let inside = usize::try_from(index).is_ok_and(|i| i < size);
        if !inside && index != none {
            return Err(Cause::IndexOutOfRange { index, size });
        }
    }
    Ok(())
}

/// Candle's word for an index out of range, in ours. Candle reads a negative index as a huge one.
fn cause(error: Error) -> Cause {
    fn look(error: &Error) -> Option<(usize, usize)> {
        match error {
            Error::InvalidIndex { index, size, .. } => Some((*index, *size)),
            Error::WithBacktrace { inner, .. }
            | Error::Context { inner, .. }
            | Error::WithPath { inner, .. } => look(inner),
            _ => None,
        }
    }
    match look(&error) {
        Some((index, size)) => Cause::IndexOutOfRange {
            index: index as i64,
            size,
        },
        None => Cause::Candle(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out_of_range(ids: &Tensor, size: usize) -> Option<(i64, usize)> {
        match check(ids, size) {
            Ok(()) => None,
            Err(Cause::IndexOutOfRange { index, size }) => Some((index, size)),
            Err(e) => panic!("{e:?}"),
        }
    }

    #[test]
    fn ids_are_checked_on_the_host() -> Result<()> {
        let u8s = Tensor::new(&[[0u8, 3], [255, 2]], &Device::Cpu)?;
        assert_eq!(out_of_range(&u8s, 4), None);
        assert_eq!(out_of_range(&u8s, 3), Some((3, 3)));
        assert_eq!(out_of_range(&u8s.t()?, 2), Some((3, 2)));
        let i64s = Tensor::new(&[1i64, -1], &Device::Cpu)?;
        assert_eq!(out_of_range(&i64s, 2), Some((-1, 2)));
        let none = Tensor::new(&[u32::MAX], &Device::Cpu)?;
        assert_eq!(out_of_range(&none, 0), None);
        Ok(())
    }
}
