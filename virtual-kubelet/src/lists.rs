//! Lists, read page by page to their end.

use serde_json::Value;

use crate::cluster::{Cluster, encode};
use crate::error::Error;

const PAGE: usize = 500;

/// All pages of one consistent list, and its version. `base` may have a query. A continue token that expired is an error, never a
/// shorter list.
///
/// # Errors
/// Of any page, also when what answers is no list of this kind.
pub async fn read_to_end(
    cluster: &Cluster,
    base: &str,
    kind: &'static str,
) -> Result<(Vec<Value>, String), Error> {
    let separator = if base.contains('?') { '&' } else { '?' };
    let mut items = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!("{base}{separator}limit={PAGE}{token}");
        let malformed = |what| Error::Malformed {
            path: base.to_owned(),
            what,
        };
        let mut page = cluster.get(&path).await?.ok_or(malformed("a list"))?;
        if page.get("kind").and_then(Value::as_str) != Some(kind) {
            return Err(malformed(kind));
        }
        match page.get_mut("items").map(Value::take) {
            Some(Value::Array(page)) => items.extend(page),
            Some(Value::Null) => {}
            _ => return Err(malformed("items")),
        }
        let metadata = page.get("metadata");
        let text = |key: &str| metadata.and_then(|metadata| metadata.get(key)?.as_str());
        let Some(next) = text("continue").filter(|next| !next.is_empty()) else {
            let version = text("resourceVersion").ok_or(malformed("metadata.resourceVersion"))?;
            return Ok((items, version.to_owned()));
        };
        token = format!("&continue={}", encode(next));
    }
}

pub fn uid_of(object: &Value) -> Option<String> {
    Some(object.get("metadata")?.get("uid")?.as_str()?.to_owned())
}

pub fn version_of(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("resourceVersion")?.as_str()
}
