//! `docs/kubelet-differences.md` says what the tables say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use edge_provider_translate::NodeKind;
use edge_provider_translate::fields::{Class, Expected, Rule, rules};

const BEGIN: &str = "<!-- from the tables: begin -->\n";
const END: &str = "<!-- from the tables: end -->\n";

/// Initial containers differ as the others do.
fn shown() -> impl Iterator<Item = &'static Rule> {
    rules().filter(|rule| !rule.path.starts_with("initContainers[]"))
}

/// A fleet takes nothing of an ephemeral container.
fn whole_list(rule: &'static Rule) -> &'static str {
    match rule.path.split_once("[].") {
        Some((list @ "ephemeralContainers", _)) => list,
        _ => &rule.path,
    }
}

fn rows(found: impl Iterator<Item = (String, &'static str)>) -> String {
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (reason, path) in found {
        by_reason.entry(reason).or_default().push(path);
    }
    let mut rows: Vec<_> = by_reason
        .into_iter()
        .map(|(reason, mut paths)| {
            paths.sort_unstable();
            paths.dedup();
            let paths: Vec<_> = paths.iter().map(|path| format!("`{path}`")).collect();
            format!("| {} | {reason} |\n", paths.join(", "))
        })
        .collect();
    rows.sort_unstable();
    rows.concat()
}

fn tables() -> String {
    let refused = shown().filter_map(|rule| match rule.class(NodeKind::Device) {
        Class::Refused(reason) => Some((reason.to_owned(), rule.path.as_str())),
        _ => None,
    });
    let default_only = shown().filter_map(|rule| match rule.class(NodeKind::Device) {
        Class::DefaultOnly(Expected::Flag(flag)) => Some((format!("`{flag}`"), rule.path.as_str())),
        Class::DefaultOnly(Expected::Text(texts)) => {
            Some((format!("`{}`", texts.join("`, `")), rule.path.as_str()))
        }
        _ => None,
    });
    let on_a_fleet =
        shown().filter_map(
            |rule| match (rule.class(NodeKind::Fleet), rule.class(NodeKind::Device)) {
                (fleet, device) if fleet == device => None,
                (Class::Refused(reason), _) => Some((reason.to_owned(), whole_list(rule))),
                _ => Some(("not carried to devices".to_owned(), rule.path.as_str())),
            },
        );
    format!(
        "## Refused\n| below `spec` | why |\n|---|---|\n{}\n## Only as the API server writes it\n| below `spec` | only |\n|---|---|\n{}\n\
         ## On a fleet node besides\n| below `spec` | why |\n|---|---|\n{}",
        rows(refused),
        rows(default_only),
        rows(on_a_fleet)
    )
}

#[test]
fn the_page_lists_what_the_tables_refuse() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/kubelet-differences.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (listed, tail) = rest.split_once(END).unwrap();
    let tables = tables();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, format!("{head}{BEGIN}{tables}{END}{tail}")).unwrap();
    } else {
        assert_eq!(
            listed, tables,
            "run this test with UPDATE_GOLDENS=1 and read the difference"
        );
    }
}
