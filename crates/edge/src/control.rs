//! The edge's private gRPC service; with `recorder` the only room that knows tonic.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::task::AbortHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use trestle_hub::encode::GoodbyeReason;
use trestle_messages::FILE_DESCRIPTOR_SET;
use trestle_messages::v1::control_server::{Control, ControlServer};
use trestle_messages::v1::{DrainRequest, DrainResponse, EdgeStatus, EdgeStatusRequest};
use trestle_process::grpc::{Access, Guard};
use trestle_process::private_http;

use crate::config::Config;
use crate::drain::{Drain, Draining, Order};
use crate::ingest::Upstream;
use crate::metrics::ShardMetrics;
use crate::tokens::Known;

/// Health follows readiness at this pace, and a drain at once.
const HEALTH_INTERVAL: Duration = Duration::from_millis(200);
/// The longest drain that may be asked for.
const DRAIN_PERIOD_MAX: Duration = Duration::from_secs(3600);

/// Listens on `--control` and serves until the handle aborts it: `trestle.v1.Control` and reflection behind the link token if
/// there is one, and health, which is for all. Call within a tokio runtime.
///
/// # Errors
/// An [`Exit`](trestle_process::exit::Exit) with code 71 for the address.
pub(crate) async fn start(
    config: &Config,
    (access, guard): (&Access, &Guard),
    upstream: Arc<Upstream>,
    known: Arc<Known>,
    shards: Vec<Arc<ShardMetrics>>,
    drain: Drain,
) -> anyhow::Result<(SocketAddr, AbortHandle)> {
    let listener = private_http::bind("--control", config.control).await?;
    let address = listener.local_addr().context("--control")?;

    let (reporter, health) = tonic_health::server::health_reporter();
    tell(&reporter, upstream.is_ready() && known.are_here()).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the descriptors for reflection")?;
    let draining = drain.draining();
    let edge = Edge {
        upstream: Arc::clone(&upstream),
        known: Arc::clone(&known),
        shards,
        drain,
        drain_timeout: config.drain_timeout,
    };
    let server = access
        .server()
        .add_service(guard.before(ControlServer::new(edge)))
        .add_service(health)
        .add_service(guard.before(reflection))
        .serve_with_incoming(TcpIncoming::from(listener));
    let task = tokio::spawn(async move {
        tokio::select! {
            result = server => {
                if let Err(error) = result {
                    tracing::error!("the control service ended: {error}");
                }
            }
            () = follow(&reporter, &upstream, &known, draining) => {}
        }
    });
    Ok((address, task.abort_handle()))
}

/// Keeps the standard health service in step with readiness.
async fn follow(reporter: &HealthReporter, upstream: &Upstream, known: &Known, mut draining: Draining) {
    let mut ticks = tokio::time::interval(HEALTH_INTERVAL);
    let mut told = None;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            _ = draining.next() => {}
        }
        let ready = upstream.is_ready() && known.are_here() && draining.order().is_none();
        if told.replace(ready) != Some(ready) {
            tell(reporter, ready).await;
        }
    }
}

async fn tell(reporter: &HealthReporter, ready: bool) {
    let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", "trestle.v1.Control"] {
        reporter.set_service_status(service, status).await;
    }
}

struct Edge {
    upstream: Arc<Upstream>,
    known: Arc<Known>,
    shards: Vec<Arc<ShardMetrics>>,
    drain: Drain,
    drain_timeout: Duration,
}

#[tonic::async_trait]
impl Control for Edge {
    async fn status(&self, _: Request<EdgeStatusRequest>) -> Result<Response<EdgeStatus>, Status> {
        let draining = self.drain.draining().order().is_some();
        Ok(Response::new(EdgeStatus {
            ready: self.upstream.is_ready() && self.known.are_here() && !draining,
            stale: self.upstream.is_stale(),
            epoch: self.upstream.epoch.value(),
            head: self.upstream.head.value(),
            connections: self.shards.iter().map(|shard| shard.connections.sum()).sum(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining,
        }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let period = request.into_inner().period_ms.map_or(self.drain_timeout, Duration::from_millis);
        if period > DRAIN_PERIOD_MAX {
            let most = DRAIN_PERIOD_MAX.as_millis();
            return Err(Status::invalid_argument(format!("period_ms: at most {most}")));
        }
        let Order { clients: connections, closed, .. } = self.drain.begin(GoodbyeReason::Draining, period);
        let closes_over = closed.saturating_duration_since(Instant::now());
        tracing::info!(connections, ?closes_over, "draining, because Control.Drain asked for it");
        let closes_over_ms = u64::try_from(closes_over.as_millis()).unwrap_or(u64::MAX);
        Ok(Response::new(DrainResponse { connections, closes_over_ms }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tonic::metadata::MetadataValue;
    use tonic::transport::Channel;
    use tonic_health::pb::health_client::HealthClient;
    use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus as Answer};
    use trestle_hub::Protocol;
    use trestle_messages::v1::control_client::ControlClient;

    use super::*;

    const TOKEN: &str = "a-token-of-some-length";

    struct Fixture {
        channel: Channel,
        upstream: Arc<Upstream>,
        draining: Draining,
        _token: Option<tempfile::NamedTempFile>,
    }

    async fn start_edge(with_token: bool) -> Fixture {
        let token = with_token.then(|| {
            let mut file = tempfile::NamedTempFile::new().unwrap();
            writeln!(file, "{TOKEN}").unwrap();
            file
        });
        let mut config = Config { control: "127.0.0.1:0".parse().unwrap(), ..Config::default() };
        config.private.link_token_file = token.as_ref().map(|file| file.path().to_owned());
        let (upstream, shards) = (Arc::new(Upstream::default()), [(); 2].map(|()| Arc::default()));
        for (n, shard) in shards.iter().enumerate() {
            let shard: &Arc<ShardMetrics> = shard;
            shard.connections.of(Protocol::Json).add(n as u64 + 1);
        }
        upstream.epoch.set(7);
        upstream.head.set(42);
        let drain = Drain::new(shards.to_vec());
        let draining = drain.draining();
        let access = config.access().unwrap();
        let asks = (&access, &access.guard());
        let (address, _) =
            start(&config, asks, Arc::clone(&upstream), Arc::new(Known::new(true)), shards.to_vec(), drain)
                .await
                .unwrap();
        let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
        Fixture { channel: endpoint.connect().await.unwrap(), upstream, draining, _token: token }
    }

    fn with_token<T>(message: T) -> Request<T> {
        let mut request = Request::new(message);
        let header = MetadataValue::try_from(format!("Bearer {TOKEN}")).unwrap();
        request.metadata_mut().insert("authorization", header);
        request
    }

    #[tokio::test]
    async fn status_tells_upstream_and_load() {
        let f = start_edge(false).await;
        f.upstream.set_ready();
        let status = ControlClient::new(f.channel).status(EdgeStatusRequest {}).await.unwrap().into_inner();
        let version = env!("CARGO_PKG_VERSION").to_owned();
        assert_eq!(
            status,
            EdgeStatus {
                ready: true,
                stale: false,
                epoch: 7,
                head: 42,
                connections: 3,
                version,
                draining: false
            }
        );
    }

    #[tokio::test]
    async fn every_service_but_health_asks_for_the_token() {
        let f = start_edge(true).await;
        let mut control = ControlClient::new(f.channel.clone());
        let refused = control.status(EdgeStatusRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        assert!(!control.status(with_token(EdgeStatusRequest {})).await.unwrap().into_inner().ready);
        let health = HealthClient::new(f.channel).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(health.into_inner().status(), Answer::NotServing);
    }

    #[tokio::test]
    async fn health_follows_readiness() {
        let f = start_edge(false).await;
        let request = HealthCheckRequest { service: "trestle.v1.Control".to_owned() };
        let mut answers = HealthClient::new(f.channel).watch(request).await.unwrap().into_inner();
        let mut next_is = async |expected: Answer| {
            let wait = async { while answers.message().await.unwrap().unwrap().status() != expected {} };
            tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
        };
        next_is(Answer::NotServing).await;
        f.upstream.set_ready();
        next_is(Answer::Serving).await;
    }

    #[tokio::test]
    async fn drain_tells_what_comes_and_ends_readiness() {
        let f = start_edge(true).await;
        f.upstream.set_ready();
        let mut control = ControlClient::new(f.channel.clone());
        let request = |period_ms| DrainRequest { period_ms };
        let refused = control.drain(request(None)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        let refused = control.drain(with_token(request(Some(3_600_001)))).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert_eq!(f.draining.order(), None);

        let answer = control.drain(with_token(request(None))).await.unwrap().into_inner();
        // Three clients, at a hundred a second.
        assert!(answer.connections == 3 && answer.closes_over_ms <= 30, "{answer:?}");
        let order = f.draining.order().unwrap();
        assert_eq!(order.reason, GoodbyeReason::Draining);
        let left = order.until - Instant::now();
        assert!(left <= Config::default().drain_timeout && left > Duration::from_secs(20), "{left:?}");
        let status = control.status(with_token(EdgeStatusRequest {})).await.unwrap().into_inner();
        assert!(status.draining && !status.ready);
        let mut health = HealthClient::new(f.channel);
        let wait = async {
            while health.check(with_token(HealthCheckRequest::default())).await.unwrap().into_inner().status()
                != Answer::NotServing
            {}
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
        // A shorter one is taken, a longer one is not.
        control.drain(with_token(request(Some(2_000)))).await.unwrap();
        let sooner = f.draining.order().unwrap();
        control.drain(with_token(request(Some(9_000)))).await.unwrap();
        assert!(sooner.until < order.until && f.draining.order() == Some(sooner));
    }

    #[tokio::test]
    async fn a_busy_address_names_the_flag() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config { control: taken.local_addr().unwrap(), ..Config::default() };
        let access = Access::default();
        let error = start(
            &config,
            (&access, &access.guard()),
            Arc::default(),
            Arc::new(Known::new(true)),
            Vec::new(),
            Drain::new(Vec::new()),
        )
        .await
        .unwrap_err()
        .to_string();
        assert!(error.starts_with("--control: cannot listen on 127.0.0.1:"), "{error}");
    }
}
