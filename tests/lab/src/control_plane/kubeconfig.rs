//! Kubeconfig files.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::Error;

/// How the user of a kubeconfig proves who it is.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A client certificate and its key, as paths of PEM files.
    Certificate { certificate: PathBuf, key: PathBuf },
    /// A bearer token, as a service account has.
    Token(String),
}

/// Writes a kubeconfig with one context. It is JSON, which every reader of YAML takes, and holds the authority's certificate by path.
pub fn write(
    path: &Path,
    server: SocketAddr,
    authority: &Path,
    credential: &Credential,
) -> Result<(), Error> {
    let user = match credential {
        Credential::Certificate { certificate, key } => {
            json!({ "client-certificate": certificate, "client-key": key })
        }
        Credential::Token(token) => json!({ "token": token }),
    };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "lab", "cluster": { "server": format!("https://{server}"), "certificate-authority": authority } }],
        "users": [{ "name": "lab", "user": user }],
        "contexts": [{ "name": "lab", "context": { "cluster": "lab", "user": "lab" } }],
        "current-context": "lab",
    });
    fs::write(path, config.to_string()).map_err(Error::file(path))
}
