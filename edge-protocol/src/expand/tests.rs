//! The cases of Kubernetes, and variables that refer to each other.

use super::*;

/// The cases of `TestMapping` in `third_party/forked/golang/expansion/expand_test.go`, Kubernetes 1.37 (Apache-2.0).
const CASES: &[(&str, &str)] = &[
    ("$(VAR_A)", "A"),
    ("$(VAR_A)-$(VAR_A)", "A-A"),
    ("$(VAR_A)-1", "A-1"),
    ("___$(VAR_B)___", "___B___"),
    ("___$(VAR_C)", "___C"),
    ("$(VAR_A)_$(VAR_B)_$(VAR_C)", "A_B_C"),
    ("$$(VAR_B)_$(VAR_A)", "$(VAR_B)_A"),
    ("$$(VAR_A)_$$(VAR_B)", "$(VAR_A)_$(VAR_B)"),
    ("f000-$$VAR_A", "f000-$VAR_A"),
    ("foo\\$(VAR_C)bar", "foo\\Cbar"),
    ("foo\\\\$(VAR_C)bar", "foo\\\\Cbar"),
    ("foo\\\\\\\\$(VAR_A)bar", "foo\\\\\\\\Abar"),
    ("$(VAR_A$(VAR_B))", "$(VAR_A$(VAR_B))"),
    ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
    ("$(VAR_REF)", "$(VAR_A)"),
    ("%%$(VAR_REF)--$(VAR_REF)%%", "%%$(VAR_A)--$(VAR_A)%%"),
    ("foo$(VAR_EMPTY)bar", "foobar"),
    ("foo$(VAR_Awhoops!", "foo$(VAR_Awhoops!"),
    ("f00__(VAR_A)__", "f00__(VAR_A)__"),
    ("$?_boo_$!", "$?_boo_$!"),
    ("$VAR_A", "$VAR_A"),
    ("$(VAR_DNE)", "$(VAR_DNE)"),
    ("$$$$$$(BIG_MONEY)", "$$$(BIG_MONEY)"),
    ("$$$$$$(VAR_A)", "$$$(VAR_A)"),
    ("$$$$$$$(GOOD_ODDS)", "$$$$(GOOD_ODDS)"),
    ("$$$$$$$(VAR_A)", "$$$A"),
    ("$VAR_A)", "$VAR_A)"),
    ("${VAR_A}", "${VAR_A}"),
    ("$(VAR_B)_______$(A", "B_______$(A"),
    ("$(VAR_C)_______$(", "C_______$("),
    ("$(VAR_A)foobarzab$", "Afoobarzab$"),
    ("foo-\\$(VAR_A", "foo-\\$(VAR_A"),
    ("--$($($($($--", "--$($($($($--"),
    ("$($($($($--foo$(", "$($($($($--foo$("),
    ("foo0--$($($($(", "foo0--$($($($("),
    ("$(foo$$var)", "$(foo$$var)"),
    ("\n", "\n"),
    ("$£FOO", "$£FOO"),
    ("prefix-$€-suffix", "prefix-$€-suffix"),
    ("$中文", "$中文"),
];

fn known(name: &str) -> Option<&'static str> {
    match name {
        "VAR_A" => Some("A"),
        "VAR_B" => Some("B"),
        "VAR_C" => Some("C"),
        "VAR_REF" => Some("$(VAR_A)"),
        "VAR_EMPTY" => Some(""),
        _ => None,
    }
}

#[test]
fn expands_as_kubernetes_does() {
    for (input, expected) in CASES {
        assert_eq!(expand(input, known), *expected, "{input}");
    }
}

#[track_caller]
fn check(declared: &[(&str, &str)], expect: &[(&str, &str)]) {
    let vars = Environment::resolve(declared.iter().copied()).into_vars();
    let vars: Vec<_> = vars
        .iter()
        .map(|var| (var.name.as_str(), var.value.as_str()))
        .collect();
    assert_eq!(vars, expect);
}

#[test]
fn a_value_sees_what_stands_before_it() {
    check(
        &[("FOO", "bar"), ("ZOO", "$(FOO)-1"), ("BLU", "$(ZOO)-2")],
        &[("FOO", "bar"), ("ZOO", "bar-1"), ("BLU", "bar-1-2")],
    );
    check(&[("A", "$(B)"), ("B", "1")], &[("A", "$(B)"), ("B", "1")]);
    check(&[("A", "$(A)")], &[("A", "$(A)")]);
    check(
        &[("A", "1"), ("B", "x"), ("A", "$(A)2")],
        &[("A", "12"), ("B", "x")],
    );
    check(&[("A", ""), ("B", "[$(A)]")], &[("A", ""), ("B", "[]")]);
}

#[test]
fn what_is_beneath_yields_to_every_declaration_and_comes_last() {
    let services = [("A_SERVICE_HOST", "10.0.0.1"), ("OWN", "theirs")];
    let services = services.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut environment = Environment::above(BTreeMap::from(services));
    environment.declare("URL", "http://$(A_SERVICE_HOST)/$(OWN)");
    environment.set("TEXT", "$(URL) $$".to_owned());
    environment.set("OWN", "mine".to_owned());
    assert_eq!(environment.expand("$(OWN)"), "mine");
    assert_eq!(
        environment.iter().collect::<Vec<_>>(),
        [
            ("URL", "http://10.0.0.1/theirs"),
            ("TEXT", "$(URL) $$"),
            ("OWN", "mine"),
            ("A_SERVICE_HOST", "10.0.0.1"),
        ]
    );
    assert!(!format!("{environment:?}").contains("10.0.0.1"));
}
