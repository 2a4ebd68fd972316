//! On a real API server whose controllers sign, with exactly the rights that `charts/` writes out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use kube::config::{KubeConfigOptions, Kubeconfig};
use lab::{AlwaysReadyNode, ControlPlane, ControlPlaneOptions, LabOptions, Paths, Program, TemporaryLab};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tempfile::TempDir;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use virtual_kubelet::FurtherNodes;
use virtual_kubelet::serving::Approver;

use super::*;

const COMMAND_LIMIT: Duration = Duration::from_mins(1);
const FIRST: &str = "192.0.2.7";
const SECOND: &str = "192.0.2.8";
const PROVIDER_ID: &str = "outrigger://hub/outrigger";

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
        for rights in ["rbac", "rbac-serving", "rbac-approver"] {
            let path = Paths::default().workspace.join(format!("charts/{rights}.yaml"));
            world.kubectl(["apply", "-f", path.to_str().unwrap()]);
        }
        for (name, provider_id) in [("outrigger", PROVIDER_ID), ("worker", "aws:///i-1")] {
            let addresses = json!([
                {"type": "InternalIP", "address": FIRST}, {"type": "Hostname", "address": name},
            ]);
            world.create(&json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"providerID": provider_id},
                "status": {"addresses": addresses},
            }));
        }
        world
    }

    fn control_plane(&self) -> ControlPlane {
        self.lab.control_plane().unwrap()
    }

    fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> String {
        self.control_plane().kubectl(arguments).unwrap().stdout
    }

    fn write(&self, object: &Value) -> String {
        let path = self.directory.path().join("object.json");
        std::fs::write(&path, object.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn create(&self, object: &Value) {
        let path = self.write(object);
        self.kubectl(["create", "-f", &path]);
    }

    /// Credentials of our service account.
    fn account(&self) -> PathBuf {
        let path = self.directory.path().join("account.kubeconfig");
        self.control_plane()
            .write_service_account_kubeconfig(&path, "outrigger-system", "outrigger-kubelet")
            .unwrap();
        path
    }

    fn program(&self, kubeconfig: &Path) -> Program {
        Program::new(self.control_plane().binary("kubectl")).flag("kubeconfig", kubeconfig.display())
    }

    /// The node's names change, as the bridge publishes them.
    fn publish(&self, ip: &str) {
        let patch = format!(
            r#"{{"status": {{"addresses": [{{"type": "InternalIP", "address": "{ip}"}}, {{"type": "Hostname", "address": "outrigger"}}]}}}}"#
        );
        self.kubectl([
            "patch",
            "node",
            "outrigger",
            "--subresource=status",
            "--type=merge",
            "-p",
            &patch,
        ]);
    }

    /// The requests in which nobody decided, by name.
    fn undecided(&self) -> Vec<String> {
        let listed = self.kubectl(["get", "certificatesigningrequests", "-o", "json"]);
        let listed: Value = serde_json::from_str(&listed).unwrap();
        let undecided = |request: &&Value| request["status"].get("conditions").is_none();
        let requests = listed["items"].as_array().unwrap().iter().filter(undecided);
        requests
            .map(|request| request["metadata"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        let pem = std::fs::read(self.control_plane().authority()).unwrap();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate.unwrap()).unwrap();
        }
        roots
    }

    /// A client that trusts the cluster's authority and nothing else calls a server of ours by this address.
    async fn call(&self, handle: &ServingHandle, ip: &str) -> Result<(), String> {
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(handle.resolver());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(64 << 10);
        let name = ServerName::from(ip.parse::<IpAddr>().unwrap());
        let accepted = TlsAcceptor::from(Arc::new(server)).accept(far);
        let connected = TlsConnector::from(Arc::new(client)).connect(name, near);
        let (connected, _) = tokio::join!(connected, accepted);
        connected.map(drop).map_err(|error| error.to_string())
    }
}

async fn cluster(kubeconfig: &Path) -> Cluster {
    let file = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Cluster::new(kube::Client::try_from(config.unwrap()).unwrap())
}

/// A request of somebody's, as an object. What is asked for is that of our node, but for what `change` changes.
fn request(name: &str, usages: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Value {
    let mut params = CertificateParams::new(vec!["outrigger".to_owned()]).unwrap();
    let ip = rcgen::SanType::IpAddress(FIRST.parse().unwrap());
    params.subject_alt_names.push(ip);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, "system:node:outrigger");
    change(&mut params);
    let request = params.serialize_request(&KeyPair::generate().unwrap()).unwrap();
    json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": name},
        "spec": {
            "request": STANDARD.encode(request.pem().unwrap()), "signerName": "kubernetes.io/kubelet-serving",
            "usages": usages,
        },
    })
}

/// Whoever may file requests tries to have more than our own, by our credentials and by those of a node.
fn temptations(world: &World, account: &Path) -> Vec<String> {
    let server = ["digital signature", "server auth"];
    let name = |params: &mut CertificateParams, name: &str| {
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(DnType::CommonName, name);
    };
    let dns = |text: &str| rcgen::SanType::DnsName(text.try_into().unwrap());
    let by_account = [
        request("client-usage", &["digital signature", "client auth"], |_| {}),
        request(
            "both-usages",
            &["digital signature", "server auth", "client auth"],
            |_| {},
        ),
        request("foreign-node", &server, |params| {
            name(params, "system:node:worker");
        }),
        request("no-node", &server, |params| name(params, "system:node:nowhere")),
        request("foreign-address", &server, |params| {
            params
                .subject_alt_names
                .push(rcgen::SanType::IpAddress("192.0.2.66".parse().unwrap()));
        }),
        request("foreign-name", &server, |params| {
            params.subject_alt_names.push(dns("kubernetes.default.svc"));
        }),
        request("an-authority", &server, |params| {
            params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        }),
    ];
    let node = world.directory.path().join("node.kubeconfig");
    world
        .control_plane()
        .write_user_kubeconfig(&node, "system:node:outrigger", Some("system:nodes"))
        .unwrap();
    let by_node = [request("wrong-requestor", &server, |_| {})];
    let all = by_account.iter().map(|request| (account, request));
    let all = all.chain(by_node.iter().map(|request| (node.as_path(), request)));
    let mut names = Vec::new();
    for (kubeconfig, request) in all {
        let path = world.write(request);
        let create = world.program(kubeconfig).args(["create", "-f", &path]);
        create.run(COMMAND_LIMIT).unwrap();
        names.push(request["metadata"]["name"].as_str().unwrap().to_owned());
    }
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_signs_what_our_nodes_publish_and_nothing_else_is_approved() {
    let world = World::start();
    let account = world.account();
    let cluster = cluster(&account).await;
    let file = CertificateFile::new(world.directory.path().join("serving.pem"));
    let tempted = temptations(&world, &account);
    let further = watch::channel(FurtherNodes::from([("gone".to_owned(), String::new())])).1;
    let us = ("outrigger".to_owned(), PROVIDER_ID.to_owned());
    let approver = tokio::spawn(Approver::new(cluster.clone(), us, further).run());

    let running = Running::start(&cluster, CertificateSource::Cluster, Some(file.clone()), FIRST);
    let untrusted = world.call(&running.handle, FIRST).await.unwrap_err();
    assert!(
        untrusted.contains("UnknownIssuer") || untrusted.contains("invalid peer"),
        "{untrusted}"
    );
    running.until_reason("Issued").await;
    world.call(&running.handle, FIRST).await.unwrap();
    assert!(world.call(&running.handle, SECOND).await.is_err());

    // Asked for before the Node publishes it: approved once it does.
    running.names.send_replace(names(SECOND));
    running
        .until("another is asked for", |word| {
            !matches!(word, Some(ServingWord::Issued { .. }))
        })
        .await;
    world.publish(SECOND);
    running.until_reason("Issued").await;
    world.call(&running.handle, SECOND).await.unwrap();
    assert_eq!(
        world.undecided(),
        tempted,
        "all of these are left alone, and nobody denies them"
    );

    // A restart needs no request.
    drop(running);
    let again = Running::start(&cluster, CertificateSource::Cluster, Some(file), SECOND);
    again.until_reason("Issued").await;
    world.call(&again.handle, SECOND).await.unwrap();
    assert_eq!(world.undecided(), tempted);
    approver.abort();
    drop(again);
    refused(&world, &cluster, &account).await;
}

/// Without an approver there is a certificate of its own making, until somebody approves.
async fn refused(world: &World, cluster: &Cluster, account: &Path) {
    let running = Running::start(cluster, CertificateSource::Cluster, None, SECOND);
    running.until_reason("NotApproved").await;
    assert!(world.call(&running.handle, SECOND).await.is_err());
    let ours = |world: &World| -> Vec<String> {
        let undecided = world.undecided();
        undecided
            .into_iter()
            .filter(|name| name.starts_with("outrigger-serving-"))
            .collect()
    };
    let [pending] = &ours(world)[..] else {
        panic!("{:?}", world.undecided())
    };
    world.kubectl(["certificate", "deny", pending]);
    running.until_reason("Denied").await;
    // It asks again, and a person approves.
    let asked = tokio::time::timeout(LIMIT, async {
        loop {
            if let Some(name) = ours(world).pop() {
                return name;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let asked = asked.await.expect("it asks again");
    world.kubectl(["certificate", "approve", &asked]);
    running.until_reason("Issued").await;
    world.call(&running.handle, SECOND).await.unwrap();

    // Our credentials approve no other signer's.
    let mut client = request("other-signer", &["digital signature", "client auth"], |_| {});
    client["spec"]["signerName"] = json!("kubernetes.io/kube-apiserver-client");
    world.create(&client);
    let approve = world
        .program(account)
        .args(["certificate", "approve", "other-signer"]);
    let error = approve.run(COMMAND_LIMIT).expect_err("it was allowed");
    assert!(
        format!("{error:?}").contains("not permitted to approve"),
        "{error:?}"
    );
}
