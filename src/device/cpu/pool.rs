//! Buffers that are used again: a fresh page costs more than the work that is done in it.

use super::pages::prefer_large_pages;
use crate::device::meter::Meter;
use crate::error::Cause;
use candle_core::{CpuStorage, DType, WithDType};
use std::sync::Arc;

/// Bytes; smaller buffers are the allocator's: asking it costs less than keeping them.
pub(super) const SMALLEST: usize = 1 << 16;
/// The most buffers that are kept.
const MOST: usize = 64;

/// Memory for results, bounded.
#[derive(Debug)]
pub(super) struct Pool {
    /// In the order in which they came back.
    free: Vec<Free>,
    bytes: usize,
    limit: usize,
    meter: Arc<Meter>,
}

/// A buffer that nobody uses.
#[derive(Debug)]
struct Free {
    buffer: CpuStorage,
    dtype: DType,
    bytes: usize,
}

impl Pool {
    /// A pool that keeps at most `bytes` bytes.
    pub(super) fn new(bytes: u64, meter: Arc<Meter>) -> Self {
        Self {
            free: Vec::new(),
            bytes: 0,
            limit: usize::try_from(bytes).unwrap_or(usize::MAX),
            meter,
        }
    }

    /// An empty buffer with room for `len` elements.
    pub(super) fn take<T: WithDType>(&mut self, len: usize) -> Result<Vec<T>, Cause> {
        let bytes = len.saturating_mul(size_of::<T>());
        if bytes >= SMALLEST {
            // not one of which more than half would lie idle
            let fits = |free: &Free| {
                free.dtype == T::DTYPE && (bytes..=bytes.saturating_mul(2)).contains(&free.bytes)
            };
            if let Some(place) = self.free.iter().rposition(fits) {
                let free = self.free.remove(place);
                self.bytes -= free.bytes;
                self.meter.set_pooled(self.bytes);
                return T::cpu_storage_data(free.buffer).map_err(Cause::Candle);
            }
        }
        let mut buffer = Vec::new();
        match buffer.try_reserve_exact(len) {
            Ok(()) => {
                prefer_large_pages(&mut buffer);
                Ok(buffer)
            }
            Err(_) => Err(Cause::OutOfMemory {
                asked: bytes as u64,
                left: 0,
            }),
        }
    }

    /// Takes a buffer back that nobody uses any more.
    pub(super) fn put<T: WithDType>(&mut self, mut buffer: Vec<T>) {
        let bytes = buffer.capacity() * size_of::<T>();
        if !(SMALLEST..=self.limit).contains(&bytes) {
            return;
        }
        buffer.clear();
        self.bytes += bytes;
        self.free.push(Free {
            buffer: T::to_cpu_storage_owned(buffer),
            dtype: T::DTYPE,
            bytes,
        });
        while self.bytes > self.limit || self.free.len() > MOST {
            self.bytes -= self.free.remove(0).bytes;
        }
        self.meter.set_pooled(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_if_it_fits() {
        let mut pool = Pool::new(1 << 20, Arc::default());
        let buffer = pool.take::<f32>(SMALLEST).unwrap();
        let address = buffer.as_ptr();
        pool.put(buffer);
        let small = pool.take::<f32>(SMALLEST / 4).unwrap();
        assert_ne!(small.as_ptr(), address, "far too large");
        assert_eq!(small.capacity(), SMALLEST / 4);
        let other = pool.take::<u32>(SMALLEST).unwrap();
        assert_ne!(other.as_ptr().cast(), address, "of another type");
        let same = pool.take::<f32>(SMALLEST).unwrap();
        assert_eq!(same.as_ptr(), address);
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let mut pool = Pool::new(2 * SMALLEST as u64, Arc::default());
        let buffers: Vec<_> = (0..3).map(|_| pool.take(SMALLEST).unwrap()).collect();
        let addresses: Vec<_> = buffers.iter().map(|b: &Vec<u8>| b.as_ptr()).collect();
        buffers.into_iter().for_each(|buffer| pool.put(buffer));
        let kept: Vec<_> = pool
            .free
            .iter()
            .map(|free| match &free.buffer {
                CpuStorage::U8(buffer) => buffer.as_ptr(),
                _ => panic!("{:?}", free.dtype),
            })
            .collect();
        assert_eq!(kept, addresses[1..]);
    }

    #[test]
    fn no_memory_is_an_error() {
        assert!(matches!(
            Pool::new(0, Arc::default()).take::<f32>(usize::MAX / 8),
            Err(Cause::OutOfMemory { .. })
        ));
    }
}
