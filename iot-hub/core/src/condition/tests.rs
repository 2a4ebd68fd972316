//! Conditions as people write them, as they fail, and as the machine prints them.

use std::collections::BTreeMap;

use edge_protocol::DeviceId;
use edge_protocol::v1::Facts;
use proptest::prelude::*;

use super::*;

fn facts() -> Facts {
    Facts {
        arch: "arm64".to_owned(),
        memory_bytes: 4096,
        ..Facts::default()
    }
}

fn tags() -> BTreeMap<String, String> {
    [
        ("site", "hall-1"),
        ("floor", "3"),
        ("it's", "x'y"),
        ("a.b/c-d", "1.50"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

#[track_caller]
fn check(condition: &str, expect: bool) {
    let condition: Condition = condition.parse().unwrap();
    assert_eq!(
        with_subject(|subject| condition.matches(subject)),
        expect,
        "{condition}"
    );
}

fn with_subject<T>(read: impl FnOnce(&Subject<'_>) -> T) -> T {
    let (id, tags, facts) = (DeviceId::new("press-7").unwrap(), tags(), facts());
    read(&Subject {
        id: &id,
        group: "plant",
        tags: &tags,
        facts: &facts,
    })
}

#[test]
fn matching() {
    check("*", true);
    check("tags.site = 'hall-1'", true);
    check("TAGS.site='hall-1' and Group = 'plant'", true);
    check("tags.Site = 'hall-1'", false);
    check("deviceid IN ['press-6', 'press-7']", true);
    check("deviceId NOT IN ['press-6', 'press-7']", false);
    check("NOT deviceId IN ['press-6']", true);
    check(
        "tags.site = 'hall-1' AND (NOT tags.env = 'dev' OR deviceId IN ['a','b'])",
        true,
    );
    check("tags.site = 'hall-2' AND tags.site = 'hall-1' OR *", true);
    check("facts.arch = 'arm64'", true);
    check("facts.os = 'linux'", false);
    check("is_defined(facts.os)", false);
    check("IS_DEFINED(tags.site)", true);
    check("NOT is_defined(tags.env)", true);
    check("StartsWith(tags.site, 'hall-')", true);
    check("STARTSWITH(tags.env, '')", false);
    check("tags['it''s'] = 'x''y'", true);
    check("tags.a.b/c-d = 1.5", true);
}

#[test]
fn numbers_compare_as_numbers() {
    check(
        "tags.floor > 2 AND tags.floor <= 3 AND tags.floor >= 3.0 AND tags.floor < 10",
        true,
    );
    check("tags.floor = 3", true);
    check("tags.floor = '3.0'", false);
    check("tags.floor IN [1, 3]", true);
    check("tags.site > 0", false);
    check("facts.memory_bytes >= 4096", true);
    check("tags.floor > -1", true);
}

#[test]
fn what_is_absent_equals_nothing() {
    check("tags.env = 'dev'", false);
    check("tags.env != 'dev'", true);
    check("tags.env <> 'dev'", true);
    check("tags.env NOT IN ['dev']", true);
    check("tags.env < 5", false);
    check("tags.env >= 5", false);
    check("facts.cpu_milli < 5", false);
}

#[track_caller]
fn check_authority(condition: &str, expect: Truth) {
    let condition: Condition = condition.parse().unwrap();
    assert_eq!(
        with_subject(|subject| condition.authority(subject)),
        expect,
        "{condition}"
    );
}

#[test]
fn authority_leaves_claims_open() {
    check_authority("facts.arch = 'arm64'", Truth::Open);
    check_authority("NOT facts.arch = 'arm64'", Truth::Open);
    check_authority("tags.site = 'hall-1' AND facts.arch = 'amd64'", Truth::Open);
    check_authority("tags.site = 'hall-2' AND facts.arch = 'arm64'", Truth::False);
    check_authority("tags.site = 'hall-1' OR facts.arch = 'amd64'", Truth::True);
    check_authority("tags.site = 'hall-2' OR facts.arch = 'arm64'", Truth::Open);
    check_authority("*", Truth::True);
}

#[track_caller]
fn check_error(condition: &str, position: usize, expected: &str) {
    let error = condition.parse::<Condition>().unwrap_err();
    assert_eq!(error.position, position, "{condition}: {error}");
    assert!(error.expected.contains(expected), "{condition}: {error}");
}

#[test]
fn errors_say_where_and_what() {
    check_error("", 1, "deviceId");
    check_error("tags.site == 'a'", 11, "=, !=");
    check_error("tags.site = hall", 13, "single quotes");
    check_error("tags.site = 'hall", 18, "closing quote");
    check_error("tags.größe = 'x'", 8, "IN");
    check_error("tags['größe'] = ", 17, "single quotes");
    check_error("tags. = 'x'", 6, "key");
    check_error("tags.a < 'x'", 10, "a number");
    check_error("tags.a < 1.2.3", 10, "a number");
    check_error("facts.colour = 'x'", 7, "runtime_name");
    check_error("site = 'a'", 1, "tags.<key>");
    check_error("(tags.a = 'x'", 14, "')'");
    check_error("tags.a = 'x' tags.b = 'y'", 14, "AND, OR");
    check_error("tags.a = 'x' AND", 17, "deviceId");
    check_error("deviceId IN []", 14, "single quotes");
    check_error("deviceId IN ['a' 'b']", 18, "','");
    check_error("deviceId NOT 'a'", 14, "IN");
    check_error("is_defined tags.a", 12, "'('");
    check_error("STARTSWITH(tags.a)", 18, "','");
    check_error(
        &format!("{}*", "(".repeat(MAX_DEPTH + 1)),
        MAX_DEPTH + 2,
        "nesting",
    );
    check_error(&format!("{}*", "NOT ".repeat(5000)), MAX_LENGTH, "at most 4096");
}

#[track_caller]
fn check_keys(condition: &str, expect: Option<&[&str]>) {
    let condition: Condition = condition.parse().unwrap();
    let keys = condition.keys().map(|keys| {
        keys.iter()
            .map(|key| match key {
                Key::Device(id) => format!("d:{id}"),
                Key::Group(group) => format!("g:{group}"),
                Key::Tag(tag, value) => format!("t:{tag}={value}"),
            })
            .collect::<Vec<_>>()
    });
    assert_eq!(
        keys.as_deref(),
        expect
            .map(|keys| keys.iter().map(|k| (*k).to_owned()).collect::<Vec<_>>())
            .as_deref(),
        "{condition}"
    );
}

#[test]
fn keys_narrow_the_search() {
    check_keys("*", None);
    check_keys("tags.a = 'x'", Some(&["t:a=x"]));
    check_keys("tags.a = 1", None);
    check_keys("* AND group = 'g'", Some(&["g:g"]));
    check_keys("deviceId IN ['a', 'b'] AND tags.a = 'x'", Some(&["t:a=x"]));
    check_keys("deviceId = 'a' OR tags.a = 'x'", Some(&["d:a", "t:a=x"]));
    check_keys("deviceId = 'a' OR NOT tags.a = 'x'", None);
    check_keys("facts.arch = 'arm64'", None);
}

fn attributes() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        Just(Attribute::DeviceId),
        Just(Attribute::Group),
        "\\PC{0,6}".prop_map(Attribute::Tag),
        "[a-z_0-9][a-z./-]{0,6}".prop_map(Attribute::Tag),
        prop::sample::select(Fact::ALL.to_vec()).prop_map(Attribute::Fact),
    ]
}

fn literals() -> impl Strategy<Value = Literal> {
    prop_oneof![
        "\\PC{0,6}".prop_map(Literal::Text),
        "'{0,3}".prop_map(Literal::Text),
        prop::num::f64::NORMAL.prop_map(|n| Literal::Number(n % 1e9)),
        any::<i32>().prop_map(|n| Literal::Number(n.into())),
    ]
}

fn exprs() -> impl Strategy<Value = Expr> {
    let comparisons = prop::sample::select(vec![
        Comparison::Lt,
        Comparison::Gt,
        Comparison::Le,
        Comparison::Ge,
    ]);
    let leaf = prop_oneof![
        Just(Expr::Any),
        (attributes(), literals()).prop_map(|(a, l)| Expr::Compare(a, Comparison::Eq, l)),
        (attributes(), literals()).prop_map(|(a, l)| Expr::Compare(a, Comparison::Ne, l)),
        (attributes(), comparisons, any::<i32>()).prop_map(|(a, c, n)| Expr::Compare(
            a,
            c,
            Literal::Number(n.into())
        )),
        (attributes(), prop::collection::vec(literals(), 1..4)).prop_map(|(a, l)| Expr::In(a, l)),
        (attributes(), prop::collection::vec(literals(), 1..4)).prop_map(|(a, l)| Expr::NotIn(a, l)),
        attributes().prop_map(Expr::IsDefined),
        (attributes(), "\\PC{0,6}").prop_map(|(a, p)| Expr::StartsWith(a, p)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|e| Expr::Not(Box::new(e))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expr::And),
            prop::collection::vec(inner, 2..4).prop_map(Expr::Or),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(expr in exprs()) {
        let text = expr.to_string();
        prop_assume!(text.len() <= MAX_LENGTH);
        prop_assert_eq!(parse::condition(&text).map_err(|e| e.to_string()), Ok(expr), "{}", text);
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,60}") {
        drop(text.parse::<Condition>());
    }

    #[test]
    fn no_almost_condition_panics(text in "((tags|facts|deviceId|group|not|and|or|in|is_defined|STARTSWITH|'|\\[|\\]|\\(|\\)|\\*|<|=|1|\\.|,|é)( ){0,1}){0,20}") {
        drop(text.parse::<Condition>());
    }

    #[test]
    fn claims_only_decide_what_authority_leaves_open(expr in exprs()) {
        let condition = Condition { expr };
        let (authority, matches) = with_subject(|s| (condition.authority(s), condition.matches(s)));
        match authority {
            Truth::True => prop_assert!(matches),
            Truth::False => prop_assert!(!matches),
            Truth::Open => {}
        }
    }
}
