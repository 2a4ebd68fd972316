//! The Kubernetes that a site's kubelet serves: the lab's own, or one that exists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{ControlPlane, Lab, Output, Program};
use serde_json::{Value, json};

use crate::options::ClusterChoice;
use crate::{Detour, SiteError};

const COMMAND_LIMIT: Duration = Duration::from_mins(1);

/// A cluster, reached as administrator.
#[derive(Debug, Clone)]
pub struct Cluster {
    kubeconfig: PathBuf,
    kubectl: PathBuf,
}

impl Cluster {
    pub(crate) fn of(lab: &Lab, choice: &ClusterChoice) -> Result<Self, SiteError> {
        match choice {
            ClusterChoice::Own(_) => Ok(Self::of_control_plane(&lab.control_plane()?)),
            ClusterChoice::Existing { kubeconfig } => Ok(Self {
                kubeconfig: kubeconfig.clone(),
                kubectl: PathBuf::from("kubectl"),
            }),
        }
    }

    pub fn of_control_plane(control_plane: &ControlPlane) -> Self {
        Self {
            kubeconfig: control_plane.kubeconfig(),
            kubectl: control_plane.binary("kubectl"),
        }
    }

    /// Where the cluster's own kubectl is, unless it is the machine's.
    pub(crate) fn kubectl_directory(&self) -> Option<&Path> {
        self.kubectl.parent().filter(|directory| directory.is_absolute())
    }

    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// kubectl for this cluster.
    pub fn program(&self) -> Program {
        Program::new(&self.kubectl).flag("kubeconfig", self.kubeconfig.display())
    }

    /// Runs kubectl to its end.
    ///
    /// # Errors
    /// It failed; the error holds what it printed.
    pub fn kubectl<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<Output, SiteError> {
        Ok(self.program().args(arguments).run(COMMAND_LIMIT)?)
    }

    /// Applies a file.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn apply(&self, file: &Path) -> Result<(), SiteError> {
        self.kubectl(["apply", "-f", &file.display().to_string()])
            .map(drop)
    }

    /// The UID of `kube-system`, by which a cluster is told from another.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn uid(&self) -> Result<String, SiteError> {
        Ok(self
            .kubectl([
                "get",
                "namespace",
                "kube-system",
                "-o",
                "jsonpath={.metadata.uid}",
            ])?
            .stdout)
    }

    /// The address of the Service `kubernetes`, where pods find the API server: `host:port`.
    ///
    /// # Errors
    /// As [`kubectl`](Self::kubectl).
    pub fn service(&self) -> Result<String, SiteError> {
        let address = "jsonpath={.spec.clusterIP}:{.spec.ports[0].port}";
        let query = [
            "get",
            "service",
            "kubernetes",
            "--namespace",
            "default",
            "-o",
            address,
        ];
        Ok(self.kubectl(query)?.stdout)
    }

    /// How the administrator reaches the API server.
    pub(crate) fn access(&self) -> Result<ApiAccess, SiteError> {
        let view = self.kubectl(["config", "view", "--raw", "--minify", "-o", "json"])?;
        let config = serde_json::from_str(&view.stdout).map_err(|error| unexpected(error.to_string()))?;
        Ok(ApiAccess { config })
    }
}

/// A kubeconfig with one cluster and one user.
pub(crate) struct ApiAccess {
    config: Value,
}

impl ApiAccess {
    /// The API server's URL and the file with the certificate that it is verified against.
    pub fn server_and_authority(&self) -> Result<(String, PathBuf), SiteError> {
        let text = |pointer: &str| {
            let text = self.config.pointer(pointer).and_then(Value::as_str);
            text.ok_or_else(|| unexpected(format!("no {pointer}")))
        };
        let server = text("/clusters/0/cluster/server")?.to_owned();
        Ok((server, text("/clusters/0/cluster/certificate-authority")?.into()))
    }

    /// The same by way of a proxy.
    pub fn through(mut self, detour: &Detour) -> Self {
        if let Some(cluster) = self.config.pointer_mut("/clusters/0/cluster") {
            *cluster = json!({ "server": detour.url, "certificate-authority": detour.ca });
        }
        self
    }

    /// Writes a kubeconfig with a day's token of this service account.
    pub fn write_service_account_kubeconfig(
        mut self,
        cluster: &Cluster,
        path: &Path,
        namespace: &str,
        account: &str,
    ) -> Result<(), SiteError> {
        let token = cluster.kubectl(["create", "token", account, "-n", namespace, "--duration", "24h"])?;
        let user = self.config.pointer_mut("/users/0/user");
        let user = user.ok_or_else(|| unexpected("it names no user".to_owned()))?;
        *user = json!({ "token": token.stdout.trim() });
        crate::files::write_secret(path, &self.config.to_string())
    }
}

fn unexpected(problem: String) -> SiteError {
    SiteError::Unexpected {
        command: "kubectl config view",
        problem,
    }
}
