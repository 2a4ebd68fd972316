//! A pod's names, and how it resolves others.
//!
//! Sources in Kubernetes 1.37: `GeneratePodHostNameAndDomain` and `truncatePodHostnameIfNeeded` of `pkg/kubelet/kubelet_pods.go`,
//! `GetNodenameForKernel` of `pkg/kubelet/util/util.go`, `getPodDNSType` of `pkg/kubelet/network/dns/dns.go`.

use edge_protocol::v1::{DnsPolicy, DnsSpec, HostAlias, Names};
use k8s_openapi::api::core::v1::{PodDNSConfig, PodSpec};

use super::{accept, stated};
use crate::node::{Context, NodeKind};
use crate::refusal::{Path, Refusal};

/// Longest host name that Linux takes.
const HOSTNAME: usize = 63;
/// Longest name that its kernel keeps.
const KERNEL_NAME: usize = 64;

/// The host name, and the rest. `None` only together with a new refusal.
pub(super) fn names(
    spec: &PodSpec,
    (namespace, name): (&str, &str),
    context: Context<'_>,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<(String, Names)> {
    let hostname = stated(spec.hostname_override.as_ref()).or_else(|| stated(spec.hostname.as_ref()));
    let hostname = cut(hostname.as_deref().unwrap_or(name));
    let subdomain = stated(spec.subdomain.as_ref()).filter(|_| spec.hostname_override.is_none());
    let fqdn = subdomain.map(|subdomain| {
        let domain = context.cluster_domain;
        format!("{hostname}.{subdomain}.{namespace}.svc.{domain}")
    });
    let hostname_is_fqdn = spec.set_hostname_as_fqdn.unwrap_or_default();
    let too_long = hostname_is_fqdn && fqdn.as_ref().is_some_and(|fqdn| fqdn.len() > KERNEL_NAME);
    let fits = if too_long {
        Err("the fully qualified name is longer than the 64 characters that a kernel keeps")
    } else {
        Ok(())
    };
    let fits = accept(fits, &path.field("setHostnameAsFQDN"), refused);
    let policy = accept(policy(spec, context.kind), &path.field("dnsPolicy"), refused);
    let aliases = spec.host_aliases.iter().flatten().map(|alias| HostAlias {
        ip: alias.ip.clone(),
        hostnames: alias.hostnames.clone().unwrap_or_default(),
    });
    let names = Names {
        fqdn,
        hostname_is_fqdn,
        host_aliases: aliases.collect(),
        dns: dns(policy?, spec.dns_config.as_ref()),
    };
    fits.map(|()| (hostname, names))
}

/// On a fleet there is no cluster's resolver.
fn policy(spec: &PodSpec, kind: NodeKind) -> Result<DnsPolicy, &'static str> {
    let host_network = spec.host_network.unwrap_or_default();
    let asked = match spec.dns_policy.as_deref() {
        None | Some("" | "ClusterFirst") if host_network => DnsPolicy::Default,
        None | Some("" | "ClusterFirst" | "ClusterFirstWithHostNet") => DnsPolicy::ClusterFirst,
        Some("Default") => DnsPolicy::Default,
        Some("None") => DnsPolicy::None,
        Some(_) => return Err("must be ClusterFirst, ClusterFirstWithHostNet, Default or None"),
    };
    Ok(match (kind, asked) {
        (NodeKind::Fleet, DnsPolicy::ClusterFirst) => DnsPolicy::Default,
        (_, asked) => asked,
    })
}

fn dns(policy: DnsPolicy, config: Option<&PodDNSConfig>) -> DnsSpec {
    let list = |of: fn(&PodDNSConfig) -> &Option<Vec<String>>| {
        config.and_then(|config| of(config).clone()).unwrap_or_default()
    };
    let options = config.iter().flat_map(|config| config.options.iter().flatten());
    let options = options.map(|option| {
        let name = option.name.clone().unwrap_or_default();
        match &option.value {
            Some(value) => format!("{name}:{value}"),
            None => name,
        }
    });
    DnsSpec {
        policy,
        nameservers: list(|config| &config.nameservers),
        searches: list(|config| &config.searches),
        options: options.collect(),
    }
}

/// A host name of at most 63 bytes.
fn cut(name: &str) -> String {
    if name.len() <= HOSTNAME {
        return name.to_owned();
    }
    let end = (0..=HOSTNAME)
        .rev()
        .find(|end| name.is_char_boundary(*end))
        .unwrap_or(0);
    name[..end].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_cut_as_the_kubelet_cuts_it() {
        assert_eq!(cut("web-6d4b75cb6d-x7v2p"), "web-6d4b75cb6d-x7v2p");
        assert_eq!(cut(&"a".repeat(63)), "a".repeat(63));
        assert_eq!(
            cut(&format!("{}-.{}", "a".repeat(61), "b".repeat(20))),
            "a".repeat(61)
        );
        assert_eq!(cut(&"ü".repeat(60)), "ü".repeat(31));
    }
}
