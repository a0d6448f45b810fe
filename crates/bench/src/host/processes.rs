//! CPU, memory and files of the server's processes and their descendants, from `/proc`.

use std::collections::HashMap;
use std::{fs, io};

use crate::report::ServerCpu;

/// The processes whose descendants are measured, too.
#[derive(Debug, Clone, Default)]
pub struct Processes {
    roots: Vec<i32>,
    /// The kernel has been asked to note the most memory from now on.
    knows_peak: bool,
}

/// CPU so far. Two of them make a [`ServerCpu`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CpuSample {
    /// Nanoseconds on a core of each live thread, `None` if the kernel does not tell.
    threads: Option<HashMap<i32, u64>>,
    /// User time of all processes, ended threads included, in clock ticks.
    user_ticks: u64,
    /// System time likewise.
    system_ticks: u64,
}

/// Memory now, KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemorySample {
    /// Resident.
    pub rss_kib: u64,
    /// Proportional; `None` if the kernel does not tell.
    pub pss_kib: Option<u64>,
    /// Open files; `None` where they may not be looked at.
    pub files: Option<u64>,
}

impl Processes {
    /// Of these and what they start.
    pub fn new(roots: Vec<i32>) -> Self {
        Self { roots, knows_peak: false }
    }

    /// Whether there is nothing to measure.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// The first root that does not run.
    pub fn missing(&self) -> Option<i32> {
        self.roots.iter().copied().find(|pid| fs::metadata(format!("/proc/{pid}")).is_err())
    }

    /// CPU so far.
    pub fn cpu(&self) -> CpuSample {
        let mut sample = CpuSample { threads: Some(HashMap::new()), ..CpuSample::default() };
        for pid in self.tree() {
            if let Some((user, system)) = read(pid, "stat").as_deref().and_then(user_and_system) {
                sample.user_ticks += user;
                sample.system_ticks += system;
            }
            match (thread_times(pid), &mut sample.threads) {
                (Some(times), Some(threads)) => threads.extend(times),
                (None, threads) if !is_gone(pid) => *threads = None,
                (None, _) | (Some(_), None) => {}
            }
        }
        sample
    }

    /// Memory and files now.
    pub fn memory(&self) -> MemorySample {
        let mut sample = MemorySample { rss_kib: 0, pss_kib: Some(0), files: Some(0) };
        for pid in self.tree() {
            let kib = |file: &str, key| read(pid, file).as_deref().and_then(|text| kib(text, key));
            sample.rss_kib += kib("status", "VmRSS:").unwrap_or(0);
            let pss_kib = kib("smaps_rollup", "Pss:").or_else(|| is_gone(pid).then_some(0));
            sample.pss_kib = sample.pss_kib.zip(pss_kib).map(|(sum, one)| sum + one);
            sample.files = sample.files.zip(files(pid)).map(|(sum, one)| sum + one);
        }
        sample
    }

    /// Resident memory now, KiB: cheap enough to be asked ten times a second.
    pub fn rss_kib(&self) -> u64 {
        let rss = |pid: i32| read(pid, "status").as_deref().and_then(|text| kib(text, "VmRSS:"));
        self.tree().into_iter().filter_map(rss).sum()
    }

    /// From now on [`rss_peak_kib`](Self::rss_peak_kib) is that of what comes.
    pub fn forget_peak(&mut self) {
        // See proc_pid_clear_refs(5).
        let forget = |pid: i32| fs::write(format!("/proc/{pid}/clear_refs"), "5").is_ok() || is_gone(pid);
        self.knows_peak = self.tree().into_iter().all(forget);
    }

    /// The most resident memory since [`forget_peak`](Self::forget_peak), KiB; `None` if the kernel does not tell.
    pub fn rss_peak_kib(&self) -> Option<u64> {
        let peak = |pid: i32| read(pid, "status").as_deref().and_then(|text| kib(text, "VmHWM:"));
        (self.knows_peak && !self.is_empty()).then(|| self.tree().into_iter().filter_map(peak).sum())
    }

    /// Open files now.
    pub fn files(&self) -> Option<u64> {
        self.tree().into_iter().map(files).sum()
    }

    fn tree(&self) -> Vec<i32> {
        let mut tree = self.roots.clone();
        let mut nth = 0;
        while let Some(&pid) = tree.get(nth) {
            nth += 1;
            for thread in entries(&format!("/proc/{pid}/task")) {
                let children = fs::read_to_string(format!("/proc/{pid}/task/{thread}/children"));
                let children = children.unwrap_or_default();
                tree.extend(children.split_whitespace().filter_map(|child| child.parse::<i32>().ok()));
            }
        }
        tree.sort_unstable();
        tree.dedup();
        tree
    }
}

impl CpuSample {
    /// What was used between `earlier` and this, while `seconds` went by.
    pub fn since(&self, earlier: &Self, seconds: f64) -> ServerCpu {
        let tick_s = 1.0 / rustix::param::clock_ticks_per_second() as f64;
        let ticks = |now: u64, then: u64| now.saturating_sub(then) as f64 * tick_s;
        let user_s = ticks(self.user_ticks, earlier.user_ticks);
        let system_s = ticks(self.system_ticks, earlier.system_ticks);
        let (total_s, source) = match exact_ns(self, earlier) {
            Some(total_ns) => (total_ns as f64 / 1e9, "schedstat"),
            None => (user_s + system_s, "stat"),
        };
        let user_share = if user_s + system_s > 0.0 { user_s / (user_s + system_s) } else { 0.0 };
        ServerCpu {
            source: source.to_owned(),
            total_s,
            user_s: total_s * user_share,
            system_s: total_s * (1.0 - user_share),
            cores: total_s / seconds.max(1e-9),
        }
    }
}

/// The exact time, unless a thread that was there has ended and taken its time with it.
fn exact_ns(now: &CpuSample, earlier: &CpuSample) -> Option<u64> {
    let (now, earlier) = (now.threads.as_ref()?, earlier.threads.as_ref()?);
    if !earlier.keys().all(|thread| now.contains_key(thread)) {
        return None;
    }
    let used = |(thread, ns): (&i32, &u64)| ns.saturating_sub(earlier.get(thread).copied().unwrap_or(0));
    Some(now.iter().map(used).sum())
}

fn read(pid: i32, file: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).ok()
}

fn entries(folder: &str) -> Vec<i32> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect()
}

fn files(pid: i32) -> Option<u64> {
    let open = || {
        let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
        entries.map(|entry| entry.map(drop)).collect::<io::Result<Vec<()>>>()
    };
    match open() {
        Ok(open) => Some(open.len() as u64),
        Err(_) => is_gone(pid).then_some(0),
    }
}

/// Whether a process has ended, waited for or not: a child that ends between two looks has nothing any more, which is no
/// reason to know nothing of the others.
fn is_gone(pid: i32) -> bool {
    let state = |stat: String| stat.rsplit(')').next()?.trim_start().chars().next();
    read(pid, "stat").and_then(state).is_none_or(|state| matches!(state, 'Z' | 'X'))
}

/// Each thread's time on a core, ns: the first number of its `schedstat`.
fn thread_times(pid: i32) -> Option<Vec<(i32, u64)>> {
    let time = |thread: i32| {
        let text = read(pid, &format!("task/{thread}/schedstat"))?;
        Some((thread, text.split(' ').next()?.parse().ok()?))
    };
    let threads = entries(&format!("/proc/{pid}/task"));
    let times: Vec<_> = threads.into_iter().filter_map(time).collect();
    // A kernel without schedstats gives no file, or zeros.
    times.iter().any(|&(_, ns)| ns > 0).then_some(times)
}

/// Fields 14 and 15 of `/proc/PID/stat`, counted behind the name, which may have spaces.
fn user_and_system(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn kib(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn mine() -> Processes {
        Processes::new(vec![i32::try_from(std::process::id()).unwrap()])
    }

    #[test]
    fn work_shows_as_cpu() {
        let before = mine().cpu();
        let began = Instant::now();
        let mut sum = 0u64;
        while began.elapsed() < Duration::from_millis(200) {
            sum = std::hint::black_box(sum.wrapping_mul(31) + 7);
        }
        let used = mine().cpu().since(&before, began.elapsed().as_secs_f64());
        // Other tests' threads are in it, too, and this one may not have had a core all the time.
        assert!(used.total_s > 0.02, "{used:?}");
        assert!((used.user_s + used.system_s - used.total_s).abs() < 1e-9 && used.cores > 0.0);
    }

    #[test]
    fn a_thread_that_ended_leaves_the_ticks() {
        let sample = |threads: &[(i32, u64)], user_ticks| CpuSample {
            threads: Some(threads.iter().copied().collect()),
            user_ticks,
            system_ticks: 0,
        };
        let (before, after) = (sample(&[(1, 100), (2, 5)], 10), sample(&[(1, 1_000_000_100), (3, 7)], 210));
        assert_eq!(after.since(&before, 1.0).source, "stat");
        let stayed = sample(&[(1, 1_000_000_100), (2, 5), (3, 7)], 210).since(&before, 1.0);
        assert_eq!((stayed.source.as_str(), stayed.total_s), ("schedstat", 1.000_000_007));
    }

    #[test]
    fn memory_and_files_of_a_process_and_its_children() {
        let alone = mine().memory();
        assert!(alone.rss_kib > 100 && alone.files.unwrap() >= 3, "{alone:?}");
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        assert!(mine().tree().contains(&pid));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(Processes::new(vec![pid]).missing(), Some(pid));
    }

    #[test]
    fn the_peak_is_that_of_what_came_since() {
        let mut processes = mine();
        assert_eq!(processes.rss_peak_kib(), None);
        processes.forget_peak();
        let much = std::hint::black_box(vec![1_u8; 64 << 20]);
        drop(much);
        let peak_kib = processes.rss_peak_kib().unwrap();
        assert!(peak_kib > 64 << 10, "{peak_kib}");
        processes.forget_peak();
        let later_kib = processes.rss_peak_kib().unwrap();
        assert!(later_kib + (32 << 10) < peak_kib, "{peak_kib}, then {later_kib}");
    }

    /// A child that ended between the look for children and the look at them had all be unknown.
    #[test]
    fn a_process_that_has_ended_has_nothing() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_gone(pid) {
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::yield_now();
        }
        let both = Processes::new(vec![pid, i32::try_from(std::process::id()).unwrap()]);
        let look = |both: &Processes| {
            let memory = both.memory();
            assert!(memory.files.is_some_and(|files| files >= 3) && memory.pss_kib.is_some(), "{memory:?}");
            assert!(both.files().is_some() && both.cpu().threads.is_some());
        };
        look(&both);
        child.wait().unwrap();
        look(&both);
    }

    #[test]
    fn a_name_with_spaces_and_brackets() {
        let stat = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0 20";
        assert_eq!(user_and_system(stat), Some((111, 222)));
    }
}
