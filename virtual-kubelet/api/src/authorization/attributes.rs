//! What a request asks for, in the words of authorisation (`pkg/kubelet/server/auth.go` with `KubeletFineGrainedAuthz`). Pure.

use http::Method;

/// A verb on subresources of the Node, of which one has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub verb: &'static str,
    /// The finest first.
    pub subresources: &'static [&'static str],
}

/// Paths that run something, or open a way to it. They need `create` whatever the method is: a WebSocket begins with a GET.
const RUNNING: [&str; 4] = ["/exec", "/attach", "/run", "/portForward"];

/// By path, which covers all below it.
const SUBRESOURCES: &[(&str, &[&str])] = &[
    ("/allocatedPods", &["pods", "proxy"]),
    ("/pods", &["pods", "proxy"]),
    ("/runningpods", &["pods", "proxy"]),
    ("/healthz", &["healthz", "proxy"]),
    ("/configz", &["configz", "proxy"]),
    ("/stats", &["stats"]),
    ("/metrics", &["metrics"]),
    ("/logs", &["log"]),
    ("/checkpoint", &["checkpoint"]),
    ("/statusz", &["statusz"]),
    ("/flagz", &["configz"]),
];

impl Attributes {
    /// Of a request for this path, decoded.
    pub fn of(method: &Method, path: &str) -> Self {
        let below = |root: &str| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let verb = if RUNNING.iter().any(|root| below(root)) {
            "create"
        } else {
            verb(method)
        };
        let found = SUBRESOURCES.iter().find(|(root, _)| below(root));
        let subresources = found.map_or(["proxy"].as_slice(), |(_, subresources)| subresources);
        Self { verb, subresources }
    }
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::GET => "get",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, path: &str, verb: &str, subresources: &[&str]) {
        let attributes = Attributes::of(method, path);
        assert_eq!(
            (attributes.verb, attributes.subresources),
            (verb, subresources),
            "{method} {path}"
        );
    }

    /// The table of `auth_test.go`, and what differs: see [`RUNNING`].
    #[test]
    fn requests_ask_for_this() {
        let get = &Method::GET;
        let fine: [(&str, &[&str]); 16] = [
            ("/pods", &["pods", "proxy"]),
            ("/pods/", &["pods", "proxy"]),
            ("/runningpods/", &["pods", "proxy"]),
            ("/healthz", &["healthz", "proxy"]),
            ("/healthz/ping", &["healthz", "proxy"]),
            ("/configz", &["configz", "proxy"]),
            ("/flagz", &["configz"]),
            ("/statusz", &["statusz"]),
            ("/stats/summary", &["stats"]),
            ("/metrics", &["metrics"]),
            ("/metrics/cadvisor", &["metrics"]),
            ("/logs/", &["log"]),
            ("/logs/kern.log", &["log"]),
            ("/checkpoint/a/b/c", &["checkpoint"]),
            ("/containerLogs/a/b/c", &["proxy"]),
            ("/", &["proxy"]),
        ];
        for (path, subresources) in fine {
            check(get, path, "get", subresources);
        }
        // No longer names of it.
        for path in ["/podsand", "/metricsx", "/healthzz", "/logsx/", "/runningpodsx"] {
            check(get, path, "get", &["proxy"]);
        }
    }

    #[test]
    fn verbs_are_those_of_the_method_but_where_something_runs() {
        let methods = [
            (Method::POST, "create"),
            (Method::GET, "get"),
            (Method::PUT, "update"),
            (Method::PATCH, "patch"),
            (Method::DELETE, "delete"),
            (Method::HEAD, ""),
            (Method::OPTIONS, ""),
        ];
        for (method, verb) in methods {
            check(&method, "/pods", verb, &["pods", "proxy"]);
            for path in ["/exec/a/b/c", "/attach/a/b/c", "/run/a/b/c", "/portForward/a/b"] {
                check(&method, path, "create", &["proxy"]);
            }
            check(&method, "/execute", verb, &["proxy"]);
        }
    }
}
