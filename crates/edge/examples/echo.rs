//! Echoes messages over the edge's own WebSocket transport, so that the Autobahn test suite can judge it.
//!
//! `cargo run -p trestle-edge --example echo -- --listen 127.0.0.1:9001`

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use bytesize::ByteSize;
use clap::Parser;
use hyper::body::Incoming as Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::{OnUpgrade, Parts};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use trestle_hub::ws::{
    Deflate, Deflater, Handshake, Incoming, Inflater, Opcode, ReadError, Reader, close_frame, server_frame,
};

const SCRATCH_BYTES: usize = 64 << 10;
/// What comes behind the last frame is read away for so long, because a socket closed with unread bytes is reset, and the
/// client might never see that frame.
const LINGER: Duration = Duration::from_secs(2);

/// Echoes WebSocket messages; any path, any subprotocol.
#[derive(Parser)]
struct Args {
    /// Address to listen on; port 0 takes a free one, and the first line of output says which.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// Whether to compress with clients that offer it.
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true")]
    deflate: bool,
    /// The longest message.
    #[arg(long, value_name = "BYTES", default_value = "64MiB")]
    message_max: ByteSize,
}

/// What all connections share, as those of a shard do.
struct Codec {
    deflates: bool,
    message_bytes_max: usize,
    deflater: Deflater,
    inflater: Inflater,
}

fn main() -> anyhow::Result<()> {
    let Args { listen, deflate, message_max } = Args::parse();
    let message_bytes_max = usize::try_from(message_max.as_u64()).context("--message-max")?;
    let (deflater, inflater) = (Deflater::new(), Inflater::new(message_bytes_max));
    let codec = Rc::new(RefCell::new(Codec { deflates: deflate, message_bytes_max, deflater, inflater }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("--listen {listen}"))?;
        println!("listening on ws://{}", listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let codec = Rc::clone(&codec);
            let service = service_fn(move |request| answer(request, Rc::clone(&codec)));
            let connection =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
            spawn_local(connection);
        }
    })
}

async fn answer(
    mut request: Request<Body>,
    codec: Rc<RefCell<Codec>>,
) -> Result<Response<String>, Infallible> {
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let lines = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let mut response = Response::new(String::new());
    let (status, headers) = match (Handshake::parse(lines), upgrade) {
        (Ok(handshake), Some(upgrade)) => {
            let deflate = handshake.deflate.filter(|_| codec.borrow().deflates).map(|(deflate, _)| deflate);
            for (name, value) in handshake.headers(None, deflate.is_some()) {
                response.headers_mut().insert(name, value.parse().expect("base64, tokens and punctuation"));
            }
            spawn_local(upgraded(upgrade, deflate, codec));
            (101, Default::default())
        }
        (Ok(_), None) => (400, Default::default()),
        (Err(error), _) => (error.status(), error.headers()),
    };
    *response.status_mut() = status.try_into().expect("a status that exists");
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().expect("tokens"));
    }
    Ok(response)
}

async fn upgraded(upgrade: OnUpgrade, deflate: Option<Deflate>, codec: Rc<RefCell<Codec>>) {
    // A client that goes away is no news here.
    let Ok(upgraded) = upgrade.await else { return };
    let Ok(Parts { io, read_buf, .. }) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    let _ = echo(io.into_inner(), &read_buf, deflate, &codec).await;
}

async fn echo(
    mut stream: TcpStream,
    early: &[u8],
    deflate: Option<Deflate>,
    codec: &RefCell<Codec>,
) -> std::io::Result<()> {
    let mut reader = Reader::new(codec.borrow().message_bytes_max, deflate.is_some());
    let mut scratch = vec![0; SCRATCH_BYTES.max(early.len())];
    scratch[..early.len()].copy_from_slice(early);
    let mut n = early.len();
    loop {
        let mut input = &mut scratch[..n];
        loop {
            let reply = match reader.next(&mut input) {
                Ok(None) => break,
                Ok(Some(incoming)) => codec.borrow_mut().reply(incoming, deflate),
                Err(error) => Err(error),
            };
            match reply {
                Ok(Some(frame)) => stream.write_all(&frame).await?,
                Ok(None) => {}
                Err(error) => {
                    stream.write_all(&close_frame(error.close_code())).await?;
                    return linger(stream, scratch).await;
                }
            }
        }
        if reader.is_ended() {
            return linger(stream, scratch).await;
        }
        n = stream.read(&mut scratch).await?;
        if n == 0 {
            return Ok(());
        }
    }
}

impl Codec {
    /// The frame that answers: for a message the same one, compressed where that was agreed on and helps.
    fn reply(
        &mut self,
        incoming: Incoming<'_>,
        deflate: Option<Deflate>,
    ) -> Result<Option<Bytes>, ReadError> {
        let message = match incoming {
            Incoming::Compressed { text, payload } => self.inflater.inflate(text, payload)?,
            other => other,
        };
        let (opcode, payload) = match message {
            Incoming::Text(text) => (Opcode::Text, text.as_bytes()),
            Incoming::Binary(payload) => (Opcode::Binary, payload),
            control => return Ok(control.reply()),
        };
        let compressed = deflate.and_then(|deflate| self.deflater.frame(opcode, payload, deflate.window));
        Ok(Some(compressed.unwrap_or_else(|| server_frame(opcode, payload))))
    }
}

/// Says that nothing more comes, and waits for the client to hang up (RFC 6455 §7.1.1).
async fn linger(mut stream: TcpStream, mut scratch: Vec<u8>) -> std::io::Result<()> {
    stream.shutdown().await?;
    let hang_up = async {
        while stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    };
    tokio::time::timeout(LINGER, hang_up).await.unwrap_or(Ok(()))
}
