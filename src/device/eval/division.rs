//! Division of integers on the CPU. Candle's panics where there is no quotient, on large tensors
//! inside a thread pool that all of the process shares and that a panic would spoil for good.

use candle_core::{CpuStorage, CustomOp2, Error, Layout, Result, Shape, Tensor, WithDType};

/// Divides operands whose shapes are equal or broadcast together.
///
/// # Errors
/// A division by zero, or of the least number by -1.
pub(super) fn divide(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let shape = x.shape().broadcast_shape_binary_op(y.shape(), "div")?;
    let whole = |x: &Tensor| x.broadcast_as(&shape)?.contiguous();
    whole(x)?.apply_op2_no_bwd(&whole(y)?, &Division)
}

/// Element by element; both operands lie in order.
struct Division;

impl CustomOp2 for Division {
    fn name(&self) -> &'static str {
        "div"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        macro_rules! each {
            ($($kind:ident)*) => {
                match (x, y) {
                    $((CpuStorage::$kind(x), CpuStorage::$kind(y)) => {
                        let (x, y) = (in_order(x, x_layout)?, in_order(y, y_layout)?);
                        let mut quotients = Vec::with_capacity(x.len());
                        for (x, &y) in x.iter().zip(y) {
                            quotients.push(x.checked_div(y).ok_or_else(|| none(y == 0))?);
                        }
                        WithDType::to_cpu_storage_owned(quotients)
                    })*
                    _ => candle_core::bail!("a division of integers of one dtype"),
                }
            };
        }
        let quotients = each!(U8 U32 I16 I32 I64);
        Ok((quotients, x_layout.shape().clone()))
    }
}

fn in_order<'a, T>(elements: &'a [T], layout: &Layout) -> Result<&'a [T]> {
    let (start, end) = layout
        .contiguous_offsets()
        .ok_or_else(|| Error::Msg("an operand that lies in order".to_owned()))?;
    Ok(&elements[start..end])
}

/// Why there is no quotient.
fn none(by_zero: bool) -> Error {
    let why = match by_zero {
        true => "integer division by zero",
        false => "integer division overflows",
    };
    Error::Msg(why.to_owned())
}
