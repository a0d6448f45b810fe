//! Memory that was freed and that the allocator keeps.
//!
//! What is said here is true of glibc; with another C library nothing happens.

use std::ffi::c_int;

/// Free bytes at the end of an arena beyond which they go back to the system.
const FREE_END_BYTES_MAX: c_int = 1 << 20;
/// What is larger is mapped on its own and goes back as soon as it is freed: above all that comes and goes all the time.
const SHARED_BYTES_MAX: c_int = 4 << 20;

/// Fixes the bounds of what the allocator keeps, which otherwise grow with the largest block that was ever freed, up to
/// 64 MiB an arena. Once, at the start of the process.
pub fn bound() {
    for (option, value) in [(M_TRIM_THRESHOLD, FREE_END_BYTES_MAX), (M_MMAP_THRESHOLD, SHARED_BYTES_MAX)] {
        glibc::set(option, value);
    }
}

/// Gives whole pages that are free back to the system, wherever they are: after a storm something small is still in use at
/// the end of each arena. It takes each arena's lock for about a millisecond per 10 MB, so this is for moments when much
/// was freed.
pub fn give_back() {
    glibc::trim();
}

/// From <malloc.h>.
const M_TRIM_THRESHOLD: c_int = -1;
const M_MMAP_THRESHOLD: c_int = -3;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "functions of the C library that Rust's does not offer")]
mod glibc {
    use std::ffi::c_int;

    unsafe extern "C" {
        fn mallopt(option: c_int, value: c_int) -> c_int;
        fn malloc_trim(pad: usize) -> c_int;
    }

    pub(super) fn set(option: c_int, value: c_int) {
        // SAFETY: mallopt(3) takes no pointer and refuses what it does not know.
        unsafe { mallopt(option, value) };
    }

    pub(super) fn trim() {
        // SAFETY: malloc_trim(3) takes no pointer, and any thread may call it at any time.
        unsafe { malloc_trim(0) };
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
mod glibc {
    pub(super) fn set(_option: std::ffi::c_int, _value: std::ffi::c_int) {}

    pub(super) fn trim() {}
}
