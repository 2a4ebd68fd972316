//! Golden negatives: signed statements that are good for someone else, some other time, or not at all.

use ed25519_dalek::SigningKey;
use edge_protocol::sign::{self, Binding, Envelope, Refusal, Signer, TrustedKeys};
use edge_protocol::v1::{LinkClass, Statement, StatementBody};
use edge_protocol::{
    BootId, DesiredSet, DeviceId, EnrolmentSerial, HubId, Incarnation, Nonce, SessionEpoch, SetGeneration,
};

use crate::fixture::{check, read};

pub fn boot() -> BootId {
    BootId("6f1c2b9e-8f7a-4a52-9d1e-0a1b2c3d4e5f".parse().unwrap())
}

fn hub() -> HubId {
    HubId("2b1d9c52-3a4e-4f60-8a7b-9c0d1e2f3a4b".parse().unwrap())
}

pub fn signer() -> Signer {
    Signer::new(SigningKey::from_bytes(&[42; 32]))
}

pub fn trusted() -> TrustedKeys {
    TrustedKeys::from_iter([signer().verifying_key()])
}

pub fn binding() -> Binding {
    Binding {
        hub: hub(),
        device: DeviceId::new("press-7").unwrap(),
        enrolment: EnrolmentSerial::new("0a1b2c").unwrap(),
        nonce: Nonce::from_bytes([7; 16]),
        session: Some(SessionEpoch(7)),
        last_seq: 0,
    }
}

pub fn statement(seq: u64, body: StatementBody) -> Statement {
    let incarnation = Incarnation(1_795_000_000_000);
    Statement {
        v: 1,
        hub: hub(),
        incarnation,
        device: binding().device,
        enrolment: binding().enrolment,
        nonce: binding().nonce,
        session: SessionEpoch(7),
        seq,
        request: None,
        issued_ms: 1_795_219_200_000,
        link: LinkClass::Cellular,
        generation: SetGeneration { incarnation, n: 42 },
        set_digest: DesiredSet::default().digest(),
        status_upto: 8,
        event_seq: 11,
        body,
    }
}

#[test]
fn the_envelope_is_the_same_in_every_release() {
    check(
        "envelope",
        &signer().seal_statement(&statement(1, StatementBody::Same)),
    );
}

#[test]
fn the_golden_envelope_is_accepted_by_whom_it_is_for() {
    let envelope: Envelope = serde_json::from_str(&read("envelope")).unwrap();
    let opened = trusted().open_statement(&envelope, &binding()).unwrap();
    assert_eq!(opened, statement(1, StatementBody::Same));
}

/// The golden envelope, offered to a device whose binding differs.
#[track_caller]
fn check_other(change: impl FnOnce(&mut Binding), expect: &Refusal) {
    let envelope: Envelope = serde_json::from_str(&read("envelope")).unwrap();
    let mut binding = binding();
    change(&mut binding);
    assert_eq!(
        trusted().open_statement(&envelope, &binding).as_ref(),
        Err(expect)
    );
}

#[test]
fn it_is_refused_by_everyone_else() {
    check_other(
        |b| b.device = DeviceId::new("press-8").unwrap(),
        &Refusal::OtherDevice(binding().device),
    );
    check_other(
        |b| b.enrolment = EnrolmentSerial::new("ffff").unwrap(),
        &Refusal::OtherEnrolment(binding().enrolment),
    );
    check_other(|b| b.nonce = Nonce::from_bytes([8; 16]), &Refusal::OtherSession);
    check_other(|b| b.session = Some(SessionEpoch(8)), &Refusal::OtherSession);
    check_other(|b| b.last_seq = 1, &Refusal::Replayed { seq: 1, last: 1 });
    check_other(|b| b.hub = HubId(boot().0), &Refusal::OtherHub(hub()));
}

/// The golden envelope after someone in between touched it.
#[track_caller]
fn check_touched(touch: impl FnOnce(&mut Envelope), expect: &Refusal) {
    let mut envelope: Envelope = serde_json::from_str(&read("envelope")).unwrap();
    touch(&mut envelope);
    assert_eq!(
        trusted().open_statement(&envelope, &binding()).as_ref(),
        Err(expect)
    );
}

#[test]
fn it_is_refused_once_anything_of_it_was_touched() {
    check_touched(|e| e.signatures.clear(), &Refusal::UnknownKey);
    check_touched(
        |e| e.payload_type.push('x'),
        &Refusal::WrongType(format!("{}x", sign::STATEMENT_TYPE)),
    );
    check_touched(|e| e.payload.replace_range(8..9, "A"), &Refusal::BadSignature);
    check_touched(|e| e.signatures[0].sig = "AAAA".into(), &Refusal::BadSignature);
    let forged =
        Signer::new(SigningKey::from_bytes(&[9; 32])).seal_statement(&statement(1, StatementBody::Same));
    check_touched(|e| *e = forged.clone(), &Refusal::UnknownKey);
    let own_key_id = signer()
        .seal_statement(&statement(1, StatementBody::Same))
        .signatures[0]
        .keyid
        .clone();
    let mut forged = forged;
    forged.signatures[0].keyid = own_key_id;
    check_touched(|e| *e = forged, &Refusal::BadSignature);
}
