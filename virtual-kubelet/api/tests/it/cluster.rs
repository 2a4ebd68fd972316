//! On a real control plane: `kubectl` through the API server to this API, with each way in which that reaches a kubelet.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use kube::config::{KubeConfigOptions, Kubeconfig};
use lab::{AlwaysReadyNode, ControlPlane, ControlPlaneOptions, LabOptions, Paths, TemporaryLab};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use virtual_kubelet_api::{ClientCaSource, KubeletApi, Nodes, ServedNode, follow_client_ca};

use crate::authority::{Always, Authority};
use crate::client::{Connection, Http, tls};
use crate::fake::FakePods;
use crate::world::parts;

const LIMIT: Duration = Duration::from_mins(2);
const LARGE: usize = 50_000_000;

/// How a client's streams reach the kubelet: passed through as they are, translated to SPDY, SPDY all the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    PassedThrough,
    Translated,
    Spdy,
}

const WAYS: [Way; 3] = [Way::PassedThrough, Way::Translated, Way::Spdy];

struct Cluster {
    lab: TemporaryLab,
    directory: TempDir,
    authority: Authority,
    port: u16,
    pods: Arc<FakePods>,
    _stop: DropGuard,
    _tasks: JoinSet<()>,
}

struct Said {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: String,
}

/// What the API may of the cluster, as an operator writes it out.
const RIGHTS: [&str; 2] = ["charts/rbac.yaml", "charts/rbac-reviews.yaml"];
const ACCOUNT: (&str, &str) = ("outrigger-system", "outrigger-kubelet");

fn start_lab() -> (TempDir, TemporaryLab) {
    let directory = tempfile::tempdir().unwrap();
    let options = LabOptions {
        control_plane: Some(ControlPlaneOptions {
            always_ready_node: AlwaysReadyNode::Absent,
            ..ControlPlaneOptions::default()
        }),
        ..LabOptions::in_directory(directory.path().join("lab"))
    };
    let lab = TemporaryLab::start(options).unwrap();
    let control_plane = lab.control_plane().unwrap();
    for rights in RIGHTS {
        let file = Paths::default().workspace.join(rights);
        control_plane
            .kubectl(["apply", "-f", file.to_str().unwrap()])
            .unwrap();
    }
    (directory, lab)
}

async fn client(kubeconfig: &Path) -> kube::Client {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    kube::Client::try_from(config.unwrap()).unwrap()
}

impl Cluster {
    async fn start() -> Self {
        let (directory, lab) = tokio::task::spawn_blocking(start_lab).await.unwrap();
        let control_plane = lab.control_plane().unwrap();
        let kubeconfig = directory.path().join("kubelet.kubeconfig");
        control_plane
            .write_service_account_kubeconfig(&kubeconfig, ACCOUNT.0, ACCOUNT.1)
            .unwrap();
        let client = client(&kubeconfig).await;

        let (roots, mut followed) = watch::channel(None);
        let mut tasks = JoinSet::new();
        let following = follow_client_ca(ClientCaSource::Cluster, client.clone(), roots);
        tasks.spawn(async move { match following.await {} });
        timeout(LIMIT, followed.wait_for(Option::is_some))
            .await
            .unwrap()
            .unwrap();

        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
        let (certificate, key) = (
            control_plane.authority(),
            control_plane.authority().with_extension("key"),
        );
        let authority = Authority::of(&read(certificate), &read(key));
        let address = IpAddr::V4(lab.address().unwrap());
        let api = KubeletApi::new(parts(followed, client, Always::new(authority.server(address)))).unwrap();
        let port = api.bind((address, 0).into()).await.unwrap();
        let pods = FakePods::new();
        let node = ServedNode {
            name: "edge".into(),
            streams: pods.clone(),
        };
        let (number, stop) = (port.local().port(), CancellationToken::new());
        tasks.spawn(port.run(Nodes::One(node), stop.clone()));
        let cluster = Self {
            lab,
            directory,
            authority,
            port: number,
            pods,
            _stop: stop.drop_guard(),
            _tasks: tasks,
        };
        cluster.register(address);
        cluster
    }

    /// The Node, and a pod on it that runs.
    fn register(&self, address: IpAddr) {
        let node = json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": "edge"},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address}],
                "daemonEndpoints": {"kubeletEndpoint": {"Port": self.port}},
            },
        });
        let container = |name: &str, more: Value| {
            let mut container = json!({"name": name, "image": "none"});
            container
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            container
        };
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {
                "nodeName": "edge", "automountServiceAccountToken": false,
                "containers": [container("main", json!({"stdin": true})), container("shell", json!({"stdin": true, "tty": true}))],
            },
        });
        self.create(&node);
        self.create(&pod);
        self.admin(&[
            "patch",
            "pod",
            "web",
            "--subresource=status",
            "-p",
            r#"{"status": {"phase": "Running"}}"#,
        ]);
        let pod: Value = serde_json::from_str(&self.admin(&["get", "pod", "web", "-o", "json"])).unwrap();
        *self.pods.pods.lock().unwrap() = vec![Arc::new(pod)];
    }

    fn control_plane(&self) -> ControlPlane {
        self.lab.control_plane().unwrap()
    }

    fn admin(&self, arguments: &[&str]) -> String {
        self.control_plane()
            .kubectl(arguments.iter().copied())
            .unwrap()
            .stdout
    }

    fn create(&self, object: &Value) {
        let path = self.directory.path().join("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        self.admin(&["create", "-f", path.to_str().unwrap()]);
    }

    /// From here on streams go this way.
    fn take(&self, way: Way) {
        let features = if way == Way::PassedThrough {
            r#"["ExtendWebSocketsToKubelet"]"#
        } else {
            "null"
        };
        let patch = format!(r#"{{"status": {{"declaredFeatures": {features}}}}}"#);
        self.admin(&[
            "patch",
            "node",
            "edge",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    fn kubectl(&self, way: Way, arguments: &[&str]) -> Child {
        let sockets = if way == Way::Spdy { "false" } else { "true" };
        Command::new(self.control_plane().binary("kubectl"))
            .arg(format!(
                "--kubeconfig={}",
                self.control_plane().kubeconfig().display()
            ))
            .args(arguments)
            .env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", sockets)
            .env("KUBECTL_PORT_FORWARD_WEBSOCKETS", sockets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    async fn run(&self, way: Way, arguments: &[&str], input: &[u8]) -> Said {
        let mut child = self.kubectl(way, arguments);
        let mut stdin = child.stdin.take().unwrap();
        let feed = async {
            // It may go without having read all.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let ended = async { tokio::join!(feed, child.wait_with_output()).1.unwrap() };
        let ended = timeout(LIMIT, ended)
            .await
            .unwrap_or_else(|_| panic!("{way:?} {arguments:?} does not end"));
        Said {
            status: ended.status,
            stdout: ended.stdout,
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        }
    }

    async fn status_by(
        &self,
        identity: Option<&crate::authority::Identity>,
        headers: &[(&str, &str)],
    ) -> StatusCode {
        let address = (self.lab.address().unwrap(), self.port).into();
        let io = tls(address, &self.authority, identity, Http::Two).await;
        Connection::open(io, Http::Two)
            .await
            .ask("GET", "/pods", headers)
            .await
            .status
    }
}

fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_reaches_containers_through_a_real_api_server() {
    let cluster = Cluster::start().await;
    for way in WAYS {
        cluster.take(way);
        commands(&cluster, way).await;
        copies(&cluster, way).await;
        forwards(&cluster, way).await;
    }
    logs(&cluster).await;
    admission(&cluster).await;
}

async fn commands(cluster: &Cluster, way: Way) {
    let script = "cat; echo bad >&2; exit 7";
    let said = cluster
        .run(
            way,
            &["exec", "-i", "web", "-c", "main", "--", "sh", "-c", script],
            b"through",
        )
        .await;
    assert_eq!(said.status.code(), Some(7), "{way:?}: {}", said.stderr);
    assert_eq!(said.stdout, b"through", "{way:?}");
    assert!(said.stderr.starts_with("bad\n"), "{way:?}: {}", said.stderr);

    // kubectl tries SPDY after a WebSocket that did not come about, and says so in its log alone.
    let loud = ["-v=4", "exec", "web", "-c", "main", "--", "true"];
    let said = cluster.run(way, &loud, b"").await;
    assert!(
        said.status.success() && !said.stderr.contains("fallback"),
        "{way:?}: {}",
        said.stderr
    );

    let input = pattern(LARGE);
    let said = cluster
        .run(way, &["exec", "-i", "web", "-c", "main", "--", "cat"], &input)
        .await;
    assert!(said.status.success(), "{way:?}: {}", said.stderr);
    assert!(
        said.stdout == input,
        "{way:?}: {} bytes came back",
        said.stdout.len()
    );

    let said = cluster
        .run(way, &["attach", "-i", "web", "-c", "main"], b"hello")
        .await;
    assert!(said.status.success(), "{way:?}: {}", said.stderr);
    assert_eq!(said.stdout, b"hello", "{way:?}");

    let said = cluster
        .run(way, &["exec", "web", "-c", "main", "--", "vanish"], b"")
        .await;
    assert_eq!(said.status.code(), Some(1), "{way:?}");
    assert!(
        said.stderr.contains("the link to the device was lost"),
        "{way:?}: {}",
        said.stderr
    );
}

async fn copies(cluster: &Cluster, way: Way) {
    let path = |name: &str| cluster.directory.path().join(name).to_str().unwrap().to_owned();
    let [up, there, down] = ["up", "there", "down"].map(path);
    std::fs::write(&up, pattern(3_000_000)).unwrap();
    for (from, to) in [
        (up.clone(), format!("default/web:{there}")),
        (format!("default/web:{there}"), down.clone()),
    ] {
        let said = cluster.run(way, &["cp", "-c", "main", &from, &to], b"").await;
        assert!(said.status.success(), "{way:?} {from}: {}", said.stderr);
    }
    assert!(
        std::fs::read(&up).unwrap() == std::fs::read(&down).unwrap(),
        "{way:?}"
    );
    std::fs::remove_file(there).unwrap();
}

/// Echoes what it is told once that has ended: half-closes have to go through both ways.
async fn echo(listener: TcpListener) {
    let mut tasks = JoinSet::new();
    loop {
        let (mut io, _) = listener.accept().await.unwrap();
        tasks.spawn(async move {
            let mut told = Vec::new();
            io.read_to_end(&mut told).await.unwrap();
            io.write_all(&told).await.unwrap();
        });
    }
}

async fn forwards(cluster: &Cluster, way: Way) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let ports = format!(":{}", listener.local_addr().unwrap().port());
    let mut server = JoinSet::new();
    server.spawn(echo(listener));
    let mut child = cluster.kubectl(way, &["-v=4", "port-forward", "pod/web", &ports]);
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    timeout(LIMIT, stdout.read_line(&mut line))
        .await
        .unwrap()
        .unwrap();
    let local = line
        .split_whitespace()
        .nth(2)
        .unwrap_or_else(|| panic!("{way:?}: {line}"))
        .to_owned();
    let mut clients = JoinSet::new();
    for number in 0..20 {
        let local = local.clone();
        clients.spawn(async move {
            let sent = pattern(500_000 + number);
            let io = TcpStream::connect(local).await.unwrap();
            let (mut read, mut write) = io.into_split();
            let mut received = Vec::new();
            let send = async {
                write.write_all(&sent).await.unwrap();
                write.shutdown().await.unwrap();
            };
            tokio::join!(send, async { read.read_to_end(&mut received).await.unwrap() });
            assert!(received == sent, "connection {number}: {} bytes", received.len());
        });
    }
    timeout(LIMIT, clients.join_all()).await.unwrap();
    child.start_kill().unwrap();
    let said = child.wait_with_output().await.unwrap();
    let log = String::from_utf8_lossy(&said.stderr);
    assert!(!log.contains("fallback"), "{way:?}: {log}");
}

async fn logs(cluster: &Cluster) {
    let arguments = ["logs", "web", "-c", "main", "--tail=5", "--timestamps"];
    let said = cluster.run(Way::PassedThrough, &arguments, b"").await;
    assert_eq!(said.stdout, b"one\ntwo\n", "{}", said.stderr);
    let asked = cluster.pods.asked().pop().unwrap();
    assert_eq!((asked.logs.tail_lines, asked.logs.timestamps), (Some(5), true));
    assert_eq!(asked.who.name, "kube-apiserver-kubelet-client");

    let pieces = cluster.pods.follow();
    let mut child = cluster.kubectl(Way::PassedThrough, &["logs", "-f", "web", "-c", "main"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in ["now", "and now"] {
        pieces.send(Ok(format!("{line}\n").into())).await.unwrap();
        let read = timeout(LIMIT, lines.next_line()).await.unwrap().unwrap();
        assert_eq!(read.as_deref(), Some(line));
    }
    child.kill().await.unwrap();
    timeout(LIMIT, pieces.closed())
        .await
        .expect("the log ends with its reader");
}

async fn admission(cluster: &Cluster) {
    let health = cluster.admin(&["get", "--raw", "/api/v1/nodes/edge/proxy/healthz"]);
    assert_eq!(health, "ok");
    assert_eq!(cluster.status_by(None, &[]).await, StatusCode::UNAUTHORIZED);
    let eve = cluster.authority.client("eve", &[]);
    assert_eq!(cluster.status_by(Some(&eve), &[]).await, StatusCode::FORBIDDEN);
    let master = cluster.authority.client("root", &["system:masters"]);
    assert_eq!(cluster.status_by(Some(&master), &[]).await, StatusCode::OK);

    cluster.admin(&["create", "serviceaccount", "reader"]);
    cluster.admin(&[
        "create",
        "clusterrole",
        "reader",
        "--verb=get",
        "--resource=nodes/pods",
    ]);
    let account = "--serviceaccount=default:reader";
    cluster.admin(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        account,
    ]);
    for (name, expected) in [("reader", StatusCode::OK), ("default", StatusCode::FORBIDDEN)] {
        let token = format!("Bearer {}", cluster.admin(&["create", "token", name]).trim());
        let status = cluster.status_by(None, &[("authorization", &token)]).await;
        assert_eq!(status, expected, "{name}");
    }
}
