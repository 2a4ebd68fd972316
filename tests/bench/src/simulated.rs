//! Devices without a container runtime: everything else of an agent, many to a process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use edge_agent::host;
use edge_agent::identity::Identity;
use edge_agent::link::{LinkOptions, LinkTask};
use edge_agent::local::Vitals;
use edge_agent::options::{self, Options, ProxyVariables};
use edge_agent::pump::{BlobSource, Pump, Sources};
use edge_agent::runtime::{ContainerRuntime, ObserveError};
use edge_agent::store::Store;
use edge_agent::tls::{self, Alpn, TimeFloor};
use edge_agent_core::step::{Observed, Step, StepOutcome};
use edge_agent_core::{Agent, AgentConfig, Input, Limits};
use edge_protocol::v1::{Facts, Reason};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const INPUTS: usize = 64;
/// Devices that enrol at the same time; each costs the hub two handshakes and a certificate.
const ENROLLING: usize = 8;
const STOP: Duration = Duration::from_secs(5);
const PODS: u32 = 110;

/// Where simulated devices live and enrol.
#[derive(Clone, Debug)]
pub struct Habitat {
    pub directory: PathBuf,
    /// `host:port` of the hub's device port.
    pub endpoint: String,
    /// A file with an enrolment token for as many devices as there shall be.
    pub token_file: PathBuf,
}

/// Connected devices. They go when this is dropped.
#[derive(Debug, Default)]
pub struct Simulated {
    running: JoinSet<anyhow::Result<()>>,
}

impl Simulated {
    /// Enrols these devices and lets them connect.
    ///
    /// # Errors
    /// What a device could not do.
    pub async fn add(&mut self, habitat: &Habitat, names: &[String]) -> anyhow::Result<()> {
        let enrolled = stream::iter(names).map(|name| enrol(habitat, name));
        let enrolled: Vec<_> = enrolled.buffer_unordered(ENROLLING).try_collect().await?;
        for (options, identity) in enrolled {
            self.running.spawn(live(options, identity));
        }
        Ok(())
    }

    /// Waits until a device has ended, which none should.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.running.join_next().await {
            Some(Ok(Err(error))) => error,
            Some(_) => anyhow::anyhow!("a simulated device has ended"),
            None => std::future::pending().await,
        }
    }
}

async fn enrol(habitat: &Habitat, name: &str) -> anyhow::Result<(Options, Identity)> {
    let directory = habitat.directory.join(name);
    std::fs::create_dir_all(&directory)?;
    let config = directory.join("agent.toml");
    let text = format!(
        "state_dir = {state:?}\n[hub]\nendpoints = [{endpoint:?}]\n[enrolment]\ntoken_file = {token:?}\ndevice = {name:?}\n",
        state = directory.display().to_string(),
        endpoint = habitat.endpoint,
        token = habitat.token_file.display().to_string(),
    );
    std::fs::write(&config, text)?;
    let options = options::load(&config, &ProxyVariables::default())?.options;
    let identity = edge_agent::ensure_identity(&options)
        .await
        .with_context(|| format!("device {name} cannot enrol"))?;
    Ok((options, identity))
}

/// As `edge_agent::build` and `Bound::run` do it, on a runtime that has nothing.
async fn live(options: Options, identity: Identity) -> anyhow::Result<()> {
    let boot_id = host::boot_id(&options.boot_id_file)?;
    let store = Store::open(&options.state_dir.join("agent.db"))?;
    let restored = store.restore()?;
    let floor = TimeFloor::new(0);
    let tls = |alpn| {
        let (chain, key) = (identity.chain.clone(), identity.key.clone_key());
        let hub = identity.answer.hub;
        tls::enrolled(&identity.anchors, hub, chain, key, floor.clone(), alpn).map(Arc::new)
    };
    let agent = Agent::new(config(&identity, &options), restored, rand::random());
    let keep_alive = Duration::from_secs(agent.keep_alive_s().into());
    let (inputs, received) = mpsc::channel(INPUTS);
    let (commit, committed) = mpsc::channel(INPUTS);
    let (_changed, changed) = mpsc::channel(1);
    let link = LinkOptions {
        device: identity.answer.device.clone(),
        endpoints: options.endpoints.clone(),
        tls: tls(Alpn::Mqtt)?,
    };
    let (link, link_handle) = LinkTask::new(link, keep_alive, inputs.clone());
    let (store, _writer) = store.start(commit);
    let blobs = BlobSource {
        endpoints: options.endpoints.clone(),
        tls: tls(Alpn::Http)?,
    };
    let facts = Facts {
        boot_id: boot_id.0.to_string(),
        ..host::facts(("simulated".into(), "1".into()), &options.state_dir, PODS)
    };
    inputs.send(Input::Facts(Box::new(facts))).await?;
    let pump = Pump {
        agent,
        boot_id,
        runtime: Nothing,
        sampler: None,
        store,
        link: link_handle,
        streams: None,
        blobs,
        floor: floor.clone(),
        vitals: Vitals::default(),
        stop_timeout: STOP,
    };
    let sources = Sources {
        inputs: received,
        committed,
        changed,
    };
    let token = CancellationToken::new();
    tokio::select! {
        () = link.run(token.clone()) => anyhow::bail!("a link has ended"),
        ended = pump.run(sources, token.clone()) => Ok(ended?),
    }
}

fn config(identity: &Identity, options: &Options) -> AgentConfig {
    let answer = &identity.answer;
    AgentConfig {
        device: answer.device.clone(),
        enrolment: answer.enrolment.clone(),
        hub: answer.hub,
        keys: identity.trusted_keys.clone(),
        agent_version: "simulated".to_owned(),
        link: answer.link,
        sealing: Arc::clone(&identity.sealing),
        features: Vec::new(),
        cluster_dns: false,
        limits: Limits::default(),
        thresholds: options.eviction.thresholds,
        image_policy: options.eviction.image_policy,
        parallel_pulls: options.images.parallel_pulls,
        sample_floor_ms: options.stats.floor_ms,
        proved: false,
    }
}

/// A runtime on which nothing ever runs.
#[derive(Clone, Copy, Debug)]
struct Nothing;

impl ContainerRuntime for Nothing {
    async fn run(&self, _step: Step) -> StepOutcome {
        StepOutcome::Failed {
            reason: Reason::Unknown,
            message: "a simulated device runs nothing".to_owned(),
        }
    }

    async fn observe(&self) -> Result<Observed, ObserveError> {
        Ok(Observed::default())
    }

    async fn remove_image(&self, _id: &str) -> Result<(), ObserveError> {
        Ok(())
    }

    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

/// `sim-<number>`, from the `first` on.
pub fn names(first: usize, count: usize) -> Vec<String> {
    (first..first + count)
        .map(|number| format!("sim-{number:03}"))
        .collect()
}

/// Where the devices' directories are below a lab's.
pub fn directory(lab: &Path) -> PathBuf {
    lab.join("simulated")
}
