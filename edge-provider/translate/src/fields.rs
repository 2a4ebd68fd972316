//! Which path of a `PodSpec` means what on which kind of node: every one of them has a class for each, and the walk that holds a pod to it.
//!
//! The tables in the submodules cover the Kubernetes 1.37 schema completely; the test `fields` proves that, path by
//! path, and proves each class's promise. A path that stands in no table (a newer server's, or a typing error that got past
//! the API server) is refused like a known one: what is not understood is never dropped.

mod container;
mod ephemeral;
mod pod;
mod probe;
mod security;
mod tree;
mod volume;

use std::sync::LazyLock;

use serde_json::Value;

use crate::api_access::ApiAccess;
use crate::node::NodeKind;
use crate::refusal::Refusal;

/// What happens to a pod that uses a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Carried to the devices, or needed to understand what is.
    Honoured,
    /// Decides what the pod shows; no manifest depends on it.
    StatusOnly,
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
}

/// One path below `spec` and its class on each kind of node.
///
/// `[]` stands for every element of a list and `*` for every key of a map that has no rule of its own. The class covers
/// everything beneath the path, so no rule stands beneath another.
#[derive(Clone, Debug)]
pub struct Rule {
    /// For example `containers[].resources.limits.*`.
    pub path: String,
    fleet: Class,
    device: Class,
}

impl Rule {
    pub fn class(&self, kind: NodeKind) -> Class {
        match kind {
            NodeKind::Fleet => self.fleet,
            NodeKind::Device => self.device,
        }
    }
}

/// All rules, in no particular order.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
        let parts = [
            pod::rules(),
            container::rules(),
            ephemeral::rules(),
            probe::rules(),
            security::rules(),
            volume::rules(),
        ];
        parts.into_iter().flatten().collect()
    });
    RULES.iter()
}

/// Every path of `spec` (the raw JSON of a pod's `spec`) that the tables refuse on a node of this kind, in the order of the document.
pub(crate) fn refused(spec: &Value, kind: NodeKind, access: &ApiAccess<'_>) -> Vec<Refusal> {
    tree::walk(spec, kind, access)
}

/// A line of a table: a path below those that the table is for.
#[derive(Clone, Copy)]
struct Line {
    path: &'static str,
    fleet: Class,
    device: Class,
}

/// Each line below each of the paths.
fn below(parents: &[String], lines: &[Line]) -> Vec<Rule> {
    let rules = parents.iter().flat_map(|parent| {
        lines.iter().map(move |line| Rule {
            path: format!("{parent}{}", line.path),
            fleet: line.fleet,
            device: line.device,
        })
    });
    rules.collect()
}

/// Both lists of containers, whose elements say the same.
fn containers() -> [String; 2] {
    ["containers[].", "initContainers[]."].map(str::to_owned)
}

/// Every pair of a path and one beneath it.
fn pairs(parents: &[String], children: &[&str]) -> Vec<String> {
    let of = |parent: &String| {
        children
            .iter()
            .map(move |child| format!("{parent}{child}"))
            .collect::<Vec<_>>()
    };
    parents.iter().flat_map(of).collect()
}

const fn both(path: &'static str, class: Class) -> Line {
    Line {
        path,
        fleet: class,
        device: class,
    }
}

const fn honoured(path: &'static str) -> Line {
    both(path, Class::Honoured)
}

/// Honoured on a device node; the words say why not on a fleet.
const fn device_only(path: &'static str, reason: &'static str) -> Line {
    Line {
        path,
        fleet: Class::Refused(reason),
        device: Class::Honoured,
    }
}

/// Honoured on a device node; on a fleet it only concerns the control plane.
const fn fleet_scheduler_only(path: &'static str) -> Line {
    Line {
        path,
        fleet: Class::SchedulerOnly,
        device: Class::Honoured,
    }
}

const fn scheduler_only(path: &'static str) -> Line {
    both(path, Class::SchedulerOnly)
}

const fn default_only(path: &'static str, expected: Expected) -> Line {
    both(path, Class::DefaultOnly(expected))
}

const fn refuse(path: &'static str, reason: &'static str) -> Line {
    both(path, Class::Refused(reason))
}
