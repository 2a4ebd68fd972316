//! The form of problems on the wire.

use super::*;

#[test]
fn a_problem_is_what_rfc_9457_says() {
    let problem = Problem::new(ProblemCode::BadCondition, "expected a value")
        .at_field("target.condition")
        .at_position(7);
    let json = serde_json::to_value(&problem).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "type": "urn:outrigger:problem:bad-condition",
            "title": "The target condition is not valid",
            "status": 422,
            "detail": "expected a value",
            "field": "target.condition",
            "position": 7,
        })
    );
    assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
}

#[test]
fn a_code_of_a_newer_hub_is_read_as_unknown() {
    let code: ProblemCode = serde_json::from_str("\"urn:outrigger:problem:solar-flare\"").unwrap();
    assert_eq!(code, ProblemCode::Unknown);
}

#[test]
fn codes_are_kebab_case_unique_and_carry_an_error_status() {
    let mut seen = std::collections::BTreeSet::new();
    for code in ProblemCode::ALL {
        let name = code.to_string();
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'),
            "{name}"
        );
        assert!((400..600).contains(&code.status()), "{name}");
        assert_eq!(serde_json::to_value(code).unwrap(), code.uri());
        assert!(seen.insert(name));
    }
}
