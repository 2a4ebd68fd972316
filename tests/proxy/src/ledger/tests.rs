//! Which rule a request meets, and what is counted.

use super::*;
use crate::rule::Then;

fn asked(method: &str, path: &str, is_watch: bool) -> Asked {
    Asked {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        is_watch,
    }
}

#[test]
fn a_watch_is_known_by_its_query_or_by_what_it_accepts() {
    let check = |uri: &str, accept: &str, expect: bool| {
        let request = Request::builder()
            .uri(uri)
            .header(ACCEPT, accept)
            .body(())
            .unwrap();
        assert_eq!(Asked::of(&request).is_watch, expect, "{uri} {accept}");
    };
    check("/api/v1/pods?limit=5&watch=true", "application/json", true);
    check("/api/v1/pods?watch=1", "*/*", true);
    check("/api/v1/pods?watch=false", "*/*", false);
    check("/api/v1/pods?fieldSelector=watch=true", "*/*", false);
    check("/api/v1/watch", "text/event-stream", true);
    check("/watch", "application/json", false);
}

#[test]
fn a_rule_is_about_a_method_a_prefix_and_a_kind() {
    let check = |rule: &Rule, given: &Asked, expect: bool| {
        assert!(is_about(rule, given) == expect, "{rule:?} {given:?}");
    };
    let (list, watch) = (
        asked("GET", "/api/v1/pods", false),
        asked("GET", "/api/v1/pods", true),
    );
    let failing = Rule::new("/api/v1/pods", Lie::Status { code: 500 });
    check(&failing, &list, true);
    check(&failing, &watch, true);
    check(&failing, &asked("GET", "/api/v1/nodes", false), false);
    check(&failing.clone().method("get"), &list, true);
    check(&failing.clone().method("PATCH"), &list, false);
    check(&failing.clone().requests(Requests::Watches), &list, false);
    check(&failing.clone().requests(Requests::Plain), &watch, false);
    check(&failing.requests(Requests::Plain), &list, true);
    let empty = Rule::new("/", Lie::EmptyList { version: None });
    check(&empty, &list, true);
    check(&empty, &watch, false);
    for lie in [Lie::Cut { after_bytes: 0 }, Lie::NoBookmark { then: Then::End }] {
        check(&Rule::new("/", lie.clone()), &list, false);
        check(&Rule::new("/", lie), &watch, true);
    }
}

#[test]
fn the_last_lie_wins_until_its_count_is_spent() {
    let ledger = Ledger::default();
    let list = asked("GET", "/a", false);
    let served = |id: usize| ledger.read().lies[id].served;
    ledger.tell(Rule::new("/a", Lie::Status { code: 500 })).unwrap();
    ledger
        .tell(Rule::new("/a", Lie::Status { code: 410 }).times(1))
        .unwrap();
    let first = ledger.admit(&list).claim.unwrap();
    assert_eq!(first.lie, Lie::Status { code: 410 });
    assert_eq!(ledger.admit(&list).claim.unwrap().lie, Lie::Status { code: 500 });
    drop(first);
    assert_eq!(
        (served(0), served(1)),
        (0, 0),
        "what was not served is given back"
    );
    ledger.admit(&list).claim.unwrap().served();
    assert_eq!((served(0), served(1)), (0, 1));
    ledger.withdraw();
    assert!(ledger.admit(&list).claim.is_none());
    assert_eq!(served(1), 1);
    assert_eq!(ledger.read().requests, 4);
}

#[tokio::test]
async fn a_cut_is_served_to_the_open_watches_at_once() {
    let ledger = Ledger::default();
    let open = |path: &str| ledger.admit(&asked("GET", path, true)).place.unwrap();
    let (first, second, other) = (open("/a/1"), open("/a/2"), open("/b"));
    let told = ledger
        .tell(Rule::new("/a", Lie::Cut { after_bytes: 0 }).times(1))
        .unwrap();
    assert_eq!(told.served, 1);
    first.cut().await;
    assert!(!second.cut.is_cancelled());
    assert!(
        ledger.admit(&asked("GET", "/a", true)).claim.is_none(),
        "the count is spent"
    );
    assert_eq!(ledger.interrupt("/a"), 1);
    second.cut().await;
    assert!(!other.cut.is_cancelled());
    drop((first, second, other));
    assert_eq!(ledger.read().watches, 0);
}

#[test]
fn nonsense_is_refused() {
    let check = |rule: Rule| assert!(Ledger::default().tell(rule.clone()).is_err(), "{rule:?}");
    check(Rule::new("api", Lie::Refuse));
    check(Rule::new(format!("/{}", "a".repeat(2000)), Lie::Refuse));
    check(Rule::new("/", Lie::Status { code: 200 }));
    check(Rule::new("/", Lie::Status { code: 600 }));
    check(Rule::new("/", Lie::Delay { millis: u64::MAX }));
}
