//! Which path of a `PodSpec` means what on a fleet: every one of them has a class, and the walk that holds a pod to it.
//!
//! The tables in the submodules cover the Kubernetes 1.37 schema completely; the test `fields` proves that, path by
//! path, and proves each class's promise. A path that stands in no table (a newer server's, or a typing error that got past
//! the API server) is refused like a known one: what is not understood is never dropped.

mod container;
mod pod;
mod tree;
mod volume;

use serde_json::Value;

use crate::api_access::ApiAccess;
use crate::refusal::{Path, Refusal};

/// What happens to a pod that uses a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Carried to the devices, or needed to understand what is.
    Honoured,
    /// Consumed in the control plane (scheduler, admission, controllers). Any value passes and no manifest depends on it.
    SchedulerOnly,
    /// Passes only with the value that the API server or stock admission writes when the author says nothing.
    DefaultOnly(Expected),
    /// Not honoured in this release; the words say why or what to do instead.
    Refused(&'static str),
}

/// The values that a [`Class::DefaultOnly`] path may have. An absent path always passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This flag.
    Flag(bool),
    /// One of these texts; the API's default first, then values that mean what a device does anyway.
    Text(&'static [&'static str]),
    /// The projected source that the `ServiceAccount` admission plugin gives a `kube-api-access-*` volume.
    ApiAccessSource,
    /// The mount that the same plugin gives each container.
    ApiAccessMount,
}

/// One line of the tables: a path below `spec` and its class.
///
/// `[]` stands for every element of a list and `*` for every key of a map that has no line of its own. The class covers
/// everything beneath the path, so no line stands beneath another.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// For example `containers[].resources.limits.*`.
    pub path: &'static str,
    /// Its class.
    pub class: Class,
}

/// All lines, in no particular order.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    pod::RULES.iter().chain(container::RULES).chain(volume::RULES)
}

/// Every path of `spec` (the raw JSON of a pod's `spec`) that the tables refuse, in the order of the document.
pub(crate) fn refused(spec: &Value, access: &ApiAccess<'_>) -> Vec<Refusal> {
    let mut found = tree::walk(spec, access);
    found.extend(volumes_without_source(spec));
    found
}

/// A volume that names no source is an `emptyDir`: the API server writes that, a pod read from a file leaves it out.
fn volumes_without_source(spec: &Value) -> Vec<Refusal> {
    let path = Path::root("spec");
    let path = path.field("volumes");
    let volumes = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate();
    let sourceless = volumes.filter(|(_, volume)| {
        let mut fields = volume.as_object().into_iter().flatten();
        fields.all(|(name, value)| name == "name" || value.is_null())
    });
    sourceless
        .map(|(index, _)| {
            path.index(index)
                .refuse("scratch volumes are not supported on a fleet")
        })
        .collect()
}

const fn honoured(path: &'static str) -> Rule {
    Rule {
        path,
        class: Class::Honoured,
    }
}

const fn scheduler_only(path: &'static str) -> Rule {
    Rule {
        path,
        class: Class::SchedulerOnly,
    }
}

const fn default_only(path: &'static str, expected: Expected) -> Rule {
    Rule {
        path,
        class: Class::DefaultOnly(expected),
    }
}

const fn refuse(path: &'static str, reason: &'static str) -> Rule {
    Rule {
        path,
        class: Class::Refused(reason),
    }
}
