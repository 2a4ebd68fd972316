//! What a step of the device's machine costs, by how many workloads the device has: the machine alone, on a runtime that does at once all
//! that it is asked.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use edge_agent_core::{
    Agent, AgentConfig, Effect, ImagePolicy, Input, Limits, Now, Observed, ObservedContainer,
    ObservedSandbox, ObservedState, Restored, Step, StepOutcome, Thresholds, TrustedSet,
};
use edge_protocol::v1::{ContainerSpec, LinkClass, Manifest, Reason, VERSION, WorkloadSpec};
use edge_protocol::{
    BootId, DeploymentRevision, DesiredSet, DeviceId, Digest, EnrolmentSerial, HubId, Incarnation, ItemState,
    PodUid, SealingSecret, SetGeneration, SetItem,
};
use serde::Serialize;
use uuid::Uuid;

use crate::report::plain_table;

/// So often each thing is done that is measured at rest.
const REPEAT: u32 = 200;

/// Microseconds, by number of workloads.
#[derive(Debug, Serialize)]
pub struct StepReport {
    pub rows: Vec<StepRow>,
}

/// Means of one device.
#[derive(Debug, Serialize)]
pub struct StepRow {
    pub workloads: usize,
    /// Inputs, looks apart, until all of them ran.
    pub steps: u64,
    pub step_us: f64,
    /// The machine's whole time for one of them to run, looks included.
    pub start_us: f64,
    /// Nothing happened but that time passed.
    pub idle_us: f64,
    /// A look that shows what the one before it showed.
    pub look_us: f64,
    /// A look that shows that one container ended, and all that follows until it runs again.
    pub restart_us: f64,
}

impl StepReport {
    /// Measures one device for each of these numbers of workloads.
    ///
    /// # Errors
    /// What a name of the measurement's own is not allowed to be.
    pub fn measure(counts: &[usize]) -> anyhow::Result<Self> {
        let rows = counts.iter().map(|count| measure(*count));
        Ok(Self {
            rows: rows.collect::<anyhow::Result<_>>()?,
        })
    }

    pub fn print(&self) {
        let mut table = plain_table();
        table.set_header([
            "workloads",
            "steps to start all",
            "µs per step",
            "µs per start",
            "µs idle",
            "µs per look",
            "µs per restart",
        ]);
        for row in &self.rows {
            let figures = [
                row.step_us,
                row.start_us,
                row.idle_us,
                row.look_us,
                row.restart_us,
            ];
            let counts = [row.workloads.to_string(), row.steps.to_string()];
            let figures = figures.iter().map(|figure| format!("{figure:.1}"));
            table.add_row(counts.into_iter().chain(figures));
        }
        println!("{table}");
    }
}

fn measure(workloads: usize) -> anyhow::Result<StepRow> {
    let mut device = Device::new(workloads)?;
    device.give(Input::Facts(Box::default()));
    device.look();
    device.settle();
    let (steps, spent, looking) = (device.steps, device.spent, device.looking);
    let per = |time: Duration, count: f64| time.as_secs_f64() * 1e6 / count;
    let idle = device.repeat(|device| {
        device.now.mono_ms += 5;
        device.give(Input::Wake);
    });
    let look = device.repeat(Device::look);
    let restart = device.repeat(|device| {
        // Each another one, long after the last, so that none is backed off.
        device.end_one();
        device.look();
        device.settle();
    });
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    Ok(StepRow {
        workloads,
        steps,
        step_us: per(spent, steps as f64),
        start_us: per(spent + looking, workloads as f64),
        idle_us: per(idle, REPEAT.into()),
        look_us: per(look, REPEAT.into()),
        restart_us: per(restart, REPEAT.into()),
    })
}

/// One machine, and a runtime and a disk that answer at once.
struct Device {
    agent: Agent,
    now: Now,
    runtime: Observed,
    effects: VecDeque<Effect>,
    told: u64,
    look_due: bool,
    next: usize,
    steps: u64,
    /// In steps, looks apart.
    spent: Duration,
    looking: Duration,
}

impl Device {
    fn new(workloads: usize) -> anyhow::Result<Self> {
        let manifests = (0..workloads).map(manifest).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            agent: Agent::new(config()?, restored(&manifests)?, 7),
            now: Now {
                mono_ms: 60_000,
                wall_ms: 1_800_000_000_000,
                boot_id: BootId(Uuid::from_u128(1)),
            },
            runtime: Observed::default(),
            effects: VecDeque::new(),
            told: 0,
            look_due: false,
            next: 0,
            steps: 0,
            spent: Duration::ZERO,
            looking: Duration::ZERO,
        })
    }

    fn repeat(&mut self, mut work: impl FnMut(&mut Self)) -> Duration {
        let before = self.spent + self.looking;
        (0..REPEAT).for_each(|_| work(self));
        (self.spent + self.looking).saturating_sub(before)
    }

    fn give(&mut self, input: Input) {
        let is_look = matches!(input, Input::Observed { .. });
        self.told += u64::from(matches!(input, Input::StepEnded { .. }));
        let began = Instant::now();
        let effects = self.agent.step(self.now, input);
        let took = began.elapsed();
        if is_look {
            self.looking += took;
        } else {
            self.spent += took;
            self.steps += 1;
        }
        self.effects.extend(effects);
    }

    fn look(&mut self) {
        self.look_due = false;
        let observed = self.runtime.clone();
        let told = self.told;
        self.give(Input::Observed { observed, told });
    }

    /// All that follows without time passing.
    fn settle(&mut self) {
        loop {
            match self.effects.pop_front() {
                Some(Effect::Commit(tx)) => self.give(Input::Committed(tx.id)),
                Some(Effect::Run(id, step)) => {
                    self.look_due |= step.touches_containers();
                    let outcome = self.run(step);
                    self.give(Input::StepEnded { step: id, outcome });
                }
                Some(_) => {}
                None if self.look_due => self.look(),
                None => return,
            }
        }
    }

    fn run(&mut self, step: Step) -> StepOutcome {
        match step {
            Step::FindImage { image } | Step::PullImage { image, .. } => StepOutcome::Image {
                image_id: image,
                size_bytes: 1,
                secret: None,
            },
            Step::RunSandbox(spec) => {
                let sandbox_id = format!("s-{}-{}", spec.uid, spec.attempt);
                self.runtime.sandboxes.push(ObservedSandbox {
                    id: sandbox_id.clone(),
                    uid: spec.uid,
                    attempt: spec.attempt,
                    ready: true,
                    ips: Vec::new(),
                    created_at_ms: self.now.wall_ms,
                });
                StepOutcome::Sandbox {
                    sandbox_id,
                    ips: Vec::new(),
                    left_out: Vec::new(),
                }
            }
            Step::StartContainer(start) => {
                let container_id = format!("c-{}-{}", start.sandbox.uid, start.attempt);
                self.runtime.containers.push(ObservedContainer {
                    id: container_id.clone(),
                    sandbox_id: start.sandbox_id,
                    uid: start.sandbox.uid,
                    name: start.container.name,
                    attempt: start.attempt,
                    image: start.container.image.clone(),
                    image_id: start.container.image,
                    restart_digest: start.container.restart_digest,
                    state: ObservedState::Running {
                        started_at_ms: self.now.wall_ms,
                    },
                    resources: None,
                    user: None,
                });
                StepOutcome::Started { container_id }
            }
            Step::RemoveContainer { container_id } => {
                self.runtime.containers.retain(|it| it.id != container_id);
                StepOutcome::Done
            }
            _ => StepOutcome::Done,
        }
    }

    fn end_one(&mut self) {
        self.now.mono_ms += 20 * 60 * 1_000;
        self.now.wall_ms += 20 * 60 * 1_000;
        let running = self.runtime.containers.iter_mut();
        let mut running: Vec<_> = running
            .filter(|it| matches!(it.state, ObservedState::Running { .. }))
            .collect();
        self.next += 1;
        let one = self.next % running.len().max(1);
        if let Some(container) = running.get_mut(one) {
            container.state = ObservedState::Exited {
                exit_code: 1,
                reason: Reason::Error,
                message: String::new(),
                started_at_ms: 0,
                finished_at_ms: self.now.wall_ms,
            };
        }
    }
}

fn manifest(number: usize) -> anyhow::Result<Manifest> {
    let name = format!("pod-{number}");
    let container = ContainerSpec::new("main", "registry.local/pause:1");
    Ok(Manifest {
        v: VERSION,
        uid: PodUid::new(format!("00000000-0000-0000-0000-{number:012}"))?,
        namespace: "default".to_owned(),
        workload: WorkloadSpec::new(name.as_str(), vec![container]),
        name,
        labels: [("app".to_owned(), "bench".to_owned())].into(),
        annotations: [].into(),
        objects: Vec::new(),
        requires: Vec::new(),
        replaces: Vec::new(),
    })
}

/// A store with a set that was accepted, and nothing done about it.
fn restored(manifests: &[Manifest]) -> anyhow::Result<Restored> {
    let mut items = DesiredSet::default();
    let mut blobs = Vec::new();
    for manifest in manifests {
        let body = serde_json::to_string(manifest)?;
        let digest = Digest::of(&body);
        blobs.push((digest, body));
        items.extend([SetItem {
            uid: manifest.uid.clone(),
            state: ItemState::Run,
            revision: DeploymentRevision(1),
            digest,
        }]);
    }
    let generation = SetGeneration {
        incarnation: Incarnation(1),
        n: 1,
    };
    Ok(Restored {
        set: Some(TrustedSet {
            generation,
            digest: items.digest(),
            items,
        }),
        blobs,
        ..Restored::default()
    })
}

fn config() -> anyhow::Result<AgentConfig> {
    Ok(AgentConfig {
        device: DeviceId::new("bench")?,
        enrolment: EnrolmentSerial::new("ab12")?,
        hub: HubId(Uuid::from_u128(2)),
        keys: [].into_iter().collect(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        link: LinkClass::Lan,
        sealing: Arc::new(SealingSecret::from_bytes([5; 32])),
        features: Vec::new(),
        cluster_dns: false,
        limits: Limits::default(),
        thresholds: Thresholds::default(),
        image_policy: ImagePolicy::default(),
        parallel_pulls: None,
        sample_floor_ms: 10_000,
        proved: false,
    })
}
