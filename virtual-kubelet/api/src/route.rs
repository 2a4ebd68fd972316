//! Which path and method ask for what, as `pkg/kubelet/server/server.go` registers them. Pure.

use http::Method;

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// All checks, or one by its name.
    Healthz(Option<String>),
    Pods,
    RunningPods,
    ContainerLogs(ContainerPath),
    Exec(ContainerPath),
    Attach(ContainerPath),
    Run(ContainerPath),
    PortForward(PodPath),
    Checkpoint(ContainerPath),
    StatsSummary,
    Metrics(Metrics),
    Configz,
    SystemLogs,
    Statusz,
    Flagz,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metrics {
    Process,
    Resource,
    Cadvisor,
    Probes,
}

/// A pod as a path names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodPath {
    pub namespace: String,
    pub name: String,
    pub uid: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerPath {
    pub pod: PodPath,
    pub container: String,
}

/// Why a request is for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unrouted {
    NotFound,
    /// The methods that the path takes, as in `Allow`.
    Method(&'static str),
    /// It is found one slash further.
    Moved(&'static str),
}

/// Every path, for `/statusz`.
pub const PATHS: &[&str] = &[
    "/attach",
    "/checkpoint/",
    "/configz",
    "/containerLogs",
    "/exec",
    "/flagz",
    "/healthz",
    "/healthz/log",
    "/healthz/ping",
    "/logs/",
    "/metrics",
    "/metrics/cadvisor",
    "/metrics/probes",
    "/metrics/resource",
    "/pods",
    "/portForward",
    "/run",
    "/runningpods/",
    "/stats/",
    "/statusz",
];

const GET: &str = "GET";
const POST: &str = "POST";
const GET_POST: &str = "GET, POST";

impl Route {
    /// The route of a decoded path. A slash at the end changes nothing where the kubelet's router has templates.
    ///
    /// # Errors
    /// [`Unrouted`].
    pub fn of(method: &Method, path: &str) -> Result<Self, Unrouted> {
        let (route, allowed) = found(path)?;
        match allowed {
            Some(allowed) if !allowed.split(", ").any(|allowed| method.as_str() == allowed) => {
                Err(Unrouted::Method(allowed))
            }
            _ => Ok(route),
        }
    }

    /// The pod that it is about; `None` for what a whole node answers.
    pub fn pod(&self) -> Option<&PodPath> {
        match self {
            Self::ContainerLogs(path)
            | Self::Exec(path)
            | Self::Attach(path)
            | Self::Run(path)
            | Self::Checkpoint(path) => Some(&path.pod),
            Self::PortForward(path) => Some(path),
            _ => None,
        }
    }
}

/// The route, with the methods that it takes; `None` for every one.
fn found(path: &str) -> Result<(Route, Option<&'static str>), Unrouted> {
    let exact = match path {
        "/healthz" => Some((Route::Healthz(None), None)),
        "/metrics" => Some((Route::Metrics(Metrics::Process), None)),
        "/metrics/resource" => Some((Route::Metrics(Metrics::Resource), None)),
        "/metrics/cadvisor" => Some((Route::Metrics(Metrics::Cadvisor), None)),
        "/metrics/probes" => Some((Route::Metrics(Metrics::Probes), None)),
        "/configz" => Some((Route::Configz, None)),
        "/statusz" => Some((Route::Statusz, Some(GET))),
        "/flagz" => Some((Route::Flagz, Some(GET))),
        "/pods" | "/pods/" => Some((Route::Pods, Some(GET))),
        "/runningpods/" => Some((Route::RunningPods, Some(GET))),
        "/runningpods" => return Err(Unrouted::Moved("/runningpods/")),
        "/stats/summary" | "/stats/summary/" => Some((Route::StatsSummary, Some(GET_POST))),
        "/logs" => return Err(Unrouted::Moved("/logs/")),
        _ => None,
    };
    if let Some(found) = exact {
        return Ok(found);
    }
    let parts: Vec<&str> = path.strip_prefix('/').unwrap_or(path).split('/').collect();
    let (parts, last) = match parts.as_slice() {
        [parts @ .., ""] => (parts, ""),
        parts => (parts, "more"),
    };
    if parts.iter().any(|part| part.is_empty()) {
        return Err(Unrouted::NotFound);
    }
    match parts {
        ["healthz", check] if last == "more" => Ok((Route::Healthz(Some((*check).to_owned())), None)),
        ["logs", ..] => Ok((Route::SystemLogs, None)),
        [root, rest @ ..] => scoped(root, rest).ok_or(Unrouted::NotFound),
        [] => Err(Unrouted::NotFound),
    }
}

fn scoped(root: &str, rest: &[&str]) -> Option<(Route, Option<&'static str>)> {
    let found = match root {
        "containerLogs" => (Route::ContainerLogs(container(rest, false)?), GET),
        "exec" => (Route::Exec(container(rest, true)?), GET_POST),
        "attach" => (Route::Attach(container(rest, true)?), GET_POST),
        "run" => (Route::Run(container(rest, true)?), POST),
        "checkpoint" => (Route::Checkpoint(container(rest, false)?), POST),
        "portForward" => (Route::PortForward(pod(rest)?), GET_POST),
        _ => return None,
    };
    Some((found.0, Some(found.1)))
}

fn pod(parts: &[&str]) -> Option<PodPath> {
    let (namespace, name, uid) = match parts {
        [namespace, name] => (namespace, name, None),
        [namespace, name, uid] => (namespace, name, Some(*uid)),
        _ => return None,
    };
    Some(PodPath {
        namespace: (*namespace).to_owned(),
        name: (*name).to_owned(),
        uid: uid.map(str::to_owned),
    })
}

fn container(parts: &[&str], may_have_uid: bool) -> Option<ContainerPath> {
    let (container, parts) = parts.split_last()?;
    let pod = pod(parts)?;
    (may_have_uid || pod.uid.is_none()).then(|| ContainerPath {
        pod,
        container: (*container).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(uid: Option<&str>) -> PodPath {
        PodPath {
            namespace: "shop".into(),
            name: "web".into(),
            uid: uid.map(str::to_owned),
        }
    }

    fn of(uid: Option<&str>) -> ContainerPath {
        ContainerPath {
            pod: path(uid),
            container: "main".into(),
        }
    }

    fn check(method: &Method, at: &str, expected: &Result<Route, Unrouted>) {
        assert_eq!(&Route::of(method, at), expected, "{method} {at}");
    }

    #[test]
    fn paths_are_for_this() {
        let (get, post) = (&Method::GET, &Method::POST);
        for at in ["/containerLogs/shop/web/main", "/containerLogs/shop/web/main/"] {
            check(get, at, &Ok(Route::ContainerLogs(of(None))));
        }
        for method in [get, post] {
            check(method, "/exec/shop/web/main", &Ok(Route::Exec(of(None))));
            check(method, "/exec/shop/web/u/main", &Ok(Route::Exec(of(Some("u")))));
            check(
                method,
                "/attach/shop/web/u/main",
                &Ok(Route::Attach(of(Some("u")))),
            );
            check(
                method,
                "/portForward/shop/web",
                &Ok(Route::PortForward(path(None))),
            );
            check(
                method,
                "/portForward/shop/web/u",
                &Ok(Route::PortForward(path(Some("u")))),
            );
            check(method, "/stats/summary", &Ok(Route::StatsSummary));
        }
        check(post, "/run/shop/web/main", &Ok(Route::Run(of(None))));
        check(
            post,
            "/checkpoint/shop/web/main",
            &Ok(Route::Checkpoint(of(None))),
        );
        check(get, "/healthz", &Ok(Route::Healthz(None)));
        check(get, "/healthz/ping", &Ok(Route::Healthz(Some("ping".into()))));
        check(get, "/metrics/resource", &Ok(Route::Metrics(Metrics::Resource)));
        check(get, "/logs/kern.log", &Ok(Route::SystemLogs));
        check(get, "/logs/", &Ok(Route::SystemLogs));
    }

    #[test]
    fn what_is_for_nothing_says_why() {
        let (get, post) = (&Method::GET, &Method::POST);
        check(get, "/runningpods", &Err(Unrouted::Moved("/runningpods/")));
        check(post, "/pods", &Err(Unrouted::Method("GET")));
        check(post, "/runningpods/", &Err(Unrouted::Method("GET")));
        check(
            post,
            "/containerLogs/shop/web/main",
            &Err(Unrouted::Method("GET")),
        );
        check(get, "/run/shop/web/main", &Err(Unrouted::Method("POST")));
        check(
            &Method::PUT,
            "/exec/shop/web/main",
            &Err(Unrouted::Method("GET, POST")),
        );
        let nothing = [
            "",
            "/",
            "/nothing",
            "/exec",
            "/exec/shop/web",
            "/exec/shop//main",
            "/exec//web/main",
            "/metrics/",
            "/metrics/../exec",
            "/containerLogs/shop/web/u/main",
            "/exec/shop/web/u/main/more",
            "/healthz/",
            "/healthz/ping/",
            "/stats/",
            "/stats/web",
            "/portForward/shop",
            "//pods",
        ];
        for at in nothing {
            check(get, at, &Err(Unrouted::NotFound));
        }
    }
}
