//! The machine: its cores, its network counters, and this process's limits on it.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use trestle_process::exit::Exit;

/// Files that a run needs beside its sockets.
const FILES_BESIDE: u64 = 64;

/// Counters of the machine; two of them make differences.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// Time of all cores, ticks.
    all_ticks: u64,
    /// Of it, what a hypervisor gave to others.
    steal_ticks: u64,
    /// TCP segments with data sent in this network namespace; `None` if the kernel does not tell.
    data_segments: Option<u64>,
}

impl Counters {
    /// As they are now.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest time is in user's.
        let ticks: Vec<u64> =
            line.split_whitespace().skip(1).take(8).filter_map(|tick| tick.parse().ok()).collect();
        let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
        Self {
            all_ticks: ticks.iter().sum(),
            steal_ticks: ticks.get(7).copied().unwrap_or(0),
            data_segments: column(&netstat, "TcpExt:", "TCPOrigDataSent"),
        }
    }

    /// What a hypervisor took of all cores' time since `earlier`.
    pub fn steal_share(&self, earlier: &Self) -> f64 {
        let all = self.all_ticks.saturating_sub(earlier.all_ticks);
        self.steal_ticks.saturating_sub(earlier.steal_ticks) as f64 / all.max(1) as f64
    }

    /// TCP segments with data sent since `earlier`.
    pub fn data_segments(&self, earlier: &Self) -> Option<u64> {
        Some(self.data_segments?.saturating_sub(earlier.data_segments?))
    }
}

/// A file of names in one line and values in the next, both behind the same word.
fn column(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
}

/// Pages that the kernel holds for TCP sockets of this network namespace.
pub fn tcp_pages() -> i64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem").skip(1);
    words.next().and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

/// Raises the limit of open files as far as `sockets` need and the system lets.
///
/// # Errors
/// An [`Exit`] with code 71 that says how to raise it further.
pub fn raise_files(sockets: u64) -> Result<(), Exit> {
    let limit = getrlimit(Resource::Nofile);
    let needed = sockets + FILES_BESIDE;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = limit.maximum.filter(|&maximum| maximum < needed) {
        return Err(Exit::os(format!(
            "{sockets} connections need {needed} open files and this process may have {maximum}: raise the hard limit \
             (`ulimit -Hn`, LimitNOFILE=) or give fewer --clients"
        )));
    }
    // As far as it goes: a server that the run starts inherits it and needs as many.
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .map_err(|error| Exit::os(format!("cannot raise the limit of open files to {needed}: {error}")))
}

/// Binds this thread, and those that it starts, to one core.
///
/// # Errors
/// An [`Exit`] with code 64 that names `flag`.
pub fn bind_to_core(flag: &str, core: usize) -> Result<(), Exit> {
    let refuse = |reason: &str| Exit::usage(format!("{flag} {core}: {reason}"));
    if core >= CpuSet::MAX_CPU {
        return Err(refuse("there are not so many"));
    }
    let mut set = CpuSet::new();
    set.set(core);
    sched_setaffinity(None, &set).map_err(|_| refuse("this process may not run on such a core"))
}

/// The cores that this thread may run on.
pub fn cores() -> Option<CpuSet> {
    sched_getaffinity(None).ok()
}

/// Lets this thread run on `cores` again.
pub fn bind_to_cores(cores: &CpuSet) {
    let _ = sched_setaffinity(None, cores);
}

/// CPU time of this thread, ns.
pub fn thread_cpu_ns() -> u64 {
    nanoseconds(ClockId::ThreadCPUTime)
}

/// Time that this thread was ready to run and had no core, ns: the second number of its `schedstat`.
pub fn thread_waited_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|waited| waited.parse().ok()).unwrap_or(0)
}

/// CPU time of this process, ns.
pub fn process_cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime)
}

fn nanoseconds(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_found_by_its_name() {
        let text = "IpExt: A B\nIpExt: 1 2\nTcpExt: A B C\nTcpExt: 3 4 5\n";
        assert_eq!(column(text, "TcpExt:", "C"), Some(5));
        assert_eq!(column(text, "TcpExt:", "D"), None);
        assert_eq!(column("", "TcpExt:", "C"), None);
    }

    #[test]
    fn more_files_than_the_system_gives_are_refused_with_a_reason() {
        let error = raise_files(u64::MAX - FILES_BESIDE).err();
        if getrlimit(Resource::Nofile).maximum.is_some() {
            let error = error.unwrap();
            assert_eq!(error.code, trestle_process::exit::OS_ERROR);
            assert!(error.reason.contains("ulimit -Hn"), "{error}");
        }
        raise_files(1).unwrap();
    }

    #[test]
    fn an_unknown_core_is_refused_by_its_flag() {
        let error = bind_to_core("--cpu", 1_000_000).unwrap_err();
        assert!(error.reason.starts_with("--cpu 1000000: "), "{error}");
    }

    #[test]
    fn cpu_time_only_grows() {
        let (thread, process) = (thread_cpu_ns(), process_cpu_ns());
        assert!(process > 0 && thread_cpu_ns() >= thread && process_cpu_ns() >= process);
    }
}
