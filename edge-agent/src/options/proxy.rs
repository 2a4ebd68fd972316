//! Which proxy leads to the hub: the file's word, or else the environment's as curl reads it.

use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::dial::{Credentials, Endpoint, Proxy};

const FIELD: &str = "hub.proxy";
const FILE_FIELD: &str = "hub.proxy_credentials_file";
const VARIABLE: &str = "HTTPS_PROXY";
/// No proxy, whatever the environment says.
const DIRECT: &str = "direct";

/// The variables of the environment that say how servers are reached. Only `main` reads them.
#[derive(Default, Clone)]
pub struct ProxyVariables {
    pub https_proxy: String,
    pub no_proxy: String,
}

impl ProxyVariables {
    /// Reads them by name; the first of two spellings that is set and not empty counts, the capitals' first.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        let first = |names: [&str; 2]| {
            let mut set = names.into_iter().filter_map(&variable);
            set.find(|value| !value.is_empty()).unwrap_or_default()
        };
        let https_proxy = match first(["HTTPS_PROXY", "https_proxy"]) {
            none if none.is_empty() => first(["ALL_PROXY", "all_proxy"]),
            some => some,
        };
        Self {
            https_proxy,
            no_proxy: first(["NO_PROXY", "no_proxy"]),
        }
    }
}

/// As the file has it.
pub(super) struct ProxySetting {
    pub(super) proxy: Option<String>,
    pub(super) credentials_file: Option<PathBuf>,
}

impl ProxySetting {
    /// Puts the way to each endpoint into it.
    pub(super) fn apply(
        self,
        endpoints: &mut [Endpoint],
        variables: &ProxyVariables,
    ) -> Result<(), (&'static str, String)> {
        let Self {
            proxy,
            credentials_file,
        } = self;
        if credentials_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err((FILE_FIELD, "must be an absolute path".to_owned()));
        }
        match proxy.as_deref() {
            Some(DIRECT) => Ok(()),
            Some(text) => {
                let credentials = credentials_file.map_or(Credentials::None, Credentials::File);
                let proxy = Arc::new(named(text, credentials).map_err(|problem| (FIELD, problem))?);
                for endpoint in endpoints {
                    endpoint.proxy = Some(Arc::clone(&proxy));
                }
                Ok(())
            }
            None => surrounding(endpoints, credentials_file, variables),
        }
    }
}

/// `http://host:port`, of the file: it may be read by many, so it holds no password.
fn named(text: &str, credentials: Credentials) -> Result<Proxy, String> {
    let uri: Uri = text
        .parse()
        .map_err(|_| "must be \"http://host:port\", or \"direct\" for none".to_owned())?;
    if uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(format!(
            "must not hold a password; put `user:password` into a file of its own, and its path into {FILE_FIELD}"
        ));
    }
    let plain = matches!(uri.path(), "" | "/") && uri.query().is_none();
    match uri.port_u16() {
        Some(port) if plain && port != 0 => to_proxy(&uri, port, credentials),
        _ => Err("must be \"http://host:port\", or \"direct\" for none".to_owned()),
    }
}

fn surrounding(
    endpoints: &mut [Endpoint],
    credentials_file: Option<PathBuf>,
    variables: &ProxyVariables,
) -> Result<(), (&'static str, String)> {
    let text = variables.https_proxy.as_str();
    if text.is_empty() {
        return Ok(());
    }
    let everywhere = Matcher::builder().https(text).build();
    // Of the text nothing is told: it may hold a password.
    let unusable = || (VARIABLE, "is not \"http://host:port\"".to_owned());
    let any = Uri::from_static("https://any");
    let intercept = everywhere.intercept(&any).ok_or_else(unusable)?;
    let credentials = match (credentials_file, intercept.basic_auth()) {
        (Some(path), _) => Credentials::File(path),
        (None, Some(value)) => Credentials::Environment(value.clone()),
        (None, None) => Credentials::None,
    };
    // Without a port it is 80, as with Go's clients.
    let port = intercept.uri().port_u16().unwrap_or(80);
    let proxy = to_proxy(intercept.uri(), port, credentials).map_err(|problem| (VARIABLE, problem))?;
    let proxy = Arc::new(proxy);
    let matcher = Matcher::builder()
        .https(text)
        .no(variables.no_proxy.as_str())
        .build();
    // The matcher takes it for names alone; curl for addresses as well.
    if variables.no_proxy.split(',').any(|part| part.trim() == "*") {
        return Ok(());
    }
    for endpoint in endpoints {
        let url = format!("https://{}", endpoint.authority()).parse::<Uri>();
        let url = url.map_err(|error| ("hub.endpoints", error.to_string()))?;
        endpoint.proxy = matcher.intercept(&url).map(|_| Arc::clone(&proxy));
    }
    Ok(())
}

fn to_proxy(uri: &Uri, port: u16, credentials: Credentials) -> Result<Proxy, String> {
    if uri.scheme_str() != Some("http") {
        return Err("must begin with http://: other kinds of proxies are not spoken with".to_owned());
    }
    let host = uri.host().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() {
        return Err("names no host".to_owned());
    }
    Ok(Proxy {
        host: host.to_owned(),
        port,
        credentials,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The proxies to a name, a name below a domain, and an address.
    fn ways(proxy: Option<&str>, https_proxy: &str, no_proxy: &str) -> Result<[Option<String>; 3], String> {
        let mut endpoints = [
            Endpoint::direct("hub.example", 443),
            Endpoint::direct("hub.inside.test", 443),
            Endpoint::direct("10.1.2.3", 443),
        ];
        let setting = ProxySetting {
            proxy: proxy.map(str::to_owned),
            credentials_file: None,
        };
        let variables = ProxyVariables {
            https_proxy: https_proxy.to_owned(),
            no_proxy: no_proxy.to_owned(),
        };
        setting
            .apply(&mut endpoints, &variables)
            .map_err(|(field, problem)| format!("{field} {problem}"))?;
        Ok(endpoints.map(|endpoint| endpoint.proxy.map(|proxy| proxy.to_string())))
    }

    #[track_caller]
    fn check(
        (proxy, https_proxy, no_proxy): (Option<&str>, &str, &str),
        expect: Result<[Option<&str>; 3], &str>,
    ) {
        match (ways(proxy, https_proxy, no_proxy), expect) {
            (Ok(found), Ok(expect)) => assert_eq!(found, expect.map(|way| way.map(str::to_owned))),
            (Err(found), Err(expect)) => assert!(found.contains(expect), "{found}"),
            (found, expect) => panic!("{found:?}, not {expect:?}"),
        }
    }

    #[test]
    fn the_files_proxy_wins_and_the_environments_is_read_as_curl_does() {
        let (a, b) = (Some("a:3128"), Some("b:80"));
        check((None, "", "*"), Ok([None; 3]));
        check((Some("http://a:3128"), "", ""), Ok([a; 3]));
        check((Some("http://a:3128/"), "http://b", "*"), Ok([a; 3]));
        check(
            (Some("http://[2001:db8::1]:3128"), "", ""),
            Ok([Some("[2001:db8::1]:3128"); 3]),
        );
        check((Some("direct"), "http://b", ""), Ok([None; 3]));
        check((None, "http://b", ""), Ok([b; 3]));
        check((None, "b", ""), Ok([b; 3]));
        check((None, "http://b", "*"), Ok([None; 3]));
        check((None, "http://b", "inside.test"), Ok([b, None, b]));
        check(
            (None, "http://b", ".inside.test, 10.0.0.0/8"),
            Ok([b, None, None]),
        );
        check((None, "http://b", "side.test"), Ok([b; 3]));
    }

    #[test]
    fn what_is_no_proxy_is_an_error_that_tells_no_password() {
        check((Some("a:3128"), "", ""), Err("hub.proxy must begin with http://"));
        check(
            (Some("https://a:3128"), "", ""),
            Err("hub.proxy must begin with http://"),
        );
        check((Some("http://a"), "", ""), Err("hub.proxy must be"));
        check((Some("http://a:1/path"), "", ""), Err("hub.proxy must be"));
        check(
            (Some("http://u:swordfish@a:1"), "", ""),
            Err("proxy_credentials_file"),
        );
        check(
            (None, "socks5://b", ""),
            Err("HTTPS_PROXY must begin with http://"),
        );
        check((None, "ftp://u:swordfish@b", ""), Err("HTTPS_PROXY is not"));
        let error = ways(None, "ftp://u:swordfish@b", "").unwrap_err();
        assert!(!error.contains("swordfish"), "{error}");
    }

    #[test]
    fn credentials_of_the_environment_are_not_printed() {
        let mut endpoints = [Endpoint::direct("h", 1)];
        let setting = ProxySetting {
            proxy: None,
            credentials_file: None,
        };
        let variables = ProxyVariables::read(|name| match name {
            "https_proxy" => Some("http://Aladdin:open%20sesame@b:8080".to_owned()),
            "HTTPS_PROXY" => Some(String::new()),
            _ => None,
        });
        setting.apply(&mut endpoints, &variables).unwrap();
        let proxy = endpoints[0].proxy.as_ref().unwrap();
        let Credentials::Environment(value) = &proxy.credentials else {
            panic!("{proxy:?}")
        };
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        let shown = format!("{endpoints:?}");
        assert!(!shown.contains("QWxh") && !shown.contains("sesame"), "{shown}");
    }
}
