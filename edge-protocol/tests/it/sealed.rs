//! Golden secrets: one object sealed once, its key wrapped for one device; and everything that must open nothing.

use std::collections::BTreeMap;

use edge_protocol::sealing::{OpenError, RootSecret, SealingScope};
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Bytes, KeyWrap, ObjectData, SealedObject};
use edge_protocol::{Digest, SealingSecret};

use crate::fixture::check;

const MARKER: &str = "hunter2-never-in-clear";

fn root() -> RootSecret {
    RootSecret::from_bytes([9; 32])
}

/// Alice and Bob of RFC 7748, 6.1.
fn alice() -> SealingSecret {
    SealingSecret::from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").unwrap()
}

fn bob() -> SealingSecret {
    SealingSecret::from_hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb").unwrap()
}

fn scope() -> SealingScope {
    SealingScope {
        cluster: "cluster-1".into(),
        namespace: "default".into(),
    }
}

fn secret(name: &str, value: &str) -> ObjectData {
    ObjectData {
        v: 1,
        kind: kind::SECRET.into(),
        name: name.into(),
        text: BTreeMap::from([("password".into(), value.into())]),
        binary: BTreeMap::from([("key".into(), Bytes(vec![0, 255]))]),
    }
}

fn sealed(body: &str) -> SealedObject {
    serde_json::from_str(body).unwrap()
}

#[test]
fn the_same_secret_is_the_same_bytes_in_every_release() {
    let made = root().seal(&scope(), &secret("db", MARKER));
    check("object-sealed-golden", &sealed(&made.body));
    assert_eq!(
        made.body,
        serde_json::to_string(&sealed(&made.body)).unwrap(),
        "what is named by its digest has one form"
    );
    let wrap = root().wrap(&made.key, &alice().public());
    check("key-wrap-golden", &wrap);
    let key = wrap.open(&alice()).unwrap();
    assert_eq!(sealed(&made.body).open(&key), Ok(secret("db", MARKER)));
}

#[test]
fn every_difference_is_another_key() {
    let base = root().seal(&scope(), &secret("db", "a"));
    let other = |cluster: &str, namespace: &str| SealingScope {
        cluster: cluster.into(),
        namespace: namespace.into(),
    };
    let mut token = secret("db", "a");
    token.kind = kind::TOKEN.into();
    let others = [
        root().seal(&scope(), &secret("db", "b")),
        root().seal(&scope(), &secret("db2", "a")),
        root().seal(&scope(), &token),
        root().seal(&other("cluster-2", "default"), &secret("db", "a")),
        root().seal(&other("cluster-1", "kube-system"), &secret("db", "a")),
        root().seal(&other("cluster-1d", "efault"), &secret("db", "a")),
        RootSecret::from_bytes([8; 32]).seal(&scope(), &secret("db", "a")),
    ];
    let mut keys: Vec<Digest> = others.iter().chain([&base]).map(|one| one.key.digest()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), others.len() + 1);
    for other in &others {
        assert_eq!(sealed(&base.body).open(&other.key), Err(OpenError::OtherKey));
    }
    // Another device's wrap is another one, by another ephemeral key.
    let (one, two) = (
        root().wrap(&base.key, &alice().public()),
        root().wrap(&base.key, &bob().public()),
    );
    assert_ne!((one.enc, one.ciphertext), (two.enc, two.ciphertext));
}

#[test]
fn what_was_touched_does_not_open() {
    let made = root().seal(&scope(), &secret("db", MARKER));
    let other = root().seal(&scope(), &secret("other", MARKER));
    let check = |touch: &dyn Fn(&mut SealedObject), expect: OpenError| {
        let mut object = sealed(&made.body);
        touch(&mut object);
        assert_eq!(object.open(&made.key), Err(expect));
    };
    check(&|o| o.v = 2, OpenError::OtherVersion(2));
    check(&|o| o.name = "other".into(), OpenError::Damaged);
    check(&|o| o.kind = kind::TOKEN.into(), OpenError::Damaged);
    check(&|o| o.key = other.key.digest(), OpenError::OtherKey);
    check(&|o| o.nonce.0[0] ^= 1, OpenError::Damaged);
    check(&|o| o.nonce.0.clear(), OpenError::Damaged);
    check(&|o| o.ciphertext.0[3] ^= 1, OpenError::Damaged);
    check(&|o| o.ciphertext.0.truncate(20), OpenError::Damaged);
    check(&|o| o.ciphertext.0.clear(), OpenError::Damaged);
    let ciphertext = sealed(&other.body).ciphertext;
    check(&|o| o.ciphertext = ciphertext.clone(), OpenError::Damaged);
}

#[test]
fn a_wrap_opens_on_its_device_and_for_its_key_only() {
    let made = root().seal(&scope(), &secret("db", MARKER));
    let other = root().seal(&scope(), &secret("other", MARKER));
    let wrap = root().wrap(&made.key, &alice().public());
    assert_eq!(wrap.open(&bob()).unwrap_err(), OpenError::OtherDevice);
    let check = |touch: &dyn Fn(&mut KeyWrap), expect: OpenError| {
        let mut wrap = wrap.clone();
        touch(&mut wrap);
        assert_eq!(wrap.open(&alice()).unwrap_err(), expect);
    };
    // Said to be for another device or key.
    let foreign = root().wrap(&made.key, &bob().public());
    check(
        &|w| (w.enc, w.ciphertext) = (foreign.enc.clone(), foreign.ciphertext.clone()),
        OpenError::Damaged,
    );
    check(&|w| w.key = other.key.digest(), OpenError::Damaged);
    check(&|w| w.enc.0[0] ^= 1, OpenError::Damaged);
    check(&|w| w.enc.0.truncate(31), OpenError::Damaged);
    check(&|w| w.enc.0 = vec![0; 32], OpenError::Damaged);
    check(&|w| w.ciphertext.0[0] ^= 1, OpenError::Damaged);
    check(&|w| w.ciphertext.0.truncate(10), OpenError::Damaged);
}

#[test]
fn nothing_shows_what_is_sealed() {
    let made = root().seal(&scope(), &secret("db", MARKER));
    let wrap = root().wrap(&made.key, &alice().public());
    let shown = format!(
        "{made:?} {:?} {:?} {wrap:?} {:?}",
        sealed(&made.body),
        made.key,
        root()
    );
    for shown in [shown, made.body] {
        assert!(!shown.contains(MARKER), "{shown}");
    }
    assert_eq!(
        *RootSecret::from_hex(&root().reveal()).unwrap().reveal(),
        *root().reveal()
    );
    for bad in ["", "0g", &"A".repeat(64)] {
        assert!(RootSecret::from_hex(bad).is_err());
    }
}
