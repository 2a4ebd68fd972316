//! The Device machine by itself: what it costs to keep one, and what it says next.

use edge_protocol::v1::{AckStage, Facts, Hello, LinkClass, SetAck};
use edge_protocol::{
    BootId, DeploymentRevision, DeviceId, EnrolmentSerial, Incarnation, ItemState, Nonce, Now, PodUid,
    SealingKey, SessionEpoch, SetItem,
};

use super::*;
use crate::io::{ConnectionId, DeviceState};

const NOW: Now = Now {
    mono_ms: 5_000,
    wall_ms: 1_700_000_000_000,
    boot_id: BootId(uuid::Uuid::nil()),
};

fn device() -> Device {
    let tag = |n: usize| (format!("outrigger.io/tag-{n}"), format!("value-of-tag-{n}"));
    let record = DeviceRecord {
        id: DeviceId::new("d".repeat(63)).unwrap(),
        enrolment: EnrolmentSerial::new("0".repeat(40)).unwrap(),
        sealing_key: SealingKey::new([1; 32]).unwrap(),
        group: "plant-north".to_owned(),
        tags: (0..8).map(tag).collect(),
        link: LinkClass::Lan,
        state: DeviceState::Active,
        facts: Facts::default(),
        agent_version: String::new(),
        features: Vec::new(),
        last_seen_ms: None,
        last_session: SessionEpoch(0),
        status_upto: 0,
        event_seq: 0,
        offline: true,
    };
    Device::new(record, Incarnation(1))
}

fn hello() -> Hello {
    Hello {
        nonce: Nonce::new("0".repeat(32)).unwrap(),
        agent_version: "1.22.333-rc.4".to_owned(),
        features: (0..12).map(|n| format!("feature-number-{n}")).collect(),
        held: None,
        facts: Facts {
            hostname: "press-7.hall-1.plant-north.example.com".to_owned(),
            os: "linux".to_owned(),
            arch: "arm64".to_owned(),
            kernel_version: "6.12.43+deb13-arm64".to_owned(),
            os_image: "Debian GNU/Linux 13 (trixie)".to_owned(),
            runtime_name: "containerd".to_owned(),
            runtime_version: "2.1.4".to_owned(),
            ..Facts::default()
        },
    }
}

fn item(n: u8) -> SetItem {
    SetItem {
        uid: PodUid::new(format!("00000000-0000-0000-0000-0000000000{n:02}")).unwrap(),
        state: ItemState::Run,
        revision: DeploymentRevision(1),
        digest: Digest::of([n]),
    }
}

fn persist(device: &mut Device) {
    let ack = SetAck {
        generation: device.generation,
        digest: device.digest,
        stage: AckStage::Persisted,
    };
    assert_eq!(device.ack(&ack, &NOW), AckOutcome::Persisted);
}

/// Everything the machine holds, on the stack and on the heap. A node of a B-tree has room for eleven entries and is at least
/// half full, so that an entry is counted twice.
fn size(device: &Device) -> usize {
    let Device {
        record,
        items,
        generation: _,
        digest: _,
        acknowledged,
        unsent,
        running: _,
        // Nothing is in it but after a restore.
        quarantine: _,
        allowance: _,
        refused: _,
        connection: _,
        session,
        last_word: _,
    } = device;
    let set = |set: &DesiredSet| -> usize {
        let entry = 2 * (size_of::<PodUid>() + size_of::<SetItem>());
        set.iter().map(|item| entry + 2 * item.uid.as_str().len()).sum()
    };
    let tags = record
        .tags
        .iter()
        .map(|(key, value)| 2 * 2 * size_of::<String>() + key.len() + value.len());
    let facts = &record.facts;
    let texts = [
        &facts.hostname,
        &facts.os,
        &facts.arch,
        &facts.kernel_version,
        &facts.os_image,
        &facts.runtime_name,
        &facts.runtime_version,
        &record.group,
        &record.agent_version,
    ];
    let features = record
        .features
        .iter()
        .map(|feature| size_of::<String>() + feature.capacity());
    let older = match acknowledged {
        Acknowledged::Nothing | Acknowledged::Current => 0,
        Acknowledged::Older(older) => size_of_val(&**older) + set(&older.1),
    };
    let session = session.as_ref().map_or(0, |session| {
        let offered = session.offered.as_ref().map_or(0, |offered| set(&offered.items));
        size_of::<Session>() + session.nonce.as_str().len() + offered
    });
    size_of::<Device>()
        + record.id.as_str().len()
        + record.enrolment.as_str().len()
        + tags.sum::<usize>()
        + texts.iter().map(|text| text.capacity()).sum::<usize>()
        + features.sum::<usize>()
        + set(items)
        + unsent.len() * 2 * (size_of::<PodUid>() + 36)
        + older
        + session
}

#[test]
fn an_idle_device_takes_at_most_four_kibibytes() {
    let mut device = device();
    for n in 0..4 {
        device.put(item(n));
    }
    device.bump(Incarnation(1));
    device.begin(ConnectionId(1), &hello());
    device.greet(None);
    device.offer(&NOW, 10_000, 1_000);
    let busy = size(&device);
    persist(&mut device);
    let idle = size(&device);
    println!("a device takes {idle} bytes idle, {busy} with an offer under way");
    assert!(idle <= 4096, "{idle} bytes");
    assert!(idle < busy, "an acknowledged set is kept twice");
}

#[test]
fn an_offer_under_way_is_not_followed_by_another() {
    let mut device = device();
    device.begin(ConnectionId(1), &hello());
    assert_eq!(device.greet(None), Greeting::Unknown);
    assert_eq!(device.offer(&NOW, 10_000, 1_000).unwrap().form, "snapshot");
    device.put(item(1));
    device.bump(Incarnation(1));
    assert!(device.offer(&NOW, 10_000, 1_000).is_none());
    let later = Now {
        mono_ms: 10_000,
        ..NOW
    };
    assert_eq!(device.offer(&later, 20_000, 1_000).unwrap().form, "snapshot");
    persist(&mut device);
    assert!(device.offer(&later, 20_000, 1_000).is_none());
    device.put(item(2));
    device.bump(Incarnation(1));
    assert_eq!(device.offer(&later, 20_000, 1_000).unwrap().form, "delta");
}

#[test]
fn an_acknowledgement_of_another_set_is_ignored() {
    let mut device = device();
    device.begin(ConnectionId(1), &hello());
    device.greet(None);
    device.offer(&NOW, 10_000, 1_000);
    let mut ack = SetAck {
        generation: device.generation,
        digest: Digest::of("other"),
        stage: AckStage::Persisted,
    };
    assert_eq!(device.ack(&ack, &NOW), AckOutcome::Ignored);
    ack.digest = device.digest;
    ack.generation.n += 1;
    assert_eq!(device.ack(&ack, &NOW), AckOutcome::Ignored);
    assert!(device.acknowledged().is_none());
}

#[test]
fn what_was_put_and_never_sent_cannot_be_held() {
    let mut device = device();
    let uid = item(1).uid;
    device.put(item(1));
    device.bump(Incarnation(1));
    assert!(!device.may_hold(&uid, Incarnation(1)));
    device.begin(ConnectionId(1), &hello());
    device.greet(None);
    device.offer(&NOW, 10_000, 1_000);
    assert!(device.may_hold(&uid, Incarnation(1)));
    let restored = Device::restored(device.record.clone(), device.set_record(), &NOW);
    assert!(restored.may_hold(&uid, Incarnation(1)));
    persist(&mut device);
    let other = item(2).uid;
    device.put(item(2));
    device.bump(Incarnation(1));
    assert!(!device.may_hold(&other, Incarnation(1)));
    assert!(device.may_hold(&other, Incarnation(2)), "from before the restore");
}
