//! How a workload is called, and whom it can call: its hostname, `/etc/hosts` and `/etc/resolv.conf`.

use std::fmt::Write as _;
use std::net::IpAddr;

use edge_protocol::v1::{DnsPolicy, DnsSpec, HostAlias, Names};

/// The device's own part of resolving.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// The cluster's name servers, where the device can reach them.
    pub cluster_dns: Vec<IpAddr>,
    /// Such as `cluster.local`; empty means no search paths of the cluster's.
    pub cluster_domain: String,
    /// The device's own resolv.conf, that `Default` and the searches of `ClusterFirst` begin from; none means no resolver at all.
    pub resolv_conf: Option<std::path::PathBuf>,
}

/// What goes into a workload's resolv.conf.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResolvConf {
    pub servers: Vec<String>,
    pub searches: Vec<String>,
    pub options: Vec<String>,
    /// What the bounds left out, in the kubelet's words.
    pub left_out: Vec<String>,
}

/// The bounds of pkg/apis/core/validation/validation.go.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH: usize = 253;
const MAX_SEARCH_LINE: usize = 2048;
/// The longest name that the kernel takes.
const MAX_HOSTNAME: usize = 64;

/// The kernel's name for a workload cannot be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_HOSTNAME} characters is the max, {} characters requested)",
    .fqdn.len()
)]
pub struct NameTooLong {
    fqdn: String,
}

/// What the kernel calls it (`GetNodenameForKernel` of pkg/kubelet/util/util.go).
///
/// # Errors
/// It wants its whole name, and that is too long.
pub fn kernel_hostname(hostname: &str, names: &Names) -> Result<String, NameTooLong> {
    match names.fqdn.as_ref().filter(|_| names.hostname_is_fqdn) {
        Some(fqdn) if fqdn.len() > MAX_HOSTNAME => Err(NameTooLong { fqdn: fqdn.clone() }),
        Some(fqdn) => Ok(fqdn.clone()),
        None => Ok(hostname.to_owned()),
    }
}

/// `/etc/hosts` of a workload with addresses of its own, all of them (`managedHostsFileContent` of `pkg/kubelet/kubelet_pods.go`).
pub fn hosts(addresses: &[IpAddr], hostname: &str, names: &Names) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n\
        127.0.0.1\tlocalhost\n\
        ::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\n\
        fe00::0\tip6-mcastprefix\n\
        fe00::1\tip6-allnodes\n\
        fe00::2\tip6-allrouters\n"
        .to_owned();
    let names_of_it = match &names.fqdn {
        Some(fqdn) => format!("{fqdn}\t{hostname}"),
        None => hostname.to_owned(),
    };
    for address in addresses {
        // Writing to a String does not fail, here and below.
        let _ = writeln!(text, "{address}\t{names_of_it}");
    }
    text + &aliases(&names.host_aliases)
}

/// The same on the device's own network (`nodeHostsFileContent`).
pub fn hosts_of_device(of_device: &str, names: &Names) -> String {
    let aliases = aliases(&names.host_aliases);
    format!("# Kubernetes-managed hosts file (host network).\n{of_device}{aliases}")
}

fn aliases(aliases: &[HostAlias]) -> String {
    let mut text = String::new();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
    }
    for HostAlias { ip, hostnames } in aliases {
        let _ = writeln!(text, "{ip}\t{}", hostnames.join("\t"));
    }
    text
}

/// A resolv.conf as the kubelet writes it (`GetPodDNS` of pkg/kubelet/network/dns/dns.go). `of_device` is the text of the device's own.
pub fn resolv_conf(
    namespace: &str,
    spec: &DnsSpec,
    resolver: &Resolver,
    of_device: Option<&str>,
) -> ResolvConf {
    let mut conf = match (spec.policy, of_device) {
        (DnsPolicy::None, _) => ResolvConf::default(),
        (DnsPolicy::ClusterFirst, of_device) if !resolver.cluster_dns.is_empty() => {
            let of_device = of_device.map(parse).unwrap_or_default();
            ResolvConf {
                servers: resolver.cluster_dns.iter().map(ToString::to_string).collect(),
                searches: cluster_searches(namespace, &resolver.cluster_domain, of_device.searches),
                options: vec!["ndots:5".to_owned()],
                left_out: Vec::new(),
            }
        }
        (DnsPolicy::Default | DnsPolicy::ClusterFirst, Some(of_device)) => parse(of_device),
        // "Use the name server on the local machine", where there is none: nothing resolves, and nothing asks elsewhere.
        (DnsPolicy::Default | DnsPolicy::ClusterFirst, None) => ResolvConf {
            servers: vec!["127.0.0.1".to_owned()],
            searches: vec![".".to_owned()],
            ..ResolvConf::default()
        },
    };
    conf.servers = once(conf.servers.into_iter().chain(spec.nameservers.iter().cloned()));
    conf.searches = once(conf.searches.into_iter().chain(spec.searches.iter().cloned()));
    conf.options = merged(conf.options.into_iter().chain(spec.options.iter().cloned()));
    fit(&mut conf);
    conf
}

/// `formDNSConfigFitsLimits`
fn fit(conf: &mut ResolvConf) {
    if conf.servers.len() > MAX_SERVERS {
        conf.servers.truncate(MAX_SERVERS);
        conf.left_out.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {}",
            conf.servers.join(" ")
        ));
    }
    let wanted = conf.searches.len();
    conf.searches = fitting(std::mem::take(&mut conf.searches));
    if conf.searches.len() < wanted {
        conf.left_out.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {}",
            conf.searches.join(" ")
        ));
    }
}

fn cluster_searches(namespace: &str, domain: &str, of_device: Vec<String>) -> Vec<String> {
    if domain.is_empty() {
        return of_device;
    }
    let of_cluster = [
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.to_owned(),
    ];
    once(of_cluster.into_iter().chain(of_device))
}

/// `parseResolvConf`: servers accumulate, of search lines the last counts, of options of one name the last.
fn parse(text: &str) -> ResolvConf {
    let mut conf = ResolvConf::default();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let mut fields = line.split_whitespace();
        match fields.next() {
            Some("nameserver") => conf.servers.extend(fields.next().map(str::to_owned)),
            Some("search") => {
                let searches = fields.filter(|search| *search != ".");
                conf.searches = searches
                    .map(|search| search.strip_suffix('.').unwrap_or(search).to_owned())
                    .collect();
            }
            Some("options") => {
                conf.options = merged(conf.options.into_iter().chain(fields.map(str::to_owned)));
            }
            _ => {}
        }
    }
    conf
}

fn once(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for text in texts {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all
}

/// Options by name, the last of one name at the place of the first.
fn merged(options: impl Iterator<Item = String>) -> Vec<String> {
    let name = |option: &str| option.split(':').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = Vec::new();
    for option in options {
        match all.iter_mut().find(|earlier| name(earlier) == name(&option)) {
            Some(earlier) => *earlier = option,
            None => all.push(option),
        }
    }
    all
}

/// `formDNSSearchFitsLimits`
fn fitting(mut searches: Vec<String>) -> Vec<String> {
    searches.truncate(MAX_SEARCHES);
    searches.retain(|search| search.len() <= MAX_SEARCH);
    while searches.iter().map(|search| search.len() + 1).sum::<usize>() > MAX_SEARCH_LINE + 1 {
        searches.pop();
    }
    searches
}

#[cfg(test)]
mod tests;
