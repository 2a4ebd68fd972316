//! Verb-by-state tables: what one workload needs next, for every state of its container and every rule that applies.

use std::sync::Arc;

use edge_protocol::v1::{ContainerSpec, Manifest, Reason, RestartPolicy, WorkloadSpec};
use edge_protocol::{BootId, DeploymentRevision, Digest, SetItem};

use super::*;
use crate::lifecycle::{Decision, decide};
use crate::record::{Ending, Superseded};
use crate::step::{ObservedContainer, ObservedSandbox, ObservedState, StepId};
use crate::workload::{Durability, InFlight};

const ALWAYS: RestartPolicy = RestartPolicy::Always;
const ON_FAILURE: RestartPolicy = RestartPolicy::OnFailure;
const NEVER: RestartPolicy = RestartPolicy::Never;

/// One workload with one container `c`, told in the fewest words.
#[derive(Clone)]
struct Case {
    policy: RestartPolicy,
    /// Id, attempt, ready.
    sandboxes: Vec<(&'static str, u32, bool)>,
    /// Id, sandbox, attempt, spec, state.
    containers: Vec<(&'static str, &'static str, u32, &'static str, ObservedState)>,
    with: fn(&mut Workload),
}

fn case() -> Case {
    Case {
        policy: ALWAYS,
        sandboxes: vec![],
        containers: vec![],
        with: |_| {},
    }
}

impl Case {
    fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    fn sandbox(mut self, id: &'static str, attempt: u32, ready: bool) -> Self {
        self.sandboxes.push((id, attempt, ready));
        self
    }

    fn container(
        mut self,
        id: &'static str,
        sandbox: &'static str,
        attempt: u32,
        state: ObservedState,
    ) -> Self {
        self.containers.push((id, sandbox, attempt, "spec", state));
        self
    }

    fn other_spec(mut self) -> Self {
        self.containers.last_mut().unwrap().3 = "older spec";
        self
    }

    fn with(mut self, with: fn(&mut Workload)) -> Self {
        self.with = with;
        self
    }

    fn build(&self) -> (Workload, Pod) {
        let uid = PodUid::new("w").unwrap();
        let digest = Digest::of("manifest");
        let mut workload = Workload {
            item: Some(SetItem {
                uid: uid.clone(),
                state: ItemState::Run,
                revision: DeploymentRevision(1),
                digest,
            }),
            manifest: Some(Arc::new(manifest(&uid, self.policy))),
            disk: Durability {
                stored: true,
                ..Durability::default()
            },
            ..Workload::default()
        };
        workload.record.admitted = true;
        workload.record.manifest = Some(digest);
        workload.images.insert("image".to_owned());
        (self.with)(&mut workload);
        let sandbox = |(id, attempt, ready): &(&str, u32, bool)| ObservedSandbox {
            id: (*id).to_owned(),
            uid: uid.clone(),
            attempt: *attempt,
            ready: *ready,
            ips: Vec::new(),
            created_at_ms: 0,
        };
        let container = |(id, sandbox, attempt, spec, state): &(&str, &str, u32, &str, ObservedState)| {
            ObservedContainer {
                id: (*id).to_owned(),
                sandbox_id: (*sandbox).to_owned(),
                uid: uid.clone(),
                name: "c".to_owned(),
                attempt: *attempt,
                image: "image".to_owned(),
                image_id: String::new(),
                restart_digest: Digest::of(spec),
                state: state.clone(),
                resources: None,
                user: None,
            }
        };
        let pod = Pod {
            sandboxes: self.sandboxes.iter().map(sandbox).collect(),
            containers: self.containers.iter().map(container).collect(),
        };
        (workload, pod)
    }

    fn plan(&self) -> String {
        let (workload, pod) = self.build();
        let uid = PodUid::new("w").unwrap();
        let now = now();
        let workloads = BTreeMap::from([(uid.clone(), workload)]);
        let pods = BTreeMap::from([(uid, pod)]);
        let leaving = workloads.keys().cloned();
        let leaving = leaving
            .filter(|uid| workloads[uid].record.ending.is_some())
            .collect();
        let world = World {
            workloads: &workloads,
            pods: &pods,
            leaving: &leaving,
            facts: None,
            now: &now,
            wall_trusted: false,
        };
        let plans = plan(world, workloads.keys());
        let words = plans.iter().flat_map(|(_, plan)| {
            plan.marks
                .iter()
                .map(|mark| format!("{mark:?}"))
                .chain(plan.steps.iter().map(|planned| word(&planned.step)))
        });
        words.collect::<Vec<_>>().join(", ")
    }
}

fn now() -> Now {
    Now {
        mono_ms: 100_000,
        wall_ms: 0,
        boot_id: boot(),
    }
}

fn boot() -> BootId {
    serde_json::from_str("\"00000000-0000-0000-0000-000000000001\"").unwrap()
}

fn manifest(uid: &PodUid, restart_policy: RestartPolicy) -> Manifest {
    let spec = ContainerSpec {
        restart_digest: Digest::of("spec"),
        ..ContainerSpec::new("c", "image")
    };
    Manifest {
        v: 1,
        uid: uid.clone(),
        namespace: "n".to_owned(),
        name: "w".to_owned(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        workload: WorkloadSpec {
            restart_policy,
            ..WorkloadSpec::new("w", vec![spec])
        },
        objects: vec![],
        requires: vec![],
        replaces: vec![],
    }
}

fn word(step: &Step) -> String {
    match step {
        Step::FindImage { .. } => "find image".to_owned(),
        Step::PullImage { .. } => "pull image".to_owned(),
        Step::RunSandbox(spec) => format!("sandbox #{}", spec.attempt),
        Step::StartContainer(start) => format!("start #{} in {}", start.attempt, start.sandbox_id),
        Step::StopContainer {
            container_id,
            grace_s,
            pre_stop: _,
        } => format!("stop {container_id} {grace_s}s"),
        Step::RemoveContainer { container_id } => format!("remove {container_id}"),
        Step::StopSandbox { sandbox_id } => format!("stop {sandbox_id}"),
        Step::RemoveSandbox { sandbox_id, .. } => format!("remove {sandbox_id}"),
        Step::RemoveWorkload { .. } => "remove workload".to_owned(),
        Step::SyncVolumes { .. } => "volumes".to_owned(),
        Step::PostStart(hook) => format!("post-start {}", hook.container_id),
        Step::Probe { kind, target, .. } => format!("{kind:?} probe of {}", target.container_id),
        Step::Resize { containers, .. } => format!("resize {} containers", containers.len()),
    }
}

fn running() -> ObservedState {
    ObservedState::Running { started_at_ms: 1 }
}

fn exited(exit_code: i32) -> ObservedState {
    ObservedState::Exited {
        exit_code,
        reason: Reason::Error,
        message: String::new(),
        started_at_ms: 1,
        finished_at_ms: 2,
    }
}

#[track_caller]
fn check_decision(given: &Case, expect: Decision) {
    let (workload, pod) = given.build();
    let uid = PodUid::new("w").unwrap();
    let now = now();
    let given = Given {
        uid: &uid,
        workload: &workload,
        pod: &pod,
        now: &now,
        wall_trusted: false,
    };
    assert_eq!(decide(&given, &workload.containers()[0]), expect);
}

/// As `ShouldContainerBeRestarted`, with the back-off beside it.
#[test]
fn container_by_state_and_policy() {
    let up = || case().sandbox("s", 0, true);
    for policy in [ALWAYS, ON_FAILURE, NEVER] {
        check_decision(&case().policy(policy), Decision::Start { attempt: 0 });
        check_decision(&up().policy(policy), Decision::Start { attempt: 0 });
        check_decision(
            &up().container("a", "s", 0, running()).policy(policy),
            Decision::Keep,
        );
        check_decision(
            &up().container("a", "s", 0, running()).other_spec().policy(policy),
            Decision::Replace,
        );
        let created = up().container("a", "s", 2, ObservedState::Created).policy(policy);
        check_decision(&created, Decision::Start { attempt: 2 });
        check_decision(&created.other_spec(), Decision::Clear);
        check_decision(
            &up().container("a", "s", 0, ObservedState::Unknown).policy(policy),
            Decision::Clear,
        );
        check_decision(
            &up().container("a", "gone", 0, running()).policy(policy),
            Decision::Blocked,
        );
    }
    check_decision(
        &up().container("a", "s", 1, exited(0)),
        Decision::Start { attempt: 2 },
    );
    check_decision(
        &up().container("a", "s", 1, exited(1)),
        Decision::Start { attempt: 2 },
    );
    check_decision(
        &up().container("a", "s", 1, exited(0)).policy(ON_FAILURE),
        Decision::Finished,
    );
    check_decision(
        &up().container("a", "s", 1, exited(1)).policy(ON_FAILURE),
        Decision::Start { attempt: 2 },
    );
    check_decision(
        &up().container("a", "s", 1, exited(0)).policy(NEVER),
        Decision::Finished,
    );
    check_decision(
        &up().container("a", "s", 1, exited(1)).policy(NEVER),
        Decision::Finished,
    );
}

#[test]
fn the_record_remembers_what_the_runtime_forgot() {
    let ran = |policy| {
        case().sandbox("s", 0, true).policy(policy).with(|workload| {
            workload.record.attempts.insert("c".to_owned(), 4);
        })
    };
    check_decision(&ran(ALWAYS), Decision::Start { attempt: 5 });
    check_decision(&ran(ON_FAILURE), Decision::Start { attempt: 5 });
    check_decision(&ran(NEVER), Decision::Finished);
    let replacing = case()
        .sandbox("s", 0, true)
        .container("a", "s", 0, exited(143))
        .policy(NEVER)
        .with(|workload| {
            workload.record.replacing.insert("c".to_owned());
        });
    check_decision(&replacing, Decision::Start { attempt: 1 });
}

#[test]
fn a_crash_loop_waits() {
    let given = case()
        .sandbox("s", 0, true)
        .container("a", "s", 1, exited(1))
        .with(|workload| {
            let crash = workload.crashes.entry("c".to_owned()).or_default();
            crash.restarted(&ContainerSpec::new("c", "image"), 95_000);
            crash.saw_end(1, 99_000);
        });
    check_decision(
        &given,
        Decision::Wait {
            attempt: 1,
            until_ms: 109_000,
        },
    );
    check(&given, "BackingOff { container: \"c\", attempt: 1 }");
    let told = given.with(|workload| {
        let crash = workload.crashes.entry("c".to_owned()).or_default();
        crash.restarted(&ContainerSpec::new("c", "image"), 95_000);
        crash.saw_end(1, 99_000);
        crash.told(1);
    });
    check(&told, "");
}

#[track_caller]
fn check(given: &Case, expect: &str) {
    assert_eq!(given.plan(), expect);
}

fn replacing(workload: &mut Workload) {
    workload.record.replacing.insert("c".to_owned());
}

fn a_stopped(workload: &mut Workload) {
    workload.stopped.insert("a".to_owned());
}

fn s_stopped(workload: &mut Workload) {
    workload.stopped.insert("s".to_owned());
}

#[test]
fn what_is_to_run() {
    let up = || case().sandbox("s", 0, true);
    check(&case(), "sandbox #0");
    check(&case().with(|w| w.images.clear()), "find image, sandbox #0");
    check(&up(), "start #0 in s");
    check(&up().with(|w| w.images.clear()), "find image");
    check(&up().container("a", "s", 0, running()), "");
    // A replacement: the image, then the intent on disk, then the stop, then the start.
    let old = || up().container("a", "s", 0, running()).other_spec();
    check(&old().with(|w| w.images.clear()), "find image");
    check(&old(), "Replacing { container: \"c\" }");
    check(&old().with(replacing), "stop a 30s");
    let stopped = up().container("a", "s", 0, exited(0)).other_spec();
    check(&stopped.with(replacing), "start #1 in s");
    // Lost instances.
    let unknown = || up().container("a", "s", 0, ObservedState::Unknown);
    check(&unknown(), "stop a 30s");
    check(&unknown().with(a_stopped), "remove a");
    // Duplicates, and no start beside a live one.
    check(
        &up()
            .container("a", "s", 0, running())
            .container("b", "s", 1, running()),
        "stop a 30s",
    );
    check(
        &up()
            .container("a", "s", 0, running())
            .container("b", "s", 1, exited(1)),
        "",
    );
    // Only the last two are kept.
    let three = up()
        .container("a", "s", 0, exited(1))
        .container("b", "s", 1, exited(1))
        .container("d", "s", 2, running());
    check(&three, "remove a");
    // A dead sandbox: its containers, itself, a new one, and away with it when nothing needs it.
    check(
        &case().sandbox("s", 0, false).container("a", "s", 0, running()),
        "stop a 30s",
    );
    let dead = || case().sandbox("s", 0, false).container("a", "s", 0, exited(137));
    check(&dead(), "stop s");
    check(&dead().with(s_stopped), "sandbox #1");
    let empty = case()
        .sandbox("s", 0, false)
        .sandbox("t", 1, true)
        .container("a", "t", 1, running());
    check(&empty.with(s_stopped), "remove s");
    // Ended for good.
    let ended = up().container("a", "s", 0, exited(0)).policy(NEVER);
    check(&ended, "Ended { containers: [\"c\"] }, stop s");
}

/// A step that starts its container is under way.
fn starting(workload: &mut Workload) {
    let step = Step::RemoveWorkload {
        uid: PodUid::new("w").unwrap(),
    };
    let flight = InFlight {
        subject: Subject::Start("c".to_owned()),
        step,
        deadline_ms: None,
    };
    workload.steps.insert(StepId(1), flight);
}

#[test]
fn what_holds_a_workload_back() {
    check(&case().with(|w| w.record.admitted = false), "");
    check(&case().with(|w| w.disk.stored = false), "");
    check(&case().with(|w| w.item = None), "");
    check(&case().with(|w| w.manifest = None), "");
    check(&case().with(|w| w.blur(crate::workload::Sight::Blind)), "");
    check(&case().sandbox("s", 0, true).with(starting), "");
}

fn ending(workload: &mut Workload) {
    workload.record.ending = Some(Ending {
        boot_id: boot(),
        begun_ms: 95_000,
        grace_s: 30,
    });
    workload.record.started = Some(now().device_time(false));
}

fn remembered(workload: &mut Workload) {
    ending(workload);
    let (_, pod) = case().container("a", "s", 0, exited(143)).build();
    let uid = PodUid::new("w").unwrap();
    let given = Given {
        uid: &uid,
        workload,
        pod: &pod,
        now: &now(),
        wall_trusted: false,
    };
    let saying = crate::status::Saying {
        runtime: "r",
        now: now().device_time(false),
    };
    let ended = crate::status::ended(&given, "c", saying).unwrap();
    workload.record.ended.insert("c".to_owned(), ended);
    workload.stopped.insert("s".to_owned());
}

fn failed(workload: &mut Workload) {
    workload.record.failed = Some(crate::record::Failed {
        reason: Some(Reason::DeadlineExceeded),
        message: String::new(),
        grace_s: None,
        disrupted: false,
    });
}

#[test]
fn what_failed_as_a_whole_waits_for_a_start_under_way() {
    let created = || {
        case()
            .sandbox("s", 0, true)
            .container("a", "s", 0, ObservedState::Created)
    };
    check(&created().with(failed), "remove a");
    let both = created().with(|w| {
        failed(w);
        starting(w);
    });
    check(&both, "");
}

#[test]
fn what_is_to_go() {
    let up = || case().sandbox("s", 0, true);
    // Five of thirty seconds are gone already.
    check(&up().container("a", "s", 0, running()).with(ending), "stop a 25s");
    check(
        &up().container("a", "s", 0, ObservedState::Unknown).with(ending),
        "stop a 25s",
    );
    check(
        &up().container("a", "s", 0, ObservedState::Created).with(ending),
        "stop s",
    );
    check(&up().container("a", "s", 0, exited(143)).with(ending), "stop s");
    let stopped = || case().sandbox("s", 0, false).container("a", "s", 0, exited(143));
    check(
        &stopped().with(|w| {
            ending(w);
            w.stopped.insert("s".to_owned());
        }),
        "Ended { containers: [\"c\"] }",
    );
    check(&stopped().with(remembered), "remove a");
    check(
        &stopped().with(|w| {
            remembered(w);
            w.disk.dirty = true;
        }),
        "",
    );
    check(&case().sandbox("s", 0, false).with(remembered), "remove s");
    check(&case().with(remembered), "remove workload");
    // It is desired again: from nothing.
    check(
        &case().with(|w| {
            remembered(w);
            w.cleaned = true;
        }),
        "Fresh",
    );
    let stop = |w: &mut Workload| {
        remembered(w);
        w.cleaned = true;
        w.item.as_mut().unwrap().state = ItemState::Stop;
    };
    check(&case().with(stop), "");
    // Another boot: nothing of the grace is left.
    let rebooted = |w: &mut Workload| {
        ending(w);
        w.record.ending.as_mut().unwrap().boot_id =
            serde_json::from_str("\"00000000-0000-0000-0000-000000000002\"").unwrap();
    };
    check(
        &up().container("a", "s", 0, running()).with(rebooted),
        "stop a 0s",
    );
}

fn superseded(workload: &mut Workload) {
    remembered(workload);
    workload.record.ending = None;
    workload.record.superseded = Some(Superseded {
        by: PodUid::new("x").unwrap(),
        manifest: None,
        for_good: true,
    });
}

#[test]
fn who_is_superseded_goes_but_keeps_its_logs() {
    check(
        &case()
            .sandbox("s", 0, true)
            .container("a", "s", 1, running())
            .with(superseded),
        "stop a 30s",
    );
    check(&case().sandbox("s", 0, false).with(superseded), "remove s");
    check(&case().with(superseded), "");
    let alone = |w: &mut Workload| {
        superseded(w);
        w.record.superseded.as_mut().unwrap().for_good = false;
    };
    let up = || case().sandbox("s", 0, true).container("a", "s", 1, running());
    // Law 6: nobody is there who could start.
    check(&up().with(alone), "");
    let unsaid = |w: &mut Workload| {
        w.record.superseded = Some(Superseded {
            by: PodUid::new("x").unwrap(),
            manifest: None,
            for_good: true,
        });
        w.disk.dirty = true;
    };
    check(&up().with(unsaid), "");
}
