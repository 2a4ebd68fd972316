//! A sealer without a hub: its root file, what it believes, and what devices can open.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use edge_protocol::sealing::EnrolmentBinding;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{Bytes, SealedObject, VERSION};
use edge_protocol::{DeviceId, SealingSecret};
use iot_hub_client::api::WantedKey;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PKCS_ECDSA_P256_SHA256, SigningKey as _,
};

use super::*;

fn scope() -> SealingScope {
    SealingScope {
        cluster: "cluster-1".into(),
        namespace: "default".into(),
    }
}

fn pod() -> PodUid {
    PodUid::new("u1").unwrap()
}

fn secret(value: &str) -> ObjectData {
    ObjectData {
        v: VERSION,
        kind: kind::SECRET.into(),
        name: "db".into(),
        text: BTreeMap::from([("password".into(), value.into())]),
        binary: BTreeMap::from([("key".into(), Bytes(vec![255]))]),
    }
}

/// An authority, and a device that it gave a certificate.
struct World {
    root_pem: String,
    anchor: Digest,
    issuer: Issuer<'static, KeyPair>,
    identity: KeyPair,
    sealing: SealingSecret,
}

fn key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

impl World {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "root");
        let root_key = key();
        let root = params.self_signed(&root_key).unwrap();
        Self {
            root_pem: root.pem(),
            anchor: Digest::of(root.der()),
            issuer: Issuer::new(params, root_key),
            identity: key(),
            sealing: SealingSecret::from_bytes([5; 32]),
        }
    }

    fn anchors(&self) -> Anchors {
        Anchors::from_pem(&self.root_pem).unwrap()
    }

    fn certificate(&self, name: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.signed_by(&self.identity, &self.issuer).unwrap().pem()
    }

    fn wanted(&self, keys: &[Digest]) -> WantedKeys {
        let binding = EnrolmentBinding {
            anchor: self.anchor,
            token_id: "token".into(),
            device: None,
            identity: self.identity.public_key_raw().to_vec(),
        };
        let proof = binding.seal(self.sealing.public(), |message| self.identity.sign(message));
        let wanted = |key: &Digest| WantedKey {
            key: *key,
            deployment: pod(),
        };
        WantedKeys {
            device: DeviceId::new("press-7").unwrap(),
            sealing_proof: proof.unwrap(),
            certificate_chain: self.certificate("press-7"),
            keys: keys.iter().map(wanted).collect(),
        }
    }
}

fn key_of(blob: &Blob) -> Digest {
    SealedObject::key_of(&blob.body).unwrap()
}

#[test]
fn the_device_reads_what_was_sealed_and_the_same_secret_is_the_same_bytes() {
    let world = World::new();
    let sealer = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    let blob = sealer.seal(&pod(), &scope(), &secret("hunter2"));
    let wanted = world.wanted(&[key_of(&blob), Digest::of("unknown")]);
    let answers = sealer.answer(&world.anchors(), &wanted, UnixTime::now()).unwrap();
    assert_eq!(answers.len(), 1);
    let key = answers[0].1.open(&world.sealing).unwrap();
    let object: SealedObject = serde_json::from_str(&blob.body).unwrap();
    assert_eq!(object.open(&key), Ok(secret("hunter2")));

    // Another life of the sealer knows the key again when it has seen the object.
    let again = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    assert_eq!(
        again.answer(&world.anchors(), &wanted, UnixTime::now()),
        Ok(vec![])
    );
    assert_eq!(again.seal(&pod(), &scope(), &secret("hunter2")), blob);
    assert_eq!(
        again.answer(&world.anchors(), &wanted, UnixTime::now()),
        Ok(answers)
    );
    again.forget(&pod());
    assert_eq!(
        again.answer(&world.anchors(), &wanted, UnixTime::now()),
        Ok(vec![])
    );
}

#[test]
fn only_a_device_that_proves_its_key_is_sealed_to() {
    let world = World::new();
    let sealer = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    let wanted = world.wanted(&[key_of(&sealer.seal(&pod(), &scope(), &secret("a")))]);
    let refused =
        |anchors: &Anchors, wanted: &WantedKeys| sealer.answer(anchors, wanted, UnixTime::now()).unwrap_err();
    let stranger = World::new();
    let other = refused(&stranger.anchors(), &wanted);
    assert!(matches!(other, Distrust::Certificate(_)), "{other}");
    let mut renamed = wanted.clone();
    renamed.certificate_chain = world.certificate("press-8");
    assert_eq!(refused(&world.anchors(), &renamed), Distrust::OtherDevice);
    // A key that the hub would like to have: another identity's signature, or another hub's enrolment.
    let mut foreign = wanted.clone();
    foreign.sealing_proof = stranger.wanted(&[]).sealing_proof;
    let other = refused(&world.anchors(), &foreign);
    assert_eq!(
        other,
        Distrust::Proof(edge_protocol::sealing::SealingRefusal::OtherSigner)
    );
    let late = UnixTime::since_unix_epoch(Duration::from_secs(1 << 40));
    assert!(sealer.answer(&world.anchors(), &wanted, late).is_err(), "expired");
    let mut none = wanted;
    none.certificate_chain.clear();
    assert_eq!(refused(&world.anchors(), &none), Distrust::Unreadable);
}

#[test]
fn only_the_newest_contents_are_remembered() {
    let world = World::new();
    let sealer = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    let keys: Vec<Digest> = (0..=CONTENTS)
        .map(|content| key_of(&sealer.seal(&pod(), &scope(), &secret(&content.to_string()))))
        .collect();
    let wanted = world.wanted(&keys);
    let answers = sealer.answer(&world.anchors(), &wanted, UnixTime::now()).unwrap();
    let known: Vec<Digest> = answers.into_iter().map(|(_, wrap)| wrap.key).collect();
    assert_eq!(known, keys[1..]);
}

#[test]
fn pods_whose_objects_have_one_name_do_not_drive_each_others_keys_out() {
    let world = World::new();
    let sealer = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    let first = key_of(&sealer.seal(&pod(), &scope(), &secret("mine")));
    for other in 0..=CONTENTS {
        let other = other.to_string();
        sealer.seal(&PodUid::new(other.as_str()).unwrap(), &scope(), &secret(&other));
    }
    let answers = sealer.answer(&world.anchors(), &world.wanted(&[first]), UnixTime::now());
    assert_eq!(answers.unwrap().len(), 1);
}

#[test]
fn a_content_that_came_back_is_the_newest() {
    let sealer = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    let seal = |content: &str| key_of(&sealer.seal(&pod(), &scope(), &secret(content)));
    let key = seal("again");
    for content in 0..CONTENTS - 1 {
        seal(&content.to_string());
    }
    seal("again");
    seal("one more");
    assert!(sealer.key(&pod(), &key).is_some());
}

#[test]
fn nothing_is_sealed_before_the_cluster_is_known() {
    let sealer = SealerHandle::new(RootSecret::from_bytes([9; 32]));
    let (cluster, known) = watch::channel(None);
    let pods = PodSealer::new(sealer.clone(), known);
    assert_eq!(pods.seal(&pod(), "default", &secret("a")), None);
    cluster.send_replace(Some("cluster-1".to_owned()));
    let sealed = pods.seal(&pod(), "default", &secret("a"));
    assert_eq!(sealed, Some(sealer.seal(&pod(), &scope(), &secret("a"))));
    assert!(sealer.has_keys());
    pods.forget(&pod());
    assert!(!sealer.has_keys());
}

#[test]
fn the_root_secret_is_made_once_and_for_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sealer.key");
    let file = RootFile::new(&path);
    let first = file.load_or_create().unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o600);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    assert_eq!(*file.load_or_create().unwrap().reveal(), *first.reveal());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let open = file.load_or_create().unwrap_err();
    assert!(matches!(open, RootFileError::Open { mode: 0o640, .. }), "{open}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&path, "half").unwrap();
    let damaged = file.load_or_create().unwrap_err();
    assert!(matches!(damaged, RootFileError::Damaged { .. }), "{damaged}");
}
