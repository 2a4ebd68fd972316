//! The rights that this process needs, for the names that its configuration gives.

use crate::Options;
use crate::options::ObjectsAs;

/// For the default names; the end-to-end tests run with exactly these. The last is the binding of what may be read as a node.
const RIGHTS: &str = include_str!("../../charts/rbac.yaml");
/// For API servers that cannot confine us to what our pods refer to: the binding, last, is written once for each namespace.
const OBJECTS: &str = include_str!("../../charts/rbac-objects.yaml");
const BOUND: &str = "NAMESPACE";
const SEPARATOR: &str = "---\n";
/// What device nodes need beside it.
const DEVICE_NODES: &str = include_str!("../../charts/rbac-device-nodes.yaml");
/// What the kubelet API needs to know who may ask it.
const REVIEWS: &str = include_str!("../../charts/rbac-reviews.yaml");
/// What a serving certificate of the cluster needs, and what approving it needs.
const SERVING: &str = include_str!("../../charts/rbac-serving.yaml");
const APPROVER: &str = include_str!("../../charts/rbac-approver.yaml");
const NODE: &str = "outrigger";
const NAMESPACE: &str = "outrigger-system";
const LEASE: &str = "outrigger-kubelet-outrigger";
const ACCOUNT: &str = "outrigger-kubelet";

/// `charts/rbac.yaml` with the node, lease and namespace of `options` in place of the default ones, and `charts/rbac-device-nodes.yaml` if
/// devices are nodes; `charts/rbac-reviews.yaml` if there is a kubelet API, `charts/rbac-serving.yaml` and `charts/rbac-approver.yaml` if a certificate is asked for and approved here. What objects are read by is bound in the namespaces that `options` names, or in all if it names none; who reads as the
/// account gets `charts/rbac-objects.yaml` for those it names, and nothing as a node.
pub fn manifests(options: &Options) -> String {
    let namespaces = &options.kubernetes.object_namespaces;
    let as_account = options.kubernetes.objects_as == Some(ObjectsAs::Account);
    let (rights, everywhere) = last_of(RIGHTS);
    let mut all = vec![named(rights, options)];
    if !as_account && namespaces.is_empty() {
        all.push(named(everywhere, options));
    } else if !as_account {
        let somewhere = everywhere
            .replace("kind: ClusterRoleBinding", "kind: RoleBinding")
            .replacen("metadata:\n", &format!("metadata:\n  namespace: {BOUND}\n"), 1);
        all.extend(bound(&somewhere, options));
    }
    if options.device_nodes.is_some() {
        all.push(named(DEVICE_NODES, options));
    }
    if let Some(kubelet_api) = &options.kubelet_api {
        all.push(named(REVIEWS, options));
        if kubelet_api.asks() {
            all.push(named(SERVING, options));
        }
        if kubelet_api.approves() {
            all.push(named(APPROVER, options));
        }
    }
    if as_account && !namespaces.is_empty() {
        let (roles, binding) = last_of(OBJECTS);
        all.push(named(roles, options));
        all.extend(bound(binding, options));
    }
    all.join(SEPARATOR)
}

/// All documents but the last, and the last.
fn last_of(documents: &str) -> (&str, &str) {
    documents
        .rsplit_once(SEPARATOR)
        .expect("a constant of several documents")
}

/// A binding, once for each namespace.
fn bound(binding: &str, options: &Options) -> impl Iterator<Item = String> {
    let binding = named(binding, options);
    let placeholder = format!("namespace: {BOUND}\n");
    let namespaces = options.kubernetes.object_namespaces.iter();
    namespaces.map(move |namespace| binding.replace(&placeholder, &format!("namespace: {namespace}\n")))
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
    fn what_may_be_read_as_a_node_is_bound_where_the_configuration_says() {
        let text = manifests(&options(
            "hall-7",
            "[kubernetes]\nobject_namespaces = [\"shop\", \"press\"]",
        ));
        let documents: Vec<&str> = text.split("---\n").collect();
        let role = "kind: ClusterRole\n  name: outrigger-kubelet-hall-7-as-node\n";
        let bindings: Vec<&&str> = documents.iter().filter(|text| text.contains(role)).collect();
        assert_eq!(bindings.len(), 2, "{bindings:?}");
        for (binding, namespace) in bindings.iter().zip(["shop", "press"]) {
            assert!(binding.contains("kind: RoleBinding\n"), "{binding}");
            assert!(
                binding.contains(&format!("metadata:\n  namespace: {namespace}\n")),
                "{binding}"
            );
            assert!(binding.contains("name: outrigger-kubelet-hall-7\n"), "{binding}");
        }
        assert!(
            !text.contains("outrigger-kubelet-hall-7-objects"),
            "as the node alone"
        );
    }

    #[test]
    fn an_account_gets_one_binding_for_each_namespace_that_is_named() {
        let account = "[kubernetes]\nobjects_as = \"account\"\n";
        let text = manifests(&options(
            "hall-7",
            &format!("{account}object_namespaces = [\"shop\", \"press\"]"),
        ));
        let added = text
            .strip_prefix(&manifests(&options("hall-7", account)))
            .unwrap();
        assert!(!text.contains("kind: ClusterRole\n  name: outrigger-kubelet-hall-7-as-node\n"));
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
    fn a_kubelet_api_reviews_and_only_who_asks_for_a_certificate_or_approves_one_may() {
        let written = |api: &str| {
            let text = manifests(&options(NODE, &format!("[kubelet_api]\n{api}")));
            text.strip_prefix(RIGHTS).unwrap().to_owned()
        };
        assert_eq!(
            written(""),
            format!("---\n{REVIEWS}---\n{SERVING}---\n{APPROVER}")
        );
        assert_eq!(
            written("approver = \"others\""),
            format!("---\n{REVIEWS}---\n{SERVING}")
        );
        assert_eq!(written("certificate = \"own\""), format!("---\n{REVIEWS}"));
        let other = manifests(&options("hall-7", "[kubelet_api]"));
        for (name, times) in [("reviews", 6), ("serving", 3), ("approver", 3)] {
            let line = format!("name: outrigger-kubelet-hall-7-{name}");
            assert_eq!(
                other.lines().filter(|own| own.trim() == line).count(),
                times,
                "{name}"
            );
        }
        assert!(other.contains("resourceNames: [kubernetes.io/kubelet-serving]"));
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
