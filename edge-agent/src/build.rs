//! From options to a running agent: everything that can fail at start fails here, by name.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::{Agent, AgentConfig, Limits};
use edge_protocol::v1::ability;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::dial::DialError;
use crate::facts::FactsTask;
use crate::host::{self, BootIdError};
use crate::identity::{self, Identity, IdentityError, IdentityFiles};
use crate::link::{LinkOptions, LinkTask};
use crate::local::{LocalError, LocalServer, Vitals};
use crate::logs::LogsTask;
use crate::objects::Objects;
use crate::options::Options;
use crate::pump::{BlobSource, Pump, PumpError, Sources};
use crate::runtime::{ContainerRuntime as _, CriRuntime, RuntimeError};
use crate::store::{Store, StoreError};
use crate::streams::desk::Desk;
use crate::streams::tunnel::TunnelOptions;
use crate::streams::{StreamsHandle, StreamsTask};
use crate::tls::{self, Alpn, TimeFloor};
use crate::usage::{Sampler, UsageTask};

/// A tunnel without streams is closed after so long.
const IDLE_TUNNEL: Duration = Duration::from_mins(1);
/// Inputs waiting for the machine.
const INPUTS: usize = 64;
/// The pause before an enrolment that found no hub is tried again.
const ENROL_AGAIN: Duration = Duration::from_secs(5);
/// It cannot be earlier than the day this source was written (2026-11-21), whatever the clock says.
const BUILT_UNIX_S: u64 = 1_795_219_200;

#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("cannot create the state directory {path}")]
    StateDir {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    BootId(#[from] BootIdError),
    #[error("this device has no identity")]
    Identity(#[from] IdentityError),
    #[error("the store cannot be used")]
    Store(#[from] StoreError),
    #[error("the store's objects cannot be read")]
    Objects(#[from] rusqlite::Error),
    #[error("the container runtime cannot be used")]
    Runtime(#[from] RuntimeError),
    #[error("the local socket cannot be used")]
    Local(#[from] LocalError),
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
}

/// An agent with everything open, not yet running.
pub struct Bound {
    pump: Pump<CriRuntime>,
    sources: Sources,
    link: LinkTask,
    local: LocalServer,
    streams: Option<StreamsTask<CriRuntime>>,
    facts: FactsTask,
    usage: UsageTask,
    logs: LogsTask,
    runtime: CriRuntime,
    changed: mpsc::Sender<()>,
}

/// Opens the store, the identity (enrolling if need be), the runtime and the local socket.
///
/// # Errors
/// [`BuildError`] says what could not be opened.
pub async fn build(options: Options) -> Result<Bound, BuildError> {
    let boot_id = host::boot_id(&options.boot_id_file)?;
    let identity = ensure_identity(&options).await?;
    let store_path = options.state_dir.join("agent.db");
    let store = Store::open(&store_path)?;
    let restored = store.restore()?;
    let vitals = Vitals::default();
    let desk = Desk::default();
    let local = LocalServer::bind(&options.local_socket, vitals.clone(), desk.clone())?;
    let device = identity.answer.device.clone();
    let objects = Objects::stored(&store_path, Arc::clone(&identity.sealing))?;
    let runtime = CriRuntime::connect(&options.runtime, &device, &options.state_dir, objects).await?;
    let floor = TimeFloor::new(BUILT_UNIX_S);
    let tls = |alpn| -> Result<_, rustls::Error> {
        let Identity {
            anchors, chain, key, ..
        } = &identity;
        let config = tls::enrolled(
            anchors,
            identity.answer.hub,
            chain.clone(),
            key.clone_key(),
            floor.clone(),
            alpn,
        )?;
        Ok(Arc::new(config))
    };
    let (inputs, receiver) = mpsc::channel(INPUTS);
    let (committed_sender, committed) = mpsc::channel(INPUTS);
    let (changed, changes) = mpsc::channel(1);
    let agent = Agent::new(
        config(&identity, features(&runtime, &options), &options),
        restored,
        rand::random(),
    );
    floor.raise(agent.time_floor_ms().unsigned_abs() / 1000);
    let keep_alive = Duration::from_secs(agent.keep_alive_s().into());
    let link_options = LinkOptions {
        device,
        endpoints: options.endpoints.clone(),
        tls: tls(Alpn::Mqtt)?,
    };
    let (link, link_handle) = LinkTask::new(link_options, keep_alive, inputs.clone());
    let (store, _writer) = store.start(committed_sender);
    let blobs = BlobSource {
        endpoints: options.endpoints.clone(),
        tls: tls(Alpn::Http)?,
    };
    let (streams, streams_handle) = streams(&options, &blobs, keep_alive, (runtime.clone(), desk)).unzip();
    let pump = Pump {
        agent,
        boot_id,
        sampler: Some(Sampler::new(runtime.clone(), options.state_dir.clone())),
        runtime: runtime.clone(),
        store,
        link: link_handle,
        streams: streams_handle,
        blobs,
        floor,
        vitals,
        stop_timeout: options.stop_timeout,
    };
    let sources = Sources {
        inputs: receiver,
        committed,
        changed: changes,
    };
    let usage = UsageTask {
        runtime: runtime.clone(),
        inputs: inputs.clone(),
        state_dir: options.state_dir.clone(),
        thresholds: options.eviction.thresholds,
    };
    let logs = LogsTask {
        runtime: runtime.clone(),
    };
    let facts = FactsTask {
        boot_id,
        runtime: runtime.clone(),
        inputs,
        state_dir: options.state_dir,
        max_pods: options.max_pods,
    };
    Ok(Bound {
        pump,
        sources,
        link,
        local,
        streams,
        facts,
        usage,
        logs,
        runtime,
        changed,
    })
}

/// Absent where the device's owner wants none.
fn streams(
    options: &Options,
    hub: &BlobSource,
    keep_alive: Duration,
    (runtime, desk): (CriRuntime, Desk),
) -> Option<(StreamsTask<CriRuntime>, StreamsHandle)> {
    let tunnel = TunnelOptions {
        endpoints: hub.endpoints.clone(),
        tls: Arc::clone(&hub.tls),
        idle: IDLE_TUNNEL,
    };
    let options = &options.streams;
    options
        .enabled
        .then(|| StreamsTask::new(options, tunnel, keep_alive, runtime, desk))
}

/// What the machine decides by itself; the rest is the runtime's to announce.
const MACHINE: [&str; 8] = [
    ability::INIT_CONTAINERS,
    ability::INIT_RESIZE,
    ability::POD_RESIZE,
    ability::CONTAINER_RESTART,
    ability::ACTIVE_DEADLINE,
    ability::EPHEMERAL_STORAGE,
    ability::OBJECTS,
    ability::SEALED_OBJECTS,
];

/// The words of manifests that this agent honours: what it announces to the hub, and refuses by name when it is not among them.
fn features(runtime: &CriRuntime, options: &Options) -> Vec<String> {
    let streams = options.streams.enabled.then_some(ability::STREAMS);
    let stats = options.stats.tell.then_some(ability::STATS);
    let words = MACHINE
        .into_iter()
        .chain(streams)
        .chain(stats)
        .chain(runtime.abilities());
    words.map(str::to_owned).collect()
}

fn config(identity: &Identity, features: Vec<String>, options: &Options) -> AgentConfig {
    let answer = &identity.answer;
    AgentConfig {
        device: answer.device.clone(),
        enrolment: answer.enrolment.clone(),
        hub: answer.hub,
        keys: identity.trusted_keys.clone(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        link: answer.link,
        sealing: Arc::clone(&identity.sealing),
        features,
        cluster_dns: !options.runtime.resolver.cluster_dns.is_empty(),
        limits: Limits::default(),
        thresholds: options.eviction.thresholds,
        image_policy: options.eviction.image_policy,
        parallel_pulls: options.images.parallel_pulls,
        sample_floor_ms: options.stats.floor_ms,
        proved: false,
    }
}

impl Bound {
    /// Runs until the token is cancelled. Workloads are left running.
    ///
    /// # Errors
    /// [`PumpError`] when the agent cannot go on; the next process takes over what runs.
    pub async fn run(self, token: CancellationToken) -> Result<(), PumpError> {
        let Self {
            pump,
            sources,
            link,
            local,
            streams,
            facts,
            usage,
            logs,
            runtime,
            changed,
        } = self;
        // The link outlives the pump by its last flush, so that a goodbye gets out.
        let link_token = CancellationToken::new();
        let mut side = tokio::task::JoinSet::new();
        side.spawn(local.run(link_token.clone()));
        side.spawn(link.run(link_token.clone()));
        side.spawn(facts.run(link_token.clone()));
        side.spawn(usage.run(link_token.clone()));
        side.spawn(logs.run(link_token.clone()));
        if let Some(streams) = streams {
            side.spawn(streams.run(token.clone()));
        }
        let watching = link_token.clone();
        side.spawn(async move {
            loop {
                tokio::select! {
                    () = watching.cancelled() => return,
                    () = runtime.changed() => {}
                }
                if changed.send(()).await.is_err() {
                    return;
                }
            }
        });
        let outcome = pump.run(sources, token).await;
        link_token.cancel();
        side.join_all().await;
        outcome
    }
}

/// The stored identity, or a new one by enrolment; keeps trying while the hub cannot be reached.
///
/// # Errors
/// [`BuildError::Identity`] when a person is needed: no token, a refused token, a damaged file.
pub async fn ensure_identity(options: &Options) -> Result<Identity, BuildError> {
    std::fs::create_dir_all(&options.state_dir).map_err(|source| BuildError::StateDir {
        path: options.state_dir.clone(),
        source,
    })?;
    let files = IdentityFiles::in_dir(&options.state_dir);
    if let Some(identity) = files.load()? {
        return Ok(identity);
    }
    let token_file = options.token_file.as_ref().ok_or(IdentityError::NoToken)?;
    let floor = TimeFloor::new(BUILT_UNIX_S);
    loop {
        let device = options.device.clone();
        match identity::enrol(&files, &options.endpoints, token_file, device, floor.clone()).await {
            Ok(identity) => {
                info!(device = %identity.answer.device, "enrolled");
                return Ok(identity);
            }
            Err(IdentityError::Unreachable(error)) => {
                let cause = std::error::Error::source(&error).map(DialError::whole);
                warn!(%error, cause, "the hub cannot be reached yet; trying again");
            }
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(ENROL_AGAIN.mul_f64(0.5 + rand::random::<f64>())).await;
    }
}
