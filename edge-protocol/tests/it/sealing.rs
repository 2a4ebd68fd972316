//! Golden enrolments: a sealing key that its device vouches for, and those that are good for someone else or for nobody. The
//! signatures are another implementation's (OpenSSL), so that both sides of ours cannot be wrong in the same way.

use edge_protocol::sealing::{EnrolmentBinding, InvalidSealingKey, SealingRefusal, vouched_key};
use edge_protocol::sign::Envelope;
use edge_protocol::v1::{EnrolAnswer, EnrolRequest, LinkClass};
use edge_protocol::{DeviceId, Digest, EnrolmentSerial, HubId, SealingKey};

use crate::fixture::{check, read};

/// The point of the certificate request of `enrol-request`.
const IDENTITY: &str = "04e9e5685b633866d396040eb3660991d5ac62f1d666e47993049a47ed6e7f1a677a9612bcee0863e2056c182d61fdbb72353323fb831217ebc0741a0c1e555a5c";

/// Alice of RFC 7748, 6.1.
const SEALING_KEY: &str = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";

fn binding() -> EnrolmentBinding {
    EnrolmentBinding {
        anchor: Digest::of("root"),
        token_id: "0123456789abcdef".into(),
        device: Some(DeviceId::new("press-7").unwrap()),
        identity: (0..65)
            .map(|at| u8::from_str_radix(&IDENTITY[2 * at..2 * at + 2], 16).unwrap())
            .collect(),
    }
}

fn sealing_key() -> SealingKey {
    SEALING_KEY.parse().unwrap()
}

fn request() -> EnrolRequest {
    serde_json::from_str(&read("enrol-request")).unwrap()
}

#[test]
fn the_documents_are_the_same_in_every_release() {
    check(
        "enrol-request",
        &EnrolRequest {
            v: 1,
            token_id: binding().token_id,
            token_secret: "s3cret".into(),
            device: binding().device,
            csr: request().csr,
            sealing: request().sealing,
        },
    );
    check(
        "enrol-answer",
        &EnrolAnswer {
            v: 1,
            device: DeviceId::new("press-7").unwrap(),
            enrolment: EnrolmentSerial::new("0a1b2c").unwrap(),
            certificate_chain: "-----BEGIN CERTIFICATE-----\n".into(),
            hub: HubId("2b1d9c52-3a4e-4f60-8a7b-9c0d1e2f3a4b".parse().unwrap()),
            signing_keys: vec![format!("{:064x}", 42)],
            anchors: "-----BEGIN CERTIFICATE-----\n".into(),
            link: LinkClass::Cellular,
            sealing_key: sealing_key(),
        },
    );
}

#[test]
fn a_request_does_not_show_its_secret() {
    assert!(!format!("{:?}", request()).contains("s3cret"));
}

#[test]
fn the_golden_key_is_taken_for_the_enrolment_it_was_made_for() {
    assert_eq!(binding().open(&request().sealing), Ok(sealing_key()));
}

/// The golden key, offered for another enrolment.
#[track_caller]
fn check_other(change: impl FnOnce(&mut EnrolmentBinding), expect: &SealingRefusal) {
    let mut binding = binding();
    change(&mut binding);
    assert_eq!(binding.open(&request().sealing).as_ref(), Err(expect));
}

#[test]
fn it_is_refused_for_every_other_enrolment() {
    check_other(
        |b| b.token_id = "fedcba9876543210".into(),
        &SealingRefusal::OtherToken,
    );
    check_other(|b| b.device = None, &SealingRefusal::OtherDevice);
    check_other(
        |b| b.device = Some(DeviceId::new("press-8").unwrap()),
        &SealingRefusal::OtherDevice,
    );
    check_other(
        |b| b.anchor = Digest::of("another root"),
        &SealingRefusal::OtherHub,
    );
    check_other(|b| b.identity[64] ^= 1, &SealingRefusal::OtherSigner);
}

/// A golden file that must be refused by the enrolment that the good one is taken for.
#[track_caller]
fn check_refused(name: &str, expect: &SealingRefusal) {
    let envelope: Envelope = serde_json::from_str(&read(name)).unwrap();
    assert_eq!(binding().open(&envelope).as_ref(), Err(expect), "{name}");
}

#[test]
fn what_is_not_right_in_itself_is_refused() {
    check_refused("sealing-key-wrong-signer", &SealingRefusal::BadSignature);
    check_refused("sealing-key-stranger", &SealingRefusal::OtherSigner);
    // Well signed, but in another's name: as if a second key had been found for another's signature.
    check_refused("sealing-key-borrowed", &SealingRefusal::OtherSigner);
    check_refused("sealing-key-other-token", &SealingRefusal::OtherToken);
    check_refused("sealing-key-other-device", &SealingRefusal::OtherDevice);
    check_refused("sealing-key-other-hub", &SealingRefusal::OtherHub);
    check_refused(
        "sealing-key-truncated",
        &SealingRefusal::BadKey(InvalidSealingKey::NotHex),
    );
    check_refused(
        "sealing-key-low-order",
        &SealingRefusal::BadKey(InvalidSealingKey::LowOrder),
    );
    check_refused(
        "sealing-key-newer",
        &SealingRefusal::Malformed("version 2".into()),
    );
}

#[test]
fn it_is_refused_once_anything_of_it_was_touched() {
    let check = |touch: &dyn Fn(&mut Envelope), expect: SealingRefusal| {
        let mut envelope = request().sealing;
        touch(&mut envelope);
        assert_eq!(binding().open(&envelope), Err(expect));
    };
    check(&|e| e.signatures.clear(), SealingRefusal::OtherSigner);
    check(
        &|e| e.payload_type = edge_protocol::sign::STATEMENT_TYPE.into(),
        SealingRefusal::WrongType(edge_protocol::sign::STATEMENT_TYPE.into()),
    );
    check(
        &|e| e.payload.replace_range(8..9, "A"),
        SealingRefusal::BadSignature,
    );
    check(
        &|e| e.signatures[0].sig = "AAAA".into(),
        SealingRefusal::BadSignature,
    );
}

#[test]
fn who_seals_needs_no_word_of_the_hub() {
    let proof = request().sealing;
    let key = |anchor, identity: &[u8]| vouched_key(&proof, anchor, identity);
    assert_eq!(key(Digest::of("root"), &binding().identity), Ok(sealing_key()));
    assert_eq!(
        key(Digest::of("another root"), &binding().identity),
        Err(SealingRefusal::OtherHub)
    );
    let mut other = binding().identity;
    other[64] ^= 1;
    assert_eq!(key(Digest::of("root"), &other), Err(SealingRefusal::OtherSigner));
}
