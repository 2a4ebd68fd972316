//! Probes and hooks, with the API's defaults filled in and named ports resolved.

use edge_protocol::v1::{Action, Header, Lifecycle, Probe, Probes};
use k8s_openapi::api::core::v1::{
    self as api, Container, ContainerPort, ExecAction, HTTPGetAction, LifecycleHandler, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::accept;
use crate::refusal::{Path, Refusal};

/// The probes of a container. `None` only together with a new refusal.
pub(super) fn probes(container: &Container, path: &Path<'_>, refused: &mut Vec<Refusal>) -> Option<Probes> {
    let ports = container.ports.as_deref().unwrap_or_default();
    let mut one = |field: &str, asked: Option<&api::Probe>| match asked {
        None => Some(None),
        Some(asked) => probe(asked, ports, &path.field(field), refused).map(Some),
    };
    let startup = one("startupProbe", container.startup_probe.as_ref());
    let liveness = one("livenessProbe", container.liveness_probe.as_ref());
    let readiness = one("readinessProbe", container.readiness_probe.as_ref());
    Some(Probes {
        startup: startup?,
        liveness: liveness?,
        readiness: readiness?,
    })
}

/// Defaults: `SetDefaults_Probe` of `pkg/apis/core/v1/defaults.go`.
fn probe(
    asked: &api::Probe,
    ports: &[ContainerPort],
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Probe> {
    let action = action(
        &Asked {
            exec: asked.exec.as_ref(),
            http_get: asked.http_get.as_ref(),
            tcp_socket: asked.tcp_socket.as_ref(),
            grpc: asked.grpc.as_ref(),
            sleep: None,
        },
        ports,
        path,
        refused,
    );
    let mut count = |field: &str, value: Option<i32>, default: u32| {
        let value = value.unwrap_or_default();
        let count = u32::try_from(value).map_err(|_| "must not be negative");
        let count = accept(count, &path.field(field), refused)?;
        Some(if count == 0 { default } else { count })
    };
    let initial_delay_s = count("initialDelaySeconds", asked.initial_delay_seconds, 0);
    let timeout_s = count("timeoutSeconds", asked.timeout_seconds, 1);
    let period_s = count("periodSeconds", asked.period_seconds, 10);
    let success_threshold = count("successThreshold", asked.success_threshold, 1);
    let failure_threshold = count("failureThreshold", asked.failure_threshold, 3);
    Some(Probe {
        action: action?,
        initial_delay_s: initial_delay_s?,
        timeout_s: timeout_s?,
        period_s: period_s?,
        success_threshold: success_threshold?,
        failure_threshold: failure_threshold?,
        termination_grace_period_s: asked.termination_grace_period_seconds.map(super::seconds),
    })
}

/// The hooks of a container and its stop signal. `None` only together with a new refusal.
pub(super) fn lifecycle(
    container: &Container,
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Lifecycle> {
    let Some(asked) = &container.lifecycle else {
        return Some(Lifecycle::default());
    };
    let path = path.field("lifecycle");
    let ports = container.ports.as_deref().unwrap_or_default();
    let mut hook = |field: &str, asked: Option<&LifecycleHandler>| match asked {
        // A connection is refused by its line.
        None => Some(None),
        Some(asked) if asked.tcp_socket.is_some() => Some(None),
        Some(asked) => {
            let asked = Asked {
                exec: asked.exec.as_ref(),
                http_get: asked.http_get.as_ref(),
                tcp_socket: None,
                grpc: None,
                sleep: asked.sleep.as_ref(),
            };
            action(&asked, ports, &path.field(field), refused).map(Some)
        }
    };
    let post_start = hook("postStart", asked.post_start.as_ref());
    let pre_stop = hook("preStop", asked.pre_stop.as_ref());
    Some(Lifecycle {
        post_start: post_start?,
        pre_stop: pre_stop?,
        stop_signal: asked.stop_signal.clone().filter(|signal| !signal.is_empty()),
    })
}

/// What a probe or a hook may ask for; the API server sees to it that it is one thing.
struct Asked<'a> {
    exec: Option<&'a ExecAction>,
    http_get: Option<&'a HTTPGetAction>,
    tcp_socket: Option<&'a TCPSocketAction>,
    grpc: Option<&'a api::GRPCAction>,
    sleep: Option<&'a api::SleepAction>,
}

fn action(
    asked: &Asked<'_>,
    ports: &[ContainerPort],
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Action> {
    if let Some(exec) = asked.exec {
        let command = exec.command.clone().unwrap_or_default();
        return Some(Action::Exec { command });
    }
    if let Some(get) = asked.http_get {
        return http_get(get, ports, &path.field("httpGet"), refused);
    }
    if let Some(socket) = asked.tcp_socket {
        let at = path.field("tcpSocket");
        return Some(Action::TcpSocket {
            port: accept(port(&socket.port, ports), &at.field("port"), refused)?,
            host: socket.host.clone().filter(|host| !host.is_empty()),
        });
    }
    if let Some(grpc) = asked.grpc {
        let at = path.field("grpc");
        let number = port(&IntOrString::Int(grpc.port), &[]);
        return Some(Action::Grpc {
            port: accept(number, &at.field("port"), refused)?,
            service: grpc.service.clone().unwrap_or_default(),
        });
    }
    if let Some(sleep) = asked.sleep {
        let seconds = super::seconds(sleep.seconds);
        return Some(Action::Sleep { seconds });
    }
    refused.push(path.refuse("names nothing to do"));
    None
}

fn http_get(
    get: &HTTPGetAction,
    ports: &[ContainerPort],
    path: &Path<'_>,
    refused: &mut Vec<Refusal>,
) -> Option<Action> {
    let number = accept(port(&get.port, ports), &path.field("port"), refused);
    let tls = match get.scheme.as_deref() {
        None | Some("" | "HTTP") => Ok(false),
        Some("HTTPS") => Ok(true),
        Some(_) => Err("must be HTTP or HTTPS"),
    };
    let tls = accept(tls, &path.field("scheme"), refused);
    let headers = get.http_headers.iter().flatten().map(|header| Header {
        name: header.name.clone(),
        value: header.value.clone(),
    });
    // `SetDefaults_HTTPGetAction` of `pkg/apis/core/v1/defaults.go`.
    let stated = get.path.as_deref().filter(|path| !path.is_empty());
    Some(Action::HttpGet {
        path: stated.unwrap_or("/").to_owned(),
        port: number?,
        host: get.host.clone().filter(|host| !host.is_empty()),
        tls: tls?,
        headers: headers.collect(),
    })
}

/// `ResolveContainerPort` of `pkg/probe/util.go`: a number, or a name of the container's own ports.
fn port(asked: &IntOrString, ports: &[ContainerPort]) -> Result<u16, &'static str> {
    let number = match asked {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let named = ports.iter().find(|port| port.name.as_deref() == Some(name));
            named.ok_or("names no port of the container")?.container_port
        }
    };
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or("must be 1 to 65535")
}
