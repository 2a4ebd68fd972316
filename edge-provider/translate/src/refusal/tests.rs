//! Order, summaries, and hostile keys.

use super::*;

fn refusals(paths: &[&str]) -> Refusals {
    let found = paths
        .iter()
        .map(|path| Refusal {
            path: (*path).to_owned(),
            reason: "no".to_owned(),
        })
        .collect();
    Refusals::none_or(found).unwrap_err()
}

#[test]
fn indices_sort_by_number_and_doubles_go() {
    let all = refusals(&[
        "spec.c[10].b",
        "spec.c[2].b",
        "spec.c[2].a",
        "spec.c[2].b",
        "spec.a",
    ]);
    assert_eq!(
        all.paths().collect::<Vec<_>>(),
        ["spec.a", "spec.c[2].a", "spec.c[2].b", "spec.c[10].b"]
    );
}

#[test]
fn a_summary_says_how_many_it_leaves_out() {
    let all = refusals(&["a", "b", "c"]);
    assert_eq!(all.summary(100), "a: no; b: no; c: no");
    assert_eq!(all.summary(30), "a: no; b: no; c: no");
    assert_eq!(all.summary(18), "… and 3 more".to_owned());
    assert_eq!(all.summary(17), "… and 3 more");
    let many: Vec<String> = (0..1000)
        .map(|i| format!("spec.containers[{i}].livenessProbe"))
        .collect();
    let many = refusals(&many.iter().map(String::as_str).collect::<Vec<_>>());
    let note = many.summary(1024);
    assert!(note.len() <= 1024 && note.ends_with(" more"), "{note}");
    assert!(
        note.starts_with("spec.containers[0].livenessProbe: no; spec.containers[1]"),
        "{note}"
    );
}

#[test]
fn keys_are_escaped_and_cut() {
    let spec = Path::root("spec");
    assert_eq!(spec.field("a").index(3).key("b/c").to_string(), "spec.a[3][b/c]");
    assert_eq!(spec.field("x\n\u{1b}[1m").to_string(), "spec.x\\n\\u{1b}[1m");
    assert_eq!(
        spec.field(&"y".repeat(4000)).to_string().chars().count(),
        5 + QUOTED + 1
    );
}
