//! Volumes of files: of objects, of fields and of tokens, which all are one kind for a device.

use edge_protocol::v1::{DownwardValue, KeyToPath, ObjectKind, ProjectedSource, VolumeSource};
use k8s_openapi::api::core::v1::{
    self as api, ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource,
    ProjectedVolumeSource, SecretVolumeSource,
};

use super::accept;
use super::field::{Place, pod_field, resource_field};
use crate::references::token_object;
use crate::refusal::{Path, Refusal};

/// Permissions of a file for which none are stated: `SetDefaults_ConfigMapVolumeSource` and its like.
const DEFAULT_MODE: i32 = 0o644;

/// What a pod calls by different names.
pub(super) enum Files<'a> {
    ConfigMap(&'a ConfigMapVolumeSource),
    Secret(&'a SecretVolumeSource),
    Downward(&'a DownwardAPIVolumeSource),
    /// With the volume's name.
    Projected(&'a str, &'a ProjectedVolumeSource),
}

/// `None` only together with a new refusal.
pub(super) fn source(files: &Files<'_>, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<VolumeSource> {
    let (stated, sources) = match files {
        Files::ConfigMap(map) => {
            let all = object(
                ObjectKind::ConfigMap,
                &map.name,
                map.items.as_ref(),
                map.optional,
                path,
                refused,
            );
            (map.default_mode, all.map(|one| vec![one]))
        }
        Files::Secret(secret) => {
            let name = secret.secret_name.as_deref().unwrap_or_default();
            let all = object(
                ObjectKind::Secret,
                name,
                secret.items.as_ref(),
                secret.optional,
                path,
                refused,
            );
            (secret.default_mode, all.map(|one| vec![one]))
        }
        Files::Downward(downward) => (
            downward.default_mode,
            self::downward(downward.items.as_deref(), path, refused),
        ),
        Files::Projected(name, projected) => (
            projected.default_mode,
            self::projected(name, projected, path, refused),
        ),
    };
    let default_mode = mode(Some(stated.unwrap_or(DEFAULT_MODE)));
    let default_mode = accept(default_mode, &path.field("defaultMode"), refused);
    Some(VolumeSource::Projected {
        sources: sources?,
        default_mode: default_mode??,
    })
}

fn projected(
    volume: &str,
    projected: &ProjectedVolumeSource,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<ProjectedSource>> {
    let at = path.field("sources");
    let mut all = Some(Vec::new());
    for (index, source) in projected.sources.iter().flatten().enumerate() {
        let at = at.index(index);
        let found = if let Some(map) = &source.config_map {
            let at = at.field("configMap");
            let one = object(
                ObjectKind::ConfigMap,
                &map.name,
                map.items.as_ref(),
                map.optional,
                &at,
                refused,
            );
            one.map(|one| vec![one])
        } else if let Some(secret) = &source.secret {
            let at = at.field("secret");
            let one = object(
                ObjectKind::Secret,
                &secret.name,
                secret.items.as_ref(),
                secret.optional,
                &at,
                refused,
            );
            one.map(|one| vec![one])
        } else if let Some(fields) = &source.downward_api {
            downward(fields.items.as_deref(), &at.field("downwardAPI"), refused)
        } else if let Some(token) = &source.service_account_token {
            let path = accept(
                inside(&token.path),
                &at.field("serviceAccountToken").field("path"),
                refused,
            );
            path.map(|path| {
                let object = token_object(volume, index);
                vec![ProjectedSource::Token { path, object }]
            })
        } else {
            // A source of another kind is refused by its line.
            Some(Vec::new())
        };
        all = all.zip(found).map(|(all, found)| [all, found].concat());
    }
    all
}

fn object(
    object: ObjectKind,
    name: &str,
    items: Option<&Vec<api::KeyToPath>>,
    optional: Option<bool>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<ProjectedSource> {
    let at = path.field("items");
    let items = items.into_iter().flatten().enumerate();
    let items: Vec<_> = items
        .map(|(index, item)| {
            let at = at.index(index);
            let mode = accept(mode(item.mode), &at.field("mode"), refused);
            let path = accept(inside(&item.path), &at.field("path"), refused);
            Some(KeyToPath {
                key: item.key.clone(),
                path: path?,
                mode: mode?,
            })
        })
        .collect();
    Some(ProjectedSource::Object {
        object,
        name: name.to_owned(),
        items: items.into_iter().collect::<Option<_>>()?,
        optional: optional.unwrap_or_default(),
    })
}

fn downward(
    items: Option<&[DownwardAPIVolumeFile]>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Vec<ProjectedSource>> {
    let at = path.field("items");
    let items = items.unwrap_or_default().iter().enumerate();
    let files: Vec<_> = items
        .map(|(index, item)| file(item, &at.index(index), refused))
        .collect();
    files.into_iter().collect()
}

fn file(
    item: &DownwardAPIVolumeFile,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<ProjectedSource> {
    let mode = accept(mode(item.mode), &path.field("mode"), refused);
    let place = accept(inside(&item.path), &path.field("path"), refused);
    let value = if let Some(field) = &item.field_ref {
        let field = pod_field(field, Place::File, &path.field("fieldRef"), refused)?;
        DownwardValue::Field { field }
    } else if let Some(resource) = &item.resource_field_ref {
        let at = path.field("resourceFieldRef");
        DownwardValue::Resource(resource_field(resource, None, &at, refused)?)
    } else {
        refused.push(path.refuse("names no source that is known"));
        return None;
    };
    Some(ProjectedSource::Downward {
        path: place?,
        value,
        mode: mode?,
    })
}

fn mode(mode: Option<i32>) -> Result<Option<u32>, &'static str> {
    let bits = mode.map(|mode| u32::try_from(mode).ok().filter(|mode| *mode <= 0o777));
    bits.map(|bits| bits.ok_or("must be 0 to 0777")).transpose()
}

/// A path that stays below its volume (`validateLocalNonReservedPath` of `pkg/apis/core/validation/validation.go`).
fn inside(path: &str) -> Result<String, &'static str> {
    let climbs = path.starts_with("..") || path.split('/').any(|step| step == "..");
    if path.is_empty() || path.starts_with('/') || climbs {
        return Err("must be a path inside the volume, without '..'");
    }
    Ok(path.to_owned())
}
