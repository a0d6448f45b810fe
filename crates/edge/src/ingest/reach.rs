//! Whether an upstream endpoint is reached, what to say about it, and when to dial it anew.

use std::time::{Duration, Instant};

/// An endpoint that is not reached is complained of after this, and then after twice as long each time …
const COMPLAIN_AFTER: Duration = Duration::from_secs(1);
/// … up to this. A connection that stood for as long makes the next complaint a first one again.
const COMPLAIN_EVERY_MAX: Duration = Duration::from_secs(60);
/// A connection without a finished handshake stands after this: peers before ZMTP 3 have none to report, and libzmq ends
/// others after 10 s.
const HANDSHAKE_MAX: Duration = Duration::from_secs(11);
/// A connection that ended and was not tried again by then was cut: libzmq gives an endpoint up after a protocol error.
const REDIAL_AFTER: Duration = Duration::from_secs(1);

/// What libzmq says of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// TCP is connected, the handshake begins.
    Connected,
    /// The handshake is done.
    Stands,
    /// The handshake failed, with its reason.
    Refused(String),
    /// The connection has ended.
    Ended,
    /// libzmq will try again by itself.
    Retries,
}

/// What the caller is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Say that it is reached, for the first time or again.
    SayReached,
    /// Say that it is not.
    SayUnreached { reason: String },
    /// We cut the peer, or libzmq gave it up: count it, say so.
    SayCut,
    /// Connect anew.
    Redial,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Down,
    Connected(Instant),
    Standing(Instant),
}

/// One endpoint. Feed it events as they come and `tick` it; time never goes back.
#[derive(Debug)]
pub(super) struct Reach {
    state: State,
    reason: String,
    complain_at: Instant,
    complain_every: Duration,
    redial_at: Option<Instant>,
    /// The last thing said was that it is not reached, or nothing yet.
    is_news: bool,
}

impl Reach {
    /// Dialled at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            state: State::Down,
            reason: "nobody listens there, or its name does not resolve".to_owned(),
            complain_at: now + COMPLAIN_AFTER,
            complain_every: COMPLAIN_AFTER,
            redial_at: None,
            is_news: true,
        }
    }

    /// Whether a connection stands.
    pub(super) fn stands(&self) -> bool {
        matches!(self.state, State::Standing(_))
    }

    pub(super) fn on(&mut self, event: Event, now: Instant) -> Option<Action> {
        match event {
            Event::Connected => {
                self.redial_at = None;
                self.state = State::Connected(now);
                None
            }
            Event::Stands => self.stand(now),
            Event::Refused(reason) => {
                self.reason = reason;
                None
            }
            Event::Ended => {
                self.end(now);
                self.redial_at = Some(now + REDIAL_AFTER);
                None
            }
            Event::Retries => {
                if self.redial_at.take().is_none() && self.state == State::Down {
                    self.reason = "nobody listens there, or its name does not resolve".to_owned();
                }
                None
            }
        }
    }

    /// What is due.
    pub(super) fn tick(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Connected(since) = self.state
            && now >= since + HANDSHAKE_MAX
        {
            actions.extend(self.stand(now));
        }
        if self.redial_at.is_some_and(|at| at <= now) {
            self.redial_at = None;
            actions.extend([Action::SayCut, Action::Redial]);
        }
        if !self.stands() && self.complain_at <= now {
            self.is_news = true;
            self.complain_every = (self.complain_every * 2).min(COMPLAIN_EVERY_MAX);
            self.complain_at = now + self.complain_every;
            actions.push(Action::SayUnreached { reason: self.reason.clone() });
        }
    }

    fn stand(&mut self, now: Instant) -> Option<Action> {
        self.redial_at = None;
        self.state = State::Standing(now);
        std::mem::take(&mut self.is_news).then_some(Action::SayReached)
    }

    fn end(&mut self, now: Instant) {
        if let State::Standing(since) = self.state {
            self.reason = "the connection was lost".to_owned();
            if now.duration_since(since) >= COMPLAIN_EVERY_MAX {
                self.complain_every = COMPLAIN_AFTER;
            }
            // A connection that comes and goes is complained of no more often than one that stays away.
            self.complain_at = self.complain_at.max(now + COMPLAIN_AFTER);
        }
        self.state = State::Down;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays events at their seconds, ticking ten times a second, and returns what is said at which second.
    fn play(events: &[(u64, Event)], until: u64) -> Vec<(u64, Action)> {
        let start = Instant::now();
        let (mut reach, mut events, mut said) = (Reach::new(start), events.iter().peekable(), Vec::new());
        for tenth in 0..=until * 10 {
            let (second, now) = (tenth / 10, start + Duration::from_millis(tenth * 100));
            while let Some((_, event)) = events.next_if(|(at, _)| *at * 10 <= tenth) {
                said.extend(reach.on(event.clone(), now).map(|action| (second, action)));
            }
            let mut actions = Vec::new();
            reach.tick(now, &mut actions);
            said.extend(actions.into_iter().map(|action| (second, action)));
        }
        said
    }

    fn complaints(said: &[(u64, Action)]) -> Vec<u64> {
        let complaint = |(_, action): &&(u64, Action)| matches!(action, Action::SayUnreached { .. });
        said.iter().filter(complaint).map(|(second, _)| *second).collect()
    }

    #[test]
    fn an_unreachable_endpoint_is_complained_of_less_and_less() {
        let retries: Vec<_> = (0..300).map(|second| (second, Event::Retries)).collect();
        let said = play(&retries, 300);
        assert_eq!(complaints(&said), [1, 3, 7, 15, 31, 63, 123, 183, 243]);
        assert_eq!(said.len(), 9, "and never redialled, as libzmq itself retries: {said:?}");
    }

    #[test]
    fn it_is_said_once_when_it_is_reached() {
        let up = [(5, Event::Connected), (5, Event::Stands)];
        let said = play(&up, 100);
        assert_eq!(complaints(&said), [1, 3]);
        assert_eq!(said.last(), Some(&(5, Action::SayReached)));
    }

    #[test]
    fn a_short_loss_is_nobodys_concern() {
        let events = [(0, Event::Stands), (70, Event::Ended), (70, Event::Retries), (70, Event::Stands)];
        assert_eq!(play(&events, 80), [(0, Action::SayReached)]);
        let events = [(0, Event::Stands), (70, Event::Ended), (70, Event::Retries), (73, Event::Stands)];
        let reason = "the connection was lost".to_owned();
        let said = [(0, Action::SayReached), (71, Action::SayUnreached { reason }), (73, Action::SayReached)];
        assert_eq!(play(&events, 80), said);
    }

    #[test]
    fn what_libzmq_gives_up_is_dialled_anew() {
        let said = play(&[(0, Event::Stands), (70, Event::Ended)], 71);
        let cut = [(71, Action::SayCut), (71, Action::Redial)];
        assert_eq!(said[1..3], cut);
    }

    #[test]
    fn one_that_flaps_is_not_said_more_often_than_one_that_is_away() {
        let events = (0..600).flat_map(|second| [(second, Event::Stands), (second, Event::Ended)]);
        let said = play(&events.collect::<Vec<_>>(), 600);
        let about: Vec<_> =
            said.iter().filter(|(_, a)| !matches!(a, Action::SayCut | Action::Redial)).collect();
        assert!(about.len() < 30, "{about:?}");
    }

    #[test]
    fn a_peer_of_an_older_protocol_stands_after_a_while() {
        assert_eq!(play(&[(0, Event::Connected)], 20).last(), Some(&(11, Action::SayReached)));
        let refused = play(&[(0, Event::Connected), (0, Event::Refused("no ØMQ".into()))], 1);
        assert_eq!(refused, [(1, Action::SayUnreached { reason: "no ØMQ".into() })]);
    }
}
