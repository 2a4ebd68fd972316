//! The rights that this process needs, for the names that its configuration gives.

use crate::Options;

/// For the default names; the end-to-end tests run with exactly these.
const RIGHTS: &str = include_str!("../../charts/rbac.yaml");
/// For API servers that cannot confine us to what our pods refer to: the binding, last, is written once for each namespace.
const OBJECTS: &str = include_str!("../../charts/rbac-objects.yaml");
const BOUND: &str = "NAMESPACE";
/// What device nodes need beside it.
const DEVICE_NODES: &str = include_str!("../../charts/rbac-device-nodes.yaml");
const NODE: &str = "outrigger";
const NAMESPACE: &str = "outrigger-system";
const LEASE: &str = "outrigger-kubelet-outrigger";
const ACCOUNT: &str = "outrigger-kubelet";

/// `charts/rbac.yaml` with the node, lease and namespace of `options` in place of the default ones, `charts/rbac-device-nodes.yaml` if devices
/// are nodes, and `charts/rbac-objects.yaml` for the namespaces that it names.
pub fn manifests(options: &Options) -> String {
    let mut text = named(RIGHTS, options);
    if options.device_nodes.is_some() {
        text.push_str("---\n");
        text.push_str(&named(DEVICE_NODES, options));
    }
    if let Some((roles, binding)) = OBJECTS.rsplit_once("---\n")
        && !options.kubernetes.object_namespaces.is_empty()
    {
        text.push_str("---\n");
        text.push_str(&named(roles, options));
        let bound = format!("namespace: {BOUND}\n");
        for namespace in &options.kubernetes.object_namespaces {
            let binding = named(binding, options).replace(&bound, &format!("namespace: {namespace}\n"));
            text.push_str("---\n");
            text.push_str(&binding);
        }
    }
    text
}

fn named(rights: &str, options: &Options) -> String {
    let node = &options.node.name;
    let account = |default: &str| {
        if node == NODE {
            default.to_owned()
        } else {
            default.replacen(ACCOUNT, &format!("{ACCOUNT}-{node}"), 1)
        }
    };
    let namespace = &options.kubernetes.leader.namespace;
    let lines = rights.lines().map(|line| {
        let (before, value) = match line.split_once(": ") {
            Some((key, value)) if !key.trim_start().starts_with('#') => (key, value),
            _ => return line.to_owned(),
        };
        let key = before.trim_start().trim_start_matches("- ");
        let value = match (key, value) {
            ("name" | "namespace", NAMESPACE) => namespace.clone(),
            ("name", own) if own == ACCOUNT || own.starts_with("outrigger-kubelet-") => account(own),
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

    #[test]
    fn older_servers_get_one_binding_for_each_namespace_that_is_named() {
        let text = manifests(&options(
            "hall-7",
            "[kubernetes]\nobject_namespaces = [\"shop\", \"press\"]",
        ));
        let added = text.strip_prefix(&manifests(&options("hall-7", ""))).unwrap();
        let count = |wanted: &str| added.lines().filter(|line| line.trim() == wanted).count();
        assert_eq!(
            (count("namespace: shop"), count("namespace: press")),
            (1, 1),
            "{added}"
        );
        assert_eq!(count("kind: RoleBinding"), 2);
        assert_eq!(
            count("kind: ClusterRole"),
            2 + 3,
            "two roles, and each binding names one"
        );
        assert_eq!(
            count("name: outrigger-kubelet-hall-7"),
            3,
            "whose each binding is"
        );
        assert_eq!(
            count("namespace: NAMESPACE") + count("name: outrigger-kubelet"),
            0,
            "{added}"
        );
        assert!(added.contains("outrigger-kubelet-hall-7-objects"), "{added}");
    }

    #[test]
    fn device_nodes_need_more_and_only_they() {
        let nodes = "[device_nodes]\ncondition = \"tags.node = 'true'\"";
        assert_eq!(
            manifests(&options(NODE, nodes)),
            format!("{RIGHTS}---\n{DEVICE_NODES}")
        );
        let other = manifests(&options("hall-7", nodes));
        let own = |text: &str| other.lines().filter(|line| line.trim() == text).count();
        assert_eq!(own("name: outrigger-kubelet-hall-7-device-nodes"), 6);
        assert_eq!(own("name: outrigger-kubelet-device-nodes"), 0);
    }
}
