//! One module per noun or verb; `target` is what the verbs share. Each reads or changes through the hub's REST API and nothing else.

pub mod attach;
pub mod audit;
pub mod deployment;
pub mod device;
pub mod enrolment_token;
pub mod event;
pub mod exec;
pub mod logs;
pub mod orphan;
pub mod port_forward;
mod target;
pub mod top;

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use iot_hub_api::v1::Deployment;
use iot_hub_client::HubClient;

/// Finds a deployment by its uid or by `namespace/name`.
async fn find_deployment(hub: &HubClient, wanted: &str) -> anyhow::Result<Deployment> {
    let all = hub.deployments(None).await?.items;
    let mut found = all.into_iter().filter(|deployment| {
        let spec = &deployment.spec;
        spec.uid.as_str() == wanted || wanted == format!("{}/{}", spec.namespace, spec.name)
    });
    let first = found.next().with_context(|| {
        format!("there is no deployment {wanted}; `outrigger deployment ls -o wide` lists them")
    })?;
    if found.next().is_some() {
        bail!("several deployments are named {wanted}; give the uid from `outrigger deployment ls -o wide`");
    }
    Ok(first)
}

/// `key=value` pairs; a later one of the same key wins.
fn pairs(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| {
            let (key, value) = text
                .split_once('=')
                .with_context(|| format!("{text:?} is not key=value"))?;
            Ok((key.to_owned(), value.to_owned()))
        })
        .collect()
}
