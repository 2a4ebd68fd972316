//! The files of a projected volume (`collectData` of pkg/volume/projected/projected.go, `MakePayload` of configmap and secret).

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{DownwardValue, ObjectKind, ProjectedSource, WorkloadSpec};

use super::atomic::{File, Payload};
use super::{SourceError, Sources, VolumeFault};

/// The one key of a token's object.
const TOKEN_KEY: &str = "token";
/// A token is its owner's alone; a group of the workload's is let in by the ownership.
const TOKEN_MODE_WITH_OWNER: u32 = 0o600;

/// All files, a later source's over an earlier one's.
///
/// # Errors
/// A mandatory object or key is missing, or an object cannot be opened yet.
pub fn payload(
    parts: &[ProjectedSource],
    default_mode: u32,
    sources: &Sources,
) -> Result<Payload, VolumeFault> {
    let mut payload = Payload::new();
    let mut put = |path: &str, data: &[u8], mode: u32, owner: Option<u32>| {
        let data = data.to_vec();
        payload.insert(path.to_owned(), File { data, mode, owner });
    };
    for part in parts {
        match part {
            ProjectedSource::Object {
                object: kind,
                name,
                items,
                optional,
            } => {
                let Some(object) = sources.object(*kind, name, *optional)? else {
                    continue;
                };
                if items.is_empty() {
                    object
                        .iter()
                        .for_each(|(key, data)| put(key, data, default_mode, None));
                }
                for item in items {
                    match object.get(&item.key) {
                        Some(data) => put(&item.path, data, item.mode.unwrap_or(default_mode), None),
                        None if *optional => {}
                        None => return Err(no_key(*kind, &item.key).into()),
                    }
                }
            }
            ProjectedSource::Downward { path, value, mode } => {
                let text = match value {
                    DownwardValue::Field { field } => sources.field(field),
                    DownwardValue::Resource(field) => sources.resource(field)?,
                };
                put(path, text.as_bytes(), mode.unwrap_or(default_mode), None);
            }
            ProjectedSource::Token { path, object } => {
                let token = sources.listed(kind::TOKEN, object)?;
                let token = token.as_ref().and_then(|token| token.get(TOKEN_KEY));
                let token = token.ok_or_else(|| SourceError::Unlisted {
                    kind: kind::TOKEN,
                    name: object.clone(),
                })?;
                let workload = &sources.manifest.workload;
                let owner = common_user(workload);
                let mode = if owner.is_some() || workload.security.fs_group.is_some() {
                    TOKEN_MODE_WITH_OWNER
                } else {
                    default_mode
                };
                put(path, token, mode, owner);
            }
            ProjectedSource::Unknown => return Err(VolumeFault::Unsupported),
        }
    }
    Ok(payload)
}

/// The user that every container states (`FsUserFrom` of `pkg/volume/util/util.go`).
fn common_user(workload: &WorkloadSpec) -> Option<u32> {
    let mut users = workload
        .every_container()
        .map(|container| container.security.run_as_user);
    let first = users.next().flatten()?;
    users.all(|user| user == Some(first)).then_some(first)
}

fn no_key(kind: ObjectKind, key: &str) -> SourceError {
    SourceError::NoKeyForFile {
        kind,
        key: key.to_owned(),
    }
}
