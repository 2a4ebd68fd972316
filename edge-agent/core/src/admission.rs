//! Whether a device takes a workload, by the kubelet's admission (pkg/kubelet/lifecycle/predicate.go).
//!
//! As there, a workload that does not fit fails for good, with the kubelet's reason. Unlike there, one that would fit but for workloads on
//! their way out waits for them: the hub may swap two in one set, and the scheduler did not count for this device.

use edge_protocol::PodUid;
use edge_protocol::v1::{
    Amounts, Facts, Manifest, ObjectRef, PortProtocol, Pressures, Reason, WorkloadSpec, ability,
};

use crate::lifecycle;
use crate::plan::{Mark, World};
use crate::succession;
use crate::sums;
use crate::sysctls;
use crate::workload::Workload;

/// The abilities a manifest needs that this agent lacks, in words; `None` when it can be honoured. Objects need theirs whether or not it
/// names them.
pub(crate) fn unmet(manifest: &Manifest, features: &[String]) -> Option<String> {
    let has = |wanted: &str| features.iter().any(|feature| feature == wanted);
    let lacking: Vec<&str> = manifest
        .requires
        .iter()
        .map(String::as_str)
        .filter(|wanted| !has(wanted))
        .collect();
    if !lacking.is_empty() {
        return Some(format!("this agent lacks: {}", lacking.join(", ")));
    }
    let placed = |object: &&ObjectRef| {
        has(if object.sealed {
            ability::SEALED_OBJECTS
        } else {
            ability::OBJECTS
        })
    };
    let objects: Vec<String> = manifest
        .objects
        .iter()
        .filter(|object| !placed(object))
        .map(|object| format!("{} {}", object.kind, object.name))
        .collect();
    (!objects.is_empty()).then(|| format!("this agent cannot place objects: {}", objects.join(", ")))
}

#[derive(Debug, Default, Clone, Copy)]
struct Demand {
    cpu_milli: u64,
    memory_bytes: u64,
    ephemeral_storage_bytes: u64,
    pods: u32,
}

impl Demand {
    fn of(workload: &WorkloadSpec) -> Self {
        let sums = sums::of(workload);
        Self {
            cpu_milli: sums.cpu_request_milli,
            memory_bytes: sums.memory_request_bytes,
            ephemeral_storage_bytes: sums.ephemeral_storage_request_bytes,
            pods: 1,
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            ephemeral_storage_bytes: self
                .ephemeral_storage_bytes
                .saturating_add(other.ephemeral_storage_bytes),
            pods: self.pods.saturating_add(other.pods),
        }
    }
}

/// The admissions that can be decided now, at most one per call: each changes what the next may use.
pub(crate) fn next(world: World<'_>) -> Option<(PodUid, Mark)> {
    let candidates = world.workloads.iter().filter(|(_, workload)| {
        let record = &workload.record;
        workload.wants_run() && workload.manifest.is_some() && !record.admitted && record.rejected.is_none()
    });
    for (uid, workload) in candidates {
        // What runs already was admitted, whatever the record remembers.
        if world.pod(uid).live().next().is_some() {
            return Some((uid.clone(), Mark::Admitted));
        }
        if let Some(mark) = judge(world, uid, workload) {
            return Some((uid.clone(), mark));
        }
    }
    None
}

fn judge(world: World<'_>, uid: &PodUid, workload: &Workload) -> Option<Mark> {
    let spec = &workload.manifest.as_ref()?.workload;
    let facts = world.facts?;
    if spec.security.strict_supplemental_groups && facts.runtime_name.is_empty() {
        // What it cannot do is not known before it is.
        return None;
    }
    if let Some((reason, message)) = never(facts, spec) {
        return Some(Mark::Rejected { reason, message });
    }
    let staying = neighbours(world, uid, workload, false);
    if let Some((reason, message)) = misfit(world, spec, &staying)? {
        return Some(Mark::Rejected { reason, message });
    }
    let all = neighbours(world, uid, workload, true);
    match misfit(world, spec, &all)? {
        None => Some(Mark::Admitted),
        Some(_) => None,
    }
}

/// What no room would help with.
fn never(facts: &Facts, spec: &WorkloadSpec) -> Option<(Reason, String)> {
    if let Some(message) = sysctls::forbidden(spec, &facts.kernel_version) {
        return Some((Reason::SysctlForbidden, message));
    }
    let lacks = spec.security.strict_supplemental_groups && !facts.strict_groups;
    let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
    lacks.then(|| (Reason::SupplementalGroupsPolicyNotSupported, message.to_owned()))
}

/// The admitted workloads beside this one that may still run, but those it replaces.
pub(crate) fn neighbours<'a>(
    world: World<'a>,
    uid: &PodUid,
    of: &Workload,
    leaving: bool,
) -> Vec<&'a WorkloadSpec> {
    let replaced: Vec<&PodUid> = of
        .manifest
        .iter()
        .flat_map(|manifest| succession::replaced(world, manifest))
        .collect();
    world
        .workloads
        .iter()
        .filter(|(other, workload)| {
            let leaves = workload.record.ending.is_some() || workload.record.superseded.is_some();
            *other != uid
                && !replaced.contains(other)
                && workload.record.admitted
                && (!leaves || (leaving && !world.is_clear(other)))
                && !has_ended(world, other, workload)
        })
        .filter_map(|(_, workload)| Some(&workload.manifest.as_ref()?.workload))
        .collect()
}

/// As `filterOutInactivePods` of `pkg/kubelet/kubelet_pods.go`: what ended for good uses nothing.
fn has_ended(world: World<'_>, uid: &PodUid, workload: &Workload) -> bool {
    let given = world.given(uid, workload);
    lifecycle::is_finished(&given) && given.pod.live().next().is_none()
}

/// Why it does not fit beside the others; `None` while the device's facts are not known. Unknown capacities do not limit.
#[expect(
    clippy::option_option,
    reason = "unknown facts, fits, and does not fit are three answers"
)]
pub(crate) fn misfit(
    world: World<'_>,
    spec: &WorkloadSpec,
    others: &[&WorkloadSpec],
) -> Option<Option<(Reason, String)>> {
    let facts = world.facts?;
    if let Some(message) = pressed(facts, spec) {
        return Some(Some((Reason::Evicted, message)));
    }
    let own = Demand::of(spec);
    let has = Amounts {
        cpu_milli: facts.cpu_milli,
        memory_bytes: facts.memory_bytes,
        ephemeral_storage_bytes: facts.ephemeral_storage_bytes,
    };
    let gives = spec.reserved.map_or(has, |reserved| has.allocatable(reserved));
    let used = others
        .iter()
        .map(|other| Demand::of(other))
        .fold(Demand::default(), Demand::plus);
    let checks = [
        (
            Reason::OutOfpods,
            "pods",
            u64::from(own.pods),
            u64::from(used.pods),
            (u64::from(facts.pods), u64::from(facts.pods)),
        ),
        (
            Reason::OutOfcpu,
            "cpu",
            own.cpu_milli,
            used.cpu_milli,
            (has.cpu_milli, gives.cpu_milli),
        ),
        (
            Reason::OutOfmemory,
            "memory",
            own.memory_bytes,
            used.memory_bytes,
            (has.memory_bytes, gives.memory_bytes),
        ),
        (
            Reason::OutOfEphemeralStorage,
            "ephemeral-storage",
            own.ephemeral_storage_bytes,
            used.ephemeral_storage_bytes,
            (has.ephemeral_storage_bytes, gives.ephemeral_storage_bytes),
        ),
    ];
    for (reason, what, requested, used, (known, capacity)) in checks {
        if known > 0 && requested > 0 && requested.saturating_add(used) > capacity {
            return Some(Some((
                reason,
                format!(
                    "Node didn't have enough resource: {what}, requested: {requested}, used: {used}, capacity: {capacity}"
                ),
            )));
        }
    }
    let is_taken = host_ports(spec).any(|port| {
        others
            .iter()
            .any(|other| host_ports(other).any(|other| overlap(port, other)))
    });
    let message = "Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
    Some(is_taken.then(|| (Reason::NodePorts, message.to_owned())))
}

/// What keeps a workload away from a device that lacks something (`Admit` of `pkg/kubelet/eviction/eviction_manager.go`), in the kubelet's
/// words. Lack of memory alone keeps nobody away here: the scheduler sees to that, and tolerations do not travel.
fn pressed(facts: &Facts, spec: &WorkloadSpec) -> Option<String> {
    let Pressures {
        memory,
        disk,
        processes,
    } = facts.pressures;
    if spec.is_critical() || !(disk || processes) {
        return None;
    }
    let all = [
        (memory, "MemoryPressure"),
        (disk, "DiskPressure"),
        (processes, "PIDPressure"),
    ];
    let names: Vec<&str> = all
        .into_iter()
        .filter_map(|(lacks, name)| lacks.then_some(name))
        .collect();
    Some(format!("The node had condition: [{}]. ", names.join(" ")))
}

type HostPort<'a> = (PortProtocol, Option<&'a str>, u16);

/// Of what runs side by side: initial containers but sidecars end before.
fn host_ports(workload: &WorkloadSpec) -> impl Iterator<Item = HostPort<'_>> {
    let sidecars = workload.init_containers.iter().filter(|spec| spec.is_sidecar());
    let lasting = workload.containers.iter().chain(sidecars);
    lasting.flat_map(|spec| &spec.ports).filter_map(|port| {
        let ip = port
            .host_ip
            .as_deref()
            .filter(|ip| !matches!(*ip, "" | "0.0.0.0" | "::"));
        Some((port.protocol, ip, port.host_port.filter(|port| *port != 0)?))
    })
}

fn overlap(one: HostPort<'_>, other: HostPort<'_>) -> bool {
    one.0 == other.0 && one.2 == other.2 && (one.1.is_none() || other.1.is_none() || one.1 == other.1)
}
