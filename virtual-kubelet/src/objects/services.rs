//! All Services of the cluster by one watch, kept while some pod wants variables of them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::stretch::{Change, Ended, Next, Run, version};
use crate::cluster::encode;
use crate::error::Error;

const PAGE: usize = 500;
/// More are not held; a pod that wants them waits and says so.
const MOST: usize = 20_000;
const PATH: &str = "/api/v1/services?";

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceName {
    pub(super) namespace: String,
    pub(super) name: String,
}

type Services = BTreeMap<ServiceName, Value>;

/// The API server's own Service, which counts in every namespace (`masterServices` of `pkg/kubelet/kubelet_pods.go`).
pub(super) fn is_master(name: &ServiceName) -> bool {
    name.namespace == "default" && name.name == "kubernetes"
}

pub(super) async fn follow(mut run: Run) {
    loop {
        let (mut services, mut from) = match list(&run).await {
            Ok(listed) => listed,
            Err(error) => {
                run.failed(&error).await;
                continue;
            }
        };
        tell(&run, &services);
        loop {
            let mut seen = |run: &Run, change: Change| {
                take(&mut services, change);
                tell(run, &services);
                Next::Watch
            };
            match run.watch(PATH, &mut from, &mut seen).await {
                Ok(Ended::Expired | Ended::Enough) => break,
                Ok(Ended::Closed) => run.pause().await,
                Err(error) => run.failed(&error).await,
            }
        }
    }
}

/// All pages of one list. One that fails half way is an error, never a shorter list.
async fn list(run: &Run) -> Result<(Services, String), Error> {
    let malformed = |what| Error::Malformed {
        path: PATH.to_owned(),
        what,
    };
    let mut services = Services::new();
    let mut token = String::new();
    loop {
        let path = format!("{PATH}limit={PAGE}{token}");
        let mut page = run.get(&path).await?.ok_or(malformed("a list"))?;
        let Some(Value::Array(items)) = page.get_mut("items").map(Value::take) else {
            return Err(malformed("items"));
        };
        for item in items {
            take(&mut services, Change::Present(item));
        }
        if services.len() > MOST {
            return Err(malformed("a number of Services that can be held"));
        }
        let next = page.pointer("/metadata/continue").and_then(Value::as_str);
        let Some(next) = next.filter(|next| !next.is_empty()) else {
            let version = version(&page).ok_or(malformed("metadata.resourceVersion"))?;
            return Ok((services, version.to_owned()));
        };
        token = format!("&continue={}", encode(next));
    }
}

fn take(services: &mut Services, change: Change) {
    let (object, gone) = match change {
        Change::Present(object) => (object, false),
        Change::Gone(object) => (object, true),
    };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (Some(namespace), Some(name)) = (text("/metadata/namespace"), text("/metadata/name")) else {
        return;
    };
    let key = ServiceName {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    };
    if gone {
        services.remove(&key);
    } else if services.len() < MOST || services.contains_key(&key) {
        services.insert(key, kept(&object));
    }
}

/// What variables are made of, and no more: other changes are no news.
fn kept(service: &Value) -> Value {
    let member = |pointer: &str| service.pointer(pointer).cloned().unwrap_or_default();
    json!({
        "metadata": { "name": member("/metadata/name"), "namespace": member("/metadata/namespace") },
        "spec": { "clusterIP": member("/spec/clusterIP"), "ports": member("/spec/ports") },
    })
}

fn tell(run: &Run, services: &Services) {
    run.shared.memory().tell_services(run.id, services);
}
