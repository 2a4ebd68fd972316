//! A pod's volumes → a manifest's. Defaults: `SetDefaults_Volume` and its like of `pkg/apis/core/v1/defaults.go`.

use edge_protocol::v1::{ClaimPlugin, HostPathCheck, Medium, VolumeSource, VolumeSpec};
use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource, PersistentVolumeClaimVolumeSource, Volume,
};

use super::files::{self, Files};
use super::{accept, container};
use crate::node::Context;
use crate::objects::Claim;
use crate::quantity::Amount;
use crate::refusal::{Path, Refusal};

/// One volume. `None` only together with a new refusal.
pub(super) fn volume(
    volume: &Volume,
    context: Context<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<VolumeSpec> {
    let source = source(volume, context, path, refused)?;
    Some(VolumeSpec {
        name: volume.name.clone(),
        source,
    })
}

fn source(
    volume: &Volume,
    context: Context<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<VolumeSource> {
    let mut files = |files: Files<'_>, field: &str| files::source(&files, &path.field(field), refused);
    if let Some(map) = &volume.config_map {
        return files(Files::ConfigMap(map), "configMap");
    }
    if let Some(secret) = &volume.secret {
        return files(Files::Secret(secret), "secret");
    }
    if let Some(downward) = &volume.downward_api {
        return files(Files::Downward(downward), "downwardAPI");
    }
    if let Some(projected) = &volume.projected {
        return files(Files::Projected(&volume.name, projected), "projected");
    }
    if let Some(host) = &volume.host_path {
        return host_path(host, &path.field("hostPath"), refused);
    }
    if let Some(image) = &volume.image {
        return self::image(image, &path.field("image"), refused);
    }
    if let Some(claim) = &volume.persistent_volume_claim {
        return self::claim(claim, context, &path.field("persistentVolumeClaim"), refused);
    }
    // A volume of a type that is not honoured comes here too: it is refused by its line.
    let dir = volume.empty_dir.clone().unwrap_or_default();
    empty_dir(&dir, &path.field("emptyDir"), refused)
}

fn empty_dir(
    dir: &EmptyDirVolumeSource,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<VolumeSource> {
    let medium = match dir.medium.as_deref() {
        None | Some("") => Ok(Medium::Disk),
        Some("Memory") => Ok(Medium::Memory),
        Some(_) => Err("must be Memory or nothing"),
    };
    let medium = accept(medium, &path.field("medium"), refused);
    let limit = match &dir.size_limit {
        None => Ok(None),
        Some(limit) => Amount::parse(&limit.0)
            .map(Some)
            .map_err(|_| "is not a quantity of zero or more"),
    };
    let limit = accept(limit, &path.field("sizeLimit"), refused);
    // A limit of zero is none (`emptyDirLimitEviction` of `pkg/kubelet/eviction/eviction_manager.go`).
    let limit = limit?.filter(|limit| !limit.is_zero());
    Some(VolumeSource::EmptyDir {
        medium: medium?,
        size_limit_bytes: limit.map(Amount::whole),
    })
}

fn host_path(
    host: &HostPathVolumeSource,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<VolumeSource> {
    let check = host_path_check(host.type_.as_deref().unwrap_or_default());
    let check = accept(
        check.ok_or("is no type of host path"),
        &path.field("type"),
        refused,
    );
    Some(VolumeSource::HostPath {
        path: host.path.clone(),
        check: check?,
    })
}

/// What a `hostPath` volume's type asks for; `None` for a type that is none.
pub(crate) fn host_path_check(kind: &str) -> Option<HostPathCheck> {
    Some(match kind {
        "" => HostPathCheck::Unset,
        "DirectoryOrCreate" => HostPathCheck::DirectoryOrCreate,
        "Directory" => HostPathCheck::Directory,
        "FileOrCreate" => HostPathCheck::FileOrCreate,
        "File" => HostPathCheck::File,
        "Socket" => HostPathCheck::Socket,
        "CharDevice" => HostPathCheck::CharDevice,
        "BlockDevice" => HostPathCheck::BlockDevice,
        _ => return None,
    })
}

fn image(image: &ImageVolumeSource, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<VolumeSource> {
    let reference = image.reference.clone().unwrap_or_default();
    let stated = if reference.is_empty() {
        Err("is missing")
    } else {
        Ok(reference)
    };
    let reference = accept(stated, &path.field("reference"), refused)?;
    let policy = container::pull_policy(image.pull_policy.as_deref(), &reference);
    let pull_policy = accept(policy, &path.field("pullPolicy"), refused)?;
    Some(VolumeSource::Image {
        reference,
        pull_policy,
    })
}

/// A claim that is not bound yet has no path: its pod is told to wait, and no such manifest leaves this crate.
fn claim(
    asked: &PersistentVolumeClaimVolumeSource,
    context: Context<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<VolumeSource> {
    let claim = asked.claim_name.clone();
    let (path, check, plugin) = match context.objects.claims.get(&claim) {
        Some(Claim::Bound { path, check, plugin }) => (path.clone(), *check, *plugin),
        Some(Claim::NotYet(_)) | None => (String::new(), HostPathCheck::Unset, ClaimPlugin::HostPath),
        Some(Claim::Unsupported(why)) => {
            refused.push(path.refuse(why.clone()));
            return None;
        }
    };
    Some(VolumeSource::Local {
        claim,
        path,
        check,
        read_only: asked.read_only.unwrap_or_default(),
        plugin,
    })
}
