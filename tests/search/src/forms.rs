//! What programs make of a text on its way into a file, a message or a log.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// In which form a marker was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    Raw,
    /// Escaped as in a JSON string, also as Go does it, also within a JSON string once more.
    Json,
    /// In the middle of something that was encoded as base64, with either alphabet.
    Base64,
    /// Encoded twice, as a Secret's data is in a body that is itself encoded.
    Base64Twice,
    Hex,
    /// Bytes as a list of numbers, as a serialiser or a debugging log writes them.
    Numbers,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "it is",
            Self::Json => "JSON",
            Self::Base64 => "base64",
            Self::Base64Twice => "base64 of base64",
            Self::Hex => "hex",
            Self::Numbers => "numbers",
        })
    }
}

/// Every form of a text, each byte sequence once and under its simplest name.
pub(crate) fn all(text: &str) -> Vec<(Form, Vec<u8>)> {
    let json = escaped(text);
    let go = json
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026");
    let twice = [escaped(&json), escaped(&go)];
    let plain = [text.to_owned(), json.clone(), go.clone()];
    let mut forms = vec![(Form::Raw, text.as_bytes().to_vec())];
    forms.extend(
        [json, go]
            .into_iter()
            .chain(twice)
            .map(|form| (Form::Json, form.into_bytes())),
    );
    for text in &plain {
        for once in encodings(text.as_bytes()) {
            forms.extend(
                encodings(&once)
                    .into_iter()
                    .map(|twice| (Form::Base64Twice, twice)),
            );
            forms.push((Form::Base64, once));
        }
    }
    for separator in [", ", ","] {
        let numbers: Vec<String> = text.bytes().map(|byte| byte.to_string()).collect();
        forms.push((Form::Numbers, numbers.join(separator).into_bytes()));
    }
    let digits: Vec<String> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hex = digits.concat();
    forms.push((Form::Hex, hex.to_uppercase().into_bytes()));
    forms.push((Form::Hex, hex.into_bytes()));
    let mut distinct: BTreeMap<Vec<u8>, Form> = BTreeMap::new();
    for (form, text) in forms {
        distinct
            .entry(text)
            .and_modify(|known| *known = (*known).min(form))
            .or_insert(form);
    }
    distinct.into_iter().map(|(text, form)| (form, text)).collect()
}

/// What stands between the quotes of a JSON string.
fn escaped(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    quoted
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or_default()
        .to_owned()
}

/// The characters of base64 that these bytes alone decide, wherever in the encoded bytes they begin: at a multiple of three, or one or two after it.
fn encodings(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for before in 0..3 {
        let padded: Vec<u8> = std::iter::repeat_n(0, before)
            .chain(bytes.iter().copied())
            .collect();
        // Six bits a character: the first that has none of what stands before, and the end of the last that has none of what follows.
        let (begin, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded).into_bytes();
            found.extend(encoded.get(begin..end).map(<[u8]>::to_vec));
        }
    }
    found
}
