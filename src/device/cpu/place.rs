//! Memory that results are written to.

use std::mem::MaybeUninit;

/// The place of an element, which may not be there yet: it can be written and not be read.
#[repr(transparent)]
pub(super) struct Place<T>(MaybeUninit<T>);

impl<T> Place<T> {
    #[inline(always)]
    pub(super) fn write(&mut self, element: T) -> &mut T {
        self.0.write(element)
    }
}

/// Memory without elements as places.
#[inline(always)]
pub(super) fn places<T>(memory: &mut [MaybeUninit<T>]) -> &mut [Place<T>] {
    // SAFETY: the same layout; whatever is done to a place may be done to such memory.
    unsafe { &mut *(std::ptr::from_mut(memory) as *mut [Place<T>]) }
}

/// Elements as places of others.
///
/// # Safety
/// The places are only written: they are not exchanged with others, which may have no element.
#[inline(always)]
pub(super) unsafe fn places_of<T>(elements: &mut [T]) -> &mut [Place<T>] {
    // SAFETY: the same layout; by the caller's promise there is an element in each place at any time.
    unsafe { &mut *(std::ptr::from_mut(elements) as *mut [Place<T>]) }
}

/// What stands in places.
///
/// # Safety
/// All of them have been written.
#[inline(always)]
pub(super) unsafe fn written<T>(places: &[Place<T>]) -> &[T] {
    // SAFETY: the same layout, and the caller's promise.
    unsafe { &*(std::ptr::from_ref(places) as *const [T]) }
}

/// The same, to be changed.
///
/// # Safety
/// All of them have been written.
#[inline(always)]
pub(super) unsafe fn written_mut<T>(places: &mut [Place<T>]) -> &mut [T] {
    // SAFETY: the same layout, and the caller's promise.
    unsafe { &mut *(std::ptr::from_mut(places) as *mut [T]) }
}
