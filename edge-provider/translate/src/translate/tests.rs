//! Host names; what a whole pod becomes is tested from outside.

use super::*;

#[test]
fn a_long_name_is_cut_as_the_kubelet_cuts_it() {
    assert_eq!(hostname("web-6d4b75cb6d-x7v2p"), "web-6d4b75cb6d-x7v2p");
    assert_eq!(hostname(&"a".repeat(63)), "a".repeat(63));
    assert_eq!(
        hostname(&format!("{}-.{}", "a".repeat(61), "b".repeat(20))),
        "a".repeat(61)
    );
    assert_eq!(hostname(&"ü".repeat(60)), "ü".repeat(31));
}
