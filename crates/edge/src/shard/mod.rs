//! A shard: one thread that owns its listener, its sessions and their sockets.
//!
//! Nothing of it is shared. Messages come by its own cursor on the log, connections by its own listener
//! (`SO_REUSEPORT`), and what goes out is written from its own loop, so that a delivery takes no lock and wakes nobody.

mod accept;
mod connection;
mod events;
mod files;
mod listen;
mod state;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{JoinSet, LocalSet};
use trestle_hub::decode::Decoders;
use trestle_hub::query::TopicBounds;
use trestle_hub::{Limits, wheel};
use trestle_recorder::Log;

use crate::admission::Admission;
use crate::door::Door;
use crate::drain::{Draining, Occupied};
use crate::ingest::{InterestSender, Upstream};
use crate::limits::{Floods, Room};
use crate::metrics::ShardMetrics;
use crate::origin::Origins;
use crate::publish::Publications;
use crate::publish::pace::Pace;
use crate::publish::post::Bounds;
use crate::recorder::Questions;
use crate::tokens::Tokens;
use state::{Answered, State};

pub(crate) use files::raise_limit;
pub(crate) use listen::listeners;

/// How often a shard that drains looks whether its last client has gone.
const EMPTY_POLL: Duration = Duration::from_millis(10);

/// Answers to publications passed on before others get their turn.
const ANSWERS_IN_TURN: usize = 1_024;

/// What a shard is given at its start.
pub(crate) struct Options {
    /// Begins its sessions' names.
    pub(crate) name: String,
    pub(crate) limits: Limits,
    pub(crate) handshake_timeout: Duration,
    /// Of a request.
    pub(crate) head_bytes_max: usize,
    /// Messages gather for so long before they are sent.
    pub(crate) flush_window: Duration,
    pub(crate) log: Arc<Log>,
    /// Notified after each append to the log.
    pub(crate) appended: Arc<Notify>,
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) interest: InterestSender,
    /// Where the recorder is asked, if there is one.
    pub(crate) questions: Option<Questions>,
    /// Where clients' publications are handed in.
    pub(crate) publications: Publications,
    /// How fast an address may hand them in by `POST`.
    pub(crate) post_pace: Arc<Pace>,
    pub(crate) decoders: Arc<Decoders>,
    pub(crate) metrics: Arc<ShardMetrics>,
    pub(crate) admission: Arc<Admission>,
    pub(crate) room: Arc<Room>,
    pub(crate) floods: Arc<Floods>,
    pub(crate) origins: Arc<Origins>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) draining: Draining,
    /// Dropped when the shard drains and its last client has gone.
    pub(crate) occupied: Occupied,
    /// Becomes true when the process ends.
    pub(crate) stopping: watch::Receiver<bool>,
}

/// Starts the thread; if it ends before its time, `failed` is told.
///
/// # Errors
/// If there is no more thread or file descriptor.
pub(crate) fn start(
    listener: std::net::TcpListener,
    options: Options,
    failed: mpsc::UnboundedSender<anyhow::Error>,
) -> anyhow::Result<thread::JoinHandle<()>> {
    let thread = thread::Builder::new().name(format!("shard {}", options.name));
    let run = move || {
        if let Err(error) = run(listener, options) {
            // Nobody listens if the process ends already.
            let _ = failed.send(error);
        }
    };
    thread.spawn(run).context("cannot start a shard's thread")
}

fn run(listener: std::net::TcpListener, options: Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    local.block_on(&runtime, async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (appended, mut stopping) = (Arc::clone(&options.appended), options.stopping.clone());
        let (requests, openings) = mpsc::unbounded_channel();
        let metrics = Arc::clone(&options.metrics);
        let door = Door {
            openings: requests,
            upstream: Arc::clone(&options.upstream),
            admission: Arc::clone(&options.admission),
            room: Arc::clone(&options.room),
            floods: Arc::clone(&options.floods),
            origins: Arc::clone(&options.origins),
            tokens: Arc::clone(&options.tokens),
            draining: options.draining.clone(),
            metrics: Arc::clone(&metrics),
            topics: TopicBounds {
                topics_max: options.limits.subscriptions_max,
                topic_bytes_max: options.limits.topic_bytes_max,
            },
            publications: options.publications.clone(),
            post_pace: Arc::clone(&options.post_pace),
            post_bounds: Bounds {
                body_bytes_max: options.limits.message_bytes_max,
                topic_bytes_max: options.limits.topic_bytes_max,
                body_timeout: options.handshake_timeout,
            },
        };
        let Options { handshake_timeout, head_bytes_max, flush_window, .. } = options;
        let questions = options.questions.clone();
        let (mut draining, mut occupied) = (options.draining.clone(), Some(options.occupied.clone()));
        let (answers, answered) = mpsc::unbounded_channel();
        let state = Rc::new(RefCell::new(State::new(options, answers)));

        let mut tasks = JoinSet::new();
        tasks.spawn_local(deliver(Rc::clone(&state), appended, flush_window));
        tasks.spawn_local(keep_time(Rc::clone(&state)));
        tasks.spawn_local(keep_pace(Rc::clone(&state)));
        tasks.spawn_local(answer(Rc::clone(&state), answered));
        if let Some(questions) = questions {
            tasks.spawn_local(ask(Rc::clone(&state), questions));
        }
        let heads = accept::Heads { timeout: handshake_timeout, bytes_max: head_bytes_max };
        let opening = connection::open_all(Rc::clone(&state), openings, draining.clone(), handshake_timeout);
        tasks.spawn_local(opening);
        tasks.spawn_local(accept::accept_all(listener, door, Rc::clone(&state), heads, metrics));
        loop {
            tokio::select! {
                // The sender lives as long as the process; if it is gone, so is the reason to run.
                _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
                order = draining.next() => state.borrow_mut().goodbye(&order),
                () = until_empty(&state), if occupied.is_some() && draining.order().is_some() => occupied = None,
                // None of them ends but by a panic, and without one of them the shard is no use.
                Some(ended) = tasks.join_next() => return Err(anyhow!("a shard failed: {ended:?}")),
            }
        }
    })
}

/// Delivers what comes into the log. While it visits sockets more may come; then the next round has more for each
/// socket, and the cost of a visit is shared: under load the batches grow by themselves.
///
/// With a `flush_window` it lets messages gather first, so that the cost is shared at lower rates, too, and each comes later
/// by as much.
async fn deliver(state: Rc<RefCell<State>>, appended: Arc<Notify>, flush_window: Duration) {
    loop {
        appended.notified().await;
        if !flush_window.is_zero() {
            tokio::time::sleep(flush_window).await;
        }
        while state.borrow_mut().deliver() {
            // Clients' bytes get their turn.
            tokio::task::yield_now().await;
        }
    }
}

async fn keep_time(state: Rc<RefCell<State>>) {
    let mut ticks = tokio::time::interval(wheel::TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        state.borrow_mut().tick(Instant::now());
        // Whoever serves a connection holds it.
        let n_connections = Rc::strong_count(&state);
        state.borrow_mut().ebb(n_connections);
    }
}

/// Lets go of what `max_hz` holds, when it is time.
async fn keep_pace(state: Rc<RefCell<State>>) {
    let release = state.borrow().release_at();
    loop {
        let Some(at) = release.at.get() else {
            release.sooner.notified().await;
            continue;
        };
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => state.borrow_mut().release(),
            () = release.sooner.notified() => {}
        }
    }
}

/// Asks the recorder where it stands when a client comes from where this edge has not been.
async fn ask(state: Rc<RefCell<State>>, questions: Questions) {
    let question = state.borrow().question();
    loop {
        question.notified().await;
        let position = questions.position().await;
        state.borrow_mut().recorder_is(position);
    }
}

/// Passes on what became of publications, all that is known at a time.
async fn answer(state: Rc<RefCell<State>>, mut answered: mpsc::UnboundedReceiver<Answered>) {
    let mut answers = Vec::new();
    while answered.recv_many(&mut answers, ANSWERS_IN_TURN).await > 0 {
        state.borrow_mut().published(&mut answers);
    }
}

async fn until_empty(state: &RefCell<State>) {
    while !state.borrow().is_empty() {
        tokio::time::sleep(EMPTY_POLL).await;
    }
}
