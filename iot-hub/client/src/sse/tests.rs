//! The parser, cut at every byte.

use super::*;

fn event(id: Option<&str>, data: &str) -> SseEvent {
    SseEvent {
        id: id.map(str::to_owned),
        data: data.to_owned(),
    }
}

#[track_caller]
fn check(given: &str, expect: &[SseEvent]) {
    for cut in 0..=given.len() {
        let mut parser = SseParser::default();
        let mut events = parser.push(&given.as_bytes()[..cut]).unwrap();
        events.extend(parser.push(&given.as_bytes()[cut..]).unwrap());
        assert_eq!(events, expect, "cut at {cut}");
    }
}

#[test]
fn table() {
    check("", &[]);
    check(": still here\n\n", &[]);
    check("id: 7\ndata: {}\n\n", &[event(Some("7"), "{}")]);
    check("id:7\r\ndata:a\r\ndata: b\r\n\r\n", &[event(Some("7"), "a\nb")]);
    check(
        "data: ü\n\nid: 1\n\ndata: x\n\n",
        &[event(None, "ü"), event(None, "x")],
    );
    check("data: incomplete\n", &[]);
}

#[test]
fn an_endless_line_is_refused() {
    let mut parser = SseParser::default();
    let chunk = vec![b'x'; 1 << 20];
    let refused = (0..32).find_map(|_| parser.push(&chunk).err());
    assert_eq!(refused, Some(NotSse("an event exceeds the limit")));
    assert!(parser.line.len() <= MAX_EVENT);
}
