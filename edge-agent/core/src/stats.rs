//! What the device uses, told while somebody asks: when to sample, and what the hub hears of it.
//!
//! An ask is for the present session and ends with it. However often and however fast somebody asks, one sample is under way at a time, and the next
//! begins no sooner than the device's own floor allows.

use edge_protocol::v1::{
    MAX_STATS_FOR_MS, MAX_STATS_INTERVAL_MS, NodeStats, Stats, StatsAsk, StatsReport, Up, WorkloadStats,
    ability,
};
use edge_protocol::{Lane, Now, PodUid, SessionEpoch};

use crate::agent::Agent;
use crate::io::Effect;
use crate::step::ObservedState;
use crate::workload::Pod;

/// A workload that is to be sampled: what of it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleTarget {
    pub uid: PodUid,
    pub sandbox_id: Option<String>,
    /// When its sandbox was made, in milliseconds since the Unix epoch.
    pub started_ms: Option<i64>,
    pub containers: Vec<SampleContainer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleContainer {
    pub name: String,
    /// The bare runtime id.
    pub id: String,
    pub started_ms: i64,
}

/// What was sampled. The moments in it are on the monotonic clock of [`Now`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    pub node: NodeStats,
    pub workloads: Vec<WorkloadStats>,
}

/// The asks of the present session, and the sample under way.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    standing: Option<Standing>,
    under_way: Option<UnderWay>,
    /// When the last one began.
    last_ms: Option<u64>,
    /// How many there were.
    count: u64,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
struct Standing {
    session: SessionEpoch,
    interval_ms: u64,
    next_ms: u64,
    until_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct UnderWay {
    /// Whose answer it is.
    session: SessionEpoch,
}

impl Sampling {
    /// Takes the place of what was asked before. However short, it is good for one sample.
    fn ask(&mut self, ask: &StatsAsk, floor_ms: u64, now_ms: u64) {
        let interval_ms = ask.interval_ms.min(MAX_STATS_INTERVAL_MS).max(floor_ms);
        let next_ms = self.last_ms.map_or(now_ms, |last| now_ms.max(last + interval_ms));
        let until_ms = now_ms + ask.for_ms.min(MAX_STATS_FOR_MS);
        self.standing = Some(Standing {
            session: ask.session,
            interval_ms,
            next_ms,
            until_ms: until_ms.max(next_ms),
        });
    }

    /// Whether a sample begins now, in this session.
    fn begins(&mut self, session: SessionEpoch, now_ms: u64) -> bool {
        let Some(standing) = &mut self.standing else {
            return false;
        };
        if self.under_way.is_some() || now_ms < standing.next_ms {
            return false;
        }
        standing.next_ms = now_ms + standing.interval_ms;
        self.under_way = Some(UnderWay { session });
        self.last_ms = Some(now_ms);
        self.count += 1;
        if standing.next_ms > standing.until_ms {
            self.standing = None;
        }
        true
    }

    /// The sample under way has ended; whether anybody waits for it, in this session.
    fn ended(&mut self, session: Option<SessionEpoch>) -> bool {
        let ended = self.under_way.take();
        ended.is_some_and(|ended| Some(ended.session) == session)
    }

    /// Without this session nobody asks.
    fn mind_session(&mut self, session: Option<SessionEpoch>) {
        self.standing
            .take_if(|standing| Some(standing.session) != session);
    }

    /// How often it is told from now on; 0 if not again.
    fn interval_ms(&self) -> u64 {
        self.standing.map_or(0, |standing| standing.interval_ms)
    }

    pub(crate) fn wake_at(&self) -> Option<u64> {
        let standing = self.standing.filter(|_| self.under_way.is_none());
        standing.map(|standing| standing.next_ms)
    }

    /// The monotonic clock began anew.
    pub(crate) fn rebase(&mut self) {
        (self.standing, self.last_ms) = (None, None);
    }
}

impl Agent {
    pub(crate) fn stats_asked(&mut self, now: &Now, ask: &StatsAsk) {
        let ours = self
            .session
            .binding()
            .is_some_and(|binding| binding.nonce == ask.nonce);
        if !ours || self.session.epoch() != Some(ask.session) {
            return self.refuse("somebody asks for figures in another session");
        }
        if !self.config.features.iter().any(|word| word == ability::STATS) {
            return self.refuse("somebody asks for figures, which this device does not tell");
        }
        let floor_ms = self
            .config
            .sample_floor_ms
            .max(self.session.link().stats_floor_ms());
        self.sampling.ask(ask, floor_ms, now.mono_ms);
    }

    /// Begins a sample when one is due.
    pub(crate) fn sample(&mut self, now: &Now) {
        let session = self.session.epoch();
        self.sampling.mind_session(session);
        if session.is_some_and(|session| self.sampling.begins(session, now.mono_ms)) {
            let pods = self.roster.pods().iter();
            let targets = pods.filter_map(|(uid, pod)| target(uid, pod)).collect();
            self.effects.push(Effect::Sample(targets));
        }
    }

    /// Tells a sample to whoever asked; one that failed is passed over.
    pub(crate) fn sampled(&mut self, now: &Now, sample: Option<Sample>) {
        if !self.sampling.ended(self.session.epoch()) {
            return;
        }
        let Some(Sample { node, workloads }) = sample else {
            return;
        };
        let stats = Stats {
            at: self.device_time(now),
            node: Some(Box::new(node)),
            workloads,
        };
        for part in StatsReport::parts(self.sampling.count, self.sampling.interval_ms(), stats) {
            self.send(now, Lane::Bulk, Up::Stats(part));
        }
    }
}

fn target(uid: &PodUid, pod: &Pod) -> Option<SampleTarget> {
    let running = pod
        .containers
        .iter()
        .filter_map(|container| match container.state {
            ObservedState::Running { started_at_ms } => Some(SampleContainer {
                name: container.name.clone(),
                id: container.id.clone(),
                started_ms: started_at_ms,
            }),
            _ => None,
        });
    let containers: Vec<SampleContainer> = running.collect();
    let sandbox = pod.sandbox();
    (!containers.is_empty()).then(|| SampleTarget {
        uid: uid.clone(),
        sandbox_id: sandbox.map(|sandbox| sandbox.id.clone()),
        started_ms: sandbox.map(|sandbox| sandbox.created_at_ms),
        containers,
    })
}
