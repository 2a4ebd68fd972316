//! The agent's configuration: read once, checked once, then only values that are known to be good.

mod eviction;
mod images;
mod logs;
mod proxy;
mod stats;
mod streams;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use edge_protocol::DeviceId;
use serde::Deserialize;

pub use self::eviction::EvictionOptions;
use self::eviction::EvictionSection;
pub use self::images::ImageOptions;
use self::images::ImageSection;
use self::logs::LogSection;
pub use self::logs::{KeepLogs, LogOptions};
use self::proxy::ProxySetting;
pub use self::proxy::ProxyVariables;
pub use self::stats::StatsOptions;
use self::stats::StatsSection;
pub use self::streams::StreamOptions;
use self::streams::StreamSection;
use crate::dial::Endpoint;
use crate::runtime::names::Resolver;
use crate::runtime::policy::{Policy, PolicyError};

/// The file as people write it. See `docs/agent.md`.
#[derive(Debug, Deserialize)]
struct File {
    state_dir: PathBuf,
    hub: HubSection,
    #[serde(default)]
    runtime: RuntimeSection,
    #[serde(default)]
    dns: DnsSection,
    #[serde(default)]
    images: ImageSection,
    #[serde(default)]
    eviction: EvictionSection,
    #[serde(default)]
    logs: LogSection,
    #[serde(default)]
    stats: StatsSection,
    #[serde(default)]
    enrolment: EnrolmentSection,
    #[serde(default)]
    local: LocalSection,
    #[serde(default)]
    streams: StreamSection,
}

#[derive(Debug, Deserialize)]
struct HubSection {
    /// `host:port` of the hub's device port, tried in order.
    endpoints: Vec<String>,
    /// `http://host:port`, or `direct`. Absent: as the environment says.
    proxy: Option<String>,
    /// A file with `user:password` for the proxy.
    proxy_credentials_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct RuntimeSection {
    socket: PathBuf,
    cgroup_root: String,
    log_dir: PathBuf,
    /// Below it are the files that `Localhost` seccomp profiles name.
    seccomp_dir: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct DnsSection {
    /// Name servers of the cluster that this device can reach.
    cluster_dns: Vec<IpAddr>,
    cluster_domain: String,
    /// Empty means that workloads resolve nothing but what they bring.
    resolv_conf: PathBuf,
}

impl Default for DnsSection {
    fn default() -> Self {
        Self {
            cluster_dns: Vec::new(),
            cluster_domain: String::new(),
            resolv_conf: "/etc/resolv.conf".into(),
        }
    }
}

impl Default for RuntimeSection {
    fn default() -> Self {
        Self {
            socket: "/run/containerd/containerd.sock".into(),
            cgroup_root: "/outrigger".into(),
            log_dir: "/var/log/outrigger/pods".into(),
            seccomp_dir: "/etc/outrigger/seccomp".into(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct EnrolmentSection {
    device: Option<String>,
    token_file: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
struct LocalSection {
    socket: Option<PathBuf>,
    boot_id_file: PathBuf,
    /// What this device refuses to run.
    policy_file: PathBuf,
    max_pods: u32,
    stop_timeout_s: u64,
}

impl Default for LocalSection {
    fn default() -> Self {
        Self {
            socket: None,
            boot_id_file: "/proc/sys/kernel/random/boot_id".into(),
            policy_file: "/etc/outrigger/policy.toml".into(),
            max_pods: 110,
            stop_timeout_s: 10,
        }
    }
}

/// Checked options.
#[derive(Debug, Clone)]
pub struct Options {
    pub state_dir: PathBuf,
    pub endpoints: Vec<Endpoint>,
    pub runtime: RuntimeOptions,
    pub images: ImageOptions,
    pub eviction: EvictionOptions,
    pub streams: StreamOptions,
    pub stats: StatsOptions,
    /// The id to ask for at enrolment; the hub's token may fix another.
    pub device: Option<DeviceId>,
    pub token_file: Option<PathBuf>,
    /// Where `/healthz`, `/readyz` and `/metrics` are served; only processes of this machine can reach a socket file.
    pub local_socket: PathBuf,
    pub boot_id_file: PathBuf,
    pub max_pods: u32,
    /// How long a clean stop may take before the process ends regardless. Workloads go on either way.
    pub stop_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    pub socket: PathBuf,
    pub cgroup_root: String,
    pub log_dir: PathBuf,
    pub logs: LogOptions,
    pub resolver: Resolver,
    pub seccomp_dir: PathBuf,
    pub policy: Policy,
}

/// What is wrong with a configuration file, and where.
#[derive(Debug, thiserror::Error)]
pub enum OptionsError {
    #[error("cannot read {path}")]
    Unreadable {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is not valid")]
    Malformed {
        path: PathBuf,
        #[source]
        source: toml::de::Error,
    },
    #[error("the device's policy cannot be obeyed")]
    Policy(#[from] PolicyError),
    #[error("{path}: {field} {problem}")]
    Invalid {
        path: PathBuf,
        field: &'static str,
        problem: String,
    },
}

/// Options, and the keys of the file that this version does not know.
///
/// `check-config` treats unknown keys as errors. `run` only warns, so that an agent that was downgraded still starts.
#[derive(Debug)]
pub struct Loaded {
    pub options: Options,
    pub unknown_keys: Vec<String>,
}

/// Reads and checks the file; where it says nothing of a proxy, the environment's words count.
///
/// # Errors
/// [`OptionsError`] names the file, and the field or line.
pub fn load(path: &Path, variables: &ProxyVariables) -> Result<Loaded, OptionsError> {
    let text = std::fs::read_to_string(path).map_err(|source| OptionsError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    let malformed = |source| OptionsError::Malformed {
        path: path.to_owned(),
        source,
    };
    let mut unknown_keys = Vec::new();
    let document = toml::Deserializer::parse(&text).map_err(malformed)?;
    let file: File =
        serde_ignored::deserialize(document, |key| unknown_keys.push(key.to_string())).map_err(malformed)?;
    let options = check(path, file, variables)?;
    Ok(Loaded {
        options,
        unknown_keys,
    })
}

fn check(path: &Path, file: File, variables: &ProxyVariables) -> Result<Options, OptionsError> {
    let File {
        state_dir,
        hub,
        runtime,
        dns,
        images,
        eviction,
        logs,
        stats,
        enrolment,
        local,
        streams,
    } = file;
    let invalid = |field, problem: String| OptionsError::Invalid {
        path: path.to_owned(),
        field,
        problem,
    };
    if !state_dir.is_absolute() {
        return Err(invalid("state_dir", "must be an absolute path".to_owned()));
    }
    let named = |(field, problem)| invalid(field, problem);
    let endpoints = hub.check(variables).map_err(named)?;
    let device = enrolment
        .device
        .map(DeviceId::new)
        .transpose()
        .map_err(|error| invalid("enrolment.device", error.to_string()))?;
    if !runtime.cgroup_root.starts_with('/') || runtime.cgroup_root.split('/').any(|part| part == "..") {
        return Err(invalid(
            "runtime.cgroup_root",
            "must be an absolute cgroup path without '..'".to_owned(),
        ));
    }
    let eviction = eviction.check().map_err(named)?;
    let stats = stats.check().map_err(named)?;
    let images = images.check().map_err(named)?;
    let logs = logs.check().map_err(named)?;
    let RuntimeSection {
        socket,
        cgroup_root,
        log_dir,
        seccomp_dir,
    } = runtime;
    let DnsSection {
        cluster_dns,
        cluster_domain,
        resolv_conf,
    } = dns;
    let LocalSection {
        socket: local_socket,
        boot_id_file,
        policy_file,
        max_pods,
        stop_timeout_s,
    } = local;
    let policy = Policy::load(&policy_file)?;
    let streams = streams
        .check(&state_dir, policy_file)
        .map_err(|(field, problem)| invalid(field, problem))?;
    Ok(Options {
        local_socket: local_socket.unwrap_or_else(|| state_dir.join("agent.sock")),
        state_dir,
        endpoints,
        runtime: RuntimeOptions {
            socket,
            cgroup_root,
            log_dir,
            logs,
            resolver: Resolver {
                cluster_dns,
                cluster_domain: cluster_domain.trim_matches('.').to_owned(),
                resolv_conf: (!resolv_conf.as_os_str().is_empty()).then_some(resolv_conf),
            },
            seccomp_dir,
            policy,
        },
        images,
        eviction,
        streams,
        stats,
        device,
        token_file: enrolment.token_file,
        boot_id_file,
        max_pods,
        stop_timeout: Duration::from_secs(stop_timeout_s),
    })
}

impl HubSection {
    /// The endpoints, each with the way there.
    fn check(self, variables: &ProxyVariables) -> Result<Vec<Endpoint>, (&'static str, String)> {
        let Self {
            endpoints,
            proxy,
            proxy_credentials_file,
        } = self;
        let field = "hub.endpoints";
        if endpoints.is_empty() {
            return Err((field, "needs at least one \"host:port\"".to_owned()));
        }
        let mut endpoints = endpoints
            .iter()
            .map(|text| endpoint(text).ok_or_else(|| (field, format!("{text:?} is not \"host:port\""))))
            .collect::<Result<Vec<_>, _>>()?;
        let setting = ProxySetting {
            proxy,
            credentials_file: proxy_credentials_file,
        };
        setting.apply(&mut endpoints, variables)?;
        Ok(endpoints)
    }
}

/// `host:port`, `1.2.3.4:443` or `[2001:db8::1]:443`.
fn endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let host = match bracketed {
        Some(address) => address,
        None if host.contains(':') => return None,
        None => host,
    };
    let port = port.parse().ok().filter(|port| *port != 0)?;
    (!host.is_empty()).then(|| Endpoint::direct(host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Loaded, OptionsError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, text).unwrap();
        load(&path, &ProxyVariables::default())
    }

    #[test]
    fn a_minimal_file_is_enough() {
        let loaded = load_text(
            "state_dir = '/var/lib/outrigger'\n[hub]\nendpoints = ['hub.example:443', '[::1]:8443']\n",
        )
        .unwrap();
        assert!(loaded.unknown_keys.is_empty());
        assert_eq!(loaded.options.endpoints[1], Endpoint::direct("::1", 8443));
        assert_eq!(
            loaded.options.local_socket,
            Path::new("/var/lib/outrigger/agent.sock")
        );
    }

    #[test]
    fn unknown_keys_are_told_apart_from_wrong_ones() {
        let loaded =
            load_text("state_dir = '/s'\nfuture = 1\n[hub]\nendpoints = ['h:1']\nmood = 'x'\n").unwrap();
        assert_eq!(loaded.unknown_keys, ["future", "hub.mood"]);
    }

    #[test]
    fn workloads_resolve_as_the_device_unless_it_says_otherwise() {
        let of = |more: &str| {
            let text = format!("state_dir = '/s'\n[hub]\nendpoints = ['h:1']\n{more}");
            load_text(&text).unwrap().options.runtime.resolver
        };
        assert_eq!(of("").resolv_conf.as_deref(), Some(Path::new("/etc/resolv.conf")));
        let cluster =
            of("[dns]\ncluster_dns = ['10.96.0.10']\ncluster_domain = 'cluster.local.'\nresolv_conf = ''\n");
        assert_eq!(
            (cluster.cluster_dns.len(), cluster.cluster_domain.as_str()),
            (1, "cluster.local")
        );
        assert_eq!(cluster.resolv_conf, None);
    }

    #[test]
    fn a_policy_that_cannot_be_obeyed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("policy.toml");
        let text =
            format!("state_dir = '/s'\n[hub]\nendpoints = ['h:1']\n[local]\npolicy_file = {policy:?}\n");
        std::fs::write(&policy, "forbid_privileged = true\n").unwrap();
        assert!(load_text(&text).unwrap().options.runtime.policy.forbid_privileged);
        std::fs::write(&policy, "forbid_everything = true\n").unwrap();
        check_error(&text, "policy.toml is not valid");
    }

    #[test]
    fn what_is_kept_about_streams_is_in_the_state_directory_unless_it_says_otherwise() {
        let of = |more: &str| {
            let text = format!("state_dir = '/s'\n[hub]\nendpoints = ['h:1']\n{more}");
            load_text(&text).unwrap().options.streams
        };
        let streams = of("");
        assert!(streams.enabled);
        assert_eq!(streams.off_file, Path::new("/s/streams-off"));
        assert_eq!(streams.policy_file, Path::new("/etc/outrigger/policy.toml"));
        let streams = of("[streams]\nenabled = false\nlog_file = '/var/log/streams'\n");
        assert_eq!(
            (streams.enabled, streams.log_file.as_path()),
            (false, Path::new("/var/log/streams"))
        );
    }

    #[track_caller]
    fn check_error(text: &str, names: &str) {
        let error = load_text(text).unwrap_err();
        let whole = format!(
            "{error}: {:?}",
            std::error::Error::source(&error).map(ToString::to_string)
        );
        assert!(whole.contains(names), "{whole}");
    }

    #[test]
    fn errors_name_the_field() {
        check_error(
            "state_dir = 'relative'\n[hub]\nendpoints = ['h:1']\n",
            "state_dir",
        );
        check_error("state_dir = '/s'\n[hub]\nendpoints = []\n", "hub.endpoints");
        check_error("state_dir = '/s'\n[hub]\nendpoints = ['nohost']\n", "nohost");
        check_error("state_dir = '/s'\n[hub]\nendpoints = ['::1:443']\n", "::1:443");
        check_error(
            "state_dir = '/s'\n[hub]\nendpoints = ['h:1']\n[enrolment]\ndevice = 'A'\n",
            "enrolment.device",
        );
        check_error(
            "state_dir = '/s'\n[hub]\nendpoints = ['h:1']\n[streams]\nmax = 0\n",
            "streams.max",
        );
        check_error("state_dir = 7\n", "state_dir");
    }
}
