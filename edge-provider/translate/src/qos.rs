//! The quality-of-service class of a pod, by the kubelet's rule.
//!
//! Source: `ComputePodQOS` in `pkg/apis/core/v1/helper/qos/qos.go` of Kubernetes 1.37, with its features at their defaults.

use edge_protocol::v1::QosClass;

use crate::quantity::Amount;

/// What a container, or a pod as a whole, asks for and is held to; absent counts as zero.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask {
    pub(crate) cpu: Bounds,
    pub(crate) memory: Bounds,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bounds {
    pub(crate) request: Option<Amount>,
    pub(crate) limit: Option<Amount>,
}

/// The class of a pod: by what it states as a whole, else by its containers, initial ones too; `BestEffort` when there are none.
pub(crate) fn class(whole: Option<Ask>, containers: &[Ask]) -> QosClass {
    match whole.filter(Ask::states_something) {
        Some(whole) => of_ask(&whole),
        None => agreed(containers.iter().map(of_ask)),
    }
}

impl Ask {
    /// `IsPodLevelResourcesSet` of `k8s.io/component-helpers/resource/helpers.go`.
    fn states_something(&self) -> bool {
        let bounds = [
            self.cpu.request,
            self.cpu.limit,
            self.memory.request,
            self.memory.limit,
        ];
        bounds.iter().any(Option::is_some)
    }
}

fn of_ask(ask: &Ask) -> QosClass {
    agreed([of_bounds(ask.cpu), of_bounds(ask.memory)])
}

/// The one class that all agree on; where they differ the whole is `Burstable`.
fn agreed(classes: impl IntoIterator<Item = QosClass>) -> QosClass {
    let mut classes = classes.into_iter();
    let Some(first) = classes.next() else {
        return QosClass::BestEffort;
    };
    if classes.all(|class| class == first) {
        first
    } else {
        QosClass::Burstable
    }
}

fn of_bounds(bounds: Bounds) -> QosClass {
    let [request, limit] = [bounds.request, bounds.limit].map(Option::unwrap_or_default);
    match (request == limit, request.is_zero()) {
        (false, _) => QosClass::Burstable,
        (true, true) => QosClass::BestEffort,
        (true, false) => QosClass::Guaranteed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(text: &str) -> Bounds {
        let amount = |text: &str| (!text.is_empty()).then(|| Amount::parse(text).unwrap());
        let (request, limit) = text.split_once('/').unwrap();
        Bounds {
            request: amount(request),
            limit: amount(limit),
        }
    }

    /// Containers as `cpu request/limit` and `memory request/limit`.
    #[track_caller]
    fn check(containers: &[(&str, &str)], expect: QosClass) {
        let asks: Vec<_> = containers
            .iter()
            .map(|(cpu, memory)| Ask {
                cpu: bounds(cpu),
                memory: bounds(memory),
            })
            .collect();
        assert_eq!(class(None, &asks), expect, "{containers:?}");
        assert_eq!(class(Some(Ask::default()), &asks), expect, "{containers:?}");
    }

    #[test]
    fn what_the_pod_states_as_a_whole_decides() {
        let ask = |cpu, memory| Ask {
            cpu: bounds(cpu),
            memory: bounds(memory),
        };
        let guaranteed = ask("1/1", "1Gi/1Gi");
        assert_eq!(class(Some(ask("1/", "/")), &[guaranteed]), QosClass::Burstable);
        assert_eq!(class(Some(ask("0/", "/")), &[guaranteed]), QosClass::BestEffort);
        assert_eq!(class(Some(guaranteed), &[ask("1/2", "/")]), QosClass::Guaranteed);
    }

    #[test]
    fn as_the_kubelet() {
        check(&[], QosClass::BestEffort);
        check(&[("/", "/")], QosClass::BestEffort);
        check(&[("0/0", "0/")], QosClass::BestEffort);
        check(&[("1/1", "1Gi/1024Mi")], QosClass::Guaranteed);
        check(&[("1/1", "1Gi/1Gi"), ("100m/0.1", "1/1")], QosClass::Guaranteed);
        check(&[("1/1", "/")], QosClass::Burstable);
        check(&[("1/", "/")], QosClass::Burstable);
        check(&[("1/2", "1/1")], QosClass::Burstable);
        check(&[("1/1", "1/1"), ("/", "/")], QosClass::Burstable);
        check(&[("/", "/"), ("/", "/1")], QosClass::Burstable);
    }
}
