//! A log that keeps everything and says in the plainest words what must stay.

use std::collections::BTreeMap;

use trestle_messages::v1::Stamp;

use crate::{Bounds, RecordRule, RecordRules};

/// A message of two frames, topic and body.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) epoch: u64,
    /// 0 if it is not recorded.
    pub(super) offset: u64,
    pub(super) topic: String,
    pub(super) body: Vec<u8>,
    pub(super) time_unix_ns: u64,
}

impl Entry {
    pub(super) fn stamp(&self) -> Stamp {
        Stamp { epoch: self.epoch, offset: self.offset, time_unix_ns: self.time_unix_ns, ..Stamp::default() }
    }

    /// What it counts in a ring.
    pub(super) fn bytes(&self) -> u64 {
        (self.topic.len() + self.body.len()) as u64 + 72
    }
}

/// All messages ever, and how far each ring has let go.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) rules: RecordRules,
    bounds: Bounds,
    pub(super) entries: Vec<Entry>,
    pub(super) epoch: u64,
    pub(super) head: u64,
    /// No replay reaches back beyond this offset: a gap, or where the log began.
    pub(super) whole_after: u64,
    /// By rule's prefix: the newest offset that is gone. Of the current epoch, as all that follows.
    gone: BTreeMap<Vec<u8>, u64>,
    /// Topic, its last value's offset.
    last: BTreeMap<String, u64>,
}

impl Model {
    pub(super) fn new(rules: RecordRules, bounds: Bounds) -> Self {
        let (entries, gone, last) = Default::default();
        Self { rules, bounds, entries, epoch: 1, head: 0, whole_after: 0, gone, last }
    }

    pub(super) fn rule(&self, topic: &str) -> Option<&RecordRule> {
        let rules = self.rules.iter().filter(|rule| topic.as_bytes().starts_with(&rule.prefix));
        rules.max_by_key(|rule| rule.prefix.len())
    }

    /// Stamps and takes a message.
    pub(super) fn append(&mut self, topic: &str, body: Vec<u8>, time_unix_ns: u64) -> Entry {
        let is_recorded = self.rule(topic).is_some();
        self.head += u64::from(is_recorded);
        let offset = if is_recorded { self.head } else { 0 };
        let entry = Entry { epoch: self.epoch, offset, topic: topic.to_owned(), body, time_unix_ns };
        self.entries.push(entry.clone());
        if is_recorded && entry.body.is_empty() {
            self.last.remove(topic);
        } else if is_recorded {
            self.last.insert(topic.to_owned(), offset);
            self.bound_last_values();
        }
        entry
    }

    fn bound_last_values(&mut self) {
        loop {
            let bytes: u64 = self.last.values().map(|offset| self.at(*offset).bytes()).sum();
            if self.last.len() <= self.bounds.last_values_max && bytes <= self.bounds.last_values_bytes_max {
                break;
            }
            self.drop_oldest_value();
        }
    }

    fn drop_oldest_value(&mut self) {
        let (topic, _) = self.last.iter().min_by_key(|(_, offset)| **offset).unwrap();
        let topic = topic.clone();
        self.last.remove(&topic);
    }

    fn at(&self, offset: u64) -> &Entry {
        self.current().rev().find(|entry| entry.offset == offset).unwrap()
    }

    /// Recorded messages of the epoch.
    pub(super) fn current(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.epoch == self.epoch && entry.offset != 0)
    }

    /// Rings let go what is too much and, with `now`, what is too old.
    pub(super) fn trim(&mut self, now: Option<u64>) {
        for rule in self.rules.clone().iter() {
            let gone = self.gone(rule);
            let since = self.current().rev().take_while(|entry| entry.offset > gone);
            let mut ring: Vec<_> = since.filter(|entry| self.rule(&entry.topic) == Some(rule)).collect();
            ring.reverse();
            let mut bytes: u64 = ring.iter().map(|entry| entry.bytes()).sum();
            let cutoff = now.map_or(0, |now| now.saturating_sub(rule.age_max.as_nanos() as u64));
            let mut gone = gone;
            for entry in &ring {
                if bytes <= rule.bytes_max {
                    break;
                }
                (gone, bytes) = (entry.offset, bytes - entry.bytes());
            }
            let old = ring.iter().rfind(|entry| entry.time_unix_ns < cutoff);
            let gone = old.map_or(gone, |old| gone.max(old.offset));
            self.gone.insert(rule.prefix.clone(), gone);
        }
    }

    pub(super) fn expire(&mut self, now: u64) {
        self.trim(None);
        self.trim(Some(now));
        let cutoff = now.saturating_sub(self.bounds.last_value_age_max.as_nanos() as u64);
        while let Some(oldest) = self.last.values().min() {
            if self.at(*oldest).time_unix_ns >= cutoff {
                break;
            }
            self.drop_oldest_value();
        }
    }

    /// The sequence goes on at `offset` of `epoch`.
    pub(super) fn skip_to(&mut self, epoch: u64, offset: u64) {
        if epoch != self.epoch {
            self.gone.clear();
            self.last.clear();
        }
        (self.epoch, self.head, self.whole_after) = (epoch, offset, offset);
    }

    pub(super) fn gone(&self, rule: &RecordRule) -> u64 {
        self.gone.get(&rule.prefix).copied().unwrap_or(0)
    }

    pub(super) fn is_last(&self, entry: &Entry) -> bool {
        entry.epoch == self.epoch && entry.offset != 0 && self.last.get(&entry.topic) == Some(&entry.offset)
    }

    pub(super) fn is_in_ring(&self, entry: &Entry) -> bool {
        let rule = self.rule(&entry.topic);
        entry.epoch == self.epoch
            && entry.offset != 0
            && rule.is_some_and(|rule| entry.offset > self.gone(rule))
    }

    pub(super) fn matches(entry: &Entry, topic: &str, exact: bool) -> bool {
        if exact { entry.topic == topic } else { entry.topic.starts_with(topic) }
    }

    /// Whether any rule has a topic that a subscription matches.
    pub(super) fn is_recorded(&self, topic: &str, exact: bool) -> bool {
        self.rules.iter().any(|rule| self.may_rule(rule, topic, exact))
    }

    /// Whether some topic that a subscription matches has this rule.
    fn may_rule(&self, rule: &RecordRule, topic: &str, exact: bool) -> bool {
        let prefix = str::from_utf8(&rule.prefix).unwrap();
        self.rule(topic) == Some(rule) || (!exact && prefix.starts_with(topic))
    }

    /// The offset behind which a subscription misses nothing.
    pub(super) fn complete_after(&self, topic: &str, exact: bool) -> u64 {
        let rules = self.rules.iter().filter(|rule| self.may_rule(rule, topic, exact));
        rules.map(|rule| self.gone(rule)).max().unwrap_or(0).max(self.whole_after)
    }

    /// Bytes that must stay, beside the newest: with what a log may use for them.
    pub(super) fn bytes_max(&self) -> u64 {
        let kept = |entry: &&Entry| self.is_in_ring(entry);
        let rings: u64 = self.current().filter(kept).map(Entry::bytes).sum();
        let last: u64 = self.last.values().map(|offset| self.at(*offset).bytes()).sum();
        rings + last
    }
}
