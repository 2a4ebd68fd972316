//! References to images: whether a text can be one at all, so that a typing error is told from a registry's refusal, and which repository one
//! is of.

const DEFAULT_DOMAIN: &str = "docker.io";
/// The former name of the default domain.
const LEGACY_DOMAIN: &str = "index.docker.io";

/// What is wrong with `[domain/]path[:tag][@digest]`, in the words of github.com/distribution/reference (`ParseNormalizedNamed`).
pub fn fault(reference: &str) -> Option<String> {
    if reference.len() == 64 && reference.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Some(format!(
            "invalid repository name ({reference}), cannot specify 64-byte hexadecimal strings"
        ));
    }
    let remainder = match reference.split_once('/') {
        None => format!("library/{reference}"),
        Some((domain, rest)) if is_domain_like(domain) => rest.to_owned(),
        Some(_) => reference.to_owned(),
    };
    let path = remainder.split(':').next().unwrap_or_default();
    if path.chars().any(char::is_uppercase) {
        return Some(format!(
            "invalid reference format: repository name ({path}) must be lowercase"
        ));
    }
    (!is_valid(reference)).then(|| "invalid reference format".to_owned())
}

/// The repository in full, without tag and digest: what a kubelet looks credentials up by (`ParseImageName` of `pkg/util/parsers/parsers.go`,
/// which goes by `splitDockerDomain` of github.com/distribution/reference). The reference must be without [`fault`].
pub fn repository(reference: &str) -> String {
    let name = name(reference);
    let (domain, path) = match name.split_once('/') {
        Some((LEGACY_DOMAIN, path)) => (DEFAULT_DOMAIN, path),
        Some((domain, path)) if is_domain_like(domain) => (domain, path),
        _ => (DEFAULT_DOMAIN, name),
    };
    let official = if domain == DEFAULT_DOMAIN && !path.contains('/') {
        "library/"
    } else {
        ""
    };
    format!("{domain}/{official}{path}")
}

/// What comes before tag and digest.
fn name(reference: &str) -> &str {
    let tagged = reference.split_once('@').map_or(reference, |(name, _)| name);
    split_tag(tagged).0
}

/// A colon after the last slash begins a tag; one before it, a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

/// What comes before the first slash is a domain, unless it can be a path of the default registry.
fn is_domain_like(text: &str) -> bool {
    text.contains(['.', ':']) || text == "localhost" || text.chars().any(char::is_uppercase)
}

/// Checks the grammar.
fn is_valid(reference: &str) -> bool {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (name, tag) = split_tag(name);
    let path = match name.split_once('/') {
        Some((domain, path)) if is_domain(domain) => path,
        _ => name,
    };
    name.len() <= 255
        && path.split('/').all(is_path_component)
        && tag.is_none_or(is_tag)
        && digest.is_none_or(is_digest)
}

/// The first component is a domain only if it cannot be a path of the default registry.
fn is_domain(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    is_domain_like(text)
        && !host.is_empty()
        && host
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && !port.is_empty()
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// Runs of lower-case letters and digits, joined by `.`, `_`, `__` or dashes.
fn is_path_component(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let edges = text.bytes().next().is_some_and(word) && text.bytes().next_back().is_some_and(word);
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    edges
        && separators
            .into_iter()
            .all(|s| matches!(s, "" | "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    (1..=128).contains(&text.len())
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(text: &str) -> bool {
    text.split_once(':').is_some_and(|(algorithm, hex)| {
        algorithm.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && algorithm
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+.-_".contains(&b))
            && hex.len() >= 32
            && hex.bytes().all(|b| b.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::{fault, is_valid, repository};

    #[test]
    fn a_repository_is_named_in_full() {
        let digest = format!("team/app:1@sha256:{}", "0".repeat(64));
        for (reference, expect) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.36", "docker.io/library/busybox"),
            ("docker.io/busybox", "docker.io/library/busybox"),
            ("index.docker.io/team/app", "docker.io/team/app"),
            (digest.as_str(), "docker.io/team/app"),
            ("registry.example:5000/app:1", "registry.example:5000/app"),
            ("registry.example/team/app", "registry.example/team/app"),
            ("localhost/app", "localhost/app"),
            ("Registry/app", "Registry/app"),
        ] {
            assert_eq!(repository(reference), expect, "{reference}");
        }
    }

    #[test]
    fn faults_are_told_as_by_a_kubelet() {
        let lower =
            |path: &str| format!("invalid reference format: repository name ({path}) must be lowercase");
        let hex = "0".repeat(64);
        let cases = [
            ("registry.example/UPPER:v1", lower("UPPER")),
            ("Busybox", lower("library/Busybox")),
            ("team/App", lower("team/App")),
            ("a:b c", "invalid reference format".to_owned()),
            (
                &hex,
                format!("invalid repository name ({hex}), cannot specify 64-byte hexadecimal strings"),
            ),
        ];
        for (reference, expect) in cases {
            assert_eq!(fault(reference), Some(expect), "{reference:?}");
        }
        assert_eq!(fault("Registry.example/a:V1"), None);
    }

    #[test]
    fn references_follow_the_grammar() {
        let digest = format!("a@sha256:{}", "0".repeat(64));
        let cases = [
            ("busybox", true),
            ("busybox:1.36", true),
            ("library/busy_box__x--y.z:v1", true),
            ("localhost:5000/a/b:tag", true),
            ("127.0.0.1:5000/a", true),
            ("Registry.example/a", true),
            ("[::1]/a", false),
            (digest.as_str(), true),
            ("", false),
            ("Busybox", false),
            ("a/B", false),
            ("a b", false),
            ("a:", false),
            ("a:b c", false),
            ("a//b", false),
            ("a/", false),
            ("-a", false),
            ("a___b", false),
            ("a@sha256:xyz", false),
            ("http://a/b", false),
        ];
        for (reference, valid) in cases {
            assert_eq!(is_valid(reference), valid, "{reference:?}");
            assert_eq!(fault(reference).is_none(), valid, "{reference:?}");
        }
    }
}
