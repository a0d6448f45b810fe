//! Drives the session: connects, reads, prints, and connects again.

use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use trestle_process::exit::Exit;

use super::comeback::{Comeback, End, Verdict};
use super::flags::Options;
use super::output::{Output, OutputError, say};
use super::session::{Heard, Session};
use super::socket::{HANDSHAKE_MAX, Socket};
use super::{notices, render, tls};

/// So many heartbeat periods without a message mean that the connection is dead.
const SILENT_PERIODS: f64 = 2.5;
/// A subscription that is refused for now is asked for again after so long at least …
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);
/// … and at most: not every client in the same instant.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// How long the last lines may take.
const LAST_LINES_MAX: Duration = Duration::from_millis(500);

/// One run.
pub(super) struct Watch {
    options: Options,
    tls: Option<TlsConnector>,
    session: Session,
    comeback: Comeback,
    output: Output,
    socket: Option<Socket>,
    /// Events printed.
    events: u64,
    /// From where to go on, as of the last line that was written.
    resume: Option<String>,
    /// Topics to ask for again, and when.
    refused: Vec<(Instant, Vec<u8>)>,
    /// Nobody reads the events any more.
    pub(super) is_unread: bool,
}

/// Why a connection's turn is over.
#[derive(Debug)]
enum Over {
    /// All events that were wanted are printed.
    Done,
    /// Nobody reads them any more.
    Unread,
    /// The connection is.
    End(End),
    /// There is no sense in another one.
    Failed(anyhow::Error),
}

impl From<OutputError> for Over {
    fn from(error: OutputError) -> Self {
        match error {
            OutputError::Closed => Self::Unread,
            OutputError::Failed(exit) => Self::Failed(exit.into()),
        }
    }
}

impl From<End> for Over {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl Watch {
    /// # Errors
    /// For certificates that cannot be read.
    pub(super) fn new(options: Options) -> anyhow::Result<Self> {
        let tls = options.address.is_tls.then(|| tls::connector(&options.trust)).transpose()?;
        let (session, comeback) = (Session::new(options.wanted.clone()), Comeback::new(options.wait));
        let (output, resume) = (Output::new(), options.wanted.since.clone());
        Ok(Self {
            options,
            tls,
            session,
            comeback,
            output,
            socket: None,
            events: 0,
            resume,
            refused: Vec::new(),
            is_unread: false,
        })
    }

    /// Until all is printed that was wanted.
    ///
    /// # Errors
    /// An [`Exit`] with code 69 if the edge cannot be reached at first or refuses for good, 71 if output cannot be
    /// written.
    pub(super) async fn run(&mut self) -> anyhow::Result<()> {
        loop {
            let end = match self.connection().await {
                Over::Done => return Ok(()),
                Over::Unread => {
                    self.is_unread = true;
                    return Ok(());
                }
                Over::Failed(error) => return Err(error),
                Over::End(end) => end,
            };
            self.socket = None;
            self.refused.clear();
            let now = Instant::now().into_std();
            match self.comeback.down(&end, now, random()?) {
                Verdict::Stop => return Err(Exit::unavailable(self.why(&end)).into()),
                Verdict::Wait(wait) => {
                    say(&notices::reconnecting(&end, wait));
                    sleep(wait).await;
                }
            }
        }
    }

    /// Says goodbye and from where to go on.
    pub(super) async fn leave(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.close().await;
        }
        if !self.is_unread {
            // A signal may have come in the middle of a line. Where nobody reads on, the position stays an earlier one.
            let _ = timeout(LAST_LINES_MAX, self.flush()).await;
        }
        // How much of it was read nobody knows then.
        if self.comeback.was_welcomed() && !self.is_unread {
            say(&notices::done(self.events, self.resume.as_deref()));
        }
    }

    fn why(&self, end: &End) -> String {
        let hint = match end {
            End::Broken(_) | End::Refused { status: 500.., .. } if !self.comeback.was_welcomed() => {
                "; --wait keeps trying"
            }
            _ => "",
        };
        format!("{}{hint}", notices::ended(end))
    }

    /// One connection from its beginning to its end.
    async fn connection(&mut self) -> Over {
        match self.converse().await {
            Ok(never) => match never {},
            Err(over) => match self.output.flush().await {
                Ok(()) => over,
                Err(error) => error.into(),
            },
        }
    }

    async fn converse(&mut self) -> Result<std::convert::Infallible, Over> {
        let socket = Socket::open(&self.options.address, self.tls.as_ref(), &self.options.papers).await?;
        self.socket = Some(socket);
        let mut silence_max = HANDSHAKE_MAX;
        loop {
            // Only time in which we listen counts: a reader of ours may be slow.
            let deadline = Instant::now() + silence_max;
            let ask_at = self.refused.iter().map(|(at, _)| *at).min();
            let socket = self.socket.as_mut().expect("it was opened above");
            tokio::select! {
                text = socket.next(deadline) => {
                    self.take_all(text?, &mut silence_max).await?;
                }
                () = sleep_until(ask_at.unwrap_or(deadline)), if ask_at.is_some() => self.ask_again().await?,
            }
        }
    }

    /// One message and all that are here by then, so that they are written together.
    async fn take_all(&mut self, first: Option<Utf8Bytes>, silence_max: &mut Duration) -> Result<(), Over> {
        let mut next = Some(Ok(first));
        while let Some(text) = next {
            if let Some(text) = text? {
                self.take(&text, silence_max).await?;
            }
            if self.output.is_full() {
                break;
            }
            next = self.socket.as_mut().and_then(Socket::next_now);
        }
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Over> {
        self.output.flush().await?;
        if self.session.resume() != self.resume.as_deref() {
            self.resume = self.session.resume().map(str::to_owned);
        }
        Ok(())
    }

    async fn take(&mut self, text: &str, silence_max: &mut Duration) -> Result<(), Over> {
        match self.session.receive(text) {
            Heard::Event { json, event } => {
                if self.options.json {
                    self.output.line(&render::one_line(json));
                } else {
                    self.output.line(&render::line(&event));
                }
                self.events += 1;
                if self.options.count == Some(self.events) {
                    self.flush().await?;
                    return Err(Over::Done);
                }
            }
            Heard::Nothing => {}
            Heard::Welcome { heartbeat, commands, stale } => {
                *silence_max = heartbeat.mul_f64(SILENT_PERIODS);
                self.comeback.welcomed(Instant::now().into_std());
                let url = self.options.address.uri.to_string();
                self.output.say(&notices::connected(&url, self.session.topics())).await?;
                if let Some(stale) = stale {
                    self.output.say(notices::stale(stale)).await?;
                }
                self.send(commands).await?;
            }
            Heard::Recovered { topic, replayed } => {
                self.output.say(&notices::recovered(&topic, replayed)).await?;
            }
            Heard::Unrecovered { topic, reason, from, position } => {
                if self.options.print_lost {
                    let lost = render::unrecovered(&topic, &reason, from.text(), position.as_deref());
                    self.output.line(&lost);
                }
                self.output.say(&notices::unrecovered(&topic, &reason, from.text())).await?;
            }
            Heard::Lost { json, lost } => {
                if self.options.print_lost {
                    self.output.line(&format!("{{\"lost\":{}}}", render::one_line(json)));
                }
                self.output.say(&notices::lost(&lost)).await?;
            }
            Heard::Stale(stale) => self.output.say(notices::stale(stale)).await?,
            Heard::Goodbye(goodbye) => {
                let pause = goodbye.reconnect_after_ms.map(Duration::from_millis);
                self.comeback.goodbye(pause, Instant::now().into_std());
                self.output.say(&notices::goodbye(&goodbye)).await?;
            }
            Heard::Refused { topic, code, reason, retry: true } => {
                let random = random().map_err(Over::Failed)?;
                let wait = ASK_AGAIN_MIN + (ASK_AGAIN_MAX - ASK_AGAIN_MIN).mul_f64(random);
                self.output.say(&notices::refused(&topic, &code, &reason, wait)).await?;
                self.refused.push((Instant::now() + wait, topic));
            }
            Heard::Refused { topic, code, reason, retry: false } => {
                let reason = notices::refused_for_good(&topic, &code, &reason);
                return Err(Over::Failed(Exit::unavailable(reason).into()));
            }
            Heard::Unreadable(why) => {
                self.output.say(&format!("a message that cannot be read: {}", notices::clean(&why))).await?;
            }
        }
        Ok(())
    }

    async fn ask_again(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        let due: Vec<_> = self.refused.extract_if(.., |(at, _)| *at <= now).collect();
        let commands = due.iter().filter_map(|(_, topic)| self.session.ask(topic)).collect();
        self.send(commands).await
    }

    async fn send(&mut self, commands: Vec<String>) -> Result<(), Over> {
        let socket = self.socket.as_mut().expect("there is a connection");
        Ok(socket.send(commands).await?)
    }
}

/// Uniform in [0, 1).
fn random() -> anyhow::Result<f64> {
    const BITS: u32 = 53;
    let bits = getrandom::u64().context("the system gives no random numbers")?;
    Ok((bits >> (u64::BITS - BITS)) as f64 / (1u64 << BITS) as f64)
}
