//! The variables of services, as a kubelet makes them.
//!
//! Sources in Kubernetes 1.37: `FromServices` of `pkg/kubelet/envvars/envvars.go`, `getServiceEnvVarMap` of
//! `pkg/kubelet/kubelet_pods.go`, `IsServiceIPSet` of `pkg/apis/core/v1/helper/helpers.go`.

use std::collections::BTreeMap;

use edge_protocol::v1::ObjectData;
use edge_protocol::v1::object::kind;
use serde_json::{Value, json};

use super::SERVICES;
use super::convert::empty;
use crate::references::ServiceVariables;

const MASTER: &str = "kubernetes";
const MASTER_NAMESPACE: &str = "default";

/// Where pods on devices find the API server, that is, what `KUBERNETES_SERVICE_HOST` and its like say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiServer<'a> {
    /// The cluster's own address of it, for devices that can route there.
    InCluster,
    /// An address that devices reach.
    External { host: &'a str, port: u16 },
    /// It cannot be reached from devices: no such variables.
    Unreachable,
}

/// The object of service variables for pods of `namespace`, or `None` where none are wanted.
///
/// `services` are the raw JSON of all Services that may matter: those of the namespace, and `kubernetes` of `default`, which counts
/// everywhere and whatever `enableServiceLinks` says. Equal services give equal bytes, in any order.
pub fn services(
    wanted: ServiceVariables,
    namespace: &str,
    services: &[Value],
    api_server: ApiServer<'_>,
) -> Option<ObjectData> {
    if wanted == ServiceVariables::None {
        return None;
    }
    let external = match api_server {
        ApiServer::External { host, port } => Some(master(host, port)),
        ApiServer::InCluster | ApiServer::Unreachable => None,
    };
    // By name; one of the namespace itself wins over the master's.
    let mut chosen: BTreeMap<&str, &Value> = external.iter().map(|master| (MASTER, master)).collect();
    let is_master = |service: &Value| {
        text(service, "/metadata/namespace") == MASTER_NAMESPACE && text(service, "/metadata/name") == MASTER
    };
    let (masters, others): (Vec<&Value>, Vec<&Value>) = services
        .iter()
        .filter(|service| has_address(service))
        .partition(|service| is_master(service));
    if api_server == ApiServer::InCluster {
        chosen.extend(masters.into_iter().map(|service| (MASTER, service)));
    }
    if wanted == ServiceVariables::Namespace {
        let own = others
            .into_iter()
            .filter(|service| text(service, "/metadata/namespace") == namespace);
        chosen.extend(own.map(|service| (text(service, "/metadata/name"), service)));
    }
    let mut data = empty(kind::SERVICES, SERVICES.to_owned());
    for service in chosen.values() {
        variables(service, &mut data.text);
    }
    Some(data)
}

/// The shape of the Service that the API server keeps of itself (`pkg/controlplane/controller/kubernetesservice`).
fn master(host: &str, port: u16) -> Value {
    json!({
        "metadata": { "name": MASTER, "namespace": MASTER_NAMESPACE },
        "spec": { "clusterIP": host, "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] },
    })
}

fn has_address(service: &Value) -> bool {
    let address = text(service, "/spec/clusterIP");
    !address.is_empty() && address != "None"
}

fn variables(service: &Value, into: &mut BTreeMap<String, String>) {
    let prefix = variable(text(service, "/metadata/name"));
    let address = text(service, "/spec/clusterIP");
    let ports = service.pointer("/spec/ports").and_then(Value::as_array);
    let mut set = |name: String, value: String| {
        into.insert(name, value);
    };
    set(format!("{prefix}_SERVICE_HOST"), address.to_owned());
    for (index, port) in ports.into_iter().flatten().enumerate() {
        let number = port
            .get("port")
            .and_then(Value::as_u64)
            .unwrap_or_default()
            .to_string();
        let protocol = Some(text(port, "/protocol"))
            .filter(|protocol| !protocol.is_empty())
            .unwrap_or("TCP");
        let (upper, lower) = (protocol.to_uppercase(), protocol.to_lowercase());
        let url = format!("{lower}://{}", join(address, &number));
        let name = text(port, "/name");
        if index == 0 {
            set(format!("{prefix}_SERVICE_PORT"), number.clone());
            set(format!("{prefix}_PORT"), url.clone());
        }
        if !name.is_empty() {
            set(
                format!("{prefix}_SERVICE_PORT_{}", variable(name)),
                number.clone(),
            );
        }
        let link = format!("{prefix}_PORT_{number}_{upper}");
        set(format!("{link}_PROTO"), lower);
        set(format!("{link}_PORT"), number);
        set(format!("{link}_ADDR"), address.to_owned());
        set(link, url);
    }
}

fn variable(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

/// As Go's `net.JoinHostPort`.
fn join(host: &str, port: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

fn text<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
