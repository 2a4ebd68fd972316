//! What a pod asks for as a whole (`getEffectiveAllocatedResources` of `pkg/kubelet/kubelet_pods.go`; `PodRequests` and `PodLimits` of
//! `k8s.io/component-helpers/resource/helpers.go`).

use edge_protocol::v1::Resources;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::resources::{Quantities, bytes, milli, put, spelt};
use crate::quantity::Amount;

/// The first version whose API servers keep what pods are given as a whole (feature `InPlacePodLevelResourcesVerticalScaling`, on by
/// default from here on); an older one drops it.
const KEPT_FROM: (u32, u32) = (1, 36);
const LEAST_REQUEST_MILLI: u64 = 2;
const LEAST_LIMIT_MILLI: u64 = 10;

/// Whether an API server of this version keeps these fields; not while it is unknown.
pub(super) fn are_kept(kubernetes: Option<(u32, u32)>) -> bool {
    kubernetes.is_some_and(|version| version >= KEPT_FROM)
}

/// `status.resources`: what the pod was allocated, and where its cgroup is held to something else, that (`convertToAPIPodLevelResourcesStatus`).
/// Below the least that a kernel holds anyone to, what is allocated is shown. Where the cgroup has no limit, that of those containers which have
/// one stays, as under a kubelet on cgroup v2.
pub(super) fn granted(spec: &PodSpec, held: Option<&Resources>) -> Option<ResourceRequirements> {
    let (mut requests, mut limits) = (requests(spec), limits(spec));
    let stated = spec.resources.clone().unwrap_or_default();
    if let Some(held) = held {
        let request = held
            .cpu_request_milli
            .filter(|milli| *milli > LEAST_REQUEST_MILLI);
        let limit = held.cpu_limit_milli.filter(|milli| *milli > LEAST_LIMIT_MILLI);
        hold(&mut requests, "cpu", request.map(milli));
        hold(&mut limits, "cpu", limit.map(milli));
        hold(&mut limits, "memory", held.memory_limit_bytes.map(bytes));
    }
    (requests.is_some() || limits.is_some()).then_some(ResourceRequirements {
        requests,
        limits,
        ..stated
    })
}

fn hold(quantities: &mut Option<Quantities>, resource: &str, held: Option<String>) {
    if held.is_some() {
        put(quantities.get_or_insert_default(), resource, held);
    }
}

/// `status.allocatedResources`.
pub(super) fn requests(spec: &PodSpec) -> Option<Quantities> {
    let mut all = of_containers(spec, |container| container.resources.as_ref()?.requests.as_ref());
    let whole = spec.resources.as_ref();
    replace(&mut all, whole.and_then(|whole| whole.requests.as_ref()));
    add(&mut all, spec.overhead.as_ref());
    (!all.is_empty()).then_some(all)
}

fn limits(spec: &PodSpec) -> Option<Quantities> {
    let mut all = of_containers(spec, |container| container.resources.as_ref()?.limits.as_ref());
    let whole = spec.resources.as_ref();
    replace(&mut all, whole.and_then(|whole| whole.limits.as_ref()));
    let limited = |name: &String| {
        let limit = all.get(name).and_then(|limit| Amount::parse(&limit.0).ok());
        limit.is_some_and(|limit| !limit.is_zero())
    };
    let overhead = spec.overhead.iter().flatten();
    let overhead: Quantities = overhead
        .filter(|(name, _)| limited(name))
        .map(|(name, quantity)| (name.clone(), quantity.clone()))
        .collect();
    add(&mut all, Some(&overhead));
    (!all.is_empty()).then_some(all)
}

/// All main containers and sidecars together, and no less than an initial container takes beside the sidecars before it.
fn of_containers(spec: &PodSpec, of: impl Fn(&Container) -> Option<&Quantities>) -> Quantities {
    let mut all = Quantities::new();
    for container in &spec.containers {
        add(&mut all, of(container));
    }
    let (mut sidecars, mut most) = (Quantities::new(), Quantities::new());
    for container in spec.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut all, of(container));
            add(&mut sidecars, of(container));
            raise(&mut most, &sidecars);
        } else {
            let mut now = of(container).cloned().unwrap_or_default();
            add(&mut now, Some(&sidecars));
            raise(&mut most, &now);
        }
    }
    raise(&mut all, &most);
    all
}

/// What the pod states as a whole stands for the sum of its containers (`IsSupportedPodLevelResource`).
fn replace(all: &mut Quantities, whole: Option<&Quantities>) {
    for (name, quantity) in whole.into_iter().flatten() {
        if name == "cpu" || name == "memory" || name.starts_with("hugepages-") {
            all.insert(name.clone(), quantity.clone());
        }
    }
}

fn add(all: &mut Quantities, further: Option<&Quantities>) {
    for (name, quantity) in further.into_iter().flatten() {
        let sum = all.get(name).and_then(|held| sum(held, quantity));
        let sum = sum.unwrap_or_else(|| quantity.clone());
        all.insert(name.clone(), sum);
    }
}

fn raise(all: &mut Quantities, to: &Quantities) {
    for (name, quantity) in to {
        let amount = |quantity: &Quantity| Amount::parse(&quantity.0).ok();
        if all.get(name).is_none_or(|held| amount(quantity) > amount(held)) {
            all.insert(name.clone(), quantity.clone());
        }
    }
}

/// In the form of the first that is more than nothing (`Quantity.Add` of `k8s.io/apimachinery/pkg/api/resource`). `None` for what is no
/// quantity, which the API server lets nobody write.
fn sum(a: &Quantity, b: &Quantity) -> Option<Quantity> {
    let (first, second) = (Amount::parse(&a.0).ok()?, Amount::parse(&b.0).ok()?);
    let form = if first.is_zero() { b } else { a };
    Some(Quantity(spelt(first.plus(second), form.0.ends_with('i'))))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize as _;
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(spec: &Value, requests: &Value, limits: &Value) {
        let spec: PodSpec = PodSpec::deserialize(spec).unwrap();
        let granted = granted(&spec, None).unwrap_or_default();
        let seen = json!([super::requests(&spec), granted.requests, granted.limits]);
        assert_eq!(seen, json!([requests, requests, limits]));
    }

    fn container(requests: &Value, limits: &Value) -> Value {
        json!({ "name": "c", "resources": { "requests": requests, "limits": limits } })
    }

    #[test]
    fn containers_are_added_and_the_pods_own_word_stands_for_their_sum() {
        let two = json!([
            container(
                &json!({ "cpu": "600m", "memory": "20Mi" }),
                &json!({ "memory": "32Mi" })
            ),
            container(
                &json!({ "cpu": "400m", "ephemeral-storage": "1Gi" }),
                &json!({ "memory": "32Mi" })
            ),
        ]);
        check(
            &json!({ "containers": two }),
            &json!({ "cpu": "1", "memory": "20Mi", "ephemeral-storage": "1Gi" }),
            &json!({ "memory": "64Mi" }),
        );
        check(
            &json!({ "containers": two, "resources": { "requests": { "cpu": "2" }, "limits": { "cpu": "3" } } }),
            &json!({ "cpu": "2", "memory": "20Mi", "ephemeral-storage": "1Gi" }),
            &json!({ "cpu": "3", "memory": "64Mi" }),
        );
        check(
            &json!({ "containers": [container(&json!({}), &json!({}))] }),
            &Value::Null,
            &Value::Null,
        );
    }

    #[test]
    fn an_initial_container_counts_beside_the_sidecars_before_it() {
        let side = |cpu: &str| {
            let mut side = container(&json!({ "cpu": cpu }), &json!({}));
            side["restartPolicy"] = "Always".into();
            side
        };
        let first = container(&json!({ "cpu": "1", "memory": "1Gi" }), &json!({}));
        check(
            &json!({
                "containers": [container(&json!({ "cpu": "100m" }), &json!({}))],
                "initContainers": [side("10m"), first, side("20m")],
            }),
            &json!({ "cpu": "1010m", "memory": "1Gi" }),
            &Value::Null,
        );
    }

    #[test]
    fn overhead_is_asked_for_and_raises_only_limits_that_are() {
        check(
            &json!({
                "containers": [container(&json!({ "cpu": "100m", "memory": "1M" }), &json!({ "cpu": "200m", "memory": "0" }))],
                "overhead": { "cpu": "50m", "memory": "24Ki" },
            }),
            &json!({ "cpu": "150m", "memory": "1024576" }),
            &json!({ "cpu": "250m", "memory": "0" }),
        );
    }

    #[test]
    fn what_the_cgroup_is_held_to_is_shown_in_their_place() {
        let spec = json!({ "containers": [container(
            &json!({ "cpu": "1", "memory": "1Gi" }),
            &json!({ "cpu": "2", "memory": "1024Mi" }),
        )] });
        let spec: PodSpec = PodSpec::deserialize(&spec).unwrap();
        let held = |cpu, limit, memory| Resources {
            cpu_request_milli: Some(cpu),
            cpu_limit_milli: limit,
            memory_limit_bytes: memory,
            ..Resources::default()
        };
        let shown = |held: &Resources| {
            let granted = granted(&spec, Some(held)).unwrap();
            let [requests, limits] = [granted.requests, granted.limits].map(Option::unwrap);
            [
                requests["cpu"].clone(),
                limits["cpu"].clone(),
                limits["memory"].clone(),
            ]
            .map(|q| q.0)
        };
        assert_eq!(
            shown(&held(500, Some(1_500), Some(2 << 30))),
            ["500m", "1500m", "2Gi"]
        );
        assert_eq!(shown(&held(1_000, None, Some(1 << 30))), ["1", "2", "1024Mi"]);
        assert_eq!(shown(&held(2, Some(10), None)), ["1", "2", "1024Mi"]);
    }

    #[test]
    fn they_are_shown_where_they_are_kept() {
        let versions = [None, Some((1, 35)), Some((1, 36)), Some((2, 0))];
        assert_eq!(versions.map(are_kept), [false, false, true, true]);
    }
}
