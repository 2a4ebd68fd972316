//! Against a real API server, with exactly the rights that `charts/` writes out.

use std::path::Path;

use kube::config::{KubeConfigOptions, Kubeconfig};
use lab::{AlwaysReadyNode, ControlPlane, ControlPlaneOptions, LabOptions, Paths, Program, TemporaryLab};
use serde_json::{Value, json};
use tempfile::TempDir;
use virtual_kubelet::Cluster;
use virtual_kubelet::objects::{ObjectsOptions, PodObjects, Read, TokenWanted};

use super::{Running, names, until};

const COMMAND_LIMIT: std::time::Duration = std::time::Duration::from_mins(1);
const ACCOUNT: &str = "system:serviceaccount:outrigger-system:outrigger-kubelet";

/// A cluster with our Node, and a pod of ours that refers to what the tests ask for.
const WORLD: &str = r#"
{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "outrigger"}},
  {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "another"}},
  {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
  {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot", "namespace": "shop"}},
  {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "stranger", "namespace": "shop"}},
  {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key", "namespace": "shop"}, "stringData": {"pin": "4711"}},
  {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "foreign", "namespace": "shop"}, "stringData": {"pin": "0815"}},
  {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": "shop"}, "data": {"color": "blue"}},
  {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "disk"}, "spec": {
    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
    "claimRef": {"namespace": "shop", "name": "data"}}},
  {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "shop"}, "spec": {
    "accessModes": ["ReadWriteOnce"], "storageClassName": "", "volumeName": "disk", "resources": {"requests": {"storage": "1Gi"}}}},
  {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop"}, "spec": {
    "nodeName": "outrigger", "serviceAccountName": "robot", "automountServiceAccountToken": false,
    "containers": [{"name": "main", "image": "main", "envFrom": [{"secretRef": {"name": "key"}}]}],
    "volumes": [
      {"name": "settings", "configMap": {"name": "settings"}},
      {"name": "later", "configMap": {"name": "later"}},
      {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
      {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"audience": "vault", "expirationSeconds": 600, "path": "t"}}]}}
    ]}}
]}"#;

struct World {
    // Before its directory: the lab goes first.
    lab: TemporaryLab,
    directory: TempDir,
}

impl World {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = LabOptions {
            control_plane: Some(ControlPlaneOptions {
                always_ready_node: AlwaysReadyNode::Absent,
                ..ControlPlaneOptions::default()
            }),
            ..LabOptions::in_directory(directory.path().join("lab"))
        };
        let lab = TemporaryLab::start(options).unwrap();
        let world = Self { lab, directory };
        let rights = Paths::default().workspace.join("charts/rbac.yaml");
        world.kubectl(["apply", "-f", rights.to_str().unwrap()]);
        world.apply(WORLD);
        // As `outrigger-kubelet rbac` writes it for one namespace.
        world.kubectl(["delete", "clusterrolebinding", "outrigger-kubelet-as-node"]);
        world.kubectl([
            "create",
            "rolebinding",
            "outrigger-kubelet-as-node",
            "-n",
            "shop",
            "--clusterrole=outrigger-kubelet-as-node",
            "--serviceaccount=outrigger-system:outrigger-kubelet",
        ]);
        world
    }

    fn control_plane(&self) -> ControlPlane {
        self.lab.control_plane().unwrap()
    }

    fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.control_plane().kubectl(arguments).unwrap().stdout
    }

    fn write(&self, text: &str) -> String {
        let path = self.directory.path().join("objects.json");
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn apply(&self, text: &str) {
        let path = self.write(text);
        self.kubectl(["apply", "-f", &path]);
    }

    fn kubeconfig(&self) -> std::path::PathBuf {
        let path = self.directory.path().join("kubeconfig");
        let account = ("outrigger-system", "outrigger-kubelet");
        self.control_plane()
            .write_service_account_kubeconfig(&path, account.0, account.1)
            .unwrap();
        path
    }

    /// What the API server says to our service account when it refuses this.
    #[track_caller]
    fn refused<'a>(&self, kubeconfig: &Path, arguments: impl IntoIterator<Item = &'a str>) -> String {
        let kubectl = Program::new(self.control_plane().binary("kubectl"))
            .flag("kubeconfig", kubeconfig.display())
            .args(arguments);
        let error = kubectl.run(COMMAND_LIMIT).expect_err("it was allowed");
        let text = format!("{error:?}");
        assert!(text.contains("orbidden"), "{text}");
        text
    }
}

async fn cluster(kubeconfig: &Path) -> Cluster {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Cluster::new(kube::Client::try_from(config.unwrap()).unwrap())
}

fn pod() -> PodObjects {
    let token = TokenWanted {
        service_account: "robot".to_owned(),
        audience: Some("vault".to_owned()),
        expiration_s: 600,
    };
    PodObjects {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        config_maps: names(&["settings", "later"]),
        secrets: names(&["key"]),
        claims: names(&["data"]),
        tokens: [("t".to_owned(), token)].into(),
        services: true,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_account_reads_what_our_pods_refer_to_and_nothing_else() {
    let world = World::start();
    let kubeconfig = world.kubeconfig();
    let uid = world.kubectl([
        "get",
        "pod",
        "web",
        "-n",
        "shop",
        "-o",
        "jsonpath={.metadata.uid}",
    ]);
    let running = Running::start(&cluster(&kubeconfig).await, ObjectsOptions::default());
    let node = running.handle.of_node("outrigger");
    node.refer(&uid, pod());
    // A pod that is none of ours, as far as the cluster knows.
    let lie = PodObjects {
        secrets: names(&["foreign"]),
        ..pod()
    };
    node.refer("lie", lie);

    let secret = until(&node, "the secret", || match node.secret("shop", "key") {
        Read::Present(secret) => Some(secret),
        _ => None,
    });
    assert_eq!(secret.await["data"]["pin"], "NDcxMQ==");
    let volume = until(&node, "the volume", || match node.claim("shop", "data") {
        Read::Present(claim) => claim.volume,
        _ => None,
    });
    assert_eq!(volume.await["spec"]["hostPath"]["path"], "/data");
    let services = until(&node, "the services", || match node.services("shop") {
        Read::Present(services) => Some(services),
        _ => None,
    });
    assert_eq!(services.await[0]["metadata"]["name"], "kubernetes");
    let token = until(&node, "the token", || match node.token(&uid, "t") {
        Read::Present(token) => Some(token),
        _ => None,
    });
    assert_eq!(bearer(&world, token.await.expose()), uid);

    let refused = [
        until(&node, "a reason", || {
            node.secret("shop", "foreign").why().map(str::to_owned)
        })
        .await,
        until(&node, "a reason", || {
            node.token("lie", "t").why().map(str::to_owned)
        })
        .await,
    ];
    for why in refused {
        assert!(why.contains("no relationship") || why.contains("UID"), "{why}");
    }
    refusals(&world, &kubeconfig);
    changes(&world, &node).await;
}

/// Whom a token is bound to, in the API server's own words.
fn bearer(world: &World, token: &str) -> String {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token, "audiences": ["vault"]},
    });
    let path = world.write(&review.to_string());
    let answer = world.kubectl(["create", "-f", &path, "-o", "json"]);
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        answer["status"]["user"]["username"], "system:serviceaccount:shop:robot",
        "{answer}"
    );
    let pod = &answer["status"]["user"]["extra"]["authentication.kubernetes.io/pod-uid"][0];
    pod.as_str().unwrap().to_owned()
}

/// Whoever holds our credentials cannot do more, in whatever way.
fn refusals(world: &World, kubeconfig: &Path) {
    let node = "--as=system:node:outrigger";
    world.refused(kubeconfig, ["get", "secret", "key", "-n", "shop"]);
    world.refused(kubeconfig, ["get", "secrets", "-n", "shop"]);
    world.refused(kubeconfig, ["create", "token", "robot", "-n", "shop"]);
    world.refused(kubeconfig, ["get", "secrets", "-n", "shop", node]);
    world.refused(
        kubeconfig,
        [
            "get",
            "secrets",
            "-n",
            "shop",
            "--field-selector=metadata.name=foreign",
            node,
        ],
    );
    let unbound = world.refused(kubeconfig, ["create", "token", "robot", "-n", "shop", node]);
    assert!(unbound.contains("not bound to a pod"), "{unbound}");
    let stranger = world.refused(kubeconfig, ["create", "token", "stranger", "-n", "shop", node]);
    assert!(stranger.contains("no relationship"), "{stranger}");
    let another = "--as=system:node:another";
    let selector = "--field-selector=metadata.name=key";
    let other = world.refused(kubeconfig, ["get", "secrets", "-n", "shop", selector, another]);
    assert!(other.contains(ACCOUNT), "it may not even be that node: {other}");
    let public = "--field-selector=metadata.name=kube-root-ca.crt";
    let elsewhere = world.refused(kubeconfig, ["get", "configmaps", "-n", "default", public, node]);
    assert!(
        elsewhere.contains(ACCOUNT),
        "nothing as a node in other namespaces: {elsewhere}"
    );
    // Not as an administrator, not as the account of the pod, not what a node may besides.
    world.refused(
        kubeconfig,
        ["get", "nodes", "--as=admin", "--as-group=system:masters"],
    );
    let robot = "--as=system:serviceaccount:shop:robot";
    world.refused(kubeconfig, ["get", "pods", "-n", "shop", robot]);
    world.refused(kubeconfig, ["delete", "node", "outrigger", node]);
}

async fn changes(world: &World, node: &virtual_kubelet::objects::NodeObjects) {
    assert_eq!(node.config_map("shop", "later"), Read::Missing);
    world.apply(
        r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "later", "namespace": "shop"}, "data": {"a": "b"}}"#,
    );
    until(node, "what appeared", || {
        matches!(node.config_map("shop", "later"), Read::Present(_)).then_some(())
    })
    .await;
    world.kubectl([
        "patch",
        "configmap",
        "settings",
        "-n",
        "shop",
        "-p",
        r#"{"data": {"color": "green"}}"#,
    ]);
    until(node, "the change", || match node.config_map("shop", "settings") {
        Read::Present(map) => (map["data"]["color"] == "green").then_some(()),
        _ => None,
    })
    .await;
    world.kubectl(["delete", "configmap", "settings", "-n", "shop"]);
    until(node, "the deletion", || {
        (node.config_map("shop", "settings") == Read::Missing).then_some(())
    })
    .await;
    assert!(matches!(node.secret("shop", "key"), Read::Present(_)));
}
