//! Which pages large buffers lie in.

/// Asks for large pages under a large fresh buffer: 512 times fewer page faults, which otherwise
/// cost more than most operations do on it, and as many fewer addresses to translate when it is read.
#[cfg(target_os = "linux")]
pub(super) fn prefer_large_pages<T>(buffer: &mut Vec<T>) {
    const LARGE_PAGE: usize = 2 << 20;
    let spare = buffer.spare_capacity_mut();
    let bytes = size_of_val(spare);
    let aligned = spare.as_mut_ptr().align_offset(LARGE_PAGE);
    let start = aligned.saturating_mul(size_of::<T>());
    let whole = bytes.saturating_sub(start) / LARGE_PAGE * LARGE_PAGE;
    if whole > 0 {
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
pub(super) fn prefer_large_pages<T>(_: &mut Vec<T>) {}
