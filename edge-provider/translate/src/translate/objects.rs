//! Which objects beside the manifest a pod gets: those of its references that the cluster has.

use edge_protocol::v1::ObjectRef;

use crate::node::Context;
use crate::not_yet::NotYet;
use crate::objects::{Claim, Found};
use crate::references::References;

/// In order of kind and name.
pub(super) fn found(references: &References, context: Context<'_>) -> Result<Vec<ObjectRef>, NotYet> {
    let mut not_yet = NotYet {
        claims: Vec::new(),
        unread: Vec::new(),
    };
    for name in &references.claims {
        match context.objects.claims.get(name) {
            Some(Claim::NotYet(why)) => not_yet.claims.push((name.clone(), why.clone())),
            None => not_yet
                .claims
                .push((name.clone(), "not looked for yet".to_owned())),
            Some(Claim::Bound { .. } | Claim::Unsupported(_)) => {}
        }
    }
    let mut objects = Vec::new();
    for key in references.keys() {
        match context.objects.found.get(&key) {
            Some(Found::Present { digest, sealed }) => objects.push(ObjectRef {
                kind: key.kind.to_owned(),
                name: key.name,
                digest: *digest,
                sealed: *sealed,
            }),
            Some(Found::Missing) => {}
            None => not_yet.unread.push((key.kind, key.name)),
        }
    }
    not_yet.or_none()?;
    Ok(objects)
}
