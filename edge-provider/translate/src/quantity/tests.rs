//! Every suffix, every rounding, and what is no quantity.

use super::*;

#[track_caller]
fn check(text: &str, milli: u64, whole: u64) {
    let amount = Amount::parse(text).unwrap_or_else(|_| panic!("{text}"));
    assert_eq!((amount.milli(), amount.whole()), (milli, whole), "{text}");
}

#[test]
fn every_suffix_is_exact() {
    check("0", 0, 0);
    check("1", 1000, 1);
    check("+1", 1000, 1);
    check("100m", 100, 1);
    check("1500m", 1500, 2);
    check("0.1", 100, 1);
    check(".5", 500, 1);
    check("2.", 2000, 2);
    check("1e3", 1_000_000, 1000);
    check("1E3", 1_000_000, 1000);
    check("12e-1", 1200, 2);
}

#[test]
fn binary_suffixes() {
    check("64Mi", 64 * 1024 * 1024 * 1000, 64 * 1024 * 1024);
    check("1.5Gi", 1536 * 1024 * 1024 * 1000, 1536 * 1024 * 1024);
    check("1Ki", 1_024_000, 1024);
}

#[test]
fn finer_than_needed_is_rounded_up_and_too_much_is_capped() {
    check("1n", 1, 1);
    check("100u", 1, 1);
    check("0.0000000001", 1, 1);
    check("1e-32000", 1, 1);
    check("0e32000", 0, 0);
    assert_eq!(Amount::parse("9e32000").unwrap().whole(), i64::MAX.unsigned_abs());
    assert_eq!(Amount::parse("16Ei").unwrap().whole(), i64::MAX.unsigned_abs());
}

#[test]
fn equal_amounts_are_equal_however_they_are_written() {
    for (a, b) in [
        ("1", "1000m"),
        ("1Gi", "1024Mi"),
        ("1k", "1e3"),
        ("0.5", "500m"),
        ("0", "0m"),
    ] {
        assert_eq!(Amount::parse(a), Amount::parse(b), "{a} {b}");
    }
}

#[test]
fn what_is_no_quantity_is_an_error() {
    for bad in [
        "",
        ".",
        "-1",
        "1.2.3",
        "Mi",
        "1mi",
        "1 Gi",
        "1e",
        "e3",
        "1e99999",
        "1KiB",
        "ä",
        "1é",
        &"1".repeat(33),
    ] {
        assert_eq!(Amount::parse(bad), Err(NotAQuantity), "{bad}");
    }
}

proptest::proptest! {
    #[test]
    fn never_panics(text in "[-+0-9.a-zA-Z]{0,40}") {
        let _ = Amount::parse(&text).map(|amount| (amount.milli(), amount.whole(), amount.is_zero()));
    }
}
