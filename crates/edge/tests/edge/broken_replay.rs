//! An edge whose replays break off on their way, as they do where the forwarder's patience ends or a proxy's does.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{Stream, StreamExt as _, stream};
use serde_json::json;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use trestle_messages::v1::recorder_client::RecorderClient;
use trestle_messages::v1::recorder_server::{Recorder, RecorderServer};
use trestle_messages::v1::{
    PublishReply, PublishRequest, RecorderStatus, RecorderStatusRequest, ReplayBatch, ReplayRequest,
};

use crate::client::Client;
use crate::fixture::{Feed, Forwarder, Runtime, TestEdge};

/// Between an edge and its forwarder: ends the first replays after a batch.
struct Impatient {
    forwarder: RecorderClient<Channel>,
    left: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Recorder for Impatient {
    async fn status(
        &self,
        request: Request<RecorderStatusRequest>,
    ) -> Result<Response<RecorderStatus>, Status> {
        self.forwarder.clone().status(request).await
    }

    type ReplayStream = Pin<Box<dyn Stream<Item = Result<ReplayBatch, Status>> + Send>>;

    async fn replay(&self, request: Request<ReplayRequest>) -> Result<Response<Self::ReplayStream>, Status> {
        let batches = self.forwarder.clone().replay(request).await?.into_inner();
        let one_less = |left: usize| left.checked_sub(1);
        if self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            return Ok(Response::new(Box::pin(batches)));
        }
        let end = Status::new(Code::Aborted, "no batch was taken; ask again");
        Ok(Response::new(Box::pin(batches.take(1).chain(stream::once(async { Err(end) })))))
    }

    type PublishStream = Pin<Box<dyn Stream<Item = Result<PublishReply, Status>> + Send>>;

    async fn publish(
        &self,
        _: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        Err(Status::unimplemented("nobody publishes here"))
    }
}

/// Serves until `runtime` is dropped; `breaks` replays are broken off.
fn impatient(runtime: &Runtime, forwarder: &Forwarder, breaks: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let left = Arc::new(AtomicUsize::new(breaks));
    let (recorder, counter) = (forwarder.recorder(), left.clone());
    let address = runtime.block_on(async move {
        let forwarder = RecorderClient::connect(recorder).await.unwrap();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = RecorderServer::new(Impatient { forwarder, left: counter });
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        address
    });
    (address, left)
}

#[test]
fn a_clone_that_breaks_off_is_begun_again_and_has_everything_once() {
    const MESSAGES: usize = 200;
    const BREAKS: usize = 3;
    let forwarder = Forwarder::start("");
    let early = TestEdge::behind(&forwarder, "");
    let feed = Feed::connected(&forwarder);
    feed.wait_for("+");
    let since = Client::json(&early, "/ws").welcome["position"].take();
    // More than one batch: those are of 256 KiB.
    let bodies: Vec<_> = (0..MESSAGES).map(|n| format!("{n:04}{}", "·".repeat(2_000))).collect();
    bodies.iter().for_each(|body| feed.send(&["jobs/1", body]));
    early.until_metric("upstream_head", |head| head == MESSAGES as u64);

    let runtime = Runtime::new();
    let (recorder, left) = impatient(&runtime, &forwarder, BREAKS);
    let edge = TestEdge::start(&format!("--link {} --recorder http://{recorder}", forwarder.link()));
    edge.wait_ready();
    assert_eq!(left.load(Ordering::Relaxed), 0, "each was broken off before one was whole");
    assert_eq!(edge.metric("upstream_head"), MESSAGES as u64);
    let mut client = Client::json(&edge, "/ws");
    let command = json!({"id": 1, "subscribe": {"topics": ["jobs/"], "since": since}});
    assert_eq!(client.command(&command)["subscribed"]["recovered"], true);
    for body in &bodies {
        assert_eq!(client.event()["text"], **body);
    }
    assert_eq!(client.named("caught_up")["replayed"], MESSAGES);
    feed.send(&["jobs/1", "live"]);
    assert_eq!(client.event()["text"], "live");
    assert_eq!(edge.metric("dropped_messages_total{hop=\"link\",cause=\"hole\"}"), 0);
}
