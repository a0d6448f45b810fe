//! Whether and when to connect again. It reads no clock and draws no number: `now` and `random` are arguments.

use std::time::{Duration, Instant};

/// Shortest wait, and half of the first window's end: short enough for people.
const WAIT_MIN: Duration = Duration::from_millis(500);
/// Longest wait that is drawn: long enough for a server that restarts.
const WAIT_MAX: Duration = Duration::from_secs(20);
/// Longest pause that a server may ask for.
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// The step of `Retry-After`.
const SECOND: Duration = Duration::from_secs(1);
/// A server that accepts and fails at once must not see us come back every half second.
const UPTIME_MIN: Duration = Duration::from_secs(5);

/// Why there is no connection any more, or none came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// No answer, or the connection broke. It may be better the next time.
    Broken(String),
    /// The answer is one that another attempt would get, too; after it once was another, a server may be on its way back.
    Wrong(String),
    /// An HTTP answer that is no WebSocket.
    Refused { status: u16, why: String, retry_after: Option<Duration> },
    /// A Close frame; 1005 if it had no code.
    Closed { code: u16, reason: String },
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Another attempt, after so long.
    Wait(Duration),
    /// No other attempt.
    Stop,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaction {
    Reconnect,
    /// From the widest window at once.
    Slowly,
    After(Duration),
    /// Not unless it has worked before.
    IfProven,
    Stop,
}

/// Order of calls: [`welcomed`](Self::welcomed) and [`goodbye`](Self::goodbye) as they come, [`down`](Self::down) when a
/// connection or an attempt at one has ended.
#[derive(Debug)]
pub(super) struct Comeback {
    /// The first connection is tried for again, too.
    is_patient: bool,
    was_welcomed: bool,
    up_since: Option<Instant>,
    /// When the server asked to be asked again.
    paused_until: Option<Instant>,
    /// Waits since the last connection that stood for a while.
    waits: u32,
}

impl Comeback {
    pub(super) fn new(is_patient: bool) -> Self {
        Self { is_patient, was_welcomed: false, up_since: None, paused_until: None, waits: 0 }
    }

    /// Whether there ever was a connection.
    pub(super) fn was_welcomed(&self) -> bool {
        self.was_welcomed
    }

    pub(super) fn welcomed(&mut self, now: Instant) {
        self.was_welcomed = true;
        self.up_since = Some(now);
    }

    /// Until the close, which is the server's to make, all goes on.
    pub(super) fn goodbye(&mut self, pause: Option<Duration>, now: Instant) {
        self.paused_until = pause.map(|pause| now + pause.min(PAUSE_MAX));
    }

    /// `random` is uniform in [0, 1).
    pub(super) fn down(&mut self, end: &End, now: Instant, random: f64) -> Verdict {
        let uptime = self.up_since.take().map(|since| now.saturating_duration_since(since));
        if uptime.is_some_and(|uptime| uptime >= UPTIME_MIN) {
            self.waits = 0;
        }
        // The server closes its clients one after the other, so whoever is closed later than it was told comes at once.
        let pause = self.paused_until.take().map(|until| until.saturating_duration_since(now));
        match end.reaction() {
            Reaction::Stop => Verdict::Stop,
            Reaction::IfProven if !self.was_welcomed => Verdict::Stop,
            Reaction::Reconnect | Reaction::Slowly if !self.was_welcomed && !self.is_patient => Verdict::Stop,
            // Told in whole seconds: as many as are told the same one spread over it.
            Reaction::After(pause) => Verdict::Wait(pause.min(PAUSE_MAX) + SECOND.mul_f64(random)),
            reaction => {
                Verdict::Wait(pause.unwrap_or_else(|| self.draw(random, reaction == Reaction::Slowly)))
            }
        }
    }

    /// Full jitter: uniform over [min, window], where the window doubles. The spread is what keeps thousands of clients that
    /// lost the same server from coming back in the same instant.
    fn draw(&mut self, random: f64, slowly: bool) -> Duration {
        let doubled = WAIT_MIN.saturating_mul(1 << (self.waits + 1).min(16));
        let window = if slowly { WAIT_MAX } else { doubled.min(WAIT_MAX) };
        self.waits += 1;
        WAIT_MIN + (window - WAIT_MIN).mul_f64(random)
    }
}

impl End {
    fn reaction(&self) -> Reaction {
        match self {
            Self::Broken(_) => Reaction::Reconnect,
            Self::Wrong(_) => Reaction::IfProven,
            Self::Refused { retry_after: Some(after), status: 429 | 500..=599, .. } => {
                Reaction::After(*after)
            }
            Self::Refused { status: 429, .. } => Reaction::Slowly,
            Self::Refused { status: 408 | 500..=599, .. } => Reaction::Reconnect,
            Self::Refused { .. } => Reaction::Stop,
            Self::Closed { code, .. } => closed(*code),
        }
    }
}

/// RFC 6455 §7.4.1 and its registry below 3000; 4000–4499 and 4500–4999 are Trestle's.
fn closed(code: u16) -> Reaction {
    match code {
        // We broke the protocol's rules, or the server's: a second attempt would break them again.
        1002 | 1003 | 1007..=1010 | 4500..=4999 => Reaction::Stop,
        1013 | 4029 => Reaction::Slowly,
        _ => Reaction::Reconnect,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use trestle_hub::ws::CloseCode;

    use super::*;

    fn broken() -> End {
        End::Broken("gone".to_owned())
    }

    fn refused(status: u16, after: Option<u64>) -> End {
        End::Refused { status, why: String::new(), retry_after: after.map(Duration::from_secs) }
    }

    /// One that has had a connection for an hour.
    fn settled(now: Instant) -> Comeback {
        let mut comeback = Comeback::new(false);
        comeback.welcomed(now.checked_sub(Duration::from_secs(3_600)).unwrap());
        comeback
    }

    #[test]
    fn an_edge_s_close_codes_are_obeyed() {
        let now = Instant::now();
        for code in CloseCode::ALL {
            let verdict =
                settled(now).down(&End::Closed { code: code.value(), reason: String::new() }, now, 0.5);
            // After a normal end the edge may well be there again.
            let comes_back = code.may_reconnect() || code == CloseCode::Normal;
            assert_eq!(verdict != Verdict::Stop, comes_back, "{code:?}");
        }
        for (code, comes_back) in [(1005, true), (1006, true), (3000, true), (4123, true), (4777, false)] {
            let verdict = settled(now).down(&End::Closed { code, reason: String::new() }, now, 0.5);
            assert_eq!(verdict != Verdict::Stop, comes_back, "{code}");
        }
    }

    #[test]
    fn the_first_connection_is_tried_for_once_unless_one_waits_for_it() {
        let now = Instant::now();
        for (is_patient, expected) in [(false, Verdict::Stop), (true, Verdict::Wait(WAIT_MIN))] {
            assert_eq!(Comeback::new(is_patient).down(&broken(), now, 0.0), expected);
        }
        let wrong = End::Wrong("not a WebSocket".to_owned());
        assert_eq!(Comeback::new(true).down(&wrong, now, 0.0), Verdict::Stop, "waiting does not help");
        assert_ne!(
            settled(now).down(&wrong, now, 0.0),
            Verdict::Stop,
            "it may be a proxy whose edges restart"
        );
        // An edge that is full, or not ready yet, says when to come.
        for (random, millis) in [(0.0, 7_000), (0.5, 7_500)] {
            let expected = Verdict::Wait(Duration::from_millis(millis));
            assert_eq!(Comeback::new(false).down(&refused(503, Some(7)), now, random), expected);
        }
        assert_eq!(Comeback::new(false).down(&refused(503, None), now, 0.0), Verdict::Stop);
    }

    #[test]
    fn http_refusals() {
        let now = Instant::now();
        for (status, comes_back) in [
            (200, false),
            (301, false),
            (400, false),
            (401, false),
            (404, false),
            (408, true),
            (426, false),
            (429, true),
            (502, true),
            (503, true),
        ] {
            for after in [None, Some(3)] {
                let verdict = settled(now).down(&refused(status, after), now, 0.5);
                assert_eq!(verdict != Verdict::Stop, comes_back, "{status}");
            }
        }
    }

    #[test]
    fn a_goodbye_s_pause_counts_from_the_goodbye() {
        let (start, end) = (Instant::now(), End::Closed { code: 1012, reason: String::new() });
        for (closed_after_ms, waits_ms) in [(0, 1_834), (1_000, 834), (1_834, 0), (9_000, 0)] {
            let mut comeback = settled(start);
            comeback.goodbye(Some(Duration::from_millis(1_834)), start);
            let closed = start + Duration::from_millis(closed_after_ms);
            let expected = Verdict::Wait(Duration::from_millis(waits_ms));
            assert_eq!(comeback.down(&end, closed, 0.9), expected);
            assert_ne!(comeback.down(&end, closed, 0.9), expected, "it holds for one close");
        }
        let mut comeback = settled(start);
        comeback.goodbye(Some(Duration::from_secs(100_000)), start);
        assert_eq!(comeback.down(&end, start, 0.0), Verdict::Wait(PAUSE_MAX));
    }

    #[test]
    fn only_a_connection_that_stood_for_a_while_resets_the_window() {
        let now = Instant::now();
        let mut comeback = settled(now);
        for _ in 0..8 {
            assert_ne!(comeback.down(&broken(), now, 0.0), Verdict::Stop);
        }
        comeback.welcomed(now);
        let widest = Verdict::Wait(WAIT_MIN + (WAIT_MAX - WAIT_MIN) / 2);
        assert_eq!(comeback.down(&broken(), now + Duration::from_secs(4), 0.5), widest);
        comeback.welcomed(now);
        let narrowest = Verdict::Wait(WAIT_MIN + WAIT_MIN / 2);
        assert_eq!(comeback.down(&broken(), now + Duration::from_secs(6), 0.5), narrowest);
    }

    proptest! {
        #[test]
        fn waits_are_spread_over_a_window_that_doubles_to_its_bound(random in 0.0..1.0f64, n in 0u32..200) {
            let now = Instant::now();
            let mut comeback = settled(now);
            for wait in 0..=n {
                let window = Duration::from_millis(500 << (wait + 1).min(10)).min(WAIT_MAX);
                let expected = WAIT_MIN + (window - WAIT_MIN).mul_f64(random);
                prop_assert_eq!(comeback.down(&broken(), now, random), Verdict::Wait(expected));
            }
            let slowly = Verdict::Wait(WAIT_MIN + (WAIT_MAX - WAIT_MIN).mul_f64(random));
            let overloaded = End::Closed { code: 1013, reason: String::new() };
            prop_assert_eq!(settled(now).down(&overloaded, now, random), slowly);
        }
    }
}
