//! Fields and resources as the downward API names them.
//!
//! Sources in Kubernetes 1.37: `ConvertDownwardAPIFieldLabel` of `pkg/apis/core/pods/helpers.go`, `ExtractFieldPathAsString` of
//! `pkg/fieldpath/fieldpath.go`, `podFieldSelectorRuntimeValue` of `pkg/kubelet/kubelet_pods.go`, `extractContainerResourceValue` of
//! `pkg/api/v1/resource/helpers.go`.

use edge_protocol::v1::{ContainerResource, PodField, ResourceField};
use k8s_openapi::api::core::v1::{ObjectFieldSelector, ResourceFieldSelector};

use super::accept;
use crate::quantity::Amount;
use crate::refusal::{Path, Refusal};

/// Where a field's value goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Variable,
    File,
}

/// A field of the pod. `None` only together with a new refusal.
pub(super) fn pod_field(
    selector: &ObjectFieldSelector,
    place: Place,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<PodField> {
    if !matches!(selector.api_version.as_deref(), None | Some("" | "v1")) {
        refused.push(path.field("apiVersion").refuse("must be v1"));
        return None;
    }
    let field = named(&selector.field_path, place);
    accept(field.ok_or(UNKNOWN), &path.field("fieldPath"), refused)
}

const UNKNOWN: &str = "is no field that the downward API has here";

fn named(path: &str, place: Place) -> Option<PodField> {
    let field = match path {
        "metadata.name" => PodField::Name,
        "metadata.namespace" => PodField::Namespace,
        "metadata.uid" => PodField::Uid,
        "metadata.labels" => PodField::Labels,
        "metadata.annotations" => PodField::Annotations,
        "spec.nodeName" | "spec.host" => PodField::NodeName,
        "spec.serviceAccountName" => PodField::ServiceAccountName,
        "status.hostIP" => PodField::HostIp,
        "status.hostIPs" => PodField::HostIps,
        "status.podIP" => PodField::PodIp,
        "status.podIPs" => PodField::PodIps,
        other => subscripted(other)?,
    };
    let is_whole = matches!(field, PodField::Labels | PodField::Annotations);
    let of_metadata = path.starts_with("metadata.");
    let fits = match place {
        Place::Variable => !is_whole,
        Place::File => of_metadata,
    };
    fits.then_some(field)
}

/// `metadata.labels['key']`, as `SplitMaybeSubscriptedPath` splits it.
fn subscripted(path: &str) -> Option<PodField> {
    let (map, key) = path.strip_suffix("']")?.split_once("['")?;
    match map {
        "metadata.labels" => Some(PodField::Label(key.to_owned())),
        "metadata.annotations" => Some(PodField::Annotation(key.to_owned())),
        _ => None,
    }
}

/// A resource of a container: of `own`, where the selector names none. `None` only together with a new refusal.
pub(super) fn resource_field(
    selector: &ResourceFieldSelector,
    own: Option<&str>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<ResourceField> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = accept(
        named.or(own).ok_or("is missing"),
        &path.field("containerName"),
        refused,
    );
    let resource = match selector.resource.as_str() {
        "requests.cpu" => Ok(ContainerResource::RequestsCpu),
        "requests.memory" => Ok(ContainerResource::RequestsMemory),
        "requests.ephemeral-storage" => Ok(ContainerResource::RequestsEphemeralStorage),
        "limits.cpu" => Ok(ContainerResource::LimitsCpu),
        "limits.memory" => Ok(ContainerResource::LimitsMemory),
        "limits.ephemeral-storage" => Ok(ContainerResource::LimitsEphemeralStorage),
        _ => Err("must be requests or limits of cpu, memory or ephemeral-storage"),
    };
    let resource = accept(resource, &path.field("resource"), refused);
    let text = selector.divisor.as_ref().map_or("", |divisor| divisor.0.as_str());
    let divisor = match text {
        "" => Ok(Amount::default()),
        text => Amount::parse(text).map_err(|_| "is not a quantity of zero or more"),
    };
    let divisor = accept(divisor, &path.field("divisor"), refused);
    let (container, resource, divisor) = (container?, resource?, divisor?);
    Some(ResourceField {
        container: container.to_owned(),
        resource,
        divisor_milli: thousandths(divisor, resource),
    })
}

/// A divisor of zero, which is also what one that is left out reads as, is one.
fn thousandths(divisor: Amount, resource: ContainerResource) -> u64 {
    if divisor.is_zero() {
        return 1000;
    }
    match resource {
        ContainerResource::RequestsCpu | ContainerResource::LimitsCpu => divisor.milli(),
        _ => divisor.whole().saturating_mul(1000),
    }
}
