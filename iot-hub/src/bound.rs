//! Start and stop: everything that can fail at the start fails in [`build`]; [`Bound::run`] serves until it is told to stop.

mod maintenance;
mod ports;
mod tls;

use std::fs::{DirBuilder, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use edge_protocol::sign::Signer;
use iot_hub_core::{Change, Hub, HubConfig, Restored};
use iot_hub_mqtt::{Endpoint, EndpointError, EndpointHandle, OtherHandler, ServerTls};
use iot_hub_store::{HubStore as _, StoreError};
use prometheus_client::registry::Registry;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Store;
use crate::ca::{Authority, CaError, CaFiles};
use crate::clock::Clock;
use crate::device_port::{self, DevicePort, gate};
use crate::fail::FailPoints;
use crate::feed::Feed;
use crate::health;
use crate::metrics::{PumpMetrics, StreamMetrics};
use crate::options::Options;
use crate::pump::{self, Pump, PumpError};
use crate::rest::{self, Api};
use crate::serve::{self, Port};
use crate::tunnel::Tunnels;

use ports::Ports;

/// Longest wait for sessions and requests to end after the stop; each part has its own, shorter limit.
const STOP: Duration = Duration::from_secs(15);

/// Why the hub could not start. Nothing is listening any more.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error("cannot use the state directory {path}")]
    State {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("another hub uses the state directory {path}")]
    InUse { path: PathBuf },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Bind(#[from] serve::BindError),
    #[error(transparent)]
    DevicePort(#[from] iot_hub_mqtt::BindError),
    #[error("the MQTT endpoint cannot work with these options")]
    Endpoint(#[from] iot_hub_mqtt::OptionsError),
    #[error("the device port's certificate cannot be used")]
    DeviceTls(#[from] iot_hub_mqtt::TlsError),
    #[error("the REST port's certificate cannot be used: {0}")]
    RestTls(String),
}

/// Why the hub ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Pump(#[from] PumpError),
    #[error("the MQTT endpoint failed")]
    Endpoint(#[from] EndpointError),
    #[error("{0} ended unasked")]
    Ended(&'static str),
    #[error("a part of the hub panicked")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Where the hub listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    pub device: SocketAddr,
    pub rest: SocketAddr,
    pub health: SocketAddr,
}

/// A hub with open ports that serves nothing yet.
pub struct Bound {
    addresses: Addresses,
    options: Options,
    authority: Arc<Authority>,
    store: Store,
    pump: Pump,
    handle: pump::PumpHandle,
    endpoint: (Endpoint, EndpointHandle),
    device: iot_hub_mqtt::Bound,
    device_tls: watch::Sender<ServerTls>,
    rest_tls: watch::Sender<Arc<rustls::ServerConfig>>,
    rest: Port,
    health: Port,
    signing_keys: Vec<String>,
    tunnels: Arc<Tunnels>,
    stream_metrics: StreamMetrics,
    registry: Arc<Registry>,
    /// Held for as long as the store is open.
    lock: File,
}

/// Opens store and ports.
///
/// # Errors
/// [`BuildError`]; a bind conflict is one, and so is a second hub on the same state directory.
pub async fn build(options: Options) -> Result<Bound, BuildError> {
    let files = CaFiles::load(&options.ca_dir)?;
    let authority = Arc::new(Authority::new(&files)?);
    let lock = lock(&options.state_dir)?;
    let store = Store::open(&options.state_dir.join("hub.db")).await?;

    let rest_tls = watch::Sender::new(tls::rest(&options.rest, &authority)?);
    let Ports { device, rest, health } = Ports::bind(&options, rest_tls.subscribe()).await?;
    let addresses = Addresses {
        device: device.local_addr(),
        rest: rest.local(),
        health: health.local(),
    };

    let mut registry = Registry::default();
    let asked = Arc::new(OnceCell::new());
    let max_sessions = options.device.max_sessions;
    let (endpoint, endpoint_handle, events) = Endpoint::new(
        tls::endpoint_options(max_sessions),
        gate::gate(Arc::clone(&asked)),
    )?;
    endpoint_handle.metrics().register(&mut registry);
    let signing_keys = vec![edge_protocol::digest::hex(
        files.signing.verifying_key().as_bytes(),
    )];
    let restored = store.load().await?;
    let feed = Arc::new(Feed::new(store.head().await?, subjects(&restored)));
    let clock = Clock::start();
    let mut config = HubConfig::new(files.hub, Signer::new(files.signing));
    config.limits.streams = options.streams.total;
    config.limits.device_streams = options.streams.per_device;
    let stream_metrics = StreamMetrics::register(&mut registry);
    let tunnels = Tunnels::new(stream_metrics.clone());
    let parts = pump::Parts {
        hub: Hub::new(config, restored, rand::random(), clock.now()),
        clock,
        store: store.clone(),
        endpoint: endpoint_handle.clone(),
        events,
        feed,
        tunnels: Arc::clone(&tunnels),
        metrics: PumpMetrics::register(&mut registry),
        fail: FailPoints::new(options.fail),
    };
    let (pump, handle) = Pump::new(parts);
    asked
        .set(handle.clone())
        .unwrap_or_else(|_| unreachable!("the cell is set here only"));
    let device_tls = watch::Sender::new(tls::device(&authority)?);
    Ok(Bound {
        addresses,
        options,
        authority,
        store,
        pump,
        handle,
        endpoint: (endpoint, endpoint_handle),
        device,
        device_tls,
        rest_tls,
        rest,
        health,
        signing_keys,
        tunnels,
        stream_metrics,
        registry: Arc::new(registry),
        lock,
    })
}

/// One hub per state directory: two machines on one store would each be half right.
fn lock(directory: &Path) -> Result<File, BuildError> {
    let failed = |source| BuildError::State {
        path: directory.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(failed)?;
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(BuildError::InUse {
            path: directory.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// Everything whose liveness a watcher may remember wrongly from the process before.
fn subjects(restored: &Restored) -> Vec<Change> {
    let devices = restored.devices.iter().map(|record| Change::Device {
        device: record.id.clone(),
    });
    let deployments = restored.deployments.iter().map(|record| Change::Deployment {
        uid: record.spec.uid.clone(),
    });
    devices.chain(deployments).collect()
}

impl Bound {
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What devices and API clients pin (PEM).
    pub fn anchors(&self) -> &str {
        self.authority.anchors()
    }

    /// Serves until `stop`; then refuses intake, ends sessions and requests, commits what is under way and closes the store.
    ///
    /// # Errors
    /// [`RunError`] when a part ended by itself; the rest was stopped in the same order.
    pub async fn run(self, stop: CancellationToken) -> Result<(), RunError> {
        let Addresses { device, rest, health } = self.addresses;
        tracing::info!(%device, %rest, %health, hub = %self.authority.hub(), "listening");
        let store = self.store.clone();
        // The machine outlives what feeds it, so that the last words of sessions are heard.
        let pump_stop = CancellationToken::new();
        let parts_stop = stop.child_token();
        let mut pump = JoinSet::new();
        let mut parts = JoinSet::new();
        self.spawn(&mut pump, &mut parts, &parts_stop, &pump_stop);

        let first = tokio::select! {
            ended = pump.join_next() => Some(ended.unwrap_or(Ok(Err(RunError::Ended("the pump"))))),
            ended = parts.join_next() => Some(ended.unwrap_or(Ok(Err(RunError::Ended("everything"))))),
            () = stop.cancelled() => None,
        };
        parts_stop.cancel();
        let mut results = Vec::from_iter(first);
        let drain = async {
            while let Some(ended) = parts.join_next().await {
                results.push(ended);
            }
        };
        if tokio::time::timeout(STOP, drain).await.is_err() {
            tracing::warn!("not everything ended in time");
            parts.shutdown().await;
        }
        pump_stop.cancel();
        while let Some(ended) = pump.join_next().await {
            results.push(ended);
        }
        store.close().await;
        tracing::info!("stopped");
        results
            .into_iter()
            .try_for_each(|ended| ended.map_err(RunError::Panicked)?)
    }

    fn spawn(
        self,
        pump: &mut JoinSet<Result<(), RunError>>,
        parts: &mut JoinSet<Result<(), RunError>>,
        stop: &CancellationToken,
        pump_stop: &CancellationToken,
    ) {
        let device_api = self.device_api();
        let rest = self.rest_router(stop);
        let health = health::router(self.handle.clone(), Arc::clone(&self.registry));
        let Self {
            store,
            options,
            authority,
            endpoint: (endpoint, handle),
            device_tls,
            rest_tls,
            ..
        } = self;
        let asked = |stop: &CancellationToken, what| {
            if stop.is_cancelled() {
                Ok(())
            } else {
                Err(RunError::Ended(what))
            }
        };
        let lock = self.lock;
        let (run, pump_stop) = (self.pump, pump_stop.clone());
        pump.spawn(async move {
            let _held = lock;
            run.run(pump_stop).await.map_err(RunError::from)
        });
        let token = stop.clone();
        parts.spawn(async move { endpoint.run(token).await.map_err(RunError::from) });
        let (port, token, tls) = (self.device, stop.clone(), device_tls.subscribe());
        parts.spawn(async move {
            port.run(tls, handle, device_api, token.clone()).await;
            asked(&token, "the device port")
        });
        for (port, router, what) in [
            (self.rest, rest, "the REST port"),
            (self.health, health, "the health port"),
        ] {
            let token = stop.clone();
            parts.spawn(async move {
                port.run(router, token.clone()).await;
                asked(&token, what)
            });
        }
        let token = stop.clone();
        parts.spawn(async move {
            let tls = maintenance::Tls {
                device: device_tls,
                rest: rest_tls,
            };
            maintenance::run(&store, &options, &authority, &tls, &token).await;
            asked(&token, "maintenance")
        });
    }

    fn device_api(&self) -> OtherHandler {
        let port = DevicePort::new(device_port::Parts {
            pump: self.handle.clone(),
            store: self.store.clone(),
            authority: Arc::clone(&self.authority),
            signing_keys: self.signing_keys.clone(),
            options: self.options.device.clone(),
            endpoint: self.endpoint.1.clone(),
            tunnels: Arc::clone(&self.tunnels),
        });
        port.handler()
    }

    fn rest_router(&self, stop: &CancellationToken) -> Router {
        rest::router(Api::new(rest::Parts {
            pump: self.handle.clone(),
            store: self.store.clone(),
            authority: Arc::clone(&self.authority),
            stop: stop.clone(),
            max_streams: self.options.streams.total,
            stream_metrics: self.stream_metrics.clone(),
        }))
    }
}
