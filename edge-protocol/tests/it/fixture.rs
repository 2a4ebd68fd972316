//! Golden files. `UPDATE_FIXTURES=1` writes those that are missing; a file that exists is never changed, because a peer has it.

use std::path::PathBuf;

use edge_protocol::PodUid;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/v1")
        .join(format!("{name}.json"))
}

pub fn read(name: &str) -> String {
    std::fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{}: {error}", path(name).display()))
}

/// The value is written exactly like the golden file, and the file reads back as the value.
#[track_caller]
pub fn check<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, value: &T) {
    let mut text = serde_json::to_string_pretty(value).unwrap();
    text.push('\n');
    if std::env::var_os("UPDATE_FIXTURES").is_some() && !path(name).exists() {
        std::fs::write(path(name), &text).unwrap();
    }
    let golden = read(name);
    assert_eq!(text, golden, "{name}: what is written has changed");
    assert_eq!(
        serde_json::from_str::<T>(&golden).unwrap(),
        *value,
        "{name}: what is read has changed"
    );
}

pub fn uid(n: u32) -> PodUid {
    PodUid::new(format!("00000000-0000-4000-8000-{n:012}")).unwrap()
}
