//! What a container was granted, as quantities (`convertContainerStatusResources` of `pkg/kubelet/kubelet_pods.go`).

use std::collections::BTreeMap;

use edge_protocol::v1::{Resources, WorkloadStatus};
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::Amount;

pub(super) type Quantities = BTreeMap<String, Quantity>;

/// The pod as its device took it in: with what it and its containers were allocated in the place of what they ask (`UpdatePodFromAllocation` of
/// `pkg/kubelet/allocation/allocation_manager.go`).
pub(super) fn as_allocated(spec: &PodSpec, word: Option<&WorkloadStatus>) -> PodSpec {
    let mut spec = spec.clone();
    let Some(word) = word else { return spec };
    if let Some(whole) = &word.allocated {
        allocate(spec.resources.get_or_insert_default(), whole);
    }
    let lists = [
        (spec.init_containers.as_mut(), &word.init_containers),
        (Some(&mut spec.containers), &word.containers),
    ];
    for (containers, said) in lists {
        for container in containers.into_iter().flatten() {
            let said = said.iter().find(|said| said.name == container.name);
            if let Some(allocated) = said.and_then(|said| said.allocated.as_ref()) {
                allocate(container.resources.get_or_insert_default(), allocated);
            }
        }
    }
    spec
}

fn allocate(resources: &mut ResourceRequirements, allocated: &Resources) {
    let figures = [
        (
            &mut resources.requests,
            allocated.cpu_request_milli,
            allocated.memory_request_bytes,
        ),
        (
            &mut resources.limits,
            allocated.cpu_limit_milli,
            allocated.memory_limit_bytes,
        ),
    ];
    for (list, cpu, memory) in figures {
        let mut quantities = list.take().unwrap_or_default();
        for (resource, held) in [("cpu", cpu.map(milli)), ("memory", memory.map(bytes))] {
            if held.is_none() {
                quantities.remove(resource);
            }
            put(&mut quantities, resource, held);
        }
        *list = Some(quantities).filter(|quantities| !quantities.is_empty());
    }
}

/// What the pod was allocated.
pub(super) fn allocated(container: &Container) -> Option<Quantities> {
    container.resources.as_ref()?.requests.clone()
}

/// What the pod was allocated, and of a running container what the runtime holds it to in its place.
pub(super) fn granted(container: &Container, held: Option<&Resources>) -> ResourceRequirements {
    let mut granted = container.resources.clone().unwrap_or_default();
    let Some(held) = held else { return granted };
    if let Some(limits) = &mut granted.limits {
        put(limits, "cpu", held.cpu_limit_milli.map(milli));
        put(limits, "memory", held.memory_limit_bytes.map(bytes));
    }
    if let Some(requests) = &mut granted.requests {
        put(requests, "cpu", held.cpu_request_milli.map(milli));
        put(requests, "memory", held.memory_request_bytes.map(bytes));
    }
    granted
}

/// An equal amount keeps its spelling.
pub(super) fn put(quantities: &mut Quantities, resource: &str, held: Option<String>) {
    let Some(held) = held else { return };
    let amount = |text: &str| Amount::parse(text).ok();
    let stated = quantities.get(resource);
    if stated.is_none_or(|stated| amount(&stated.0) != amount(&held)) {
        quantities.insert(resource.to_owned(), Quantity(held));
    }
}

/// In the canonical form of `k8s.io/apimachinery/pkg/api/resource`, for the API server would spell it so, and another spelling would differ
/// from what is read back.
pub(super) fn milli(milli: u64) -> String {
    if milli.is_multiple_of(1000) {
        decimal(milli / 1000)
    } else {
        format!("{milli}m")
    }
}

pub(super) fn bytes(bytes: u64) -> String {
    if bytes.is_multiple_of(1024) {
        scaled(bytes, 1024, &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"])
    } else {
        decimal(bytes)
    }
}

/// In the form of powers of two or of ten.
pub(super) fn spelt(amount: Amount, is_binary: bool) -> String {
    match (is_binary, amount.is_whole()) {
        (true, _) => bytes(amount.whole()),
        (false, true) => decimal(amount.whole()),
        (false, false) => milli(amount.milli()),
    }
}

fn decimal(number: u64) -> String {
    scaled(number, 1000, &["", "k", "M", "G", "T", "P", "E"])
}

/// With the greatest unit that leaves a whole number.
fn scaled(number: u64, base: u64, units: &[&str]) -> String {
    let mut left = number;
    for (index, unit) in units.iter().enumerate() {
        if left == 0 || !left.is_multiple_of(base) || index + 1 == units.len() {
            return format!("{left}{unit}");
        }
        left /= base;
    }
    left.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_spelt_as_the_api_server_spells_them() {
        for (spelt, expect) in [
            (milli(0), "0"),
            (milli(250), "250m"),
            (milli(2000), "2"),
            (milli(1_000_000), "1k"),
            (milli(1_500_000), "1500"),
            (bytes(0), "0"),
            (bytes(1000), "1k"),
            (bytes(1500), "1500"),
            (bytes(1536), "1536"),
            (bytes(3 << 29), "1536Mi"),
            (bytes(100_000_000), "100M"),
            (bytes(1 << 60), "1Ei"),
        ] {
            assert_eq!(spelt, expect);
        }
    }
}
