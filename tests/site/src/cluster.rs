//! The Kubernetes that a site's kubelet serves: the lab's own, or one that exists.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{ControlPlane, Lab, Output, Program};

use crate::SiteError;
use crate::options::ClusterChoice;

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

    /// Writes a kubeconfig with a day's token of this service account, by way of the administrator's own file.
    pub(crate) fn write_service_account_kubeconfig(
        &self,
        path: &Path,
        namespace: &str,
        account: &str,
    ) -> Result<(), SiteError> {
        let token = self.kubectl(["create", "token", account, "-n", namespace, "--duration", "24h"])?;
        let view = self.kubectl(["config", "view", "--raw", "--minify", "-o", "json"])?;
        let unexpected = |problem: String| SiteError::Unexpected {
            command: "kubectl config view",
            problem,
        };
        let mut config: serde_json::Value =
            serde_json::from_str(&view.stdout).map_err(|error| unexpected(error.to_string()))?;
        let user = config
            .pointer_mut("/users/0/user")
            .ok_or_else(|| unexpected("it names no user".to_owned()))?;
        *user = serde_json::json!({ "token": token.stdout.trim() });
        crate::files::write_secret(path, &config.to_string())
    }
}
