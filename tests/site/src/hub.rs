//! The hub of a site: authority, configuration, tokens, process.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{Lab, Process, Program, until};
use serde::{Deserialize, Serialize};

use crate::files::{self, quoted};
use crate::options::{DeviceSpec, Scrutiny};
use crate::{Programs, SiteError};

pub(crate) const PROCESS: &str = "hub";
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How people and programs reach a site's hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HubAccess {
    /// `https://host:port` of the REST API.
    pub url: String,
    /// The certificate that the REST API's own leads to.
    pub ca: PathBuf,
    /// A file with an API token that may do everything.
    pub token_file: PathBuf,
    /// The one port for devices.
    pub device_port: SocketAddr,
    pub health_port: SocketAddr,
}

/// The hub's directory within a site.
pub(crate) struct HubFiles {
    directory: PathBuf,
}

impl HubFiles {
    pub fn in_site(site: &Path) -> Self {
        Self {
            directory: site.join("hub"),
        }
    }

    pub fn config(&self) -> PathBuf {
        self.directory.join("hub.toml")
    }

    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca")
    }

    /// Makes authority, configuration and the administrator's token. The ports stay the same over restarts, as in production.
    pub fn create(&self, programs: &Programs, lab: &Lab, scrutiny: Scrutiny) -> Result<HubAccess, SiteError> {
        files::create_dir(&self.directory)?;
        let hub = programs.hub()?;
        Program::new(&hub)
            .args(["ca", "init", "--dir"])
            .arg(self.ca().display().to_string())
            .run(COMMAND_LIMIT)?;
        let address = IpAddr::from(lab.address()?);
        let (device_port, rest_port, health_port) = (free(address)?, free(address)?, free(address)?);
        files::write(
            &self.config(),
            &self.config_text(device_port, rest_port, health_port, scrutiny),
        )?;
        let token = self.admin_token(programs)?;
        let token_file = self.directory.join("admin.token");
        files::write_secret(&token_file, &token)?;
        Ok(HubAccess {
            url: format!("https://{rest_port}"),
            ca: self.ca().join("root.crt"),
            token_file,
            device_port,
            health_port,
        })
    }

    fn config_text(
        &self,
        device: SocketAddr,
        rest: SocketAddr,
        health: SocketAddr,
        scrutiny: Scrutiny,
    ) -> String {
        format!(
            "state_dir = {state}\nca_dir = {ca}\n\n\
             [device]\nlisten = {device}\nenroll_per_minute = 600\n\n\
             [rest]\nlisten = {rest}\nnames = [{name}]\n\n\
             [health]\nlisten = {health}\n\n\
             [log]\nfilter = {log}\n",
            state = quoted(self.directory.join("state").display()),
            ca = quoted(self.ca().display()),
            device = quoted(device),
            name = quoted(rest.ip()),
            rest = quoted(rest),
            health = quoted(health),
            log = quoted(scrutiny.log_filter()),
        )
    }

    /// A token that may do everything.
    fn admin_token(&self, programs: &Programs) -> Result<String, SiteError> {
        self.token(programs, &["--principal", "site-admin", "--role", "admin"])
    }

    /// A token for the virtual nodes of one cluster, or for one of them.
    pub fn provider_token(
        &self,
        programs: &Programs,
        node: Option<&str>,
        cluster_uid: &str,
    ) -> Result<String, SiteError> {
        let principal = format!("kubelet-{}", node.unwrap_or("devices"));
        let rule = [
            "--principal",
            &principal,
            "--role",
            "provider",
            "--streams",
            "--cluster-uid",
            cluster_uid,
        ];
        let node = node.map(|node| ["--node", node]);
        self.token(programs, &[&rule[..], node.as_slice().as_flattened()].concat())
    }

    /// Created against the store, as an operator does on the hub's machine; the hub may run.
    fn token(&self, programs: &Programs, arguments: &[&str]) -> Result<String, SiteError> {
        let output = Program::new(programs.hub()?)
            .args(["token", "create", "--config"])
            .arg(self.config().display().to_string())
            .args(arguments.iter().copied())
            .run(COMMAND_LIMIT)?;
        last_line("outrigger-hub token create", &output.stdout)
    }
}

impl HubAccess {
    /// Waits until the hub says it is ready.
    pub fn wait_until_ready(&self, process: &Process) -> Result<(), SiteError> {
        let answers =
            || {
                Ok(http_get(self.health_port, "/readyz")
                    .is_some_and(|answer| answer.starts_with("HTTP/1.1 200")))
            };
        Ok(process.until("the hub is ready", READY_LIMIT, answers)?)
    }

    /// The `outrigger` command line for this hub.
    pub fn cli(&self, programs: &Programs) -> Result<Program, SiteError> {
        Ok(Program::new(programs.cli()?)
            .env("OUTRIGGER_HUB", &self.url)
            .env("OUTRIGGER_CA", self.ca.display().to_string())
            .env("OUTRIGGER_TOKEN", files::read(&self.token_file)?.trim()))
    }

    /// A token that lets exactly this device in.
    pub fn enrolment_token(&self, programs: &Programs, device: &DeviceSpec) -> Result<String, SiteError> {
        let mut create = self.cli(programs)?.args([
            "enrolment-token",
            "create",
            "--uses",
            "1",
            "--device",
            &device.name,
        ]);
        for (key, value) in &device.tags {
            create = create.arg("--tag").arg(format!("{key}={value}"));
        }
        last_line(
            "outrigger enrolment-token create",
            &create.run(COMMAND_LIMIT)?.stdout,
        )
    }

    /// Waits until these devices are connected.
    pub fn wait_until_connected(&self, programs: &Programs, devices: &[&str]) -> Result<(), SiteError> {
        let list = self.cli(programs)?.args(["device", "ls", "-o", "json"]);
        Ok(until("all devices are connected", READY_LIMIT * 2, || {
            let text = list.run(COMMAND_LIMIT)?.stdout;
            let known: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap_or_default();
            let connected = |name: &&str| {
                known
                    .iter()
                    .any(|device| device["id"] == **name && device["connected"] == true)
            };
            Ok(devices.iter().all(connected))
        })?)
    }
}

pub(crate) fn spawn(lab: &Lab, programs: &Programs, files: &HubFiles) -> Result<Process, SiteError> {
    let program = Program::new(programs.hub()?)
        .args(["run", "--config"])
        .arg(files.config().display().to_string());
    Ok(lab.spawn(PROCESS, program)?)
}

/// A port that is free now. Nothing else on the lab's own address takes ports at random.
pub(crate) fn free(address: IpAddr) -> Result<SocketAddr, SiteError> {
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .map_err(|source| SiteError::File {
            path: format!("a port of {address}").into(),
            source,
        })
}

/// One plain request; `None` when nobody answers.
pub(crate) fn http_get(address: SocketAddr, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
    )
    .ok()?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn last_line(command: &'static str, text: &str) -> Result<String, SiteError> {
    let line = text
        .trim()
        .lines()
        .last()
        .map(str::trim)
        .filter(|line| !line.is_empty());
    line.map(ToOwned::to_owned).ok_or_else(|| SiteError::Unexpected {
        command,
        problem: "it printed nothing".to_owned(),
    })
}
