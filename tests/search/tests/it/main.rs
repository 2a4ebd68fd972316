//! Whatever a program may have made of a text, it is found; what is not there is not.

#![allow(
    clippy::unwrap_used,
    reason = "all of this binary is test code, helpers included"
)]

use std::path::Path;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use search::{Form, Marker, Search};

/// With all that is escaped somewhere.
const TEXT: &str = "sword\"fish\\4711 <&> mellow";

static SEARCH: LazyLock<Search> = LazyLock::new(|| {
    Search::new(&[
        Marker::new("pin", TEXT),
        Marker::new("other", "herring-0815-plain"),
    ])
    .unwrap()
});

#[track_caller]
fn finds(form: Form, packed: bool, bytes: &[u8]) {
    let found = SEARCH.bytes("here", bytes);
    let is_it =
        |found: &search::Finding| (found.marker.as_str(), found.form, found.packed) == ("pin", form, packed);
    assert!(found.iter().any(is_it), "{found:?}");
    assert!(
        found
            .iter()
            .all(|found| found.marker == "pin" && found.place == "here"),
        "{found:?}"
    );
}

#[test]
fn a_text_is_found_as_it_is_and_escaped() {
    finds(Form::Raw, false, format!("before {TEXT} after").as_bytes());
    let json = serde_json::json!({ "key": TEXT }).to_string();
    finds(Form::Json, false, json.as_bytes());
    finds(
        Form::Json,
        false,
        serde_json::json!({ "body": json }).to_string().as_bytes(),
    );
    finds(
        Form::Json,
        false,
        br#"{"key":"sword\"fish\\4711 \u003c\u0026\u003e mellow"}"#,
    );
}

#[test]
fn a_text_is_found_in_base64_wherever_it_begins_and_ends() {
    for before in ["", "1", "12", "123"] {
        for after in ["", "1", "12"] {
            let raw = format!("{before}{TEXT}{after}");
            let json = serde_json::json!([before, TEXT, after]).to_string();
            for whole in [raw.as_str(), json.as_str()] {
                finds(Form::Base64, false, STANDARD.encode(whole).as_bytes());
                finds(Form::Base64, false, URL_SAFE_NO_PAD.encode(whole).as_bytes());
                let twice = STANDARD.encode(format!("{before}{}", STANDARD.encode(whole)));
                finds(Form::Base64Twice, false, twice.as_bytes());
            }
        }
    }
}

#[test]
fn a_text_is_found_as_numbers() {
    finds(
        Form::Numbers,
        false,
        format!("{:?}", format!("x{TEXT}x").as_bytes()).as_bytes(),
    );
    finds(
        Form::Numbers,
        false,
        serde_json::to_string(TEXT.as_bytes()).unwrap().as_bytes(),
    );
    let digits: Vec<String> = TEXT.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hex = digits.concat();
    finds(Form::Hex, false, format!("00{hex}00").as_bytes());
    finds(Form::Hex, false, hex.to_uppercase().as_bytes());
}

#[test]
fn a_text_is_found_in_what_is_compressed_anywhere_also_if_it_breaks_off() {
    let noise: Vec<String> = (0..20_000_u32)
        .map(|number| number.wrapping_mul(2_654_435_761).to_string())
        .collect();
    let noise = noise.join(" ");
    let document = format!("{{\"a\":\"{TEXT}\",\"b\":\"{noise}\"}}");
    let packed = zstd::bulk::compress(document.as_bytes(), 3).unwrap();
    assert!(SEARCH.bytes("here", &packed).iter().all(|found| found.packed));
    let mut stream = b"\x32\x10 some packet \x01".to_vec();
    stream.extend(&packed);
    stream.extend(b"\x28\xb5\x2f\xfd and what only looks like one");
    finds(Form::Raw, true, &stream);
    // Blocks have 128 KiB at most: the first is whole.
    finds(Form::Raw, true, &stream[..packed.len() - 1_000]);
    let encoded = zstd::bulk::compress(STANDARD.encode(&document).as_bytes(), 3).unwrap();
    finds(Form::Base64, true, &zstd::bulk::compress(&encoded, 3).unwrap());
}

#[test]
fn what_is_not_there_is_not_found_and_what_is_too_short_is_refused() {
    let near = TEXT.replace("4711", "4712");
    for bytes in [near.as_bytes(), STANDARD.encode(&near).as_bytes(), &[0; 4096]] {
        assert!(SEARCH.bytes("here", bytes).is_empty());
    }
    assert!(Search::new(&[Marker::new("pin", "1234")]).is_err());
}

#[test]
fn a_tree_is_searched_with_its_names_and_without_what_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("a/b/deep", TEXT);
    write("skipped/deep", TEXT);
    write("c/herring-0815-plain", "");
    std::os::unix::fs::symlink(dir.path().join("skipped"), dir.path().join("a/link")).unwrap();
    let skip = |path: &Path| path.ends_with("skipped");
    let found = SEARCH.tree(dir.path(), &skip).unwrap();
    let places: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "other as it is in @/c/herring-0815-plain",
        "pin as it is in @/a/b/deep",
    ];
    let root = dir.path().display().to_string();
    assert_eq!(places, expected.map(|place| place.replace('@', &root)));
    // A proc file that cannot be read is no place without findings.
    assert!(SEARCH.tree(Path::new("/proc/self/mem"), &|_| false).is_err());
    assert!(
        SEARCH
            .tree(&dir.path().join("none"), &|_| false)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_value_that_a_database_splits_over_pages_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("it.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; CREATE TABLE \"od\"\"d\" (id INTEGER, body TEXT, raw BLOB);",
        )
        .unwrap();
    let long = format!("{}{TEXT}{}", "x".repeat(4_000), "y".repeat(9_000));
    connection
        .execute(
            "INSERT INTO \"od\"\"d\" VALUES (1, ?1, ?2)",
            (&long, STANDARD.encode(&long).into_bytes()),
        )
        .unwrap();
    let found = SEARCH.database(&path).unwrap();
    let forms: Vec<(Form, bool)> = found
        .iter()
        .map(|found| (found.form, found.place.contains("od\"d.")))
        .collect();
    assert_eq!(forms, [(Form::Raw, true), (Form::Base64, true)]);
    assert!(SEARCH.database(&dir.path().join("none.db")).is_err());
}
