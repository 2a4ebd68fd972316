//! What containers, and the pod as a whole, ask for and are held to.

use std::collections::BTreeMap;

use edge_protocol::v1::Resources;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::qos::{Ask, Bounds};
use crate::quantity::Amount;
use crate::refusal::{Path, Refusal};

type Quantities = BTreeMap<String, Quantity>;

const CPU: &str = "cpu";
const MEMORY: &str = "memory";
const STORAGE: &str = "ephemeral-storage";

/// Whether a limit stands in for a request that is not stated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The API server writes a missing request of a container from the limit (`SetDefaults_Pod`); a pod read from a file lacks it.
    FromLimit,
    Stays,
}

/// Of a container. `None` only together with a new refusal.
pub(super) fn of_container(
    requirements: &ResourceRequirements,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<(Ask, Resources)> {
    let storage = bounds(requirements, STORAGE, Missing::FromLimit, path, refused);
    let ask = ask(requirements, Missing::FromLimit, path, refused)?;
    Some((ask, resources(ask, storage?)))
}

/// Of the pod as a whole. `None` only together with a new refusal.
pub(super) fn of_pod(
    requirements: &ResourceRequirements,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<(Ask, Resources)> {
    let ask = ask(requirements, Missing::Stays, path, refused)?;
    Some((ask, resources(ask, Bounds::default())))
}

/// What a runtime's handler costs: requests only. `None` only together with a new refusal.
pub(super) fn overhead(costs: &Quantities, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<Resources> {
    let mut cost = |resource| match amount(Some(costs), resource, path) {
        Ok(request) => Some(Bounds { request, limit: None }),
        Err(refusal) => {
            refused.push(refusal);
            None
        }
    };
    let (cpu, memory, storage) = (cost(CPU), cost(MEMORY), cost(STORAGE));
    let ask = Ask {
        cpu: cpu?,
        memory: memory?,
    };
    Some(resources(ask, storage?))
}

fn ask(
    requirements: &ResourceRequirements,
    missing: Missing,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Ask> {
    let cpu = bounds(requirements, CPU, missing, path, refused);
    let memory = bounds(requirements, MEMORY, missing, path, refused);
    Some(Ask {
        cpu: cpu?,
        memory: memory?,
    })
}

fn bounds(
    requirements: &ResourceRequirements,
    resource: &str,
    missing: Missing,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Bounds> {
    let limit = amount(requirements.limits.as_ref(), resource, &path.field("limits"));
    let request = amount(requirements.requests.as_ref(), resource, &path.field("requests"));
    match (limit, request) {
        (Ok(limit), Ok(request)) => {
            let instead = limit.filter(|_| missing == Missing::FromLimit);
            Some(Bounds {
                request: request.or(instead),
                limit,
            })
        }
        (limit, request) => {
            refused.extend(limit.err().into_iter().chain(request.err()));
            None
        }
    }
}

/// The amount of one resource, if it is stated.
fn amount(stated: Option<&Quantities>, resource: &str, path: &Path<'_>) -> Result<Option<Amount>, Refusal> {
    let Some(quantity) = stated.and_then(|stated| stated.get(resource)) else {
        return Ok(None);
    };
    let parsed = Amount::parse(&quantity.0).map(Some);
    parsed.map_err(|_| path.key(resource).refuse("is not a quantity of zero or more"))
}

fn resources(ask: Ask, storage: Bounds) -> Resources {
    Resources {
        cpu_request_milli: ask.cpu.request.map(Amount::milli),
        cpu_limit_milli: ask.cpu.limit.map(Amount::milli),
        memory_request_bytes: ask.memory.request.map(Amount::whole),
        memory_limit_bytes: ask.memory.limit.map(Amount::whole),
        ephemeral_storage_request_bytes: storage.request.map(Amount::whole),
        ephemeral_storage_limit_bytes: storage.limit.map(Amount::whole),
    }
}
