//! Claims, releases and cuts.

use super::*;
use crate::ids::Serial;

fn identity(device: &str, serial: &str) -> Identity {
    Identity {
        device: DeviceId::new(device).expect("valid"),
        serial: Serial::new(serial).expect("valid"),
    }
}

fn peer() -> SocketAddr {
    ([127, 0, 0, 1], 1).into()
}

fn claim(table: &Table, device: &str) -> Result<Arc<Slot>, Occupied> {
    table.claim(&identity(device, "1"), peer(), table.epoch(), || {
        Outbox::new(&crate::Options::default())
    })
}

fn claimed(table: &Table, device: &str) -> Arc<Slot> {
    claim(table, device).ok().expect("free")
}

#[test]
fn a_newcomer_stops_the_holder_and_waits_for_its_release() {
    let table = Table::new(10, 4);
    let old = claimed(&table, "a");
    assert!(matches!(claim(&table, "a"), Err(Occupied::Held(_))));
    assert!(old.stop.is_cancelled());
    assert_eq!(old.stop_reason.get(), Some(&DisconnectReason::TakenOver));
    assert!(
        matches!(claim(&table, "a"), Err(Occupied::Held(_))),
        "stopped is not ended"
    );
    table.release(&old.identity.device, old.connection);
    let new = claimed(&table, "a");
    assert!(new.connection > old.connection);
    table.release(&old.identity.device, old.connection);
    assert!(
        table.live(&new.identity.device, new.connection).is_some(),
        "a stale release is of no effect"
    );
    assert!(table.live(&new.identity.device, old.connection).is_none());
}

#[test]
fn capacity_counts_sessions_and_frees_with_them() {
    let table = Table::new(1, 4);
    let a = claimed(&table, "a");
    assert!(matches!(claim(&table, "b"), Err(Occupied::Capacity)));
    table.release(&a.identity.device, a.connection);
    claimed(&table, "b");
}

#[test]
fn an_answer_from_before_a_cut_opens_no_session() {
    let table = Table::new(10, 4);
    let epoch = table.epoch();
    assert_eq!(
        table.cut(
            &CutTarget::Device(DeviceId::new("a").expect("valid")),
            CutReason::Revoked
        ),
        0
    );
    let late = table.claim(&identity("a", "1"), peer(), epoch, || {
        Outbox::new(&crate::Options::default())
    });
    assert!(matches!(late, Err(Occupied::GateOutdated)));
}

#[test]
fn cuts_hit_their_target_only() {
    let check = |target: CutTarget, expect: usize| {
        let table = Table::new(10, 4);
        claimed(&table, "a");
        claimed(&table, "b");
        assert_eq!(table.cut(&target, CutReason::Requested), expect, "{target:?}");
        assert_eq!(table.sessions().len(), 2 - expect, "{target:?}");
        assert_eq!(
            table.cut(&target, CutReason::Requested),
            0,
            "a second cut finds nothing: {target:?}"
        );
    };
    let device = |name| DeviceId::new(name).expect("valid");
    check(CutTarget::Device(device("a")), 1);
    check(CutTarget::Device(device("c")), 0);
    check(CutTarget::Connection(device("a"), ConnectionId(1)), 1);
    check(CutTarget::Connection(device("a"), ConnectionId(2)), 0);
}

#[test]
fn arrivals_are_bounded_per_device() {
    let table = Arc::new(Table::new(10, 2));
    let a = DeviceId::new("a").expect("valid");
    let first = table.arrive(&a);
    let second = table.arrive(&a);
    assert!(first.is_some() && second.is_some());
    assert!(table.arrive(&a).is_none());
    assert!(table.arrive(&DeviceId::new("b").expect("valid")).is_some());
    drop(first);
    assert!(table.arrive(&a).is_some());
}
