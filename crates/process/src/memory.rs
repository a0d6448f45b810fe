//! Memory that was freed and that the allocator keeps.
//!
//! What is said here is true of glibc; with another C library nothing happens.

use std::ffi::c_int;
use std::thread;

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

/// Free blocks that the allocator keeps for one thread alone, taken out of its hands.
///
/// They are few and small, but each holds a page, and [`give_back`] from another thread does not reach them: after a storm
/// of clients they kept 1.3 MB of a shard's memory, more than all that was in use.
#[derive(Debug)]
pub struct Kept {
    _blocks: Vec<Vec<u8>>,
}

/// Glibc keeps 7 blocks of each size, and of those up to 1,032 bytes in steps of 16 (malloc/malloc.c: `tcache`).
const KEPT_OF_EACH: usize = 7;
const KEPT_BYTES: std::ops::RangeInclusive<usize> = 24..=1032;
const KEPT_STEP: usize = 16;

impl Kept {
    /// Those of the calling thread.
    pub fn take() -> Self {
        let sizes = KEPT_BYTES.step_by(KEPT_STEP).flat_map(|bytes| [bytes; KEPT_OF_EACH]);
        Self { _blocks: sizes.map(Vec::with_capacity).collect() }
    }
}

/// Gives whole pages that are free back to the system, wherever they are: after a storm something small is still in use at
/// the end of each arena. It takes each arena's lock for about a millisecond per 10 MB, so this is for moments when much
/// was freed, and for a thread that nobody waits for.
pub fn give_back(kept: Kept) {
    // Whoever frees a block keeps it, until it ends.
    if let Ok(freeing) = thread::Builder::new().name("memory".to_owned()).spawn(move || drop(kept)) {
        let _ = freeing.join();
    }
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
