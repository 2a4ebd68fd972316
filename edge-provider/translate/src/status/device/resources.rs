//! What a container was granted, as quantities (`convertContainerStatusResources` of `pkg/kubelet/kubelet_pods.go`).

use std::collections::BTreeMap;

use edge_protocol::v1::Resources;
use k8s_openapi::api::core::v1::{Container, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::quantity::Amount;

type Quantities = BTreeMap<String, Quantity>;

/// What the pod asks for.
pub(super) fn allocated(container: &Container) -> Option<Quantities> {
    container.resources.as_ref()?.requests.clone()
}

/// What the pod asks for, and of a running container what the runtime holds it to in its place.
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
fn put(quantities: &mut Quantities, resource: &str, held: Option<String>) {
    let Some(held) = held else { return };
    let amount = |text: &str| Amount::parse(text).ok();
    let stated = quantities.get(resource);
    if stated.is_none_or(|stated| amount(&stated.0) != amount(&held)) {
        quantities.insert(resource.to_owned(), Quantity(held));
    }
}

/// In the canonical form of `k8s.io/apimachinery/pkg/api/resource`.
fn milli(milli: u64) -> String {
    if milli.is_multiple_of(1000) {
        (milli / 1000).to_string()
    } else {
        format!("{milli}m")
    }
}

fn bytes(bytes: u64) -> String {
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut left = bytes;
    let mut unit = 0;
    while left != 0 && left.is_multiple_of(1024) && unit + 1 < units.len() {
        left /= 1024;
        unit += 1;
    }
    format!("{left}{}", units[unit])
}
