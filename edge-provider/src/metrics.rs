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
    /// How many nodes are served, and of how many pods and deployments are both known.
    pub nodes: Gauge<i64, AtomicI64>,
    pub ready: Gauge<i64, AtomicI64>,
    pub hub_reachable: Gauge<i64, AtomicI64>,
    pub brake_holds: Gauge<i64, AtomicI64>,
}

impl Metrics {
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("outrigger_kubelet");
        registry.register("decisions", "What the bridge decided", self.decisions.clone());
        registry.register("leads", "Whether this process writes", self.leads.clone());
        registry.register("nodes", "Nodes that are served", self.nodes.clone());
        registry.register(
            "ready",
            "Nodes of which pods and deployments are both known",
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

/// What one node adds to the figures of the process, until it ends.
#[derive(Debug)]
pub struct NodeShare {
    metrics: Metrics,
    ready: i64,
    held_back: i64,
}

impl NodeShare {
    pub fn of(metrics: &Metrics) -> Self {
        metrics.nodes.inc();
        Self {
            metrics: metrics.clone(),
            ready: 0,
            held_back: 0,
        }
    }

    pub fn show(&mut self, is_ready: bool, held_back: usize) {
        let (ready, held_back) = (i64::from(is_ready), i64::try_from(held_back).unwrap_or(i64::MAX));
        self.metrics.ready.inc_by(ready - self.ready);
        self.metrics.brake_holds.inc_by(held_back - self.held_back);
        (self.ready, self.held_back) = (ready, held_back);
    }
}

impl Drop for NodeShare {
    fn drop(&mut self) {
        self.show(false, 0);
        self.metrics.nodes.dec();
    }
}
