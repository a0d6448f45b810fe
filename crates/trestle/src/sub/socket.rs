//! One WebSocket to an edge: how it is opened, what comes on it, and why it ended.

use std::io;
use std::time::Duration;

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::http::header::{LOCATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::address::Address;
use super::comeback::End;
use super::papers::Papers;
use super::wire::SUBPROTOCOL;

/// Each of these takes at most so long: to open a connection, to hear its welcome, to send a few commands.
pub(super) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// A message of an edge: the longest of ØMQ's that it takes by default, 4 MiB, where each byte is escaped, and more.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Of what a server says beside its refusal.
const REFUSAL_CHARS_MAX: usize = 300;
/// How long a farewell may take.
const CLOSE_MAX: Duration = Duration::from_millis(500);

/// Bytes to an edge and back.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An open WebSocket.
pub(super) struct Socket(WebSocketStream<Box<dyn Stream>>);

impl Socket {
    /// Looks the name up anew each time: another edge may be there.
    pub(super) async fn open(
        address: &Address,
        tls: Option<&TlsConnector>,
        papers: &Papers,
    ) -> Result<Self, End> {
        let opening = timeout(HANDSHAKE_MAX, open(address, tls, papers)).await;
        opening.unwrap_or_else(|_| {
            let (to, within) = (place(address), HANDSHAKE_MAX.as_secs());
            Err(End::Broken(format!("no answer from {to} within {within} s")))
        })
    }

    /// In one write, as far as it goes.
    pub(super) async fn send(&mut self, commands: Vec<String>) -> Result<(), End> {
        let sending = async {
            for command in commands {
                self.0.feed(Message::text(command)).await?;
            }
            self.0.flush().await
        };
        let sent = timeout(HANDSHAKE_MAX, sending).await;
        sent.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())).map_err(broken)
    }

    /// The next message, or `None` for one that only says that the connection lives. An end if there is none until
    /// `deadline`.
    pub(super) async fn next(&mut self, deadline: Instant) -> Result<Option<Utf8Bytes>, End> {
        match timeout_at(deadline, self.0.next()).await {
            Ok(message) => read(message),
            Err(_) => Err(End::Broken("the connection is dead: nothing came for too long".to_owned())),
        }
    }

    /// The next message if it is here already.
    pub(super) fn next_now(&mut self) -> Option<Result<Option<Utf8Bytes>, End>> {
        self.0.next().now_or_never().map(read)
    }

    /// Says that we go.
    pub(super) async fn close(mut self) {
        let _ = timeout(CLOSE_MAX, self.0.close(None)).await;
    }
}

async fn open(address: &Address, tls: Option<&TlsConnector>, papers: &Papers) -> Result<Socket, End> {
    let to = place(address);
    let tcp = TcpStream::connect((&*address.host, address.port)).await;
    let tcp = tcp.map_err(|error| End::Broken(format!("cannot connect to {to}: {}", said(&error))))?;
    // Commands are small, and one waits for each reply; without it nothing is worse than slower.
    let _ = tcp.set_nodelay(true);
    let stream: Box<dyn Stream> = match tls {
        None => Box::new(tcp),
        Some(tls) => {
            let name = ServerName::try_from(address.host.clone());
            let name = name.map_err(|error| End::Wrong(format!("{}: {error}", address.host)))?;
            Box::new(tls.connect(name, tcp).await.map_err(|error| tls_error(&to, &error))?)
        }
    };
    let mut request =
        address.uri.clone().into_client_request().map_err(|error| End::Wrong(error.to_string()))?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    papers.show(request.headers_mut()).map_err(End::Wrong)?;
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    match client_async_with_config(request, stream, Some(config)).await {
        Ok((socket, _)) => Ok(Socket(socket)),
        Err(Error::Http(response)) => Err(refused(&response)),
        Err(Error::Io(error)) => Err(End::Broken(format!("{to} broke the handshake off: {}", said(&error)))),
        Err(Error::Protocol(ProtocolError::HandshakeIncomplete)) => {
            Err(End::Broken(format!("{to} broke the handshake off")))
        }
        Err(Error::Protocol(ProtocolError::SecWebSocketSubProtocolError(_))) => {
            Err(End::Wrong(format!("{to} is a WebSocket, but no edge: it does not speak {SUBPROTOCOL}")))
        }
        Err(error) => Err(End::Wrong(format!("{to} does not answer as a WebSocket: {error}"))),
    }
}

fn read(message: Option<Result<Message, Error>>) -> Result<Option<Utf8Bytes>, End> {
    match message {
        None => Err(End::Broken("the connection broke off".to_owned())),
        Some(Err(error)) => Err(broken(error)),
        Some(Ok(Message::Text(text))) => Ok(Some(text)),
        Some(Ok(Message::Close(frame))) => Err(match frame {
            Some(frame) => End::Closed { code: frame.code.into(), reason: frame.reason.to_string() },
            None => End::Closed { code: 1005, reason: String::new() },
        }),
        // Of this subprotocol there are no others, and a later one's are not for us.
        Some(Ok(_)) => Ok(None),
    }
}

fn broken(error: Error) -> End {
    match error {
        Error::Io(error) => End::Broken(format!("the connection broke: {}", said(&error))),
        Error::ConnectionClosed
        | Error::AlreadyClosed
        | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            End::Broken("the connection broke off".to_owned())
        }
        error => End::Broken(format!("the connection broke: {error}")),
    }
}

/// Without `(os error 111)`.
fn said(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

fn tls_error(to: &str, error: &io::Error) -> End {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(why)) => End::Wrong(format!(
            "the certificate of {to} is not trusted: {why}; --cacert names one to trust, --insecure trusts any"
        )),
        Some(rustls::Error::InvalidMessage(_)) => {
            End::Wrong(format!("{to} does not speak TLS; write ws:// if it is to be without"))
        }
        Some(why) => End::Wrong(format!("no TLS with {to}: {why}")),
        None => End::Broken(format!("{to} broke the TLS handshake off: {}", said(error))),
    }
}

fn refused(response: &Response<Option<Vec<u8>>>) -> End {
    let header = |name: HeaderName| text_of(response.headers(), name);
    let status = response.status();
    let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
    let is_text =
        header(HeaderName::from_static("content-type")).is_some_and(|kind| kind.starts_with("text/plain"));
    let mut why = match header(LOCATION) {
        Some(location) if status.is_redirection() => format!("it is at {location}"),
        _ if is_text => body.chars().take(REFUSAL_CHARS_MAX).collect(),
        _ => status.canonical_reason().unwrap_or_default().to_owned(),
    };
    if matches!(status.as_u16(), 200 | 404) {
        why = format!("{}; no WebSocket at this path", why.trim());
    }
    let retry_after = header(RETRY_AFTER).and_then(|after| after.parse().ok()).map(Duration::from_secs);
    End::Refused { status: status.as_u16(), why, retry_after }
}

fn text_of(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn place(address: &Address) -> String {
    address.uri.authority().map(ToString::to_string).unwrap_or_default()
}
