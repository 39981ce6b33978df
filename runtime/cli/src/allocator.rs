//! What memory comes from. Measured against the system's allocator: see ARCHITECTURE.md.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// `arena.4096.purge`: 4096 stands for all arenas.
const PURGE: &std::ffi::CStr = c"arena.4096.purge";

/// Gives back to the kernel what was freed and is kept for the next to come.
#[allow(unsafe_code, reason = "the allocator's own interface is C's")]
pub(crate) fn purge() {
    use std::ptr::null_mut;
    // SAFETY: the name ends with a zero byte, and this control neither reads nor writes a value.
    let code = unsafe { tikv_jemalloc_sys::mallctl(PURGE.as_ptr(), null_mut(), null_mut(), null_mut(), 0) };
    if code != 0 {
        tracing::debug!(code, "freed memory was not given back");
    }
}

/// As [`purge`], and what the system's allocator keeps, which engines use.
#[allow(unsafe_code, reason = "the allocator's own interface is C's")]
pub(crate) fn trim() {
    purge();
    // SAFETY: it may be called at any time, by any thread.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What the allocator has to say, such as that it got no thread, it says again and again to nobody who can do anything about it.
#[allow(unsafe_code, reason = "the allocator's own interface is C's")]
pub(crate) fn be_quiet() {
    unsafe extern "C" fn nothing(_: *mut libc::c_void, _: *const libc::c_char) {}
    // SAFETY: this thread is the only one yet, and the function may be called with anything.
    unsafe { tikv_jemalloc_sys::malloc_message = Some(nothing) };
}
