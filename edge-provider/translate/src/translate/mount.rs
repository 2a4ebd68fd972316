//! Where a container sees the pod's volumes.

use std::collections::BTreeSet;

use edge_protocol::v1::{MountSpec, Propagation, RecursiveReadOnly, SubPath};
use k8s_openapi::api::core::v1::VolumeMount;

use super::{accept, stated};
use crate::refusal::{Path, Refusal};

/// The mounts of a container of a pod with these volumes. `None` only together with a new refusal.
pub(super) fn mounts<'a>(
    mounts: impl Iterator<Item = (usize, &'a VolumeMount)>,
    volumes: &BTreeSet<&str>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<MountSpec>> {
    let built: Vec<_> = mounts
        .map(|(index, mount)| one(mount, volumes, &path.index(index), refused))
        .collect();
    built.into_iter().collect()
}

fn one(
    mount: &VolumeMount,
    volumes: &BTreeSet<&str>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<MountSpec> {
    if !volumes.contains(mount.name.as_str()) {
        refused.push(path.refuse("the pod has no volume of this name that reaches a device"));
        return None;
    }
    let recursive = match mount.recursive_read_only.as_deref() {
        None | Some("" | "Disabled") => Ok(RecursiveReadOnly::Disabled),
        Some("IfPossible") => Ok(RecursiveReadOnly::IfPossible),
        Some("Enabled") => Ok(RecursiveReadOnly::Enabled),
        Some(_) => Err("must be Disabled, IfPossible or Enabled"),
    };
    let recursive = accept(recursive, &path.field("recursiveReadOnly"), refused);
    let propagation = match mount.mount_propagation.as_deref() {
        None | Some("" | "None") => Ok(Propagation::None),
        Some("HostToContainer") => Ok(Propagation::HostToContainer),
        Some("Bidirectional") => Ok(Propagation::Bidirectional),
        Some(_) => Err("must be None, HostToContainer or Bidirectional"),
    };
    let propagation = accept(propagation, &path.field("mountPropagation"), refused);
    let sub_path = match (
        stated(mount.sub_path_expr.as_ref()),
        stated(mount.sub_path.as_ref()),
    ) {
        (Some(expression), _) => Some(SubPath::Expand(expression)),
        (None, literal) => literal.map(SubPath::Literal),
    };
    Some(MountSpec {
        volume: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        sub_path,
        read_only: mount.read_only.unwrap_or_default(),
        recursive_read_only: recursive?,
        propagation: propagation?,
    })
}
