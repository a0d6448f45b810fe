//! The private gRPC service: `Recorder` and reflection, behind the link token where there is one, and health, which is for all.

use std::pin::Pin;
use std::sync::Arc;

use anyhow::Context as _;
use futures_util::Stream;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};
use trestle_messages::FILE_DESCRIPTOR_SET;
use trestle_messages::v1::recorder_server::{Recorder, RecorderServer};
use trestle_messages::v1::{
    PublishReply, PublishRequest, RecorderStatus, RecorderStatusRequest, ReplayBatch, ReplayRequest,
};
use trestle_process::grpc::{Access, Guard};

use crate::replay::{self, Patience};
use crate::state::State;
use crate::submit::{REQUEST_BYTES_MAX, Submit};

struct Service {
    state: Arc<State>,
    submit: Submit,
    patience: Patience,
}

#[tonic::async_trait]
impl Recorder for Service {
    async fn status(&self, _: Request<RecorderStatusRequest>) -> Result<Response<RecorderStatus>, Status> {
        Ok(Response::new(self.state.status()))
    }

    type ReplayStream = Pin<Box<dyn Stream<Item = Result<ReplayBatch, Status>> + Send>>;

    async fn replay(&self, request: Request<ReplayRequest>) -> Result<Response<Self::ReplayStream>, Status> {
        let (log, recorded) = (self.state.log(), self.state.recorded());
        let batches = replay::begin(log, recorded, request.into_inner(), self.patience.clone()).await?;
        Ok(Response::new(Box::pin(batches)))
    }

    type PublishStream = Pin<Box<dyn Stream<Item = Result<PublishReply, Status>> + Send>>;

    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<Self::PublishStream>, Status> {
        let answers = self.submit.clone().answers(request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Serves until `stop` is sent or dropped, then lets open calls end.
///
/// # Errors
/// If reflection cannot read its own descriptors, or the listener breaks.
pub(crate) async fn serve(
    listener: TcpListener,
    (access, guard): (Access, Guard),
    state: Arc<State>,
    submit: Submit,
    patience: Patience,
    stop: oneshot::Receiver<()>,
) -> anyhow::Result<()> {
    let (health_reporter, health) = tonic_health::server::health_reporter();
    health_reporter.set_serving::<RecorderServer<Service>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let stopped = async {
        let _ = stop.await;
    };
    let recorder =
        RecorderServer::new(Service { state, submit, patience }).max_decoding_message_size(REQUEST_BYTES_MAX);
    access
        .server()
        .add_service(guard.before(recorder))
        .add_service(health)
        .add_service(guard.before(reflection().build_v1().context("the gRPC descriptors are broken")?))
        .add_service(guard.before(reflection().build_v1alpha().context("the gRPC descriptors are broken")?))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), stopped)
        .await
        .context("--grpc")
}
