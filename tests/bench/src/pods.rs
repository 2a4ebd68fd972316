//! The pods that are applied, and the namespace they live in.

use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Event, Namespace, Node, Pod, ServiceAccount};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::BenchError;
use crate::side::{Side, Token};

const NAMESPACE: &str = "bench";
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const ACCOUNT_LIMIT: Duration = Duration::from_secs(30);
/// A device's capacity goes from the agent to its hub and from there to the Node.
const ROOM_LIMIT: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(100);
/// The container ends at once when it is asked to; this is for the case that nobody asks.
const GRACE_SECONDS: u32 = 10;

/// A cluster with a namespace for measurements.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl Cluster {
    /// Connects as the kubeconfig says, makes the namespace, and returns when pods can be created in it.
    ///
    /// # Errors
    /// [`BenchError::Kubeconfig`], [`BenchError::Cluster`].
    pub async fn connect(kubeconfig: &Path) -> Result<Self, BenchError> {
        let unusable = |source| BenchError::Kubeconfig {
            path: kubeconfig.to_owned(),
            source: Box::new(source),
        };
        let file = Kubeconfig::read_from(kubeconfig).map_err(unusable)?;
        let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
            .await
            .map_err(unusable)?;
        config.connect_timeout = Some(REQUEST_LIMIT);
        let client = Client::try_from(config).map_err(BenchError::cluster("the client cannot be built"))?;
        let cluster = Self { client };
        cluster.ensure_namespace().await?;
        Ok(cluster)
    }

    pub fn client(&self) -> Client {
        self.client.clone()
    }

    pub fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    /// Creates a pod for this side; see [`pod`].
    ///
    /// # Errors
    /// [`BenchError::Cluster`].
    pub async fn create(&self, name: &str, side: &Side) -> Result<(), BenchError> {
        self.pods()
            .create(&PostParams::default(), &pod(name, side))
            .await
            .map(drop)
            .map_err(BenchError::cluster(format!("pod {name} cannot be created")))
    }

    /// Deletes a pod with its own grace period; one that is gone already is no error.
    ///
    /// # Errors
    /// [`BenchError::Cluster`].
    pub async fn delete(&self, name: &str) -> Result<(), BenchError> {
        self.delete_with(name, DeleteParams::default()).await
    }

    /// Removes a pod's object whatever its node says, as `kubectl delete --force` does.
    ///
    /// # Errors
    /// [`BenchError::Cluster`].
    pub async fn remove(&self, name: &str) -> Result<(), BenchError> {
        self.delete_with(name, DeleteParams::default().grace_period(0))
            .await
    }

    async fn delete_with(&self, name: &str, how: DeleteParams) -> Result<(), BenchError> {
        match self.pods().delete(name, &how).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            answer => answer
                .map(drop)
                .map_err(BenchError::cluster(format!("pod {name} cannot be deleted"))),
        }
    }

    /// Returns when a Node lets this many pods be bound to it. A kubelet's default is 110 (`maxPods`), and the scheduler leaves the rest
    /// Pending without an error.
    ///
    /// # Errors
    /// [`BenchError::NoRoom`], [`BenchError::Cluster`].
    pub async fn wait_for_room(&self, node: &str, pods: u32) -> Result<(), BenchError> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let deadline = tokio::time::Instant::now() + ROOM_LIMIT;
        loop {
            let found = nodes
                .get_opt(node)
                .await
                .map_err(BenchError::cluster(format!("node {node}")))?;
            let room = found.and_then(|node| allocatable_pods(&node)).unwrap_or(0);
            if room >= pods {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline {
                let node = node.to_owned();
                return Err(BenchError::NoRoom { node, room, pods });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// What the API server knows of a pod, for a person who asks why it is not where it should be.
    pub async fn explain(&self, name: &str) -> String {
        let status = match self.pods().get_opt(name).await {
            Ok(Some(pod)) => {
                serde_json::to_string_pretty(&pod.status).unwrap_or_else(|error| error.to_string())
            }
            Ok(None) => "it does not exist".to_owned(),
            Err(error) => error.to_string(),
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let about = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let events: Vec<String> = match events.list(&about).await {
            Ok(list) => list.items.into_iter().map(line).collect(),
            Err(error) => vec![error.to_string()],
        };
        format!("{name}: {status}\n{}", events.join("\n"))
    }

    async fn ensure_namespace(&self) -> Result<(), BenchError> {
        let namespace = Namespace {
            metadata: ObjectMeta {
                name: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        };
        let failed = || BenchError::cluster(format!("namespace {NAMESPACE}"));
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        match namespaces.create(&PostParams::default(), &namespace).await {
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            answer => answer.map(drop).map_err(failed())?,
        }
        // Admission refuses pods until a controller has made the account.
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let made = async {
            while accounts.get_opt("default").await.map_err(failed())?.is_none() {
                tokio::time::sleep(PAUSE).await;
            }
            Ok(())
        };
        tokio::time::timeout(ACCOUNT_LIMIT, made)
            .await
            .unwrap_or_else(|_| {
                Err(BenchError::Deadline {
                    wanted: "made",
                    limit: ACCOUNT_LIMIT,
                    missing: "service account default".to_owned(),
                    state: format!("in namespace {NAMESPACE}"),
                })
            })
    }
}

fn allocatable_pods(node: &Node) -> Option<u32> {
    node.status
        .as_ref()?
        .allocatable
        .as_ref()?
        .get("pods")?
        .0
        .parse()
        .ok()
}

fn line(event: Event) -> String {
    format!(
        "{}: {}",
        event.reason.unwrap_or_default(),
        event.message.unwrap_or_default()
    )
}

/// A pod with one container that waits, bound by the real scheduler to the side's Node.
///
/// All sides get the same pod but for the Node and the annotations.
pub fn pod(name: &str, side: &Side) -> Pod {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "annotations": side.annotations, "labels": { "bench": side.name } },
        "spec": {
            "nodeSelector": { "kubernetes.io/hostname": side.node },
            "tolerations": [{ "key": "virtual-kubelet.io/provider", "operator": "Exists" }],
            "automountServiceAccountToken": side.token == Token::Mounted,
            "terminationGracePeriodSeconds": GRACE_SECONDS,
            "containers": [{
                "name": "main",
                "image": side.image,
                "args": ["pause"],
                // Both are enforced by cgroup, which is part of the work that is compared.
                "resources": { "requests": { "cpu": "1m", "memory": "4Mi" }, "limits": { "memory": "32Mi" } },
            }],
        },
    });
    serde_json::from_value(pod).expect("the literal above is a pod")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_room_is_read_from_its_allocatable_pods() {
        let check = |given: serde_json::Value, expect: Option<u32>| {
            let node: Node = serde_json::from_value(json!({ "metadata": {}, "status": given })).unwrap();
            assert_eq!(allocatable_pods(&node), expect);
        };
        check(json!({ "allocatable": { "pods": "110", "cpu": "2" } }), Some(110));
        check(json!({ "allocatable": { "cpu": "2" } }), None);
        check(json!({ "capacity": { "pods": "250" } }), None);
    }
}
