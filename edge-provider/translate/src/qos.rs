//! The quality-of-service class of a pod, by the kubelet's rule.
//!
//! Source: `ComputePodQOS` in `pkg/apis/core/v1/helper/qos/qos.go` of Kubernetes 1.37. Resources of the whole pod and init
//! containers, which that rule also looks at, are refused before it is asked.

use edge_protocol::v1::QosClass;

use crate::quantity::Amount;

/// What one container asks for and is held to; absent counts as zero.
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

/// The class of a pod with these containers; `BestEffort` when there are none.
pub(crate) fn class(containers: &[Ask]) -> QosClass {
    let of_container = |ask: &Ask| agreed([of_bounds(ask.cpu), of_bounds(ask.memory)]);
    agreed(containers.iter().map(of_container))
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
        assert_eq!(class(&asks), expect, "{containers:?}");
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
