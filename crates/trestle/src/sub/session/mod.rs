//! The client's side of `trestle.v1.json`: what is asked for, what comes of it, and from where each subscription resumes.
//!
//! It knows no socket and no clock. Each welcome begins a connection and gives the commands for it, as
//! [`Heard::Welcome`]; each further message goes to [`Session::receive`], which says what it is to its user.
//!
//! Every topic is a subscription of its own, so that history which one of them lacks spoils no other's recovery. No topic
//! covers another, so that an event belongs to one subscription and is printed once.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::place::{Place, advance};
use super::wire::{self, CaughtUp, Event, Goodbye, Lost, Message, Subscribed};

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

/// Assumed where a welcome does not say.
const HEARTBEAT_MS: u64 = 25_000;
/// The longest period that an edge may name.
const HEARTBEAT_MS_MAX: u64 = 600_000;

/// What to ask an edge for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wanted {
    /// Prefixes; the empty one is everything.
    pub(super) topics: Vec<Vec<u8>>,
    /// The topics are whole topics.
    pub(super) exact: bool,
    /// Last values first.
    pub(super) snapshot: bool,
    /// Where the first connection resumes.
    pub(super) since: Option<String>,
    /// The edge's word.
    pub(super) policy: Option<&'static str>,
    pub(super) max_hz: Option<f64>,
    /// After a reconnect what was missed is asked for.
    pub(super) recover: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Asked,
    Accepted,
    CaughtUp,
}

#[derive(Debug)]
struct Subscription {
    topic: Vec<u8>,
    /// Everything up to here was delivered or declared lost.
    resume: Option<Place>,
    /// Whether it ever stood.
    stood: bool,
    state: State,
    /// Of the last command.
    id: u64,
    /// That command's `since`.
    since: Option<Place>,
    /// What was missed is on its way.
    recovers: bool,
    /// Last values are on their way. Until all are there nothing is resumed, as that would leave out the rest of them.
    snapshot: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Session {
    wanted: Wanted,
    subscriptions: Vec<Subscription>,
    last_id: u64,
    stale: bool,
    /// Everything up to here, of all topics, was delivered or declared lost.
    through: Option<Place>,
}

/// What a message of the edge is to whoever subscribed.
#[derive(Debug)]
pub(super) enum Heard<'a> {
    /// Of no interest.
    Nothing,
    /// A connection begins. Its commands go out in this order, together, so that what they resume is one replay.
    Welcome {
        heartbeat: Duration,
        commands: Vec<String>,
        /// If it changed.
        stale: Option<bool>,
    },
    /// As the edge wrote it, and as it was read.
    Event {
        json: &'a str,
        event: Event<'a>,
    },
    /// A resumed subscription has been sent all that it missed.
    Recovered {
        topic: Vec<u8>,
        replayed: u64,
    },
    /// What a subscription missed since `from` is not sent again.
    Unrecovered {
        topic: Vec<u8>,
        reason: String,
        from: Place,
        position: Option<String>,
    },
    /// Something was not sent; as the edge wrote it, and as it was read.
    Lost {
        json: &'a str,
        lost: Lost,
    },
    /// Whether the edge hears nothing from upstream.
    Stale(bool),
    Goodbye(Goodbye),
    /// A subscription is refused. Where `retry`, [`Session::ask`] makes its command anew.
    Refused {
        topic: Vec<u8>,
        code: String,
        reason: String,
        retry: bool,
    },
    /// This is not `trestle.v1.json`, or not as it should be.
    Unreadable(String),
}

impl Session {
    /// Topics that another one covers are left out.
    pub(super) fn new(wanted: Wanted) -> Self {
        let since = wanted.since.clone().map(Place::new);
        let topics = without_covered(&wanted.topics, wanted.exact);
        let subscription = |topic| Subscription {
            topic,
            resume: since.clone(),
            stood: false,
            state: State::Asked,
            id: 0,
            since: None,
            recovers: false,
            snapshot: false,
        };
        let subscriptions = topics.into_iter().map(subscription).collect();
        Self { wanted, subscriptions, last_id: 0, stale: false, through: None }
    }

    /// The topics that are subscribed to.
    pub(super) fn topics(&self) -> impl Iterator<Item = &[u8]> {
        self.subscriptions.iter().map(|subscription| &*subscription.topic)
    }

    /// Reads one text message.
    pub(super) fn receive<'a>(&mut self, text: &'a str) -> Heard<'a> {
        let read = serde_json::from_str::<Message<'a>>(text);
        read.and_then(|message| self.take(message))
            .unwrap_or_else(|error| Heard::Unreadable(error.to_string()))
    }

    /// The command that subscribes to `topic` again, after a refusal.
    pub(super) fn ask(&mut self, topic: &[u8]) -> Option<String> {
        let at = self.subscriptions.iter().position(|subscription| subscription.topic == topic)?;
        Some(self.command(at))
    }

    /// From where to go on another time, so that nothing is missed. `None` while nothing recorded was heard of.
    ///
    /// With several topics that is the last position of all, once every one of them stands, since no position overtakes
    /// data; but what `max_hz` holds back may be older, so there it is the earliest of theirs.
    pub(super) fn resume(&self) -> Option<&str> {
        let earliest = || {
            let mut places = self.subscriptions.iter().map(|subscription| subscription.resume.as_ref());
            let first = places.next()??;
            places.try_fold(first, |earliest, place| earliest.earlier(place?))
        };
        let several = self.subscriptions.len() > 1 && self.wanted.max_hz.is_none();
        let through = self.through.as_ref().filter(|_| several);
        through.or_else(earliest).map(Place::text)
    }

    fn take<'a>(&mut self, message: Message<'a>) -> serde_json::Result<Heard<'a>> {
        Ok(if let Some(event) = message.event {
            let json = event.get();
            let event: Event<'a> = serde_json::from_str(json)?;
            self.follow(&event);
            Heard::Event { json, event }
        } else if let Some(heartbeat) = message.heartbeat {
            self.reach(heartbeat.position);
            self.hear_stale(heartbeat.stale).map_or(Heard::Nothing, Heard::Stale)
        } else if let Some(reply) = message.reply {
            self.answer(reply)
        } else if let Some(caught_up) = message.caught_up {
            self.catch_up(caught_up)
        } else if let Some(lost) = message.lost {
            let json = lost.get();
            let lost: Lost = serde_json::from_str(json)?;
            self.reach(lost.position.clone());
            Heard::Lost { json, lost }
        } else if let Some(welcome) = message.welcome {
            self.welcome(&welcome)
        } else {
            message.goodbye.map_or(Heard::Nothing, Heard::Goodbye)
        })
    }

    fn welcome(&mut self, welcome: &wire::Welcome) -> Heard<'static> {
        let heartbeat_ms = if welcome.heartbeat_ms == 0 { HEARTBEAT_MS } else { welcome.heartbeat_ms };
        Heard::Welcome {
            heartbeat: Duration::from_millis(heartbeat_ms.min(HEARTBEAT_MS_MAX)),
            commands: (0..self.subscriptions.len()).map(|at| self.command(at)).collect(),
            stale: self.hear_stale(welcome.stale),
        }
    }

    fn hear_stale(&mut self, stale: bool) -> Option<bool> {
        (std::mem::replace(&mut self.stale, stale) != stale).then_some(stale)
    }

    /// A subscribe command; until its reply the subscription does not stand.
    fn command(&mut self, at: usize) -> String {
        self.last_id += 1;
        let (wanted, subscription) = (&self.wanted, &mut self.subscriptions[at]);
        let resumes = wanted.recover || !subscription.stood;
        subscription.id = self.last_id;
        subscription.state = State::Asked;
        subscription.since = subscription.resume.clone().filter(|_| resumes);
        let mut fields = Map::new();
        match std::str::from_utf8(&subscription.topic) {
            Ok(topic) => fields.insert("topics".to_owned(), json!([topic])),
            Err(_) => {
                fields.insert("topics_base64".to_owned(), json!([STANDARD.encode(&subscription.topic)]))
            }
        };
        let flag = |flag: bool| flag.then_some(Value::Bool(true));
        let since = subscription.since.as_ref().map(|since| since.text().into());
        for (name, value) in [
            ("exact", flag(wanted.exact)),
            ("snapshot", flag(wanted.snapshot)),
            ("since", since),
            ("policy", wanted.policy.map(Value::from)),
            ("max_hz", wanted.max_hz.map(Value::from)),
        ] {
            fields.extend(value.map(|value| (name.to_owned(), value)));
        }
        json!({ "id": self.last_id, "subscribe": fields }).to_string()
    }

    fn find(&mut self, id: u64) -> Option<&mut Subscription> {
        self.subscriptions.iter_mut().find(|subscription| subscription.id == id)
    }

    fn answer(&mut self, reply: wire::Reply) -> Heard<'static> {
        let asked = reply.id.and_then(|id| self.find(id)).filter(|asked| asked.state == State::Asked);
        match (asked, reply.subscribed, reply.error) {
            (Some(asked), _, Some(wire::Refusal { code, reason, retry })) => {
                Heard::Refused { topic: asked.topic.clone(), code, reason, retry }
            }
            (Some(_), Some(subscribed), None) => {
                let id = reply.id.unwrap_or_default();
                self.accept(id, subscribed)
            }
            (None, _, Some(wire::Refusal { code, reason, .. })) => {
                Heard::Unreadable(format!("the edge refuses what was not asked for: {code}: {reason}"))
            }
            _ => Heard::Nothing,
        }
    }

    fn accept(&mut self, id: u64, subscribed: Subscribed) -> Heard<'static> {
        let wants_snapshot = self.wanted.snapshot;
        let Some(subscription) = self.find(id) else { return Heard::Nothing };
        let failed = subscription.since.clone().filter(|_| subscribed.recovered == Some(false));
        subscription.stood = true;
        subscription.state = State::Accepted;
        subscription.recovers = subscription.since.is_some() && failed.is_none();
        subscription.snapshot = wants_snapshot && !subscription.recovers;
        if !subscription.snapshot
            && let Some(position) = &subscribed.position
        {
            subscription.resume = Some(Place::new(position.clone()));
        }
        let Some(from) = failed else { return Heard::Nothing };
        let reason = subscribed.reason.unwrap_or_else(|| "unknown_position".to_owned());
        Heard::Unrecovered { topic: subscription.topic.clone(), reason, from, position: subscribed.position }
    }

    fn catch_up(&mut self, caught_up: CaughtUp) -> Heard<'static> {
        let Some(subscription) = self.find(caught_up.id).filter(|found| found.state == State::Accepted)
        else {
            return Heard::Nothing;
        };
        subscription.state = State::CaughtUp;
        subscription.snapshot = false;
        let recovered = std::mem::take(&mut subscription.recovers);
        let topic = subscription.topic.clone();
        if let Some(position) = caught_up.position.map(Place::new) {
            advance(&mut subscription.resume, &position);
            self.pass(&position);
        }
        match recovered {
            true => Heard::Recovered { topic, replayed: caught_up.replayed },
            false => Heard::Nothing,
        }
    }

    /// An event advances the subscription that it belongs to.
    fn follow(&mut self, event: &Event<'_>) {
        let Some(position) = event.position.clone().filter(|_| !event.snapshot).map(Place::new) else {
            return;
        };
        let topic = event.matched();
        let exact = self.wanted.exact;
        let covers = |own: &[u8]| if exact { own == topic } else { topic.starts_with(own) };
        if let Some(own) = self.subscriptions.iter_mut().find(|own| !own.snapshot && covers(&own.topic)) {
            advance(&mut own.resume, &position);
        }
        self.pass(&position);
    }

    /// Heartbeats and losses advance what is caught up.
    fn reach(&mut self, position: Option<String>) {
        let Some(position) = position.map(Place::new) else { return };
        for subscription in self.subscriptions.iter_mut().filter(|own| own.state == State::CaughtUp) {
            advance(&mut subscription.resume, &position);
        }
        self.pass(&position);
    }

    fn pass(&mut self, position: &Place) {
        if self.subscriptions.iter().all(|own| own.state >= State::Accepted && !own.snapshot) {
            advance(&mut self.through, position);
        }
    }
}

fn without_covered(topics: &[Vec<u8>], exact: bool) -> Vec<Vec<u8>> {
    let mut kept: Vec<Vec<u8>> = Vec::new();
    for (at, topic) in topics.iter().enumerate() {
        let is_covered = topics.iter().enumerate().any(|(other_at, other)| {
            let covers = if exact { topic == other } else { topic.starts_with(other) };
            // Of equal ones the first stays.
            covers && (other != topic || other_at < at)
        });
        if !is_covered {
            kept.push(topic.clone());
        }
    }
    kept
}
