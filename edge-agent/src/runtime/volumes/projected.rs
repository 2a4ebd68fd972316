//! The files of a projected volume (`collectData` of pkg/volume/projected/projected.go, `MakePayload` of configmap and secret).

use edge_protocol::v1::object::kind;
use edge_protocol::v1::{DownwardValue, ObjectKind, ProjectedSource};

use super::atomic::{File, Payload};
use super::{SourceError, Sources, VolumeFault};

/// The one key of a token's object.
const TOKEN_KEY: &str = "token";
/// A token is its owner's alone; a group of the workload's is let in by the ownership.
const TOKEN_MODE_WITH_GROUP: u32 = 0o600;

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
    let mut add = |path: &str, data: &[u8], mode: u32| {
        let data = data.to_vec();
        payload.insert(path.to_owned(), File { data, mode });
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
                    object.iter().for_each(|(key, data)| add(key, data, default_mode));
                }
                for item in items {
                    match object.get(&item.key) {
                        Some(data) => add(&item.path, data, item.mode.unwrap_or(default_mode)),
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
                add(path, text.as_bytes(), mode.unwrap_or(default_mode));
            }
            ProjectedSource::Token { path, object } => {
                let token = sources.listed(kind::TOKEN, object)?;
                let token = token.as_ref().and_then(|token| token.get(TOKEN_KEY));
                let token = token.ok_or_else(|| SourceError::Unlisted {
                    kind: kind::TOKEN,
                    name: object.clone(),
                })?;
                let grouped = sources.manifest.workload.security.fs_group.is_some();
                let mode = if grouped {
                    TOKEN_MODE_WITH_GROUP
                } else {
                    default_mode
                };
                add(path, token, mode);
            }
            ProjectedSource::Unknown => return Err(VolumeFault::Unsupported),
        }
    }
    Ok(payload)
}

fn no_key(kind: ObjectKind, key: &str) -> SourceError {
    SourceError::NoKeyForFile {
        kind,
        key: key.to_owned(),
    }
}
