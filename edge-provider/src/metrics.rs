//! One counter per decision, and the few states that people ask for.

use std::sync::atomic::AtomicI64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

/// Cheap to clone; all clones count the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    decisions: Family<Decision, Counter>,
    pub leads: Gauge<i64, AtomicI64>,
    pub ready: Gauge<i64, AtomicI64>,
    pub hub_reachable: Gauge<i64, AtomicI64>,
    pub brake_holds: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("outrigger_kubelet");
        registry.register("decisions", "What the bridge decided", self.decisions.clone());
        registry.register("leads", "Whether this process writes", self.leads.clone());
        registry.register(
            "ready",
            "Whether pods and deployments are both known",
            self.ready.clone(),
        );
        registry.register(
            "hub_reachable",
            "Whether the hub answers",
            self.hub_reachable.clone(),
        );
        registry.register(
            "brake_holds",
            "Removals that wait for a person",
            self.brake_holds.clone(),
        );
    }

    pub fn count(&self, decision: &'static str) {
        self.decisions.get_or_create(&Decision { decision }).inc();
    }
}
