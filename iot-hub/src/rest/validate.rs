//! Limits on what people and programs type, checked before anything is kept.

use std::collections::BTreeMap;

use iot_hub_api::{CreateEnrolmentToken, Problem, ProblemCode};

const MAX_GROUP: usize = 63;
const MAX_KEY: usize = 63;
const MAX_VALUE: usize = 255;
const MAX_TAGS: usize = 64;

/// # Errors
/// `bad-tags` with the key at fault.
pub(crate) fn tags(tags: &BTreeMap<String, String>) -> Result<(), Problem> {
    let bad = |field: String, detail: String| Err(Problem::new(ProblemCode::BadTags, detail).at_field(field));
    if tags.len() > MAX_TAGS {
        return bad(
            "tags".to_owned(),
            format!("{} tags; at most {MAX_TAGS}", tags.len()),
        );
    }
    for (key, value) in tags {
        let clean: String = edge_protocol::text::sanitise(key).chars().take(80).collect();
        let good_key = (1..=MAX_KEY).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b'-'));
        if !good_key {
            return bad(
                format!("tags.{clean}"),
                format!("a key has 1 to {MAX_KEY} of A-Z a-z 0-9 . _ / -"),
            );
        }
        if value.len() > MAX_VALUE || value.chars().any(char::is_control) {
            return bad(
                format!("tags.{clean}"),
                format!("a value has at most {MAX_VALUE} bytes and no control characters"),
            );
        }
    }
    Ok(())
}

/// # Errors
/// `bad-tags` or `bad-value` with the field at fault.
pub(crate) fn enrolment_token(ask: &CreateEnrolmentToken) -> Result<(), Problem> {
    let check = |good: bool, field: &str, detail: &str| {
        if good {
            Ok(())
        } else {
            Err(Problem::new(ProblemCode::BadValue, detail).at_field(field))
        }
    };
    tags(&ask.tags)?;
    let group = ask.group.len() <= MAX_GROUP
        && ask
            .group
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    check(group, "group", "at most 63 of A-Z a-z 0-9 . _ -")?;
    check((1..=100_000).contains(&ask.uses), "uses", "1 to 100000")?;
    check(
        (60..=31_536_000).contains(&ask.ttl_s),
        "ttl_s",
        "60 to 31536000 seconds",
    )?;
    check(
        ask.device.is_none() || ask.uses == 1,
        "uses",
        "a token for one device has one use",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_bounded() {
        let check = |key: &str, value: &str, good: bool| {
            let set = BTreeMap::from([(key.to_owned(), value.to_owned())]);
            assert_eq!(tags(&set).is_ok(), good, "{key:?} {value:?}");
        };
        check("site", "graz", true);
        check("a.b/c_d-E", "", true);
        check("", "x", false);
        check("a b", "x", false);
        check("a", "x\n", false);
        check("a", &"x".repeat(256), false);
        check(&"a".repeat(64), "x", false);
        let many = (0..65).map(|n| (format!("k{n}"), String::new())).collect();
        assert!(tags(&many).is_err());
    }

    #[test]
    fn enrolment_tokens_are_bounded() {
        let check = |ask: CreateEnrolmentToken, field: Option<&str>| {
            let problem = enrolment_token(&ask).err();
            assert_eq!(
                problem.as_ref().and_then(|problem| problem.field.as_deref()),
                field
            );
        };
        let good = CreateEnrolmentToken::default;
        check(good(), None);
        check(CreateEnrolmentToken { uses: 0, ..good() }, Some("uses"));
        check(CreateEnrolmentToken { ttl_s: 1, ..good() }, Some("ttl_s"));
        check(
            CreateEnrolmentToken {
                group: "a b".into(),
                ..good()
            },
            Some("group"),
        );
        let device = edge_protocol::DeviceId::new("d").ok();
        check(
            CreateEnrolmentToken {
                device,
                uses: 2,
                ..good()
            },
            Some("uses"),
        );
    }
}
