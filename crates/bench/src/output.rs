//! What people see: a bar while it runs, a table afterwards; or the JSON object.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report::{Delivery, Idle, Latency, Memory, Replayed, Report, Round, Run, Settings};

/// A client that had to wait longer than this for a core, seconds, is worth a line.
const WAITED_S: f64 = 0.1;

/// A bar on standard error, if that is a terminal; otherwise nothing.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    prefix: String,
}

impl Progress {
    /// Of run `nth` of `runs`.
    pub fn new(workload: &str, nth: u64, runs: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(10));
        bar.set_style(
            ProgressStyle::with_template("{msg} {bar:30} {percent:>3} %").expect("a fixed template"),
        );
        if !bar.is_hidden() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        let prefix = if runs > 1 { format!("{workload} {nth}/{runs}") } else { workload.to_owned() };
        Self { bar, prefix }
    }

    /// What is being done, without an end in sight.
    pub fn say(&self, what: &str) {
        self.count(what, 1);
    }

    /// What is being done, until `end`.
    pub fn count(&self, what: &str, end: u64) {
        self.bar.set_message(format!("{}: {what}", self.prefix));
        self.bar.set_length(end.max(1));
        self.bar.set_position(0);
    }

    /// So far.
    pub fn at(&self, position: u64) {
        self.bar.set_position(position);
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// Prints the report on standard output.
///
/// # Errors
/// What the system says about standard output.
pub fn print(report: &Report, json: bool) -> std::io::Result<()> {
    let text = if json { serde_json::to_string(report)? + "\n" } else { table(report) };
    std::io::stdout().lock().write_all(text.as_bytes())
}

/// The report for people.
pub fn table(report: &Report) -> String {
    let mut table = Table(headline(report));
    for (nth, run) in report.runs.iter().enumerate() {
        if report.runs.len() > 1 {
            table.0.push_str(&format!("\nRun {} of {}\n", nth + 1, report.runs.len()));
        }
        table.run(run, &report.settings);
    }
    if report.runs.len() > 1 {
        table.0.push_str("\nAll runs: median (least – greatest)\n");
        for (path, spread) in &report.summary {
            let range =
                format!("{} ({} – {})", figure(spread.median), figure(spread.min), figure(spread.max));
            table.row(path, &range);
        }
    }
    table.0
}

fn headline(report: &Report) -> String {
    let settings = &report.settings;
    let load = match (settings.rate_per_s, settings.in_flight) {
        (Some(rate), _) => format!(", {} messages/s", figure(rate)),
        (None, Some(in_flight)) => format!(", at most {in_flight} messages in flight"),
        (None, None) => String::new(),
    };
    let size = if settings.size > 0 { format!(" of {} B", settings.size) } else { String::new() };
    let stalled = match settings.stalled_clients {
        0 => String::new(),
        stalled => format!(" and {stalled} that never read"),
    };
    let started = settings.started.as_ref().map_or_else(String::new, |program| format!(" ({program})"));
    format!(
        "trestle bench {}: {} clients{stalled} ({}) at {}{started}{load}{size}\n",
        report.workload, settings.clients, settings.format, settings.target
    )
}

/// Rows of a name and a value.
struct Table(String);

impl Table {
    fn row(&mut self, name: &str, value: &str) {
        writeln!(self.0, "  {name:<38} {value}").expect("writing to a String cannot fail");
    }

    fn run(&mut self, run: &Run, settings: &Settings) {
        if let Some(delivery) = &run.delivery {
            self.delivery(delivery, settings);
        }
        if let Some(idle) = &run.idle {
            self.idle(idle);
        }
        let connect = &run.connect;
        let failed = if connect.failed > 0 { format!(", {} failed", connect.failed) } else { String::new() };
        let rate = figure(connect.handshakes_per_s);
        self.row(
            "handshakes",
            &format!("{}{failed}, {rate}/s, p99 {}", connect.ready, ms(connect.handshake.p99_us)),
        );
        if let Some(cpu_us) = connect.server_cpu_us_per_handshake {
            self.row("server CPU per handshake", &format!("{} µs", figure(cpu_us)));
        }
        if let Some(memory) = &run.memory {
            self.memory(memory);
        }
        for (nth, round) in run.rounds.iter().enumerate() {
            self.round(nth + 1, round);
        }
        self.client(run);
    }

    fn delivery(&mut self, delivery: &Delivery, settings: &Settings) {
        let rate = |per_s: f64| format!("{}/s", figure(per_s));
        let published = format!("{} ({})", delivery.published, rate(delivery.messages_per_s));
        self.row("messages published", &published);
        let whole = if delivery.stalled { "; nothing more came, given up" } else { "" };
        self.row(
            "deliveries",
            &format!("{} ({}){whole}", delivery.delivered, rate(delivery.deliveries_per_s)),
        );
        let troubles = [
            (delivery.lost, "lost"),
            (delivery.duplicated, "duplicated"),
            (delivery.out_of_order, "out of order"),
            (delivery.misrouted, "on a wrong topic"),
            (delivery.corrupted, "damaged"),
            (delivery.disconnected, "clients disconnected"),
        ];
        let troubles: Vec<_> = troubles
            .iter()
            .filter(|(count, what)| *count > 0 || *what == "lost")
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        self.row("trouble", &troubles.join(", "));
        if !delivery.closes.is_empty() {
            let closes: Vec<_> =
                delivery.closes.iter().map(|(how, count)| format!("{how}: {count}")).collect();
            self.row("disconnected with", &closes.join(", "));
        }
        let since =
            if settings.rate_per_s.is_some() { "latency from the schedule" } else { "latency, queues full" };
        self.row(since, &latency(&delivery.latency));
        self.row("the same, last client", &latency(&delivery.last_client));
        if let Some(cpu) = &delivery.server_cpu {
            let per = |us: Option<f64>| us.map_or_else(|| "–".to_owned(), figure);
            let (all, user) =
                (per(delivery.server_cpu_us_per_delivery), per(delivery.server_user_us_per_delivery));
            let system = per(delivery.server_system_us_per_delivery);
            self.row(
                "server CPU per delivery",
                &format!("{all} µs (user {user}, system {system}; by {})", cpu.source),
            );
            let message = per(delivery.server_cpu_us_per_message);
            self.row("server CPU per message", &format!("{message} µs; {} cores busy", figure(cpu.cores)));
        }
        let bytes = figure(delivery.wire_bytes_per_delivery);
        let segments = delivery.tcp_segments_per_delivery.map_or_else(String::new, |segments| {
            format!(", {} TCP segments (all of this machine)", figure(segments))
        });
        self.row("on the wire, per delivery", &format!("{bytes} B{segments}"));
        self.row("frames a read", &figure(delivery.frames_per_read));
        if settings.rate_per_s.is_some() {
            self.row("publisher late at most", &ms(delivery.publisher_late_max_us));
        }
    }

    fn idle(&mut self, idle: &Idle) {
        let stayed = format!(
            "{} s, {} pings answered, {} disconnected",
            figure(idle.seconds),
            idle.pings,
            idle.disconnected
        );
        self.row("stayed", &stayed);
        if let Some(cpu_us) = idle.server_cpu_us_per_client_second {
            self.row("server CPU per client and second", &format!("{} µs", figure(cpu_us)));
        }
    }

    fn memory(&mut self, memory: &Memory) {
        self.row("server RSS per connection", &format!("{} KiB", figure(memory.rss_kib_per_connection)));
        let peak = memory.rss_peak_kib.map_or_else(String::new, |kib| format!(", peak {}", mib(kib)));
        let (before, idle, end) =
            (mib(memory.rss_before_kib), mib(memory.rss_idle_kib), mib(memory.rss_end_kib));
        self.row("server RSS", &format!("before {before}, connected {idle}{peak}, end {end}"));
    }

    fn round(&mut self, nth: usize, round: &Round) {
        let known = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let text = format!(
            "{}/s, p99 {}; RSS peak {}, {} → {}; files {} → {}; left after {}",
            figure(round.connect.handshakes_per_s),
            ms(round.connect.handshake.p99_us),
            known(round.rss_peak_kib.map(mib)),
            known(round.rss_connected_kib.map(mib)),
            known(round.rss_after_kib.map(mib)),
            known(round.files_connected.map(|files| files.to_string())),
            known(round.files_after.map(|files| files.to_string())),
            known(round.left_s.map(|left_s| format!("{} s", figure(left_s)))),
        );
        self.row(&format!("round {nth}"), &text);
        if let Some(replay) = &round.replay {
            self.replay(replay);
        }
    }

    fn replay(&mut self, replay: &Replayed) {
        let troubles: Vec<_> = replay
            .troubles()
            .iter()
            .filter(|(count, what)| *count > 0 || *what == "lost")
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        let Replayed { messages, delivered, seconds, deliveries_per_s, .. } = replay;
        let text = format!(
            "{messages} each, {delivered} in all in {} s ({}/s); {}",
            figure(*seconds),
            figure(*deliveries_per_s),
            troubles.join(", ")
        );
        self.row("  replayed", &text);
    }

    fn client(&mut self, run: &Run) {
        let client = &run.client;
        let per = client
            .cpu_us_per_delivery
            .map_or_else(String::new, |us| format!(" ({} µs per delivery)", figure(us)));
        self.row(
            "client CPU",
            &format!("{} s{per}, {} of its core", figure(client.cpu_s), percent(client.core_share)),
        );
        if client.reader_waited_s > WAITED_S {
            self.row(
                "client waited for a core",
                &format!("{} s, while others, or its publisher, used it", figure(client.reader_waited_s)),
            );
        }
        if client.limited {
            self.row("CLIENT-LIMITED", "the client had no core to spare: the server may do more than this");
        }
        if run.steal_share > 0.01 {
            self.row("taken by the hypervisor", &format!("{} of all cores", percent(run.steal_share)));
        }
    }
}

fn latency(latency: &Latency) -> String {
    let Latency { p50_us, p99_us, p999_us, max_us, .. } = *latency;
    format!("p50 {}, p99 {}, p99.9 {}, max {}", ms(p50_us), ms(p99_us), ms(p999_us), ms(max_us))
}

fn ms(us: f64) -> String {
    format!("{} ms", figure(us / 1e3))
}

fn mib(kib: u64) -> String {
    format!("{} MiB", figure(kib as f64 / 1024.0))
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Three digits that count; thousands apart.
fn figure(number: f64) -> String {
    let digits = match number.abs() {
        0.0 => 0,
        size if size < 1.0 => 3,
        size if size < 10.0 => 2,
        size if size < 100.0 => 1,
        _ => 0,
    };
    let plain = format!("{number:.digits$}");
    let whole = plain.split('.').next().unwrap_or_default().trim_start_matches('-');
    if whole.len() < 4 {
        return plain;
    }
    let start = plain.len() - whole.len();
    let mut grouped = plain[..start].to_owned();
    for (nth, digit) in whole.chars().enumerate() {
        if nth > 0 && (whole.len() - nth) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Client, SCHEMA, ServerCpu, summary};

    #[test]
    fn figures() {
        let all = [0.0, 0.2631, 4.256, 42.55, 999.6, 1000.0, 3_818_000.4, -12_345.0].map(figure);
        assert_eq!(all, ["0", "0.263", "4.26", "42.5", "1,000", "1,000", "3,818,000", "-12,345"]);
    }

    #[test]
    fn the_table_says_what_went_wrong() {
        let delivery = Delivery {
            published: 10,
            delivered: 17,
            lost: 3,
            duplicated: 2,
            disconnected: 1,
            closes: [("4008".to_owned(), 1)].into(),
            stalled: true,
            server_cpu: Some(ServerCpu { source: "schedstat".to_owned(), ..ServerCpu::default() }),
            server_cpu_us_per_delivery: Some(0.2631),
            ..Delivery::default()
        };
        let client = Client { limited: true, core_share: 0.97, ..Client::default() };
        let runs = vec![Run { delivery: Some(delivery), client, steal_share: 0.2, ..Run::default() }];
        let report = Report {
            schema: SCHEMA,
            version: "1".to_owned(),
            workload: "fanout".to_owned(),
            settings: Settings { clients: 2, in_flight: Some(64), size: 128, ..Settings::default() },
            summary: summary(&runs),
            runs,
        };
        let table = table(&report);
        for part in [
            "2 clients",
            "at most 64 messages in flight of 128 B",
            "3 lost, 2 duplicated, 1 clients disconnected",
            "given up",
            "4008: 1",
            "0.263 µs",
            "CLIENT-LIMITED",
            "97 % of",
            "20 % of all cores",
        ] {
            assert!(table.contains(part), "{part} is not in\n{table}");
        }
        assert!(!table.contains("misrouted") && !table.contains("All runs"));
    }
}
