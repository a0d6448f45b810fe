//! What comes by gRPC goes out like a publisher's messages, and is answered.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use tonic::Streaming;
use tonic::transport::Endpoint;
use trestle_messages::v1::publish_reply::Outcome;
use trestle_messages::v1::recorder_client::RecorderClient;
use trestle_messages::v1::server_message::ErrorCode;
use trestle_messages::v1::{PublishReply, PublishRequest, Published, ReplayRequest};

use crate::fixture::{DEADLINE, TestForwarder, frames};
use crate::replay::{messages, replay_of};

fn request(id: u64, topic: &[u8], body: &[&[u8]], key: Option<&str>) -> PublishRequest {
    let body = body.iter().map(|frame| frame.to_vec().into()).collect();
    PublishRequest { id, topic: topic.to_vec().into(), body, key: key.map(str::to_owned) }
}

async fn call(
    forwarder: &TestForwarder,
    requests: impl Stream<Item = PublishRequest> + Send + 'static,
) -> Streaming<PublishReply> {
    let endpoint = Endpoint::from_shared(format!("http://{}", forwarder.running.grpc)).unwrap();
    let channel = endpoint.timeout(DEADLINE).connect().await.unwrap();
    RecorderClient::new(channel).publish(requests).await.unwrap().into_inner()
}

/// Publishes all in one call; the replies have the ids of the requests in their order.
fn publish(forwarder: &TestForwarder, requests: Vec<PublishRequest>) -> Vec<Outcome> {
    let ids: Vec<_> = requests.iter().map(|request| request.id).collect();
    let replies: Vec<_> = forwarder
        .block_on(async { call(forwarder, stream::iter(requests)).await.try_collect().await.unwrap() });
    assert_eq!(replies.iter().map(|reply| reply.id).collect::<Vec<_>>(), ids);
    replies.into_iter().map(|reply| reply.outcome.expect("a reply has an outcome")).collect()
}

fn sent(outcome: &Outcome) -> Published {
    match outcome {
        Outcome::Published(published) => *published,
        Outcome::Refused(refused) => panic!("{refused:?}"),
    }
}

#[test]
fn a_subscriber_gets_topic_and_body_and_an_edge_the_position_of_the_reply() {
    let forwarder = TestForwarder::start(&["--record", "chat/", "--split", "chat/=\\x20"]);
    // The edge's first beat comes when its subscriptions stand; what the subscriber asks for is seen at the frontend.
    let (subscriber, edge) = (forwarder.subscriber(&[b"chat/"]), forwarder.edge(&[b""]));
    forwarder.metric("trestle_forwarder_subscriptions{port=\"backend\"}", |n| n == 1);
    let outcomes = publish(
        &forwarder,
        vec![
            request(7, b"chat/1", &[b"one"], None),
            request(8, b"chat/ 2", &[b"two", b"", b"\0\xff"], None),
            request(9, b"other", &[b"three"], None),
        ],
    );
    let expected = [
        frames(&[b"chat/1", b"one"]),
        frames(&[b"chat/ 2", b"two", b"", b"\0\xff"]),
        frames(&[b"other", b"three"]),
    ];
    assert_eq!([subscriber.next(), subscriber.next()], expected[..2]);
    for (outcome, expected) in outcomes.iter().zip(&expected) {
        let (frames, stamp) = edge.next();
        let Published { epoch, offset, repeated } = sent(outcome);
        let epoch_or_none = if offset == 0 { 0 } else { stamp.epoch };
        assert_eq!((&frames, stamp.offset, epoch_or_none), (expected, offset, epoch));
        assert!(!repeated && !stamp.original_frames);
    }
    assert_eq!(outcomes.iter().map(|outcome| sent(outcome).offset).collect::<Vec<_>>(), [1, 2, 0]);
    let batches = forwarder.block_on(replay_of(forwarder.running.grpc, ReplayRequest::default())).unwrap();
    let replayed: Vec<_> = messages(&batches).into_iter().map(|(frames, _)| frames).collect();
    assert_eq!(replayed, expected[..2]);
    forwarder.metric("trestle_forwarder_publications_total{outcome=\"published\"}", |n| n == 3);
    forwarder.metric("trestle_forwarder_messages_in_total{port=\"grpc\"}", |n| n == 3);
}

#[test]
fn a_repeat_by_any_way_is_answered_with_the_first_position_and_sent_once() {
    let forwarder = TestForwarder::start(&[]);
    let edge = forwarder.edge(&[b""]);
    let again = |id| request(id, b"chat/1", &[b"hello"], Some("k1"));
    // Twice in one burst, and later from elsewhere.
    let mut outcomes = publish(&forwarder, vec![again(1), again(2)]);
    outcomes.extend(publish(&forwarder, vec![again(1), request(2, b"chat/1", &[b"hello"], Some("k2"))]));
    outcomes.extend(publish(&forwarder, vec![request(1, b"chat/1", &[b"bye"], Some("k1"))]));
    let found: Vec<_> = outcomes.iter().map(sent).map(|sent| (sent.offset, sent.repeated)).collect();
    // Another key, or another body under the same one, is another message.
    assert_eq!(found, [(1, false), (1, true), (1, true), (2, false), (3, false)]);
    let bodies: Vec<_> = (0..3).map(|_| edge.next().0[1].clone()).collect();
    assert_eq!(bodies, [&b"hello"[..], b"hello", b"bye"]);
    assert_eq!(edge.next_beat().head, 3);
    forwarder.metric("trestle_forwarder_publications_total{outcome=\"repeated\"}", |n| n == 2);
}

#[test]
fn what_cannot_be_sent_is_refused_and_the_rest_goes_on() {
    let forwarder = TestForwarder::start(&["--frame-bytes-max", "100KiB"]);
    let edge = forwarder.edge(&[b""]);
    let (large, part) = (vec![b'x'; 200 << 10], vec![b'x'; 99 << 10]);
    let refused = [
        (request(0, &[b'x'; 256], &[b""], None), ErrorCode::InvalidTopic, "256 bytes"),
        (request(1, b"\0trestle", &[b""], None), ErrorCode::InvalidTopic, "reserved"),
        (request(2, &large, &[], None), ErrorCode::TooLarge, "204800 bytes"),
        (request(3, b"a", &[&b""[..]; 65], None), ErrorCode::TooLarge, "65 frames"),
        (request(4, b"a", &[&large], None), ErrorCode::TooLarge, "204801 bytes"),
        (request(5, b"a", &[&part[..]; 11], None), ErrorCode::TooLarge, "at most 1048576"),
        (request(6, b"a", &[b""], Some("")), ErrorCode::BadRequest, "a key has 1 to 64 bytes"),
        (request(7, b"a", &[b""], Some(&"k".repeat(65))), ErrorCode::BadRequest, "a key"),
    ];
    let good = request(9, b"", &[b"good"], None);
    let requests = refused.iter().map(|(request, ..)| request.clone()).chain([good]).collect();
    let outcomes = publish(&forwarder, requests);
    for ((request, code, named), outcome) in refused.iter().zip(&outcomes) {
        let Outcome::Refused(refused) = outcome else { panic!("{}", request.id) };
        assert_eq!(refused.code(), *code, "{}", refused.reason);
        assert!(refused.reason.contains(named), "{}", refused.reason);
    }
    assert_eq!(sent(&outcomes[8]).offset, 1);
    assert_eq!(edge.next().0, frames(&[b"", b"good"]));
    forwarder.metric("trestle_forwarder_publications_total{outcome=\"refused\"}", |n| n == 8);
}

#[test]
fn a_message_of_one_frame_is_published_as_it_is() {
    let forwarder = TestForwarder::start(&[]);
    let (subscriber, edge) = (forwarder.subscriber(&[b"jobs/"]), forwarder.edge(&[b""]));
    let long = [&b"jobs/1 "[..], &[b'.'; 300]].concat();
    let requests = vec![request(0, b"jobs/2", &[], None), request(1, &long, &[], None)];
    let outcomes = publish(&forwarder, requests);
    assert_eq!(outcomes.iter().map(|outcome| sent(outcome).offset).collect::<Vec<_>>(), [1, 2]);
    for expected in [&b"jobs/2"[..], &long] {
        assert_eq!(edge.next().0, frames(&[expected]));
        assert_eq!(subscriber.next(), frames(&[expected]));
    }
}

#[test]
fn ten_thousand_arrive_complete_and_in_order_between_a_publishers() {
    let forwarder = TestForwarder::start(&[]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b""]));
    publisher.wait_asked(b"");
    let n = 10_000;
    (0..n).for_each(|n: u64| publisher.send(&[b"p", &n.to_le_bytes()]));
    let requests = (0..n).map(|n| request(n, b"g", &[&n.to_le_bytes()], None)).collect();
    let outcomes = publish(&forwarder, requests);
    let mut next = [0u64; 2];
    for offset in 1..=2 * n {
        let (frames, stamp) = edge.next();
        assert_eq!(stamp.offset, offset);
        let from = usize::from(frames[0] == b"g");
        assert_eq!(frames[1], next[from].to_le_bytes());
        if from == 1 {
            assert_eq!(sent(&outcomes[next[1] as usize]).offset, offset);
        }
        next[from] += 1;
    }
    assert_eq!(next, [n; 2]);
}

#[test]
fn with_a_data_folder_what_is_answered_is_there_after_a_restart_and_keys_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--data", dir.path().to_str().unwrap()];
    let again = |n: u64| request(n, b"chat/1", &[b"hello"], Some("k1"));
    let forwarder = TestForwarder::start(&args);
    let first = sent(&publish(&forwarder, vec![again(1)])[0]);
    forwarder.shutdown();
    let forwarder = TestForwarder::start(&args);
    let batches = forwarder.block_on(replay_of(forwarder.running.grpc, ReplayRequest::default())).unwrap();
    let (replayed, stamp) = &messages(&batches)[0];
    assert_eq!(*replayed, frames(&[b"chat/1", b"hello"]));
    assert_eq!((stamp.epoch, stamp.offset), (first.epoch, first.offset));
    let second = sent(&publish(&forwarder, vec![again(2)])[0]);
    assert_eq!((second.epoch, second.offset, second.repeated), (first.epoch, first.offset + 1, false));
}

#[test]
fn an_open_call_does_not_keep_the_forwarder_from_ending() {
    let forwarder = TestForwarder::start(&[]);
    let requests = stream::iter([request(1, b"a", &[b"b"], None)]).chain(stream::pending());
    let mut replies = forwarder.block_on(call(&forwarder, requests));
    let reply = forwarder.block_on(replies.message()).unwrap().unwrap();
    assert_eq!(sent(&reply.outcome.unwrap()).offset, 1);
    assert!(
        forwarder.shutdown() < Duration::from_millis(900),
        "a call that stays open is given up after a second"
    );
}
