//! The command lines of the control plane's components.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::certificates::Certificates;
use crate::{Program, Times};

/// What all command lines are made from.
pub struct Layout<'a> {
    pub binaries: &'a Path,
    pub home: &'a Path,
    pub certificates: &'a Certificates,
    pub times: Times,
    pub etcd: SocketAddr,
    pub etcd_peer: SocketAddr,
    pub api_server: SocketAddr,
    /// Where controller manager and scheduler serve their health.
    pub controller_manager: SocketAddr,
    pub scheduler: SocketAddr,
}

/// Of services; nothing routes it, since no kube-proxy runs.
const SERVICE_RANGE: &str = "10.126.0.0/16";
/// The first address of it, which the API server gives its own service.
pub const SERVICE_ADDRESS: [u8; 4] = [10, 126, 0, 1];

impl Layout<'_> {
    fn component(&self, name: &str) -> Program {
        Program::new(self.binaries.join(name))
    }

    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.home.join(format!("{user}.kubeconfig"))
    }

    fn certificate(&self, name: &str) -> String {
        self.certificates.certificate(name).display().to_string()
    }

    fn key(&self, name: &str) -> String {
        self.certificates.key(name).display().to_string()
    }

    pub fn etcd(&self) -> Program {
        let (client, peer) = (
            format!("http://{}", self.etcd),
            format!("http://{}", self.etcd_peer),
        );
        self.component("etcd")
            .flag("name", "lab")
            .flag("data-dir", self.home.join("etcd").display())
            .flag("listen-client-urls", &client)
            .flag("advertise-client-urls", &client)
            .flag("listen-peer-urls", &peer)
            .flag("initial-advertise-peer-urls", &peer)
            .flag("initial-cluster", format!("lab={peer}"))
            .flag("log-level", "warn")
            // The data need not outlive a crash of the machine.
            .arg("--unsafe-no-fsync")
    }

    pub fn api_server(&self) -> Program {
        let program = self
            .component("kube-apiserver")
            .flag("etcd-servers", format!("http://{}", self.etcd))
            .flag("bind-address", self.api_server.ip())
            .flag("advertise-address", self.api_server.ip())
            .flag("secure-port", self.api_server.port())
            .flag("service-cluster-ip-range", SERVICE_RANGE)
            .flag("authorization-mode", "Node,RBAC")
            .flag("enable-admission-plugins", "NodeRestriction")
            .flag("allow-privileged", "true")
            .flag("client-ca-file", self.certificate("ca"))
            .flag("tls-cert-file", self.certificate("apiserver"))
            .flag("tls-private-key-file", self.key("apiserver"))
            .flag("service-account-issuer", "https://kubernetes.default.svc")
            .flag("service-account-signing-key-file", self.key("service-accounts"))
            .flag(
                "service-account-key-file",
                self.certificates.public_key("service-accounts").display(),
            );
        let program = self.towards_kubelets(self.for_aggregation(program));
        match self.times {
            Times::Normal => program,
            Times::Short => program
                .flag("default-not-ready-toleration-seconds", 5)
                .flag("default-unreachable-toleration-seconds", 5),
        }
    }

    fn towards_kubelets(&self, program: Program) -> Program {
        program
            .flag("kubelet-certificate-authority", self.certificate("ca"))
            .flag(
                "kubelet-client-certificate",
                self.certificate("apiserver-kubelet-client"),
            )
            .flag("kubelet-client-key", self.key("apiserver-kubelet-client"))
            .flag("kubelet-preferred-address-types", "InternalIP")
    }

    /// Extension API servers, such as metrics-server, authenticate the API server by these.
    fn for_aggregation(&self, program: Program) -> Program {
        program
            .flag("requestheader-client-ca-file", self.certificate("front-proxy-ca"))
            .flag("requestheader-allowed-names", "front-proxy-client")
            .flag("requestheader-extra-headers-prefix", "X-Remote-Extra-")
            .flag("requestheader-group-headers", "X-Remote-Group")
            .flag("requestheader-username-headers", "X-Remote-User")
            .flag("proxy-client-cert-file", self.certificate("front-proxy-client"))
            .flag("proxy-client-key-file", self.key("front-proxy-client"))
            // There is no kube-proxy, so services are not reached by their address.
            .flag("enable-aggregator-routing", "true")
    }

    pub fn controller_manager(&self) -> Program {
        let program = self
            .delegating(
                "kube-controller-manager",
                "controller-manager",
                self.controller_manager,
            )
            .flag("use-service-account-credentials", "true")
            // At the default of 20 a second it takes 5 s until its forty controllers have their service accounts' tokens.
            .flag("kube-api-qps", 500)
            .flag("kube-api-burst", 1000)
            .flag("root-ca-file", self.certificate("ca"))
            // It makes this directory; the default is in /usr.
            .flag("flex-volume-plugin-dir", self.home.join("plugins").display())
            .flag("service-account-private-key-file", self.key("service-accounts"))
            .flag("cluster-signing-cert-file", self.certificate("ca"))
            .flag("cluster-signing-key-file", self.key("ca"));
        match self.times {
            Times::Normal => program,
            Times::Short => program
                .flag("node-monitor-grace-period", "8s")
                .flag("node-monitor-period", "1s"),
        }
    }

    pub fn scheduler(&self) -> Program {
        self.delegating("kube-scheduler", "scheduler", self.scheduler)
    }

    /// Components that ask the API server who calls them.
    fn delegating(&self, name: &str, user: &str, address: SocketAddr) -> Program {
        let kubeconfig = self.kubeconfig(user).display().to_string();
        self.component(name)
            .flag("kubeconfig", &kubeconfig)
            .flag("authentication-kubeconfig", &kubeconfig)
            .flag("authorization-kubeconfig", &kubeconfig)
            .flag("bind-address", address.ip())
            .flag("secure-port", address.port())
            .flag("leader-elect", "false")
    }

    pub fn always_ready_node(&self) -> Program {
        self.component("always-ready-node")
            .flag("kubeconfig", self.kubeconfig("admin").display())
    }

    /// What the API server's certificate is valid for.
    pub fn api_server_addresses(&self) -> Vec<IpAddr> {
        vec![
            self.api_server.ip(),
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(SERVICE_ADDRESS),
        ]
    }
}
