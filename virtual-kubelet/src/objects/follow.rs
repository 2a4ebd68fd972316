//! One ConfigMap or Secret by a watch of its name, as the kubelet follows it (`WatchBasedManager` of
//! `pkg/kubelet/util/manager/watch_based_manager.go` in Kubernetes 1.37): listed first, so that absence is known too, then watched until it
//! is immutable.

use serde_json::Value;

use super::memory::Held;
use super::stretch::{Change, Ended, Next, Run, version};
use super::wanted::{Raw, Read, is_name};
use crate::error::Error;

/// Ends when the object is immutable, or can never be.
pub(super) async fn follow(mut run: Run, resource: &'static str, namespace: String, name: String) {
    if !is_name(&name) || !is_name(&namespace) {
        return run.tell(Read::Missing);
    }
    let query = format!("/api/v1/namespaces/{namespace}/{resource}?fieldSelector=metadata.name%3D{name}&");
    loop {
        let mut from = match list(&run, &query).await {
            Ok((_, Next::Enough)) => return,
            Ok((from, Next::Watch)) => from,
            Err(error) => {
                run.failed(&error).await;
                continue;
            }
        };
        loop {
            match run.watch(&query, &mut from, &mut tell).await {
                Ok(Ended::Enough) => return,
                Ok(Ended::Expired) => break,
                Ok(Ended::Closed) => run.pause().await,
                Err(error) => run.failed(&error).await,
            }
        }
    }
}

async fn list(run: &Run, query: &str) -> Result<(String, Next), Error> {
    let path = query.trim_end_matches('&');
    let malformed = |what| Error::Malformed {
        path: path.to_owned(),
        what,
    };
    let mut list = run.get(path).await?.ok_or(malformed("a list"))?;
    let from = version(&list)
        .ok_or(malformed("metadata.resourceVersion"))?
        .to_owned();
    // The API server writes an empty list as such; whatever else is no list, and makes nothing missing.
    let Some(Value::Array(mut items)) = list.get_mut("items").map(Value::take) else {
        return Err(malformed("items"));
    };
    let next = if let Some(object) = items.pop() {
        tell(run, Change::Present(object))
    } else {
        run.tell(Read::Missing);
        Next::Watch
    };
    Ok((from, next))
}

fn tell(run: &Run, change: Change) -> Next {
    let object = match change {
        Change::Present(object) => object,
        Change::Gone(_) => {
            run.tell(Read::Missing);
            return Next::Watch;
        }
    };
    let immutable = object.get("immutable").and_then(Value::as_bool) == Some(true);
    run.tell(Read::Present(Held::Object(Raw::new(object))));
    if immutable { Next::Enough } else { Next::Watch }
}
