//! What `exec`, `attach`, `logs` and `port-forward` are about: a pod on a device, and one of its containers.

use anyhow::{Context as _, bail};
use clap::Args;
use edge_protocol::v1::Manifest;
use edge_protocol::v1::manifest::Terminal;
use edge_protocol::{DeviceId, PodUid};
use iot_hub_api::v1::{DeviceWorkload, WorkloadDesired};
use iot_hub_client::HubClient;

/// Names the container that kubectl takes when none is given.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

#[derive(Debug, Args)]
pub struct PodArgs {
    /// The device that runs it.
    #[arg(long, short)]
    pub device: DeviceId,
    /// The pod: its uid, or `namespace/name`.
    #[arg(value_name = "POD")]
    pub pod: String,
}

#[derive(Debug, Args)]
pub struct ContainerArgs {
    #[command(flatten)]
    pub pod: PodArgs,
    /// The container; the pod's default one, else its first, if not given.
    #[arg(long, short)]
    container: Option<String>,
}

impl PodArgs {
    /// The uid of the pod on that device. Needs no Kubernetes.
    pub async fn find(&self, hub: &HubClient) -> anyhow::Result<PodUid> {
        let held = hub.device_workloads(&self.device).await?.items;
        let found = choose(held, &self.pod)?;
        found.with_context(|| {
            let Self { device, pod } = self;
            format!("{device} holds no workload {pod}; `outrigger device workloads {device}` lists them")
        })
    }
}

/// The workload of that uid or name. Of several of one name, the one that is not on its way out.
fn choose(held: Vec<DeviceWorkload>, wanted: &str) -> anyhow::Result<Option<PodUid>> {
    let named = |workload: &DeviceWorkload| {
        let name = workload.namespace.as_ref().zip(workload.name.as_ref());
        workload.uid.as_str() == wanted
            || name.is_some_and(|(namespace, name)| wanted == format!("{namespace}/{name}"))
    };
    let mut found: Vec<DeviceWorkload> = held.into_iter().filter(named).collect();
    if found.len() > 1 {
        found.retain(|workload| workload.desired == WorkloadDesired::Run);
    }
    match found.as_slice() {
        [_, _, ..] => bail!("several workloads are named {wanted}; give the uid of one"),
        found => Ok(found.first().map(|workload| workload.uid.clone())),
    }
}

impl ContainerArgs {
    /// The pod's uid and the container.
    pub async fn find(&self, hub: &HubClient) -> anyhow::Result<(PodUid, String)> {
        let uid = self.pod.find(hub).await?;
        if let Some(container) = &self.container {
            return Ok((uid, container.clone()));
        }
        let manifest = manifest(hub, &uid).await?;
        let container = default_container(&manifest);
        let container = container.with_context(|| format!("{uid} has no container"))?;
        Ok((uid, container))
    }

    /// With the terminal that the container was made with. One that is named is found also where its pod's manifest is gone.
    pub async fn find_terminal(&self, hub: &HubClient) -> anyhow::Result<Found> {
        let (uid, container) = self.find(hub).await?;
        let manifest = manifest(hub, &uid).await.ok();
        let spec = manifest.as_ref().and_then(|manifest| {
            let mut all = manifest.workload.every_container();
            all.find(|spec| spec.name == container)
        });
        let terminal = spec.map(|spec| spec.terminal);
        Ok(Found {
            uid,
            container,
            terminal,
        })
    }
}

/// A container, and what it was made with as far as that is known.
pub struct Found {
    pub uid: PodUid,
    pub container: String,
    pub terminal: Option<Terminal>,
}

async fn manifest(hub: &HubClient, uid: &PodUid) -> anyhow::Result<Manifest> {
    let deployment = hub.deployment(uid).await;
    let deployment =
        deployment.with_context(|| format!("the containers of {uid} are not known; name one with -c"))?;
    serde_json::from_str(&deployment.spec.manifest)
        .with_context(|| format!("the manifest of {uid} cannot be read; name a container with -c"))
}

/// As kubectl chooses, and says, if there are several.
fn default_container(manifest: &Manifest) -> Option<String> {
    let names: Vec<&str> = manifest
        .workload
        .containers
        .iter()
        .map(|each| each.name.as_str())
        .collect();
    let annotated = manifest.annotations.get(DEFAULT_CONTAINER).map(String::as_str);
    if let Some(name) = annotated.filter(|name| names.contains(name)) {
        return Some(name.to_owned());
    }
    let first = (*names.first()?).to_owned();
    if names.len() > 1 {
        eprintln!("Defaulted container {first:?} out of: {}", names.join(", "));
    }
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(uid: &str, name: Option<&str>, desired: WorkloadDesired) -> DeviceWorkload {
        DeviceWorkload {
            uid: uid.parse().unwrap(),
            desired,
            namespace: name.map(|_| "default".to_owned()),
            name: name.map(str::to_owned),
        }
    }

    #[test]
    fn a_pod_is_found_by_uid_or_by_name() {
        let all = || {
            vec![
                held("uid-1", Some("web"), WorkloadDesired::Stop),
                held("uid-2", Some("web"), WorkloadDesired::Run),
                held("uid-3", None, WorkloadDesired::Run),
                held("uid-4", Some("twice"), WorkloadDesired::Run),
                held("uid-5", Some("twice"), WorkloadDesired::Run),
                held("uid-6", Some("going"), WorkloadDesired::Stop),
            ]
        };
        let check = |wanted: &str, expected: Option<&str>| {
            let found = choose(all(), wanted).unwrap();
            assert_eq!(found.as_ref().map(PodUid::as_str), expected, "{wanted}");
        };
        check("uid-1", Some("uid-1"));
        check("uid-3", Some("uid-3"));
        check("default/web", Some("uid-2"));
        check("default/going", Some("uid-6"));
        check("web", None);
        assert!(choose(all(), "default/twice").is_err());
    }
}
