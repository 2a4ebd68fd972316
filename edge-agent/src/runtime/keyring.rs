//! Which pull credentials fit an image, by the rules of pkg/credentialprovider in Kubernetes 1.37 (`config.go`, `keyring.go`).
//!
//! An image is looked up by its repository in full (`EnsureImageExists` of `pkg/kubelet/images/image_manager.go`): `busybox:1` by
//! `docker.io/library/busybox`. A registry entry may name a host, with `*` inside its parts, and the beginning of a path. The entries are
//! tried from the one that sorts last, which puts the more specific of two before the other; each may be right, for credentials are rotated.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::reference;

/// What docker calls the registry that images without one come from.
const DEFAULT_HOST: &str = "index.docker.io";

/// A name and a password for a registry. `Debug` does not show the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The pull secret that it is from.
    pub secret: String,
    pub username: String,
    pub password: Zeroizing<String>,
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("secret", &self.secret)
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// Credentials of all configurations that were added, in that order.
#[derive(Debug, Default)]
pub struct Keyring(BTreeMap<String, Vec<Credential>>);

/// A text that is no docker configuration. The text is not repeated: it holds secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a docker configuration with registries and credentials")]
pub struct InvalidDockerConfig;

#[derive(Deserialize)]
struct DockerConfigJson {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    username: String,
    password: String,
    /// `username:password` in base64, which has the last word.
    auth: String,
}

impl Keyring {
    /// Adds the `.dockerconfigjson` of a pull secret.
    ///
    /// # Errors
    /// [`InvalidDockerConfig`]; nothing is added then. An entry whose `auth` cannot be read is left out.
    pub fn add_json(&mut self, secret: &str, text: &[u8]) -> Result<(), InvalidDockerConfig> {
        let config: DockerConfigJson = serde_json::from_slice(text).map_err(|_| InvalidDockerConfig)?;
        for (registry, entry) in config.auths {
            if let Some(credential) = entry.credential(secret) {
                self.0.entry(key(&registry)).or_default().push(credential);
            }
        }
        Ok(())
    }

    /// What to try for an image, in order; nothing when none fits, and then it is pulled as by anybody.
    pub fn lookup(&self, image: &str) -> Vec<&Credential> {
        let repository = reference::repository(image);
        let found: Vec<&Credential> = self
            .0
            .iter()
            .rev()
            .filter(|(glob, _)| matches(glob, &repository))
            .flat_map(|(_, credentials)| credentials)
            .collect();
        if found.is_empty() && is_of_default_registry(&repository) {
            return self.0.get(DEFAULT_HOST).into_iter().flatten().collect();
        }
        found
    }
}

impl Entry {
    fn credential(self, secret: &str) -> Option<Credential> {
        let secret = secret.to_owned();
        // What is moved out of the text is erased when it is dropped.
        let (password, auth) = (Zeroizing::new(self.password), Zeroizing::new(self.auth));
        if auth.is_empty() {
            return Some(Credential {
                secret,
                username: self.username,
                password,
            });
        }
        let decoded = BASE64.decode(auth.trim()).ok().map(Zeroizing::new)?;
        let text = std::str::from_utf8(&decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        Some(Credential {
            secret,
            username: username.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        })
    }
}

/// Host and path without a scheme; `/v1/` and `/v2/` mean the host, as does `/`.
fn key(registry: &str) -> String {
    let rest = registry
        .strip_prefix("https://")
        .or_else(|| registry.strip_prefix("http://"))
        .unwrap_or(registry);
    // An entry is a URL to a kubelet, so what would be a `?` of a pattern begins a query.
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let path = match path.get(..4) {
        Some("/v1/" | "/v2/") => path.get(3..).unwrap_or_default(),
        _ => path,
    };
    let path = if path == "/" { "" } else { path };
    format!("{host}{path}")
}

/// Ports equal, as many parts of the host, each matching, and the path a beginning.
fn matches(glob: &str, image: &str) -> bool {
    let split = |text: &str| -> (String, String) {
        let (host, path) = text.find('/').map_or((text, ""), |at| text.split_at(at));
        (host.to_owned(), path.to_owned())
    };
    let ((glob_host, glob_path), (host, path)) = (split(glob), split(image));
    let ((glob_host, glob_port), (host, port)) = (host_and_port(&glob_host), host_and_port(&host));
    let (wanted, given) = (glob_host.split('.'), host.split('.'));
    glob_port == port
        && wanted.clone().count() == given.clone().count()
        && path.starts_with(&glob_path)
        && wanted
            .zip(given)
            .all(|(glob, part)| is_like(glob.as_bytes(), part.as_bytes()))
}

fn host_and_port(text: &str) -> (&str, &str) {
    text.rsplit_once(':').unwrap_or((text, ""))
}

/// `*` is any run of characters.
fn is_like(glob: &[u8], text: &[u8]) -> bool {
    match (glob.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            (0..=text.len()).any(|from| is_like(rest, text.get(from..).unwrap_or_default()))
        }
        (Some((wanted, glob)), Some((given, text))) => wanted == given && is_like(glob, text),
        _ => false,
    }
}

/// `isDefaultRegistryMatch`: also what has a domain that is no host of the net, such as `localhost`.
fn is_of_default_registry(repository: &str) -> bool {
    let domain = repository.split('/').next().unwrap_or_default();
    domain == "docker.io" || !domain.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(registries: &[&str]) -> Keyring {
        let mut keyring = Keyring::default();
        let auths: serde_json::Map<String, serde_json::Value> = registries
            .iter()
            .map(|registry| {
                let entry = serde_json::json!({ "username": registry, "password": "p" });
                ((*registry).to_owned(), entry)
            })
            .collect();
        let text = serde_json::json!({ "auths": auths }).to_string();
        keyring.add_json("s", text.as_bytes()).unwrap();
        keyring
    }

    #[track_caller]
    fn check(registries: &[&str], image: &str, expect: &[&str]) {
        let keyring = keyring(registries);
        let found: Vec<&str> = keyring
            .lookup(image)
            .into_iter()
            .map(|credential| credential.username.as_str())
            .collect();
        assert_eq!(found, expect, "{image}");
    }

    #[test]
    fn registries_match_as_the_kubelets_keyring() {
        check(
            &["quay.io", "quay.io/coreos"],
            "quay.io/coreos/etcd:v3",
            &["quay.io/coreos", "quay.io"],
        );
        check(&["quay.io", "quay.io/coreos"], "quay.io/other/etcd", &["quay.io"]);
        check(&["*.example.com"], "eu.example.com/app", &["*.example.com"]);
        check(&["*.example.com"], "a.b.example.com/app", &[]);
        check(
            &["pre*.example.com"],
            "prefix.example.com/app",
            &["pre*.example.com"],
        );
        check(&["r?.example.com"], "r1.example.com/app", &[]);
        check(
            &["registry.example/app?x"],
            "registry.example/app",
            &["registry.example/app?x"],
        );
        check(
            &["registry.example:5000"],
            "registry.example:5000/app",
            &["registry.example:5000"],
        );
        check(&["registry.example:5000"], "registry.example/app", &[]);
        check(&["registry.example"], "registry.example:5000/app", &[]);
        check(
            &["https://registry.example/v2/"],
            "registry.example/app",
            &["https://registry.example/v2/"],
        );
        check(
            &["http://registry.example/v1/team"],
            "registry.example/team/app",
            &["http://registry.example/v1/team"],
        );
    }

    #[test]
    fn images_without_a_registry_are_the_default_ones() {
        let default = "https://index.docker.io/v1/";
        for image in [
            "busybox",
            "library/busybox:1",
            "docker.io/library/busybox",
            "index.docker.io/a/b",
        ] {
            check(&[default], image, &[default]);
        }
        for image in ["quay.io/busybox", "localhost:5000/busybox"] {
            check(&[default], image, &[]);
        }
        for server in ["docker.io", "index.docker.io", "https://docker.io/v1/", "*.io"] {
            for image in [
                "team/app:1",
                "busybox",
                "docker.io/team/app@sha256:00",
                "index.docker.io/team/app",
            ] {
                check(&[server], image, &[server]);
            }
        }
        let entries = [default, "docker.io", "docker.io/team", "docker.io/library"];
        check(&entries, "team/app:1", &["docker.io/team", "docker.io"]);
        check(&entries, "busybox", &["docker.io/library", "docker.io"]);
        check(&["docker.io/team/app:1"], "team/app:1", &[]);
    }

    #[test]
    fn secrets_are_tried_in_their_order_and_auth_has_the_last_word() {
        let mut keyring = Keyring::default();
        // "me:se:cret"
        keyring
            .add_json("first", br#"{"auths": {"r.example": {"username": "x", "password": "y", "auth": "bWU6c2U6Y3JldA==", "email": "a@b"}}}"#)
            .unwrap();
        keyring
            .add_json("other", br#"{"auths": {"r.example": {"username": "second", "password": "z"}, "broken.example": {"auth": "%%"}}, "credsStore": "x"}"#)
            .unwrap();
        let found = keyring.lookup("r.example/app");
        let shown: Vec<[&str; 3]> = found
            .iter()
            .map(|it| [it.secret.as_str(), it.username.as_str(), it.password.as_str()])
            .collect();
        assert_eq!(shown, [["first", "me", "se:cret"], ["other", "second", "z"]]);
        assert!(keyring.lookup("broken.example/app").is_empty());
        assert!(!format!("{keyring:?}").contains("se:cret"));
    }

    #[test]
    fn what_is_no_configuration_is_refused_without_being_repeated() {
        for text in [
            "",
            "hunter2",
            "[]",
            r#"{"auths": 1}"#,
            r#"{"password": "hunter2"}"#,
        ] {
            let error = Keyring::default().add_json("s", text.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hunter2"));
        }
    }
}
