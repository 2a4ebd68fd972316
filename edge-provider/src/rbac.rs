//! The rights that this process needs, for the names that its configuration gives.

use crate::Options;

/// For the default names; the end-to-end tests run with exactly these.
const RIGHTS: &str = include_str!("../../charts/rbac.yaml");
const NODE: &str = "outrigger";
const NAMESPACE: &str = "outrigger-system";
const LEASE: &str = "outrigger-kubelet-outrigger";
const ACCOUNT: &str = "outrigger-kubelet";

/// `charts/rbac.yaml` with the node, lease and namespace of `options` in place of the default ones.
pub fn manifests(options: &Options) -> String {
    let node = &options.node.name;
    let account = if node == NODE {
        ACCOUNT.to_owned()
    } else {
        format!("{ACCOUNT}-{node}")
    };
    let namespace = &options.kubernetes.leader.namespace;
    let lines = RIGHTS.lines().map(|line| {
        let (before, value) = match line.split_once(": ") {
            Some((key, value)) if !key.trim_start().starts_with('#') => (key, value),
            _ => return line.to_owned(),
        };
        let key = before.trim_start().trim_start_matches("- ");
        let value = match (key, value) {
            ("name" | "namespace", NAMESPACE) => namespace.clone(),
            ("name", ACCOUNT) => account.clone(),
            ("resourceNames", names) if names == format!("[{NODE}]") => format!("[{node}]"),
            ("resourceNames", names) if names == format!("[{LEASE}]") => {
                format!("[{}]", options.lease_name())
            }
            (_, value) => value.to_owned(),
        };
        format!("{before}: {value}")
    });
    lines.fold(String::new(), |mut text, line| {
        text.push_str(&line);
        text.push('\n');
        text
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use daemon::config::Config as _;

    use super::*;

    fn options(node: &str, kubernetes: &str) -> Options {
        let text = format!(
            "[node]\nname = \"{node}\"\nip = \"192.0.2.10\"\n[hub]\nurl = \"https://hub\"\nca_file = \"ca\"\ntoken_file = \"token\"\n\
             [health]\nlisten = \"127.0.0.1:9081\"\n{kubernetes}"
        );
        Options::parse(&text, Path::new("kubelet.toml")).unwrap()
    }

    #[test]
    fn the_default_names_give_the_file_that_is_tested() {
        assert_eq!(manifests(&options(NODE, "")), RIGHTS);
    }

    #[test]
    fn other_names_leave_none_of_the_default_ones() {
        let leader = "[kubernetes.leader]\nnamespace = \"press-shop\"\nlease = \"press-lead\"";
        let text = manifests(&options("hall-7", leader));
        let rights: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .collect();
        let count = |wanted: &str| {
            rights
                .iter()
                .filter(|line| line.trim_start_matches(['-', ' ']) == wanted)
                .count()
        };
        for (left, expected) in [
            ("namespace: press-shop", "namespace: outrigger-system"),
            ("name: press-shop", "name: outrigger-system"),
            ("name: outrigger-kubelet-hall-7", "name: outrigger-kubelet"),
            ("resourceNames: [hall-7]", "resourceNames: [outrigger]"),
            (
                "resourceNames: [press-lead]",
                "resourceNames: [outrigger-kubelet-outrigger]",
            ),
        ] {
            let default = RIGHTS
                .lines()
                .filter(|line| line.trim_start_matches(['-', ' ']) == expected)
                .count();
            assert!(default > 0, "{expected}");
            assert_eq!(count(left), default, "{left}");
        }
        let own = rights.join("\n");
        assert!(
            !own.contains("outrigger-system") && !own.contains("[outrigger]"),
            "{own}"
        );
        let lease = manifests(&options("hall-7", ""));
        assert!(
            lease.contains("[outrigger-kubelet-hall-7]"),
            "the default lease follows the node"
        );
    }
}
