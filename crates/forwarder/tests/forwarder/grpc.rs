//! The private gRPC service.

use std::time::Duration;

use futures_util::StreamExt as _;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use trestle_messages::v1::recorder_client::RecorderClient;
use trestle_messages::v1::{RecorderStatus, RecorderStatusRequest};

use crate::fixture::TestForwarder;

async fn channel(forwarder: &TestForwarder) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{}", forwarder.running.grpc)).unwrap();
    endpoint.timeout(Duration::from_secs(10)).connect().await.unwrap()
}

async fn status(channel: Channel) -> RecorderStatus {
    RecorderClient::new(channel).status(RecorderStatusRequest {}).await.unwrap().into_inner()
}

#[test]
fn status_tells_epoch_head_and_rules() {
    let forwarder = TestForwarder::start(&["--record", "jobs/=1MiB,5m"]);
    let (publisher, edge) = (forwarder.publisher(), forwarder.edge(&[b"jobs/"]));
    publisher.wait_asked(b"jobs/");
    let before = forwarder.block_on(async { status(channel(&forwarder).await).await });
    assert_eq!((before.head, before.tail), (0, 1));
    (0..3).for_each(|_| publisher.send(&[b"jobs/1", b"x"]));
    // The beat is sent behind the messages, and the status shown not before it.
    while edge.next_beat().head != 3 {}
    forwarder.metric("trestle_forwarder_head", |head| head == 3);
    let after = forwarder.block_on(async { status(channel(&forwarder).await).await });
    assert_eq!((after.epoch, after.head, after.tail), (before.epoch, 3, 1));
    assert_eq!(after.epoch, edge.next_beat().epoch);
    assert_eq!(after.version, env!("CARGO_PKG_VERSION"));
    let rule = &after.recorded[..];
    assert_eq!(
        (rule.len(), &rule[0].prefix[..], rule[0].bytes_max, rule[0].age_ms_max),
        (1, &b"jobs/"[..], 1 << 20, 300_000)
    );
}

#[test]
fn health_and_reflection_answer() {
    let forwarder = TestForwarder::start(&[]);
    forwarder.block_on(async {
        let channel = channel(&forwarder).await;
        let service = "trestle.v1.Recorder".to_owned();
        let health = HealthClient::new(channel.clone()).check(HealthCheckRequest { service }).await.unwrap();
        assert_eq!(
            health.into_inner().status(),
            tonic_health::pb::health_check_response::ServingStatus::Serving
        );

        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let requests = futures_util::stream::iter([request]);
        let mut answers =
            ServerReflectionClient::new(channel).server_reflection_info(requests).await.unwrap().into_inner();
        let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
        let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
        assert!(list.service.iter().any(|service| service.name == "trestle.v1.Recorder"), "{list:?}");
    });
    assert!(forwarder.get("/healthz").starts_with("HTTP/1.1 200"));
    assert!(forwarder.get("/readyz").ends_with("ready\n"));
}

#[test]
fn with_a_token_every_call_but_for_health_must_carry_it() {
    const TOKEN: &str = "0123456789abcdef0123456789abcdef";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{TOKEN}\n")).unwrap();
    let forwarder = TestForwarder::start(&["--link-token-file", file.path().to_str().unwrap()]);
    forwarder.block_on(async {
        let channel = channel(&forwarder).await;
        let status = |token: Option<&'static str>| {
            let mut client = RecorderClient::new(channel.clone());
            let mut request = Request::new(RecorderStatusRequest {});
            if let Some(token) = token {
                let value = MetadataValue::try_from(format!("Bearer {token}")).unwrap();
                request.metadata_mut().insert("authorization", value);
            }
            async move { client.status(request).await.map(|answer| answer.into_inner().head) }
        };
        for wrong in [None, Some("wrong"), Some(&TOKEN[1..])] {
            assert_eq!(status(wrong).await.unwrap_err().code(), Code::Unauthenticated, "{wrong:?}");
        }
        assert_eq!(status(Some(TOKEN)).await.unwrap(), 0);
        HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.unwrap();
        let list = MessageRequest::ListServices(String::new());
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
        let requests = futures_util::stream::iter([request]);
        let reflection = ServerReflectionClient::new(channel.clone()).server_reflection_info(requests).await;
        assert_eq!(reflection.unwrap_err().code(), Code::Unauthenticated);
    });
    forwarder.metric("trestle_forwarder_grpc_unauthenticated_total", |n| n == 4);
}
