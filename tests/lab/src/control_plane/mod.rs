//! A real Kubernetes control plane: etcd, API server, controller manager and scheduler as processes of the machine.

mod build;
mod certificates;
mod components;
mod kubeconfig;
mod kubelet;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

pub use build::ensure_binaries;
pub use kubeconfig::Credential;

use crate::network::{Network, free_port};
use crate::process::Process;
use crate::state::{ControlPlaneRecord, Store};
use crate::{AlwaysReadyNode, ControlPlaneOptions, Error, Output, Program};
use certificates::{Certificates, Subject};
use components::Layout;

const API_SERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const SCHEDULER: &str = "kube-scheduler";
const ALWAYS_READY: &str = "always-ready-node";
const READY_LIMIT: Duration = Duration::from_secs(90);
const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// A running control plane, or one that was started with the lab: its processes can be killed and started one by one, by name
/// (`etcd`, `kube-apiserver`, `kube-controller-manager`, `kube-scheduler`, `always-ready-node`).
#[derive(Clone, Debug)]
pub struct ControlPlane {
    store: Store,
    record: ControlPlaneRecord,
}

impl ControlPlane {
    pub(crate) fn open(store: &Store) -> Result<Self, Error> {
        let record = store
            .load()?
            .control_plane
            .ok_or_else(|| Error::no_part("control plane"))?;
        Ok(Self {
            store: store.clone(),
            record,
        })
    }

    /// Starts all of it and returns when the API server is ready and the controllers have made the default service account.
    pub(crate) fn create(
        store: &Store,
        options: ControlPlaneOptions,
        binaries: &Path,
    ) -> Result<Self, Error> {
        let home = home(store);
        fs::create_dir_all(&home).map_err(Error::file(&home))?;
        let network = store.load()?.network;
        let certificates = Certificates::in_directory(home.join("pki"));
        let layout = plan(network, &home, &certificates, options, binaries)?;
        issue(&layout)?;
        let record = ControlPlaneRecord {
            server: layout.api_server,
            binaries: binaries.to_owned(),
        };
        store.set(|state| state.control_plane = Some(record.clone()))?;
        let control_plane = Self {
            store: store.clone(),
            record,
        };
        Process::spawn(store, "etcd", layout.etcd())?;
        Process::spawn(store, API_SERVER, layout.api_server())?;
        control_plane.wait_until_ready()?;
        // The controller manager reads a config map once, which the API server writes when it is ready.
        Process::spawn(store, CONTROLLER_MANAGER, layout.controller_manager())?;
        Process::spawn(store, SCHEDULER, layout.scheduler())?;
        if options.always_ready_node == AlwaysReadyNode::Kept {
            Process::spawn(store, ALWAYS_READY, layout.always_ready_node())?;
        }
        control_plane.wait_for_controllers(options.always_ready_node)?;
        Ok(control_plane)
    }

    /// Address and port of the API server. It is the machine's address on the lab's bridge: devices reach it too.
    pub fn server(&self) -> SocketAddr {
        self.record.server
    }

    /// Kubeconfig of an administrator.
    pub fn kubeconfig(&self) -> PathBuf {
        home(&self.store).join("admin.kubeconfig")
    }

    /// The certificate that everything of the cluster is verified against.
    pub fn authority(&self) -> PathBuf {
        self.certificates().certificate("ca")
    }

    /// Path of a component's executable, such as `kubectl` or `kubelet`.
    pub fn binary(&self, component: &str) -> PathBuf {
        self.record.binaries.join(component)
    }

    /// One of its processes, by component.
    pub fn process(&self, component: &str) -> Process {
        Process::new(&self.store, component)
    }

    /// Runs kubectl as administrator.
    ///
    /// # Errors
    /// As [`Program::run`].
    pub fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output, Error> {
        Program::new(self.binary("kubectl"))
            .flag("kubeconfig", self.kubeconfig().display())
            .args(arguments)
            .run(COMMAND_LIMIT)
    }

    /// Writes a kubeconfig for this cluster.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn write_kubeconfig(&self, path: &Path, credential: &Credential) -> Result<(), Error> {
        kubeconfig::write(path, self.server(), &self.authority(), credential)
    }

    /// Asks for a token of a service account, valid for a day, and writes a kubeconfig with it. The account must exist.
    ///
    /// # Errors
    /// [`Error::Command`] when the API server gives no token, [`Error::File`].
    pub fn write_service_account_kubeconfig(
        &self,
        path: &Path,
        namespace: &str,
        name: &str,
    ) -> Result<(), Error> {
        let token = self.kubectl([
            "create",
            "token",
            name,
            "--namespace",
            namespace,
            "--duration",
            "24h",
        ])?;
        self.write_kubeconfig(path, &Credential::Token(token.stdout.trim().to_owned()))
    }

    /// Writes a kubeconfig for any user, in a group if one is given, by a client certificate that the cluster's authority signs.
    ///
    /// # Errors
    /// [`Error::Certificate`], [`Error::File`].
    pub fn write_user_kubeconfig(&self, path: &Path, user: &str, group: Option<&str>) -> Result<(), Error> {
        let certificates = self.certificates();
        // A user's name has colons, which file names may have too.
        let subject = Subject {
            common_name: user,
            organization: group,
            purpose: ClientAuth,
            addresses: &[],
        };
        certificates.open_authority("ca")?.issue(user, &subject)?;
        let credential = Credential::Certificate {
            certificate: certificates.certificate(user),
            key: certificates.key(user),
        };
        self.write_kubeconfig(path, &credential)
    }

    /// The API server's process.
    pub fn api_server(&self) -> Process {
        self.process(API_SERVER)
    }

    /// Returns when `/readyz` of the API server says ok; use it after a restart.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Deadline`] when it does not.
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        let asked = || {
            let open = std::net::TcpStream::connect_timeout(&self.server(), Duration::from_secs(1)).is_ok();
            Ok(open && self.kubectl(["get", "--raw=/readyz"]).is_ok())
        };
        self.api_server()
            .until("the API server is ready", READY_LIMIT, asked)
    }

    fn wait_for_controllers(&self, always_ready: AlwaysReadyNode) -> Result<(), Error> {
        let account = || Ok(self.kubectl(["get", "serviceaccount", "default"]).is_ok());
        self.process(CONTROLLER_MANAGER)
            .until("the controllers work", READY_LIMIT, account)?;
        if always_ready == AlwaysReadyNode::Kept {
            let query = [
                "get",
                "nodes",
                "-l",
                "lab=always-ready",
                "-o",
                "jsonpath={.items[*].status.conditions[?(@.type=='Ready')].status}",
            ];
            let ready = || Ok(self.kubectl(query)?.stdout == "True");
            self.process(ALWAYS_READY)
                .until("the kept node is Ready", READY_LIMIT, ready)?;
        }
        self.process(SCHEDULER).check_alive()
    }

    fn certificates(&self) -> Certificates {
        Certificates::in_directory(home(&self.store).join("pki"))
    }
}

fn home(store: &Store) -> PathBuf {
    store.directory().join("control-plane")
}

/// The API server is on the bridge, since it does not talk to nodes from a loopback address and devices reach it there. The rest is on a
/// loopback address that no other lab has.
fn plan<'a>(
    network: Network,
    home: &'a Path,
    certificates: &'a Certificates,
    options: ControlPlaneOptions,
    binaries: &'a Path,
) -> Result<Layout<'a>, Error> {
    let private = || free_port(network.loopback()).map(|port| SocketAddr::from((network.loopback(), port)));
    let api_server = SocketAddr::from((network.address(), free_port(network.address())?));
    Ok(Layout {
        binaries,
        home,
        certificates,
        times: options.times,
        etcd: private()?,
        etcd_peer: private()?,
        api_server,
        controller_manager: private()?,
        scheduler: private()?,
    })
}

/// Makes all keys, certificates and kubeconfigs.
fn issue(layout: &Layout<'_>) -> Result<(), Error> {
    let certificates = layout.certificates;
    let authority = certificates.create_authority("ca")?;
    let addresses = layout.api_server_addresses();
    let serving = Subject {
        common_name: API_SERVER,
        organization: None,
        purpose: ServerAuth,
        addresses: &addresses,
    };
    authority.issue("apiserver", &serving)?;
    certificates.create_key("service-accounts")?;
    let client = |common_name, organization| Subject {
        common_name,
        organization,
        purpose: ClientAuth,
        addresses: &[],
    };
    certificates
        .create_authority("front-proxy-ca")?
        .issue("front-proxy-client", &client("front-proxy-client", None))?;
    authority.issue(
        "apiserver-kubelet-client",
        &client("kube-apiserver-kubelet-client", Some("system:masters")),
    )?;
    let users = [
        ("admin", client("admin", Some("system:masters"))),
        (
            "controller-manager",
            client("system:kube-controller-manager", None),
        ),
        ("scheduler", client("system:kube-scheduler", None)),
    ];
    for (name, subject) in users {
        authority.issue(name, &subject)?;
        let credential = Credential::Certificate {
            certificate: certificates.certificate(name),
            key: certificates.key(name),
        };
        let authority = certificates.certificate("ca");
        kubeconfig::write(
            &layout.kubeconfig(name),
            layout.api_server,
            &authority,
            &credential,
        )?;
    }
    Ok(())
}
