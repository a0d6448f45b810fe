//! Idiomatic `warp::ws`: the server one writes after reading warp's and tokio's documentation, to be measured against.
//!
//! `warp_ws --listen 127.0.0.1:8122 --source tcp://127.0.0.1:7000`. A task for each browser, a `broadcast` channel for
//! each topic, a thread that receives from ØMQ. What the documentation would not tell is left as it comes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Context as _;
use clap::Parser;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use trestle_process::zmq::{Bounds, socket};
use warp::Filter as _;
use warp::ws::{Message, WebSocket};

/// Messages that a slow browser may be behind before it misses some.
const BEHIND_MAX: usize = 1024;

#[derive(Parser)]
struct Args {
    /// Where browsers connect; `?topic=` names exactly one topic.
    #[arg(long, default_value = "127.0.0.1:8122")]
    listen: SocketAddr,
    /// A ØMQ publisher that binds. Of each message the first frame is the topic, the last the body.
    #[arg(long)]
    source: String,
}

#[derive(Deserialize)]
struct Query {
    #[serde(default)]
    topic: String,
}

/// Made by the first browser that asks.
type Topics = Arc<Mutex<HashMap<String, broadcast::Sender<String>>>>;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let topics = Topics::default();

    let subscriber = socket(&zmq::Context::new(), zmq::SUB, Bounds::default())?;
    subscriber.set_subscribe(b"")?;
    subscriber.connect(&args.source).with_context(|| args.source.clone())?;
    let senders = topics.clone();
    std::thread::spawn(move || receive(&subscriber, &senders));

    let upgrade = warp::path("ws").and(warp::ws()).and(warp::query()).map(
        move |upgrade: warp::ws::Ws, query: Query| {
            let mut topics = topics.lock().expect("no holder panics");
            let messages = topics.entry(query.topic).or_insert_with(sender).subscribe();
            let reply = upgrade.on_upgrade(move |browser| serve(browser, messages));
            // warp leaves out what browsers insist on where they offered it.
            warp::reply::with_header(reply, "sec-websocket-protocol", "rust-websocket")
        },
    );
    // Accepted sockets inherit it; without it every server would lose to Nagle's algorithm and nothing else be seen.
    let listener = tokio::net::TcpSocket::new_v4()?;
    listener.set_nodelay(true)?;
    listener.set_reuseaddr(true)?;
    listener.bind(args.listen)?;
    let listener = listener.listen(4096)?;
    println!("listening on {}", listener.local_addr()?);
    warp::serve(upgrade).incoming(listener).run().await;
    Ok(())
}

fn sender() -> broadcast::Sender<String> {
    broadcast::channel(BEHIND_MAX).0
}

/// ØMQ to the topics' channels, for ever.
fn receive(subscriber: &zmq::Socket, topics: &Topics) {
    while let Ok(frames) = subscriber.recv_multipart(0) {
        let (Some(topic), Some(body)) = (frames.first(), frames.last()) else { continue };
        let topics = topics.lock().expect("no holder panics");
        if let Some(sender) = str::from_utf8(topic).ok().and_then(|topic| topics.get(topic)) {
            // It fails where nobody listens any more.
            let _ = sender.send(String::from_utf8_lossy(body).into_owned());
        }
    }
}

/// One browser, until either side ends.
async fn serve(browser: WebSocket, mut messages: broadcast::Receiver<String>) {
    let (mut to_browser, mut from_browser) = browser.split();
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Ok(body) => {
                    if to_browser.send(Message::text(body)).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
            // Reading also answers pings.
            received = from_browser.next() => match received {
                Some(Ok(message)) if !message.is_close() => {}
                _ => return,
            },
        }
    }
}
