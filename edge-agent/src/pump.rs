//! The one place where the agent's effects happen. It executes, and decides nothing.

mod looks;

use std::sync::Arc;
use std::time::Duration;

use edge_agent_core::step::{Observed, StepId, StepOutcome};
use edge_agent_core::{Agent, Effect, Input, Note, Sample};
use edge_protocol::{BootId, Digest, TxId};
use rustls::ClientConfig;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::looks::Looks;
use crate::device_api;
use crate::dial::{DialError, Endpoint};
use crate::host;
use crate::link::LinkHandle;
use crate::local::Vitals;
use crate::runtime::{ContainerRuntime, ObserveError};
use crate::store::{StoreError, StoreHandle};
use crate::streams::StreamsHandle;
use crate::tls::TimeFloor;
use crate::usage::Sampler;

#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    #[error("the store is lost; workloads go on without the agent until it is restarted")]
    Store(#[from] StoreError),
    #[error("a task of the agent ended by itself")]
    Task(#[source] tokio::task::JoinError),
}

/// Where blobs come from.
#[derive(Debug, Clone)]
pub struct BlobSource {
    pub endpoints: Vec<Endpoint>,
    pub tls: Arc<ClientConfig>,
}

pub struct Pump<R> {
    pub agent: Agent,
    pub boot_id: BootId,
    pub runtime: R,
    /// Without it nothing can be said of what the device uses.
    pub sampler: Option<Sampler>,
    pub store: StoreHandle,
    pub link: LinkHandle,
    /// Absent where this agent has no streams: then none is ordered.
    pub streams: Option<StreamsHandle>,
    pub blobs: BlobSource,
    /// Shared with TLS: what the machine has learnt of the time counts at the next handshake.
    pub floor: TimeFloor,
    pub vitals: Vitals,
    pub stop_timeout: Duration,
}

/// What the pump listens to besides its own tasks.
pub struct Sources {
    /// From the link, and the facts.
    pub inputs: mpsc::Receiver<Input>,
    pub committed: mpsc::Receiver<Result<TxId, StoreError>>,
    /// The runtime's hint that something may have changed there.
    pub changed: mpsc::Receiver<()>,
}

/// How a task of the pump ended.
enum Ended {
    Step {
        id: StepId,
        outcome: StepOutcome,
        touched: bool,
    },
    Look {
        told: u64,
        result: Result<Observed, ObserveError>,
    },
    Blob(Digest, Option<String>),
    /// Images were removed, or could not be: the next measurement tells.
    Images,
    Sampled(Option<Box<Sample>>),
}

/// What made the pump wake.
enum Woken {
    Input(Box<Input>),
    Ended(Ended),
    Changed,
    LookDue,
    StopAsked,
    StopOverdue,
}

struct Running {
    tasks: JoinSet<Ended>,
    looks: Looks,
    /// Whether a sample is under way: there is one at a time.
    sampling: bool,
    wake: Option<Instant>,
    stop_by: Option<Instant>,
    /// Commits that the store has not reported yet.
    commits: usize,
}

impl<R: ContainerRuntime> Pump<R> {
    /// Runs until the token is cancelled and what was under way has ended, or until the stop timeout. Workloads are left running.
    ///
    /// # Errors
    /// [`PumpError`] when the store is lost or a task panicked: the process must end.
    pub async fn run(mut self, mut sources: Sources, token: CancellationToken) -> Result<(), PumpError> {
        let mut running = Running {
            tasks: JoinSet::new(),
            looks: Looks::default(),
            sampling: false,
            wake: None,
            stop_by: None,
            commits: 0,
        };
        self.look(&mut running);
        loop {
            match next(&mut running, &mut sources, &token).await? {
                Woken::Input(input) => {
                    match *input {
                        Input::Committed(_) => running.commits -= 1,
                        Input::LinkDown => self.vitals.link_down(),
                        Input::Wake => running.wake = None,
                        _ => {}
                    }
                    self.step(*input, &mut running).await?;
                }
                Woken::Ended(ended) => self.ended(ended, &mut running).await?,
                Woken::Changed => running.looks.want_now(),
                Woken::LookDue => running.looks.due_now(),
                Woken::StopAsked => {
                    info!("stopping; workloads go on");
                    running.stop_by = Some(Instant::now() + self.stop_timeout);
                    self.step(Input::Stop, &mut running).await?;
                }
                Woken::StopOverdue => {
                    warn!("stopping without waiting any longer for what is under way");
                    return Ok(());
                }
            }
            if running.stop_by.is_some() && running.is_quiet() {
                return Ok(());
            }
            self.look(&mut running);
        }
    }

    async fn step(&mut self, input: Input, running: &mut Running) -> Result<(), PumpError> {
        let effects = self.agent.step(host::now(self.boot_id), input);
        self.floor.raise(self.agent.time_floor_ms().unsigned_abs() / 1000);
        for effect in effects {
            self.execute(effect, running).await?;
        }
        Ok(())
    }

    async fn execute(&mut self, effect: Effect, running: &mut Running) -> Result<(), PumpError> {
        match effect {
            Effect::Commit(tx) => {
                running.commits += 1;
                self.store.commit(tx).await?;
            }
            Effect::Send(lane, bytes) => self.link.send(lane, bytes),
            Effect::Fetch(digest) => {
                let blobs = self.blobs.clone();
                running
                    .tasks
                    .spawn(async move { Ended::Blob(digest, fetch(&blobs, digest).await) });
            }
            Effect::Run(id, step) => {
                let runtime = self.runtime.clone();
                debug!(step = id.0, ?step, "step begins");
                let touched = step.touches_containers();
                running.tasks.spawn(async move {
                    Ended::Step {
                        id,
                        outcome: runtime.run(step).await,
                        touched,
                    }
                });
            }
            Effect::WakeAt(mono_ms) => {
                let now = host::now(self.boot_id).mono_ms;
                running.wake = Some(Instant::now() + Duration::from_millis(mono_ms.saturating_sub(now)));
            }
            Effect::KeepAlive(seconds) => {
                self.link.keep_alive(seconds);
                if let Some(streams) = &self.streams {
                    streams.keep_alive(seconds);
                }
            }
            Effect::RemoveImages(ids) => {
                let runtime = self.runtime.clone();
                running.tasks.spawn(async move {
                    for id in &ids {
                        if let Err(error) = runtime.remove_image(id).await {
                            warn!(id, %error, "an image could not be removed");
                        }
                    }
                    Ended::Images
                });
            }
            Effect::OpenStream(task) => {
                if let Some(streams) = &self.streams {
                    streams.open(*task);
                }
            }
            Effect::RefuseStream(refused) => {
                if let Some(streams) = &self.streams {
                    streams.refuse(*refused);
                }
            }
            Effect::Sample(targets) => {
                running.sampling = true;
                let sampler = self.sampler.clone();
                running.tasks.spawn(async move {
                    let sample = match sampler {
                        Some(sampler) => sampler.sample(targets).await,
                        None => None,
                    };
                    Ended::Sampled(sample.map(Box::new))
                });
            }
            Effect::Reconnect { why } => self.link.reconnect(why),
            Effect::Report(note) => self.report(&note),
        }
        Ok(())
    }

    async fn ended(&mut self, ended: Ended, running: &mut Running) -> Result<(), PumpError> {
        let input = match ended {
            Ended::Step { id, outcome, touched } => {
                running.looks.step_ended(touched);
                debug!(step = id.0, ?outcome, "step ended");
                Input::StepEnded { step: id, outcome }
            }
            Ended::Look { told, result } => {
                running.looks.ended(told, result.is_ok(), Instant::now());
                self.vitals.runtime_answers(result.is_ok());
                match result {
                    Ok(observed) => Input::Observed { observed, told },
                    Err(error) => Input::RuntimeDown {
                        message: error.to_string(),
                    },
                }
            }
            Ended::Blob(digest, body) => Input::Blob { digest, body },
            Ended::Images => return Ok(()),
            Ended::Sampled(sample) => {
                running.sampling = false;
                Input::Sampled(sample)
            }
        };
        self.step(input, running).await
    }

    fn look(&self, running: &mut Running) {
        if let Some(told) = running.looks.begin(Instant::now()) {
            let runtime = self.runtime.clone();
            running.tasks.spawn(async move {
                Ended::Look {
                    told,
                    result: runtime.observe().await,
                }
            });
        }
    }

    fn report(&self, note: &Note) {
        self.vitals.note(note);
        match note {
            Note::FrameRefused { .. } | Note::Refused { .. } | Note::StreamRefused { .. } => {
                warn!(?note, "refused");
            }
            Note::Retried { .. } => debug!(?note, "retry"),
            _ => info!(?note, "decided"),
        }
    }
}

impl Running {
    /// Nothing of ours is under way that a stop should wait for; a look and a sample are not worth waiting for.
    fn is_quiet(&self) -> bool {
        let idle = usize::from(self.looks.is_looking()) + usize::from(self.sampling);
        self.commits == 0 && self.tasks.len() == idle
    }
}

async fn next(
    running: &mut Running,
    sources: &mut Sources,
    token: &CancellationToken,
) -> Result<Woken, PumpError> {
    let wake = running.wake;
    let look = running.looks.due();
    let stop_by = running.stop_by;
    Ok(tokio::select! {
        Some(committed) = sources.committed.recv() => Woken::Input(Box::new(Input::Committed(committed?))),
        Some(ended) = running.tasks.join_next() => Woken::Ended(ended.map_err(PumpError::Task)?),
        Some(input) = sources.inputs.recv() => Woken::Input(Box::new(input)),
        Some(()) = sources.changed.recv() => Woken::Changed,
        () = until(wake) => Woken::Input(Box::new(Input::Wake)),
        () = until(look) => Woken::LookDue,
        () = token.cancelled(), if stop_by.is_none() => Woken::StopAsked,
        () = until(stop_by) => Woken::StopOverdue,
    })
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// One try at every endpoint, in parts; the next goes on where one failed. The machine checks the digest and asks again with backoff.
async fn fetch(blobs: &BlobSource, digest: Digest) -> Option<String> {
    let mut body = Vec::new();
    for endpoint in &blobs.endpoints {
        loop {
            match device_api::next_part(endpoint, blobs.tls.clone(), digest, &mut body).await {
                Ok(false) => {}
                Ok(true) => {
                    let text = String::from_utf8(body);
                    return text
                        .inspect_err(|error| warn!(%digest, %error, "a blob is not text"))
                        .ok();
                }
                Err(error) => {
                    let error = DialError::whole(&error);
                    warn!(%digest, error, host = endpoint.host, "a blob could not be fetched");
                    break;
                }
            }
        }
    }
    None
}
