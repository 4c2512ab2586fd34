//! Room for numbers. A size is multiplied up here before memory is reserved or written through a pointer: one that
//! wraps, or for which there is no memory, is an error.

use crate::error::Cause;

/// There is no memory for so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoMemory {
    asked: u64,
}

impl From<NoMemory> for Cause {
    fn from(NoMemory { asked }: NoMemory) -> Self {
        Cause::OutOfMemory { asked, left: 0 }
    }
}

/// The product of the factors, if so many numbers may be in memory.
pub(super) fn count<T>(factors: &[usize]) -> Result<usize, NoMemory> {
    let times = |n: u128, &factor: &usize| n.saturating_mul(factor as u128);
    let bytes = factors.iter().fold(size_of::<T>() as u128, times);
    match isize::try_from(bytes) {
        Ok(bytes) => Ok(bytes as usize / size_of::<T>().max(1)),
        Err(_) => Err(NoMemory {
            asked: u64::try_from(bytes).unwrap_or(u64::MAX),
        }),
    }
}

/// Reserves room for as many more numbers as the product of the factors.
pub(super) fn reserve<T>(to: &mut Vec<T>, factors: &[usize]) -> Result<(), NoMemory> {
    let count = count::<T>(factors)?;
    to.try_reserve_exact(count).map_err(|_| NoMemory {
        asked: (count * size_of::<T>()) as u64,
    })
}

/// A vector with room for as many numbers as the product of the factors.
pub(super) fn reserved<T>(factors: &[usize]) -> Result<Vec<T>, NoMemory> {
    let mut new = Vec::new();
    reserve(&mut new, factors)?;
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_addressed_is_counted() {
        assert_eq!(count::<f32>(&[]), Ok(1));
        assert_eq!(count::<f32>(&[3, 5]), Ok(15));
        assert_eq!(count::<f32>(&[1 << 40, 1 << 40, 0]), Ok(0));
        let most = isize::MAX as usize;
        assert_eq!(count::<u8>(&[most]), Ok(most));
        assert_eq!(count::<f32>(&[most / 4]), Ok(most / 4));
    }

    /// The products of the second and third wrap to 0 and 32.
    #[test]
    fn what_cannot_is_refused() {
        let most = isize::MAX as usize;
        let refused: [&[usize]; 5] = [
            &[most + 1],
            &[1 << 32, 1 << 32],
            &[(1 << 59) + 1, 32],
            &[usize::MAX, usize::MAX, usize::MAX],
            &[usize::MAX; 40],
        ];
        for factors in refused {
            assert!(count::<u8>(factors).is_err(), "{factors:?}");
            assert!(reserved::<u8>(factors).is_err(), "{factors:?}");
        }
        assert_eq!(count::<f32>(&[1 << 62]), Err(NoMemory { asked: u64::MAX }));
        assert_eq!(count::<f32>(&[1 << 61]), Err(NoMemory { asked: 1 << 63 }));
    }
}
