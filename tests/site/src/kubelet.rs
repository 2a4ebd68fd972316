//! The kubelet of a site: rights, configuration, process, readiness.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Lab, Paths, Process, Program};

use crate::cluster::ApiAccess;
use crate::files::{self, quoted};
use crate::hub::{self, HubFiles};
use crate::options::{DeviceNodes, NamespaceRule, Scrutiny, Server};
use crate::{Cluster, HubAccess, Programs, SiteError, detour};

pub(crate) const PROCESS: &str = "kubelet";
/// Where its service account and its leader lease are; `charts/` names them too.
const NAMESPACE: &str = "outrigger-system";
const ACCOUNT: &str = "outrigger-kubelet";
const READY_LIMIT: Duration = Duration::from_mins(1);

/// What a kubelet serves.
pub(crate) struct KubeletPlan<'a> {
    pub node: &'a str,
    pub namespaces: &'a [NamespaceRule],
    pub device_nodes: DeviceNodes,
    pub kubelet_api: bool,
    pub open_figures: Option<u16>,
    pub detours: &'a [Server],
    pub scrutiny: Scrutiny,
    pub hub: &'a HubAccess,
}

impl KubeletPlan<'_> {
    /// Gives it exactly the rights that `charts/` writes out, and starts it.
    pub fn start(
        &self,
        lab: &Lab,
        cluster: &Cluster,
        programs: &Programs,
        hub_files: &HubFiles,
    ) -> Result<Process, SiteError> {
        let directory = lab.directory().join("kubelet");
        files::create_dir(&directory)?;
        let charts = Paths::default().workspace.join("charts");
        cluster.apply(&charts.join("rbac.yaml"))?;
        if self.device_nodes == DeviceNodes::Tagged {
            cluster.apply(&charts.join("rbac-device-nodes.yaml"))?;
        }
        if self.kubelet_api {
            for rights in ["rbac-reviews.yaml", "rbac-serving.yaml", "rbac-approver.yaml"] {
                cluster.apply(&charts.join(rights))?;
            }
        }
        let kubeconfig = directory.join("kubeconfig");
        let access = self.api_access(lab, cluster, programs)?;
        access.write_service_account_kubeconfig(cluster, &kubeconfig, NAMESPACE, ACCOUNT)?;
        let (hub_url, hub_ca) = self.hub_access(lab, programs)?;
        let token_file = directory.join("hub.token");
        let cluster_uid = cluster.uid()?;
        files::write_secret(
            &token_file,
            &hub_files.provider_token(programs, self.token_node(), &cluster_uid)?,
        )?;
        let config = directory.join("kubelet.toml");
        let address = IpAddr::from(lab.address()?);
        let health = hub::free(address)?;
        let mut text = format!(
            "[node]\nname = {node}\nip = {ip}\n\n\
             [hub]\nurl = {url}\nca_file = {ca}\ntoken_file = {token}\n\n\
             [health]\nlisten = {health}\n\n\
             [log]\nfilter = {log}\n\n\
             [kubernetes]\nkubeconfig = {kubeconfig}\napi_server = {{ external = {service} }}\n",
            node = quoted(self.node),
            ip = quoted(address),
            url = quoted(hub_url),
            ca = quoted(hub_ca.display()),
            token = quoted(token_file.display()),
            health = quoted(health),
            log = quoted(self.scrutiny.log_filter()),
            kubeconfig = quoted(kubeconfig.display()),
            service = quoted(cluster.service()?),
        );
        if self.device_nodes == DeviceNodes::Tagged {
            text.push_str(
                "\n[device_nodes]\ncondition = \"tags.node = 'true'\"\nroutable = [\"10.0.0.0/8\"]\n",
            );
        }
        if self.kubelet_api {
            self.write_kubelet_api(&mut text, address)?;
        }
        for rule in self.namespaces {
            write_rule(&mut text, rule);
        }
        files::write(&config, &text)?;
        spawn(lab, programs, &config)
    }

    /// A machine may have several sites: each listens on its own address.
    fn write_kubelet_api(&self, text: &mut String, address: IpAddr) -> Result<(), SiteError> {
        let port = match self.open_figures {
            Some(port) => port,
            None => hub::free(address)?.port(),
        };
        write!(
            text,
            "\n[kubelet_api]\nlisten = {listen}\nport = {port}\ninsecure_stats = {insecure}\n",
            listen = quoted(address),
            insecure = self.open_figures.is_some(),
        )
        .expect("writing to a String cannot fail");
        Ok(())
    }

    /// The one node that its token is for, unless it serves others too.
    fn token_node(&self) -> Option<&str> {
        match self.device_nodes {
            DeviceNodes::None => Some(self.node),
            DeviceNodes::Tagged => None,
        }
    }

    /// The API server as the administrator knows it, or the detour to it.
    fn api_access(&self, lab: &Lab, cluster: &Cluster, programs: &Programs) -> Result<ApiAccess, SiteError> {
        let access = cluster.access()?;
        if !self.detours.contains(&Server::Api) {
            return Ok(access);
        }
        let (url, ca) = access.server_and_authority()?;
        Ok(access.through(&detour::start(lab, programs, Server::Api, &url, &ca)?))
    }

    fn hub_access(&self, lab: &Lab, programs: &Programs) -> Result<(String, PathBuf), SiteError> {
        let (url, ca) = (&self.hub.url, &self.hub.ca);
        if !self.detours.contains(&Server::Hub) {
            return Ok((url.clone(), ca.clone()));
        }
        let detour = detour::start(lab, programs, Server::Hub, url, ca)?;
        Ok((detour.url, detour.ca))
    }
}

fn write_rule(text: &mut String, rule: &NamespaceRule) {
    let labels: Vec<String> = rule
        .selector
        .iter()
        .map(|(key, value)| format!("{} = {}", quoted(key), quoted(value)))
        .collect();
    let scope = quoted(&rule.scope);
    write!(
        text,
        "\n[[namespaces]]\nselector = {{ match_labels = {{ {} }} }}\nscope = {scope}\n",
        labels.join(", ")
    )
    .expect("writing to a String cannot fail");
    if rule.all_rights {
        text.push_str("rights = { privileged = true, host_namespaces = true, host_path = true }\n");
    }
    if let Some(condition) = &rule.default_condition {
        writeln!(text, "default_condition = {}", quoted(condition)).expect("writing to a String cannot fail");
    }
}

fn spawn(lab: &Lab, programs: &Programs, config: &Path) -> Result<Process, SiteError> {
    let program = Program::new(programs.kubelet()?)
        .args(["run", "--config"])
        .arg(config.display().to_string());
    Ok(lab.spawn(PROCESS, program)?)
}

/// Waits until the fleet node is Ready.
pub(crate) fn wait_until_ready(cluster: &Cluster, process: &Process, node: &str) -> Result<(), SiteError> {
    let query = [
        "get",
        "node",
        node,
        "-o",
        "jsonpath={.status.conditions[?(@.type=='Ready')].status}",
        "--ignore-not-found",
    ];
    let ready = || Ok(cluster.kubectl(query).is_ok_and(|output| output.stdout == "True"));
    Ok(process.until("the fleet node is Ready", READY_LIMIT, ready)?)
}
