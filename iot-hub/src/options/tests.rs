//! What the parser says to mistakes.

use std::error::Error as _;
use std::path::Path;

use super::*;

const GOOD: &str = r#"
state_dir = "/var/lib/outrigger-hub"
ca_dir = "/etc/outrigger/ca"
[device]
listen = "0.0.0.0:443"
[rest]
listen = "127.0.0.1:8443"
[health]
listen = "127.0.0.1:9080"
"#;

#[track_caller]
fn check(text: &str, expect: &str) {
    let error = Options::parse(text, Path::new("hub.toml")).unwrap_err();
    let chain = format!(
        "{error} {}",
        error.source().map(ToString::to_string).unwrap_or_default()
    );
    assert!(chain.contains(expect), "{chain}");
}

#[test]
fn the_smallest_file_has_defaults() {
    let options = Options::parse(GOOD, Path::new("hub.toml")).unwrap();
    assert_eq!(options.device.certificate_days, 365);
    assert_eq!(options.log.filter_text(), "info");
}

#[test]
fn mistakes_are_named_with_their_place() {
    check(&GOOD.replace("[rest]", "[rest]\nlisten_on = 1"), "line 7");
    check(
        &GOOD.replace("[rest]", "[rest]\nlisten_on = 1"),
        "unknown field `listen_on`",
    );
    check(&GOOD.replace("8443", "x"), "line 7");
    check(&GOOD.replace("[rest]", "[rest]\nkey = \"k\""), "rest.certificate");
    check(
        &GOOD.replace("443\"\n[rest]", "443\"\ncertificate_days = 0\n[rest]"),
        "device.certificate_days",
    );
    check(&format!("{GOOD}[log]\nfilter = \"a=b=c\""), "log.filter");
    check("", "state_dir");
}
