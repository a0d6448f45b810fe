//! Open files, of which clients leave some to everything else.

use std::os::fd::{AsFd, AsRawFd as _};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that no client gets: with them metrics are still read and a broken connection upstream is made anew while clients
/// have taken all others.
const RESERVED: u64 = 64;
/// Of a low limit no more than this part is kept back.
const RESERVED_PART: u64 = 4;

/// Raises the limit as far as the process itself may. What most systems set at first, 1,024, is for programs that use
/// select(2), which nothing here does.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(limit = current, %error, "the limit of open files cannot be raised");
    }
}

/// How many files the process may open; `None` without a limit.
pub(super) fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether only the reserved ones are left, as the `newest` file shows: the kernel gives each the lowest number that is
/// free (open(2)).
pub(super) fn are_scarce(newest: &impl AsFd) -> bool {
    limit().is_some_and(|limit| number(newest) >= ceiling(limit))
}

/// The same where there is no newest one: a copy of `any` would be it.
pub(super) fn are_still_scarce(any: &impl AsFd) -> bool {
    any.as_fd().try_clone_to_owned().map_or(true, |newest| are_scarce(&newest))
}

fn number(file: &impl AsFd) -> u64 {
    u64::try_from(file.as_fd().as_raw_fd()).expect("the number of an open file is not negative")
}

/// Of files numbered from here on clients get none.
fn ceiling(limit: u64) -> u64 {
    limit - RESERVED.min(limit / RESERVED_PART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_reserved_of_any_limit() {
        assert_eq!([80, 1_024, 1 << 30].map(ceiling), [60, 960, (1 << 30) - 64]);
        let any = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(!are_scarce(&any) && !are_still_scarce(&any), "this test needs few");
    }
}
