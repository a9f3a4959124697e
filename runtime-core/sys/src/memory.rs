//! Keeping a process small.

/// Sets the C library's allocator and the kernel for a small process of few threads: one arena, early giving back, no
/// huge pages. Failures are without consequence and not told.
pub fn prefer_small() {
    // SAFETY: mallopt only sets a parameter of the allocator.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    // SAFETY: as above; blocks of 64 KiB and more are mapped, so that freeing gives them back at once.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10) };
    // SAFETY: as above; more than 16 KiB free at the heap's end goes back.
    unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, 16 << 10) };
    // SAFETY: as above; the heap grows by no more than it needs.
    unsafe { libc::mallopt(libc::M_TOP_PAD, 0) };
    // SAFETY: PR_SET_THP_DISABLE takes four plain integers and touches no memory.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Gives free heap pages back to the kernel.
pub fn trim() {
    // SAFETY: malloc_trim may be called at any time, from any thread.
    unsafe { libc::malloc_trim(0) };
}
