//! The host's status: processors, memory, disk, network and load, on `system/<host>/…`.

use std::time::{Duration, Instant};

use sysinfo::{DiskRefreshKind, Disks, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, Networks, System};
use trestle_messages::v1::Status;

/// A reading this often: as often as a person can follow.
const PERIOD: Duration = Duration::from_secs(1);

/// The interface that says nothing of the network.
const LOOPBACK: &str = "lo";

/// Reads the host; what the system does not tell has no report. What is a difference (processor use, network rates) is known from the second reading on.
pub(crate) struct Host {
    prefix: String,
    system: Option<System>,
    disks: Option<Disks>,
    networks: Option<Networks>,
    read_at: Instant,
    /// When the differences were taken.
    rates_at: Instant,
    rates: Option<Rates>,
}

/// What needs two readings.
#[derive(Debug, Clone, Copy)]
struct Rates {
    cpu_percent: Option<f64>,
    /// Received and sent, bytes per second, all interfaces but the loopback.
    network: Option<(f64, f64)>,
}

/// One topic's gauges.
pub(crate) type Report = (String, Status);

impl Host {
    /// `name` is one level of a topic. Takes the first reading.
    pub(crate) fn new(name: &str, now: Instant) -> Self {
        let mut system = System::new().ok();
        system.iter_mut().for_each(System::refresh_cpu_usage);
        Self {
            prefix: format!("system/{name}/"),
            system,
            disks: Disks::new().ok(),
            networks: Networks::new_with_refreshed_list().ok(),
            read_at: now,
            rates_at: now,
            rates: None,
        }
    }

    /// When the next reading is due.
    pub(crate) fn next_at(&self) -> Instant {
        match self.rates {
            // The first differences come as soon as they mean something.
            None => self.rates_at + MINIMUM_CPU_UPDATE_INTERVAL,
            Some(_) => self.read_at + PERIOD,
        }
    }

    /// Reads the host: a report for each topic of which something is known.
    pub(crate) fn read(&mut self, now: Instant) -> Vec<Report> {
        self.read_at = now;
        self.refresh_rates(now);
        let cpu =
            self.rates.and_then(|rates| rates.cpu_percent).map(|percent| vec![("cpu.percent", percent)]);
        let network = self.rates.and_then(|rates| rates.network).map(|(received, sent)| {
            vec![("network.received_bytes_per_s", received), ("network.sent_bytes_per_s", sent)]
        });
        let load = System::load_average().ok().map(|load| vec![("load.1m", load.one)]);
        let reports = [
            ("cpu", cpu),
            ("memory", self.memory()),
            ("disk", self.disk()),
            ("network", network),
            ("load", load),
        ];
        let report = |(level, gauges): (&str, Option<Vec<(&str, f64)>>)| {
            let gauges = gauges?.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            Some((format!("{}{level}", self.prefix), Status { gauges }))
        };
        reports.into_iter().filter_map(report).collect()
    }

    fn refresh_rates(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.rates_at);
        if elapsed < MINIMUM_CPU_UPDATE_INTERVAL {
            return;
        }
        self.rates_at = now;
        let cpu_percent = self.system.as_mut().map(|system| {
            system.refresh_cpu_usage();
            system.global_cpu_usage().into()
        });
        let network = self.networks.as_mut().map(|networks| {
            networks.refresh(true);
            let counted = networks.iter().filter(|(name, _)| name.to_str() != Some(LOOPBACK));
            let bytes =
                counted.fold((0, 0), |(rx, tx), (_, data)| (rx + data.received(), tx + data.transmitted()));
            (bytes.0 as f64 / elapsed.as_secs_f64(), bytes.1 as f64 / elapsed.as_secs_f64())
        });
        self.rates = Some(Rates { cpu_percent, network });
    }

    fn memory(&mut self) -> Option<Vec<(&'static str, f64)>> {
        let system = self.system.as_mut()?;
        system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
        let [used, total] = [system.used_memory(), system.total_memory()].map(|n| n as f64);
        (total > 0.0).then(|| {
            vec![
                ("memory.used_bytes", used),
                ("memory.total_bytes", total),
                ("memory.percent", 100.0 * used / total),
            ]
        })
    }

    /// The disk that holds `/`; where it is not listed (a container's), the largest one.
    fn disk(&mut self) -> Option<Vec<(&'static str, f64)>> {
        let disks = self.disks.as_mut()?;
        disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
        let root = disks.iter().find(|disk| disk.mount_point().as_os_str() == "/");
        let disk = root.or_else(|| disks.iter().max_by_key(|disk| disk.total_space()))?;
        let total = disk.total_space() as f64;
        let used = total - disk.available_space() as f64;
        (total > 0.0).then(|| {
            vec![
                ("disk.used_bytes", used),
                ("disk.total_bytes", total),
                ("disk.percent", 100.0 * used / total),
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_come_with_the_second_reading() {
        let now = Instant::now();
        let mut host = Host::new("h", now);
        let topics = |reports: &[Report]| reports.iter().map(|(topic, _)| topic.clone()).collect::<Vec<_>>();
        let first = topics(&host.read(now));
        assert!(first.contains(&"system/h/memory".to_owned()), "{first:?}");
        assert!(!first.contains(&"system/h/cpu".to_owned()), "a made-up rate: {first:?}");
        assert_eq!(host.next_at(), now + MINIMUM_CPU_UPDATE_INTERVAL);
        let later = host.next_at();
        assert!(topics(&host.read(later)).contains(&"system/h/cpu".to_owned()));
        assert_eq!(host.next_at(), later + PERIOD);
    }

    #[test]
    fn gauges_are_plausible() {
        let now = Instant::now();
        let mut host = Host::new("h", now);
        for (topic, status) in host.read(now + MINIMUM_CPU_UPDATE_INTERVAL) {
            assert!(!status.gauges.is_empty(), "{topic}");
            for (name, value) in status.gauges {
                let ceiling = if name.ends_with(".percent") { 100.0 } else { f64::MAX };
                assert!((0.0..=ceiling).contains(&value), "{topic} {name} {value}");
            }
        }
    }
}
