//! Where the keys come from that verify tokens, and how they are kept up to date.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use trestle_auth::{Jwt, KeyError, Keys};
use trestle_process::exit::Exit;
use trestle_process::seldom::Seldom;

use super::fetch::Fetcher;
use crate::tally::Labelled;

/// Bytes of a key's file: a set of thirty-two keys with their certificates has a third of it.
pub(crate) const SET_BYTES_MAX: usize = 256 << 10;

/// How often all keys are read again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Without a reason.
    pub(crate) every: Duration,
    /// With one: a token that names a key which is not here, or a server that is away.
    pub(crate) at_most_every: Duration,
}

/// One place that keys come from, with those that came from it last.
#[derive(Debug)]
struct Source {
    place: Place,
    keys: Option<Keys>,
}

#[derive(Debug)]
enum Place {
    File(PathBuf),
    Url(Box<Fetcher>),
}

impl Place {
    /// Of whom is spoken in errors.
    fn name(&self) -> String {
        match self {
            Self::File(path) => format!("--auth-key-file {}", path.display()),
            Self::Url(fetcher) => format!("--auth-jwks {}", fetcher.url()),
        }
    }

    async fn read(&self) -> anyhow::Result<Keys> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                Ok(tokio::task::spawn_blocking(move || of_file(&path)).await??)
            }
            Self::Url(fetcher) => Ok(Keys::published(&fetcher.fetch(SET_BYTES_MAX).await?)?),
        }
    }
}

fn of_file(path: &std::path::Path) -> anyhow::Result<Keys> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SET_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() <= SET_BYTES_MAX, "it has more than {SET_BYTES_MAX} bytes");
    Ok(Keys::read(&bytes)?)
}

/// What is known of the keys, for whoever waits for them and for metrics.
#[derive(Debug)]
pub(crate) struct Known {
    are_here: AtomicBool,
    n_keys: AtomicU64,
    refreshes: Labelled<2>,
    wanted: Notify,
}

impl Known {
    const READ: &str = "read";
    const FAILED: &str = "failed";

    /// Where no tokens are asked for, nothing is awaited.
    pub(crate) fn new(are_here: bool) -> Self {
        let refreshes = Labelled::new([Self::READ, Self::FAILED]);
        Self { are_here: are_here.into(), n_keys: AtomicU64::new(0), refreshes, wanted: Notify::new() }
    }

    /// Whether each place has been read at least once.
    pub(crate) fn are_here(&self) -> bool {
        self.are_here.load(Ordering::Relaxed)
    }

    /// A token names a key that is not here: perhaps it is new. Never blocks.
    pub(crate) fn want(&self) {
        self.wanted.notify_one();
    }

    pub(crate) fn n_keys(&self) -> u64 {
        self.n_keys.load(Ordering::Relaxed)
    }

    /// Times that a place was read again, and that it could not be.
    pub(crate) fn refreshes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.refreshes.each()
    }
}

/// All places, and the keys that are in no place.
#[derive(Debug)]
pub(crate) struct Sources {
    given: Keys,
    sources: Vec<Source>,
    pace: Pace,
}

impl Sources {
    /// `given` is the text of a key. Files are read now, URLs by [`keep`](Self::keep).
    ///
    /// # Errors
    /// An [`Exit`] with code 64 that names the place at fault.
    pub(crate) fn open(given: Keys, files: &[PathBuf], urls: Vec<Fetcher>, pace: Pace) -> Result<Self, Exit> {
        let file = |path: &PathBuf| {
            let place = Place::File(path.clone());
            let keys = of_file(path).map_err(|error| Exit::usage(format!("{}: {error}", place.name())))?;
            Ok(Source { place, keys: Some(keys) })
        };
        let mut sources = files.iter().map(file).collect::<Result<Vec<_>, Exit>>()?;
        let urls =
            urls.into_iter().map(|fetcher| Source { place: Place::Url(Box::new(fetcher)), keys: None });
        sources.extend(urls);
        let opened = Self { given, sources, pace };
        Ok(opened)
    }

    /// All that are here.
    ///
    /// # Errors
    /// If two have one name, or there are too many.
    pub(crate) fn keys(&self) -> Result<Keys, KeyError> {
        let those = self.sources.iter().filter_map(|source| source.keys.clone());
        those.into_iter().try_fold(self.given.clone(), Keys::and)
    }

    /// Whether each place has been read at least once.
    pub(crate) fn are_here(&self) -> bool {
        self.sources.iter().all(|source| source.keys.is_some())
    }

    /// Keeps the keys of `jwt` up to date. Never ends.
    pub(crate) async fn keep(mut self, jwt: Arc<Jwt>, known: Arc<Known>) {
        known.n_keys.store(jwt.n_keys() as u64, Ordering::Relaxed);
        // Files have just been read.
        let mut pause = if self.are_here() { self.pace.every } else { Duration::ZERO };
        let mut last: Option<Instant> = None;
        let mut failures = Seldom::default();
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = known.wanted.notified() => {}
            }
            // However many tokens name keys that nobody has.
            if let Some(last) = last {
                tokio::time::sleep_until((last + self.pace.at_most_every).into()).await;
            }
            let is_whole = self.refresh(&jwt, &known, &mut failures).await;
            last = Some(Instant::now());
            pause = if is_whole { self.pace.every } else { self.pace.every.min(self.pace.at_most_every) };
        }
    }

    /// Whether every place could be read. The keys of one that could not stay as they are.
    async fn refresh(&mut self, jwt: &Jwt, known: &Known, failures: &mut Seldom) -> bool {
        let mut is_whole = true;
        for nth in 0..self.sources.len() {
            let read = self.sources[nth].place.read().await;
            let taken = read.and_then(|keys| self.take(nth, keys, jwt));
            known.refreshes.count(if taken.is_ok() { Known::READ } else { Known::FAILED });
            let Err(error) = taken else { continue };
            is_whole = false;
            if let Some(unsaid) = failures.say(Instant::now()) {
                let source = &self.sources[nth];
                let now = match source.keys {
                    Some(_) => "the keys that it had go on counting",
                    None => "clients are answered 503 until it has some",
                };
                tracing::warn!(unsaid, "{}: {error:#}; {now}", source.place.name());
            }
        }
        known.n_keys.store(jwt.n_keys() as u64, Ordering::Relaxed);
        if self.are_here() && !known.are_here.swap(true, Ordering::Relaxed) {
            tracing::info!("{} keys that verify tokens are here", jwt.n_keys());
        }
        is_whole
    }

    /// The keys of one place, if they agree with those of the others.
    fn take(&mut self, nth: usize, keys: Keys, jwt: &Jwt) -> anyhow::Result<()> {
        let before = self.sources[nth].keys.replace(keys);
        match self.keys() {
            Ok(keys) => {
                jwt.replace_keys(keys);
                Ok(())
            }
            Err(error) => {
                self.sources[nth].keys = before;
                Err(error.into())
            }
        }
    }
}
