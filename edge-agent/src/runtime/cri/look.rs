//! A complete look at what is ours, and when the next one is due.
//!
//! Lists are cheap, a status costs a call per container; so a status is asked for once per state of a container, and
//! remembered as long as the lists say that the state is the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use edge_agent_core::step::{Observed, ObservedContainer, ObservedSandbox, ObservedState};
use edge_agent_cri::v1::{
    Container, ContainerEventResponse, ContainerState, ContainerStatus, LinuxContainerResources,
    LinuxContainerUser, PodSandbox, PodSandboxState,
};
use edge_agent_cri::{ContainerEvents, CriError, CriErrorKind};
use edge_protocol::text::words;
use edge_protocol::v1::{LinuxUser, Reason, Resources};
use tokio::time::Instant;

use super::addresses::addresses;
use super::{Inner, labels};
use crate::runtime::resources::{MIN_SHARES, cpu_milli};

/// Between two looks at the lists when nothing else tells of changes; the kubelet's own relist period.
const POLL: Duration = Duration::from_secs(1);
/// The same while a container is young: most that crash do it at once.
const POLL_YOUNG: Duration = Duration::from_millis(250);
const YOUNG: Duration = Duration::from_secs(10);
/// The same while nothing of ours is there: only our own steps can change that, and the pump looks after each.
const POLL_EMPTY: Duration = Duration::from_secs(10);
/// Between two looks while the runtime sends events: they are hints, and hints get lost.
const POLL_BESIDE_EVENTS: Duration = Duration::from_secs(10);
/// containerd learns of an out-of-memory kill on another path than of the exit, and sometimes later
/// (containerd issues 8180 and 12260). A kubelet, which looks once a second, is seldom too early.
const OOM_NEWS: Duration = Duration::from_millis(100);
const OOM_NEWS_TRIES: u32 = 10;
const KILLED: i32 = 128 + 9;

/// What the lists show of sandboxes and containers: their states by id.
type Glance = BTreeMap<String, i32>;

/// What is remembered from the last look.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// `None` when the last look failed.
    glance: Option<Glance>,
    looked_at: Option<Instant>,
    /// When a container was last seen that had not been there before.
    newest: Option<Instant>,
    /// Addresses of sandboxes, by id, with the state they were asked in.
    addresses: BTreeMap<String, (i32, Vec<IpAddr>)>,
    /// Statuses of containers, by id, with the state they were asked in.
    statuses: BTreeMap<String, (i32, ContainerStatus)>,
    /// Containers that we stopped: a kill is no riddle there.
    stopping: BTreeSet<String>,
    /// Things that carry our label in a form that is not ours, and were warned of.
    warned: BTreeSet<String>,
    without_events: bool,
}

impl Seen {
    pub(super) fn will_stop(&mut self, container: &str) {
        self.stopping.insert(container.to_owned());
    }

    /// What was remembered of a container is not so any more.
    pub(super) fn changed(&mut self, container: &str) {
        self.statuses.remove(container);
    }

    /// Forgets whatever is no longer listed.
    fn settle(&mut self, glance: Glance) {
        let previous = self.glance.take().unwrap_or_default();
        if glance.keys().any(|id| !previous.contains_key(id)) {
            self.newest = Some(Instant::now());
        }
        self.addresses.retain(|id, _| glance.contains_key(id));
        self.statuses.retain(|id, _| glance.contains_key(id));
        self.stopping.retain(|id| glance.contains_key(id));
        self.warned.retain(|id| glance.contains_key(id));
        self.glance = Some(glance);
    }

    fn poll_period(&self) -> Duration {
        if self.glance.as_ref().is_some_and(BTreeMap::is_empty) {
            return POLL_EMPTY;
        }
        let young = self.newest.is_some_and(|newest| newest.elapsed() < YOUNG);
        if young { POLL_YOUNG } else { POLL }
    }
}

struct Lists {
    sandboxes: Vec<PodSandbox>,
    containers: Vec<Container>,
}

impl Lists {
    fn glance(&self) -> Glance {
        let sandboxes = self
            .sandboxes
            .iter()
            .map(|sandbox| (sandbox.id.clone(), sandbox.state));
        // The offset tells a sandbox's states from a container's.
        let containers = self
            .containers
            .iter()
            .map(|container| (container.id.clone(), 100 + container.state));
        sandboxes.chain(containers).collect()
    }
}

impl Inner {
    pub(super) async fn observe(&self) -> Result<Observed, CriError> {
        let outcome = self.look().await;
        if outcome.is_err() {
            self.seen().glance = None;
        }
        self.looked.notify_waiters();
        outcome
    }

    async fn look(&self) -> Result<Observed, CriError> {
        let lists = self.lists().await?;
        let mut observed = Observed::default();
        for sandbox in &lists.sandboxes {
            if let Some(sandbox) = self.look_at_sandbox(sandbox).await? {
                observed.sandboxes.push(sandbox);
            }
        }
        self.await_oom_news(&lists.containers).await?;
        for container in &lists.containers {
            if let Some(container) = self.look_at_container(container).await? {
                observed.containers.push(container);
            }
        }
        self.seen().settle(lists.glance());
        Ok(observed)
    }

    async fn lists(&self) -> Result<Lists, CriError> {
        self.seen().looked_at = Some(Instant::now());
        let ours = labels::ours(&self.settings.agent);
        let sandboxes = self.client.list_pod_sandboxes(ours.clone()).await?;
        let containers = self.client.list_containers(ours).await?;
        Ok(Lists {
            sandboxes,
            containers,
        })
    }

    async fn look_at_sandbox(&self, sandbox: &PodSandbox) -> Result<Option<ObservedSandbox>, CriError> {
        let (Some(uid), Some(metadata)) = (labels::uid(&sandbox.labels), &sandbox.metadata) else {
            self.warn_once(&sandbox.id);
            return Ok(None);
        };
        let known = self.seen().addresses.get(&sandbox.id).cloned();
        let ips = match known {
            Some((state, ips)) if state == sandbox.state => ips,
            _ => match self.client.pod_sandbox_status(&sandbox.id).await {
                Ok(status) => {
                    let ips = addresses(&status);
                    self.seen()
                        .addresses
                        .insert(sandbox.id.clone(), (sandbox.state, ips.clone()));
                    ips
                }
                Err(error) if error.is_not_found() => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        Ok(Some(ObservedSandbox {
            id: sandbox.id.clone(),
            uid,
            attempt: metadata.attempt,
            ready: sandbox.state() == PodSandboxState::SandboxReady,
            ips,
            created_at_ms: millis(sandbox.created_at),
        }))
    }

    async fn look_at_container(&self, container: &Container) -> Result<Option<ObservedContainer>, CriError> {
        let Some(status) = self.status_of(container).await? else {
            return Ok(None);
        };
        let observed = describe(container, status);
        if observed.is_none() {
            self.warn_once(&container.id);
        }
        Ok(observed)
    }

    /// The status of a listed container; `None` when it went away in between.
    async fn status_of(&self, container: &Container) -> Result<Option<ContainerStatus>, CriError> {
        let known = self.seen().statuses.get(&container.id).cloned();
        if let Some((state, status)) = known
            && state == container.state
        {
            return Ok(Some(status));
        }
        match self.client.container_status(&container.id).await {
            Ok(mut status) => {
                self.settings.add_last_words(&mut status);
                // Kept under the status's own state: if the list is behind, the next one will not match, and ask.
                self.seen()
                    .statuses
                    .insert(container.id.clone(), (status.state, status.clone()));
                Ok(Some(status))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives containers that were killed, though not by us, a moment to be known as killed for their memory.
    async fn await_oom_news(&self, containers: &[Container]) -> Result<(), CriError> {
        for _ in 0..OOM_NEWS_TRIES {
            let riddles = self.riddles(containers).await?;
            if riddles.is_empty() {
                break;
            }
            tokio::time::sleep(OOM_NEWS).await;
            let mut seen = self.seen();
            for id in riddles {
                seen.statuses.remove(id);
            }
        }
        Ok(())
    }

    /// Containers that were seen to have been killed just now, and nobody knows why.
    async fn riddles<'a>(&self, containers: &'a [Container]) -> Result<Vec<&'a String>, CriError> {
        let mut riddles = Vec::new();
        for container in containers {
            let fresh = self
                .seen()
                .statuses
                .get(&container.id)
                .is_none_or(|known| known.0 != container.state);
            let status = self.status_of(container).await?;
            let killed =
                status.is_some_and(|status| status.exit_code == KILLED && status.reason != "OOMKilled");
            if fresh && killed && !self.seen().stopping.contains(&container.id) {
                riddles.push(&container.id);
            }
        }
        Ok(riddles)
    }

    fn warn_once(&self, id: &str) {
        if self.seen().warned.insert(id.to_owned()) {
            tracing::warn!(
                id,
                "left alone: it carries our label, but not the rest that we write"
            );
        }
    }

    /// Waits until a look at the lists differs from what was last observed.
    pub(super) async fn changed(&self) {
        let mut events = self.subscribe();
        // Soon at first: what happened before the subscription began sends no event.
        let mut beside_events = POLL;
        loop {
            let period = if events.is_some() {
                beside_events
            } else {
                self.seen().poll_period()
            };
            tokio::select! {
                () = self.await_hint(&mut events, period) => {}
                // What was seen there may ask for a shorter period than the one that is being waited for.
                () = self.looked.notified() => continue,
            }
            let now = self.lists().await.ok().map(|lists| lists.glance());
            if now != self.seen().glance {
                return;
            }
            beside_events = POLL_BESIDE_EVENTS;
        }
    }

    fn subscribe(&self) -> Option<ContainerEvents> {
        (!self.seen().without_events).then(|| self.client.container_events())
    }

    /// Waits for an event about one of ours, for the end of the stream, or until `period` after the last look.
    async fn await_hint(&self, events: &mut Option<ContainerEvents>, period: Duration) {
        let due = self
            .seen()
            .looked_at
            .map_or_else(Instant::now, |looked_at| looked_at + period);
        let Some(stream) = events else {
            return tokio::time::sleep_until(due).await;
        };
        let hint = async {
            loop {
                match stream.next().await {
                    Ok(Some(event)) if self.is_about_us(&event) => return Ok(()),
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(None),
                    Err(error) => return Err(Some(error.kind)),
                }
            }
        };
        if let Ok(Err(end)) = tokio::time::timeout_at(due, hint).await {
            self.seen().without_events |= end == Some(CriErrorKind::Unimplemented);
            *events = None;
        }
    }

    /// An event that does not say whose it is may be ours.
    fn is_about_us(&self, event: &ContainerEventResponse) -> bool {
        event
            .pod_sandbox_status
            .as_ref()
            .is_none_or(|pod| labels::is_ours(&pod.labels, &self.settings.agent))
    }
}

/// A container in the machine's words; `None` when it lacks what we write on all of ours.
fn describe(container: &Container, status: ContainerStatus) -> Option<ObservedContainer> {
    let state = state(&status);
    let resources = status.resources.as_ref().and_then(|held| held.linux.as_ref());
    let user = status.user.as_ref().and_then(|user| user.linux.as_ref());
    Some(ObservedContainer {
        id: container.id.clone(),
        sandbox_id: container.pod_sandbox_id.clone(),
        uid: labels::uid(&container.labels)?,
        name: labels::container_name(&container.labels)?.to_owned(),
        attempt: container.metadata.as_ref()?.attempt,
        image: container.image.as_ref()?.image.clone(),
        resources: resources.map(held),
        user: user.map(user_of),
        image_id: status.image_ref,
        restart_digest: labels::restart_digest(&container.annotations)?,
        state,
    })
}

fn user_of(user: &LinuxContainerUser) -> LinuxUser {
    LinuxUser {
        uid: user.uid,
        gid: user.gid,
        supplemental_groups: user.supplemental_groups.clone(),
    }
}

/// What the runtime holds a container to (`toKubeContainerResources` of `pkg/kubelet/kuberuntime/helpers.go`). Requests for memory leave no
/// trace there.
fn held(linux: &LinuxContainerResources) -> Resources {
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let limit = positive(linux.cpu_quota).zip(positive(linux.cpu_period));
    let shares = positive(linux.cpu_shares).filter(|shares| *shares > MIN_SHARES);
    Resources {
        cpu_request_milli: shares.map(cpu_milli),
        cpu_limit_milli: limit.map(|(quota, period)| quota.saturating_mul(1000) / period),
        memory_limit_bytes: positive(linux.memory_limit_in_bytes),
        ..Resources::default()
    }
}

fn state(status: &ContainerStatus) -> ObservedState {
    let started_at_ms = millis(status.started_at);
    match status.state() {
        ContainerState::ContainerCreated => ObservedState::Created,
        ContainerState::ContainerRunning => ObservedState::Running { started_at_ms },
        ContainerState::ContainerExited => {
            let finished_at_ms = millis(status.finished_at);
            ObservedState::Exited {
                exit_code: status.exit_code,
                reason: reason(status),
                message: words(&status.message),
                // containerd takes the start's time when its shim has answered: a short life may end before it.
                started_at_ms: started_at_ms.min(finished_at_ms),
                finished_at_ms,
            }
        }
        ContainerState::ContainerUnknown => ObservedState::Unknown,
    }
}

/// CRI asks for three words, and the runtimes have more, which the kubelet passes on; of those that nobody knows the exit code is said.
fn reason(status: &ContainerStatus) -> Reason {
    match (status.reason.as_str(), status.exit_code) {
        ("OOMKilled", _) => Reason::OOMKilled,
        ("StartError", _) => Reason::StartError,
        (_, 0) => Reason::Completed,
        _ => Reason::Error,
    }
}

fn millis(nanos: i64) -> i64 {
    nanos.div_euclid(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_kubernetes_own() {
        #[track_caller]
        fn check(reason_of_runtime: &str, exit_code: i32, expect: Reason) {
            let status = ContainerStatus {
                reason: reason_of_runtime.into(),
                exit_code,
                ..Default::default()
            };
            assert_eq!(reason(&status), expect);
        }
        check("Completed", 0, Reason::Completed);
        check("", 0, Reason::Completed);
        check("Error", 1, Reason::Error);
        check("StartError", 128, Reason::StartError);
        check("Unknown", 255, Reason::Error);
        check("OOMKilled", 137, Reason::OOMKilled);
        check("OOMKilled", 0, Reason::OOMKilled);
    }

    #[test]
    fn a_life_does_not_end_before_it_began() {
        let status = ContainerStatus {
            state: ContainerState::ContainerExited.into(),
            started_at: 7_000_000,
            finished_at: 6_000_000,
            ..Default::default()
        };
        let ObservedState::Exited {
            started_at_ms,
            finished_at_ms,
            ..
        } = state(&status)
        else {
            panic!()
        };
        assert_eq!((started_at_ms, finished_at_ms), (6, 6));
    }
}
