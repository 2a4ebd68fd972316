//! What the process, or a node as a whole, answers: health, configuration, pods and figures.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Asked, refused, shortened};
use crate::answer::{self, Answer};
use crate::pods;
use crate::provider::StreamsError;
use crate::query::Query;
use crate::route::{ContainerPath, Metrics, PATHS, Route};
use crate::serve::{ServedNode, Visit};
use crate::stats::{self, CONTENT_TYPE, Exposition, Summary};

/// `X-Content-Type-Options`, as the health checks of k8s.io/apiserver send it.
const NOSNIFF: &str = "nosniff";
const WARNING: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is \
                       for debugging purposes only.";

/// Answers what needs no node; `None` for the rest.
pub(super) fn process(
    route: &Route,
    headers: &HeaderMap,
    query: &Query,
    visit: &Visit,
    node: Option<&ServedNode>,
) -> Option<Answer> {
    let process = &visit.api.process;
    Some(match route {
        Route::Healthz(None) => health(query, &checks(node)),
        Route::Healthz(Some(name)) => one_check(name, &checks(node)),
        Route::Metrics(Metrics::Process) => {
            let (content_type, text) = (process.metrics)();
            answer::of(StatusCode::OK, content_type, text)
        }
        Route::Configz => answer::json(&configz()),
        Route::SystemLogs => answer::line(StatusCode::METHOD_NOT_ALLOWED, "logs endpoint is disabled."),
        Route::Statusz | Route::Flagz if !takes_text(headers) => answer::line(
            StatusCode::NOT_ACCEPTABLE,
            "406 Not Acceptable: only text/plain is served here",
        ),
        Route::Statusz => answer::text(StatusCode::OK, statusz(visit.api.started, &process.version)),
        Route::Flagz => {
            let mut text = format!("\nkubelet flagz\n{WARNING}\n\n");
            for (flag, value) in &process.flags {
                let _ = writeln!(text, "{flag}={value}");
            }
            answer::text(StatusCode::OK, text)
        }
        _ => return None,
    })
}

/// As `statusz` and `flagz` of k8s.io/apiserver negotiate, less their structured forms.
fn takes_text(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(header::ACCEPT).iter().peekable();
    let takes = |value: &http::HeaderValue| {
        let value = value.to_str().unwrap_or_default();
        ["text/plain", "text/*", "*/*"]
            .iter()
            .any(|taken| value.contains(taken))
    };
    accepted.peek().is_none() || accepted.any(takes)
}

type Check = (&'static str, Result<(), String>);

fn checks(node: Option<&ServedNode>) -> Vec<Check> {
    let mut checks: Vec<Check> = vec![("ping", Ok(())), ("log", Ok(()))];
    if let Some(node) = node {
        checks.push(("syncloop", node.streams.keeps_on()));
    }
    checks
}

/// `handleRootHealth` of k8s.io/apiserver: reasons are withheld, since this may be looked at by many.
fn health(query: &Query, checks: &[Check]) -> Answer {
    let mut lines = String::new();
    let mut failed = false;
    for (name, state) in checks {
        let excluded = query.all("exclude").any(|excluded| excluded == *name);
        let _ = match state {
            _ if excluded => writeln!(lines, "[+]{name} excluded: ok"),
            Ok(()) => writeln!(lines, "[+]{name} ok"),
            Err(reason) => {
                tracing::warn!(check = name, reason, "a health check fails");
                failed = true;
                writeln!(lines, "[-]{name} failed: reason withheld")
            }
        };
    }
    let unknown: Vec<String> = query
        .all("exclude")
        .filter(|excluded| checks.iter().all(|(name, _)| name != excluded))
        .map(|excluded| format!("{:?}", shortened(excluded)))
        .collect();
    if !unknown.is_empty() {
        let unknown = unknown.join(",");
        let _ = writeln!(
            lines,
            "warn: some health checks cannot be excluded: no matches for {unknown}"
        );
    }
    let answer = if failed {
        answer::line(
            StatusCode::INTERNAL_SERVER_ERROR,
            &format!("{lines}healthz check failed"),
        )
    } else if query.first("verbose").is_some() {
        answer::text(StatusCode::OK, format!("{lines}healthz check passed\n"))
    } else {
        answer::text(StatusCode::OK, "ok")
    };
    answer::with(answer, header::X_CONTENT_TYPE_OPTIONS, NOSNIFF)
}

fn one_check(name: &str, checks: &[Check]) -> Answer {
    match checks.iter().find(|(at, _)| *at == name) {
        Some((_, Ok(()))) => answer::text(StatusCode::OK, "ok"),
        Some((_, Err(reason))) => {
            let words = format!("internal server error: {}", shortened(reason));
            answer::line(StatusCode::INTERNAL_SERVER_ERROR, &words)
        }
        None => answer::line(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// What of a `KubeletConfiguration` is so here, in the kubelet's form.
fn configz() -> Value {
    json!({"kubeletconfig": {
        "enableServer": true,
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true, "cacheTTL": "2m0s"}, "x509": {},
        },
        "authorization": {
            "mode": "Webhook", "webhook": {"cacheAuthorizedTTL": "5m0s", "cacheUnauthorizedTTL": "30s"},
        },
        "streamingConnectionIdleTimeout": "4h0m0s",
        "enableDebuggingHandlers": true,
        "enableSystemLogHandler": false,
        "enableProfilingHandler": false,
        "featureGates": {"KubeletFineGrainedAuthz": true, "ExtendWebSocketsToKubelet": true},
    }})
}

fn statusz(started: Timestamp, version: &str) -> String {
    let up = Timestamp::now().duration_since(started);
    let up = SignedDuration::from_secs(up.as_secs().max(0));
    let paths = PATHS.join(" ");
    let started = started.strftime("%a %b %e %H:%M:%S UTC %Y");
    format!(
        "\nkubelet statusz\n{WARNING}\n\nStarted: {started}\nUp: {up:#}\nBinary version: {version}\n\nPaths: {paths}\n"
    )
}

pub(super) fn pods(asked: &Asked<'_>) -> Answer {
    answer::json(&pods::list(&asked.node.streams.pods()))
}

pub(super) async fn running_pods(asked: &Asked<'_>) -> Answer {
    match asked.node.streams.running_pods().await {
        Ok(pods) => answer::json(&pods::list(&pods)),
        Err(error) => refused(&error).into(),
    }
}

pub(super) async fn summary(asked: &Asked<'_>) -> Answer {
    let only: Vec<&str> = asked.query.all("only_cpu_and_memory").collect();
    match figures(asked).await {
        Ok(summary) if only == ["true"] => answer::json(&summary.cpu_and_memory()),
        Ok(summary) => answer::json(summary.as_ref()),
        Err(error) => {
            let words = format!("Internal Error: {}", shortened(&error.to_string()));
            answer::text(error.status(), words)
        }
    }
}

async fn figures(asked: &Asked<'_>) -> Result<Arc<Summary>, StreamsError> {
    asked.node.streams.stats().await.inspect_err(|error| {
        tracing::warn!(%error, node = asked.node.name, "figures cannot be had");
    })
}

pub(super) async fn metrics(asked: &Asked<'_>, which: Metrics) -> Answer {
    let text = match which {
        Metrics::Resource => stats::resource(figures(asked).await.ok().as_deref()),
        Metrics::Cadvisor => stats::cadvisor(figures(asked).await.ok().as_deref()),
        // Probes run where containers do, and are counted there.
        Metrics::Probes | Metrics::Process => {
            let mut text = Exposition::default();
            let help = "[ALPHA] Start time of the process since unix epoch in seconds";
            text.family("process_start_time_seconds", stats::Kind::Gauge, help);
            let started = u64::try_from(asked.visit.api.started.as_nanosecond()).ok();
            text.seconds(&[], started, None);
            text.finish()
        }
    };
    answer::of(StatusCode::OK, CONTENT_TYPE, text)
}

/// Nothing here can write a container down and take it up again. The words are as those of a runtime that cannot.
pub(super) fn checkpoint(asked: &Asked<'_>, path: &ContainerPath) -> Answer {
    match asked.pod(&path.pod) {
        Err(missing) => missing.into(),
        Ok((pod, _)) if pods::container(&pod, &path.container).is_none() => {
            let words = format!("container {} does not exist", path.container);
            answer::text(StatusCode::NOT_FOUND, words)
        }
        Ok((_, target)) => {
            let words = format!(
                "checkpointing of {}/{}/{} failed (this node cannot checkpoint containers: what runs them has no such call)",
                target.namespace, target.name, path.container
            );
            answer::text(StatusCode::NOT_IMPLEMENTED, words)
        }
    }
}
