//! Buffers that are used again: a fresh page costs more than the work that is done in it.

use crate::error::Cause;

/// Smaller buffers are the allocator's: asking it costs less than keeping them.
pub(super) const SMALLEST: usize = 1 << 14;
/// So many buffers are kept at most.
const MOST: usize = 64;

/// Memory for results, bounded.
#[derive(Debug)]
pub(super) struct Pool {
    /// In the order in which they came back.
    free: Vec<Vec<f32>>,
    elements: usize,
    limit: usize,
}

impl Pool {
    /// A pool that keeps so many bytes at most.
    pub(super) fn new(bytes: u64) -> Self {
        Self {
            free: Vec::new(),
            elements: 0,
            limit: usize::try_from(bytes / 4).unwrap_or(usize::MAX),
        }
    }

    /// An empty buffer with room for so many elements.
    pub(super) fn take(&mut self, len: usize) -> Result<Vec<f32>, Cause> {
        if len >= SMALLEST {
            // not one of which more than half would lie idle
            let fits = |buffer: &Vec<f32>| (len..=len * 2).contains(&buffer.capacity());
            if let Some(place) = self.free.iter().rposition(fits) {
                let buffer = self.free.remove(place);
                self.elements -= buffer.capacity();
                return Ok(buffer);
            }
        }
        let mut buffer = Vec::new();
        let asked = (len as u64).saturating_mul(4);
        match buffer.try_reserve_exact(len) {
            Ok(()) => {
                prefer_large_pages(&mut buffer);
                Ok(buffer)
            }
            Err(_) => Err(Cause::OutOfMemory { asked, left: 0 }),
        }
    }

    /// Takes a buffer back that nobody uses any more.
    pub(super) fn put(&mut self, mut buffer: Vec<f32>) {
        let capacity = buffer.capacity();
        if !(SMALLEST..=self.limit).contains(&capacity) {
            return;
        }
        buffer.clear();
        self.elements += capacity;
        self.free.push(buffer);
        while self.elements > self.limit || self.free.len() > MOST {
            self.elements -= self.free.remove(0).capacity();
        }
    }
}

/// Asks for large pages under a large fresh buffer: 512 times fewer page faults, which otherwise
/// cost more than most operations do on it.
#[cfg(target_os = "linux")]
fn prefer_large_pages(buffer: &mut Vec<f32>) {
    const LARGE_PAGE: usize = 2 << 20;
    let spare = buffer.spare_capacity_mut();
    let bytes = size_of_val(spare);
    let aligned = spare.as_mut_ptr().align_offset(LARGE_PAGE);
    let start = aligned.saturating_mul(size_of::<f32>());
    let whole = bytes.saturating_sub(start) / LARGE_PAGE * LARGE_PAGE;
    if whole >= 2 * LARGE_PAGE {
        // SAFETY: the range lies within the buffer, and the advice changes no content. Whether
        // it is taken does not matter.
        unsafe {
            libc::madvise(
                spare.as_mut_ptr().add(aligned).cast(),
                whole,
                libc::MADV_HUGEPAGE,
            );
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn prefer_large_pages(_: &mut Vec<f32>) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_if_it_fits() {
        let mut pool = Pool::new(1 << 20);
        let buffer = pool.take(SMALLEST).unwrap();
        let address = buffer.as_ptr();
        pool.put(buffer);
        let small = pool.take(SMALLEST / 4).unwrap();
        assert_ne!(small.as_ptr(), address, "far too large");
        assert_eq!(small.capacity(), SMALLEST / 4);
        let same = pool.take(SMALLEST).unwrap();
        assert_eq!(same.as_ptr(), address);
        assert_eq!(pool.elements, 0);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut pool = Pool::new(8 * SMALLEST as u64);
        let buffers: Vec<_> = (0..3).map(|_| pool.take(SMALLEST).unwrap()).collect();
        let addresses: Vec<_> = buffers.iter().map(|b| b.as_ptr()).collect();
        buffers.into_iter().for_each(|buffer| pool.put(buffer));
        assert_eq!(
            pool.free.iter().map(|b| b.as_ptr()).collect::<Vec<_>>(),
            addresses[1..]
        );
    }

    #[test]
    fn no_memory_is_an_error() {
        assert!(matches!(
            Pool::new(0).take(usize::MAX / 8),
            Err(Cause::OutOfMemory { .. })
        ));
    }
}
