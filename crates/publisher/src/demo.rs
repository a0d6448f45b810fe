//! The demo: this host's status and a few jobs, for as long as somebody subscribes.

use std::time::{Duration, Instant};

use trestle_messages::EVENT_MARKER;
use trestle_messages::v1::Progress;
use trestle_messages::v1::event::Body;

use crate::config::Demo;
use crate::event::{Envelope, host_name, topic_level, unix_ns};
use crate::kinds::host::{Host, Report};
use crate::kinds::jobs::Jobs;
use crate::socket::{Outlets, Sent};

/// Publishes until it is stopped. Without a subscription it waits, without end, and does no work.
pub(crate) fn run(mut outlets: Outlets, demo: &Demo) -> anyhow::Result<()> {
    let now = Instant::now();
    let name = demo.host.as_deref().map_or_else(host_name, topic_level);
    let mut host = Host::new(&name, now);
    let mut jobs = Jobs::new(demo.seed.unwrap_or_else(unix_ns), now);
    let mut envelope = Envelope::new(name, unix_ns());
    loop {
        let until = outlets.is_wanted().then(|| host.next_at().min(jobs.next_at()));
        let woken = outlets.poll(until, None)?;
        if outlets.is_stopped() {
            return Ok(());
        }
        let now = Instant::now();
        let mut events = Vec::new();
        if !woken.subscribed.is_empty() {
            let first = status(host.read(now)).chain(progress(jobs.current()));
            let is_wanted = |topic: &str| woken.subscribed.iter().any(|p| topic.as_bytes().starts_with(p));
            events.extend(first.filter(|(topic, _)| is_wanted(topic)));
        }
        if outlets.is_wanted() {
            if host.next_at() <= now {
                events.extend(status(host.read(now)));
            }
            events.extend(progress(jobs.step(now)));
        }
        for (topic, body) in events {
            let event = envelope.seal(body, unix_ns());
            if outlets.send(&[topic.as_bytes(), EVENT_MARKER, &event], Duration::ZERO)? == Sent::Stopped {
                return Ok(());
            }
        }
    }
}

fn status(reports: Vec<Report>) -> impl Iterator<Item = (String, Body)> {
    reports.into_iter().map(|(topic, status)| (topic, Body::Status(status)))
}

fn progress(reports: Vec<(String, Progress)>) -> impl Iterator<Item = (String, Body)> {
    reports.into_iter().map(|(topic, progress)| (topic, Body::Progress(progress)))
}
