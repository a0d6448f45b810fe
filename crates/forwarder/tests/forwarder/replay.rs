//! What is kept, as an edge asks for it.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use prost::Message as _;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use trestle_messages::v1::recorder_client::RecorderClient;
use trestle_messages::v1::{ReplayBatch, ReplayRequest, Stamp};

use crate::fixture::{Frames, TestForwarder, frames};

fn replay(forwarder: &TestForwarder, request: ReplayRequest) -> Result<Vec<ReplayBatch>, Status> {
    forwarder.block_on(replay_of(forwarder.running.grpc, request))
}

pub(crate) async fn replay_of(grpc: SocketAddr, request: ReplayRequest) -> Result<Vec<ReplayBatch>, Status> {
    let endpoint = Endpoint::from_shared(format!("http://{grpc}")).unwrap();
    let channel = endpoint.timeout(Duration::from_secs(10)).connect().await.unwrap();
    let mut client = RecorderClient::new(channel).max_decoding_message_size(1 << 30);
    client.replay(request).await?.into_inner().try_collect().await
}

pub(crate) fn messages(batches: &[ReplayBatch]) -> Vec<(Frames, Stamp)> {
    let all = batches.iter().flat_map(|batch| &batch.messages);
    all.map(|message| (message.frames.iter().map(|frame| frame.to_vec()).collect(), message.stamp.unwrap()))
        .collect()
}

#[test]
fn a_replay_is_what_the_link_carried() {
    let forwarder =
        TestForwarder::start(&["--record", "jobs/", "--record", "w=1MiB,5m", "--split", "w=\\x20"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    let large = vec![b'x'; 300 << 10];
    for message in
        [&[&b"jobs/1"[..], b"a", b""][..], &[b"other", b"b"], &[b"jobs/2", &large], &[b"w10001 23 45"]]
    {
        publisher.send(message);
    }
    let sent: Vec<_> = (0..4).map(|_| edge.next()).filter(|(_, stamp)| stamp.offset != 0).collect();

    let batches = replay(&forwarder, ReplayRequest::default()).unwrap();
    assert_eq!(messages(&batches), sent);
    assert!(batches.len() >= 2, "batches are bounded");
    let start = batches[0].start.as_ref().unwrap();
    assert_eq!((start.epoch, start.head, start.last_values_after), (sent[0].1.epoch, 3, 0));
    let rings = start.rings.iter().map(|ring| (&ring.rule.as_ref().unwrap().prefix[..], ring.complete_after));
    assert_eq!(rings.collect::<Vec<_>>(), [(&b"jobs/"[..], 0), (b"w", 0)]);
    assert_eq!(batches.last().unwrap().through, 3);
    assert!(batches[1..].iter().all(|batch| batch.start.is_none()));

    // A hole of one message.
    let hole = ReplayRequest { epoch: start.epoch, after: 1, through: 2 };
    let batches = replay(&forwarder, hole).unwrap();
    assert_eq!((messages(&batches), batches.last().unwrap().through), (sent[1..2].to_vec(), 2));
    // Nothing that is not there yet is promised.
    let ahead = ReplayRequest { epoch: start.epoch, after: 3, through: 9 };
    let batches = replay(&forwarder, ahead).unwrap();
    assert_eq!((batches.len(), batches[0].messages.len(), batches[0].through), (1, 0, 3));
}

#[test]
fn what_its_ring_has_let_go_is_not_replayed_but_for_last_values() {
    let forwarder = TestForwarder::start(&["--record", "jobs/=400KiB"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b"jobs/"]));
    publisher.wait_asked(b"jobs/");
    publisher.send(&[b"jobs/quiet", b"still"]);
    let body = vec![b'x'; 40 << 10];
    (0..100).for_each(|_| publisher.send(&[b"jobs/busy", &body]));
    let beat = loop {
        let beat = edge.next_beat();
        if beat.head == 101 {
            break beat;
        }
    };
    let batches = replay(&forwarder, ReplayRequest::default()).unwrap();
    let replayed = messages(&batches);
    assert_eq!(replayed[0].0, frames(&[b"jobs/quiet", b"still"]));
    let complete_after = batches[0].start.as_ref().unwrap().rings[0].complete_after;
    assert!((91..95).contains(&complete_after), "{complete_after}");
    assert_eq!(beat.tail, complete_after + 1);
    let offsets: Vec<_> = replayed[1..].iter().map(|(_, stamp)| stamp.offset).collect();
    // The newest of all are there, too, whatever their ring keeps.
    assert!(offsets[0] > 2 && offsets[0] <= beat.tail, "{offsets:?}");
    assert_eq!(offsets, (offsets[0]..102).collect::<Vec<_>>());
}

#[test]
fn another_epoch_and_nothing_recorded_are_refused() {
    let forwarder = TestForwarder::start(&[]);
    let wrong = replay(&forwarder, ReplayRequest { epoch: 5, after: 1, through: 0 }).unwrap_err();
    assert_eq!(wrong.code(), Code::FailedPrecondition, "{wrong}");
    assert!(wrong.message().contains("not 5"), "{wrong}");
    let forwarder = TestForwarder::start(&["--no-record"]);
    let none = replay(&forwarder, ReplayRequest::default()).unwrap_err();
    assert_eq!(none.code(), Code::FailedPrecondition, "{none}");
}

/// A replay held its segments for as long as its connection stood, whatever the rings had let go meanwhile.
#[test]
fn whoever_takes_nothing_of_a_replay_has_it_ended() {
    let forwarder = TestForwarder::start(&["--replay-timeout", "200ms"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    // More than a connection takes in by itself.
    let body = vec![b'x'; 1 << 20];
    (0..24).for_each(|_| publisher.send(&[b"jobs/1", &body]));
    let received = (0..24).filter(|_| edge.next().1.offset != 0).count();
    assert_eq!(received, 24);

    let mut batches = forwarder.block_on(async {
        let endpoint = Endpoint::from_shared(format!("http://{}", forwarder.running.grpc)).unwrap();
        let client = RecorderClient::new(endpoint.connect().await.unwrap());
        let mut client = client.max_decoding_message_size(1 << 30);
        client.replay(ReplayRequest::default()).await.unwrap().into_inner()
    });
    let first = forwarder.block_on(batches.message()).unwrap().unwrap();
    assert_eq!(first.start.unwrap().head, 24);
    forwarder.metric("trestle_forwarder_replays_ended_total ", |ended| ended == 1);
    let ended = loop {
        match forwarder.block_on(batches.message()) {
            Ok(batch) => assert!(batch.expect("it ends with a status").through < 24),
            Err(status) => break status,
        }
    };
    assert!(ended.code() == Code::Aborted && ended.message().contains("200ms"), "{ended}");
    // Whoever asks again gets it all.
    let again = replay(&forwarder, ReplayRequest::default()).unwrap();
    assert_eq!((messages(&again).len(), again.last().unwrap().through), (24, 24));
}

/// The stamp in a replay is the one on the link to the byte.
#[test]
fn stamps_survive_the_recording() {
    let forwarder = TestForwarder::start(&["--split", "=\\x20"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    publisher.send(&[b"10001 23 45"]);
    let (sent, stamp) = edge.next();
    let replayed = messages(&replay(&forwarder, ReplayRequest::default()).unwrap());
    assert_eq!((&replayed[0].0, replayed[0].1.encode_to_vec()), (&sent, stamp.encode_to_vec()));
    assert!(stamp.original_frames && stamp.body_start == 6);
}
