//! `trestle demo`: the whole path in one process, but for nginx.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser as _;
use trestle_process::exit::{self, Exit};
use trestle_process::{signal, zmq};

/// A free port on this machine alone.
const ANY_PORT: &str = "127.0.0.1:0";
/// What visitors may publish to: enough to try it, and no topic of the demo's own publisher.
const CHAT: &str = "chat/";
/// The link's first beat takes milliseconds; a page that is opened a little too early tries again by itself.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// Port of the page without `--port`.
const PORT_DEFAULT: u16 = 8080;

/// What the demo can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    /// Where the page is; 0 picks a free port.
    #[arg(long, default_value_t = PORT_DEFAULT)]
    port: u16,
}

impl Default for Flags {
    fn default() -> Self {
        Self { port: PORT_DEFAULT }
    }
}

pub(crate) fn run(flags: &Flags) -> anyhow::Result<()> {
    zmq::check_build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(flags.port))
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let mut terminated = std::pin::pin!(signal::terminated());
    let forwarder = start_forwarder().await.context("the forwarder does not start")?;
    let mut edge = start_edge(port, &forwarder.link, forwarder.grpc).await?;
    let publisher = trestle_publisher::start(trestle_publisher::Config::demo(&forwarder.frontend))
        .context("the publisher does not start")?;
    let failure = tokio::select! {
        signal = &mut terminated => Err(signal?),
        () = edge.ready() => Ok(()),
        () = tokio::time::sleep(READY_TIMEOUT) => Ok(()),
    };
    if failure.is_ok() {
        println!("Trestle is running. Open the page:  http://{}/", edge.address);
        println!("Connect your own ØMQ publishers to  {}", forwarder.frontend);
        println!("and subscribers to                  {}", forwarder.backend);
        println!(
            "Publish from anywhere:              curl -d hi 'http://{}/publish?topic=chat/lobby'",
            edge.address
        );
        println!("Ctrl-C ends it.");
        let draining = edge.draining();
        tokio::select! {
            signal = terminated => tracing::info!(signal = signal?, "stopping"),
            () = draining => {}
            failure = edge.failed() => return Err(failure),
        }
    }
    publisher.shutdown()?;
    edge.shutdown().await?;
    forwarder.shutdown().await;
    Ok(())
}

async fn start_forwarder() -> anyhow::Result<trestle_forwarder::Running> {
    let flags = ["trestle-forwarder", "--frontend", ANY_PORT, "--backend", ANY_PORT, "--link", ANY_PORT];
    let private = ["--grpc", ANY_PORT, "--metrics", ANY_PORT];
    trestle_forwarder::start(trestle_forwarder::Config::try_parse_from(flags.iter().chain(&private))?).await
}

async fn start_edge(port: u16, link: &str, recorder: SocketAddr) -> anyhow::Result<trestle_edge::Running> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let flags = ["trestle-edge", "--listen", &address.to_string(), "--link", link]
        .map(str::to_owned)
        .into_iter()
        .chain(["--recorder".to_owned(), format!("http://{recorder}")])
        .chain(["--control", ANY_PORT, "--metrics", ANY_PORT, "--allow-publish", CHAT].map(str::to_owned));
    let started = trestle_edge::start(trestle_edge::Config::try_parse_from(flags)?).await;
    started.map_err(|error| match error.downcast::<Exit>() {
        // Nobody gave the demo a `--listen`.
        Ok(busy) if busy.code == exit::OS_ERROR && busy.reason.starts_with("--listen") => {
            let reason = busy.reason.rsplit(": ").next().unwrap_or_default();
            Exit::os(format!(
                "--port {port}: {address} cannot be used ({reason}); give another --port, 0 for any"
            ))
            .into()
        }
        Ok(other) => other.into(),
        Err(other) => other,
    })
}
