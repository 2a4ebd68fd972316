//! One claim and the volume that it is bound to. Nodes may get these and not watch them, so they are looked at again and again, as the
//! kubelet does for each pod that waits for one (`pkg/kubelet/volumemanager/populator` in Kubernetes 1.37).

use std::time::Duration;

use serde_json::Value;
use tokio::time::sleep;

use super::memory::Held;
use super::stretch::Run;
use super::wanted::{BoundClaim, Raw, Read, is_name};
use crate::error::Error;

/// A pod may wait for it: from the first pause on, each is twice as long.
const UNBOUND: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// What is bound hardly changes.
const BOUND: Duration = Duration::from_mins(5);

pub(super) async fn follow(mut run: Run, namespace: String, name: String) {
    if !is_name(&name) || !is_name(&namespace) {
        return run.tell(Read::Missing);
    }
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{name}");
    let mut pause = UNBOUND.0;
    loop {
        let found = match look(&run, &path).await {
            Ok(found) => found,
            Err(error) => {
                run.failed(&error).await;
                continue;
            }
        };
        run.failures = 0;
        let settled = found.as_ref().is_some_and(|found| found.volume.is_some());
        run.tell(found.map_or(Read::Missing, |found| Read::Present(Held::Claim(found))));
        pause = if settled {
            BOUND
        } else {
            (pause * 2).clamp(UNBOUND.0, UNBOUND.1)
        };
        sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
    }
}

async fn look(run: &Run, path: &str) -> Result<Option<BoundClaim>, Error> {
    let Some(claim) = run.get(path).await? else {
        return Ok(None);
    };
    let bound = claim.pointer("/status/phase").and_then(Value::as_str) == Some("Bound");
    let name = claim.pointer("/spec/volumeName").and_then(Value::as_str);
    let volume = match name.filter(|name| bound && is_name(name)) {
        Some(name) => run.get(&format!("/api/v1/persistentvolumes/{name}")).await?,
        None => None,
    };
    Ok(Some(BoundClaim {
        claim: Raw::new(claim),
        volume: volume.map(Raw::new),
    }))
}
