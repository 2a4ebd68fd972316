//! The table alone: who may say what, in which order, and what is forgotten when.

use super::*;

const LIMITS: Limits = Limits {
    streams: 3,
    receive_buffer: 32 * 1024,
    send_buffer: 32 * 1024,
};

fn table() -> Table {
    Table::new(LIMITS)
}

/// A server's table with these streams open and replied to.
fn with(streams: &[u32]) -> Table {
    let mut table = table();
    for stream in streams {
        table.accept(*stream, Headers::default(), (false, false));
    }
    said(&mut table);
    table
}

fn said(table: &mut Table) -> Vec<Word> {
    let mut words = Vec::new();
    while let Next::Say(word) = table.next() {
        words.push(word);
    }
    words
}

fn data(stream: u32, bytes: &[u8], fin: bool) -> Word {
    let bytes = bytes.to_vec();
    Word::Data { stream, bytes, fin }
}

fn reset(stream: u32, code: ResetCode) -> Word {
    Word::Reset { stream, code }
}

#[test]
fn a_stream_is_replied_to_at_once_and_before_its_data() {
    let mut table = table();
    table.accept(1, Headers::default(), (false, false));
    table.write(1, b"x").unwrap();
    table.pong(9);
    let words = [Word::Reply { stream: 1 }, Word::Pong(9), data(1, b"x", false)];
    assert_eq!(said(&mut table), words);
    assert_eq!(table.arrival().unwrap(), Some((1, Headers::default())));
    assert_eq!(table.arrival().unwrap(), None);
}

#[test]
fn streams_above_the_cap_are_refused_one_by_one() {
    let mut table = with(&[1, 3, 5]);
    table.accept(7, Headers::default(), (false, false));
    assert_eq!(said(&mut table), [reset(7, ResetCode::REFUSED_STREAM)]);
    table.drop_reader(3);
    table.drop_writer(3);
    table.accept(9, Headers::default(), (false, false));
    let words = [reset(3, ResetCode::CANCEL), Word::Reply { stream: 9 }];
    assert_eq!(said(&mut table), words, "a stream that was let go makes room");
}

#[test]
fn streams_take_turns() {
    let mut table = with(&[1, 3, 5]);
    let much = vec![1; WRITE_CHUNK + 1];
    table.write(1, &much).unwrap();
    table.write(3, b"x").unwrap();
    table.write(5, b"y").unwrap();
    table.finish(5);
    let words = [
        data(1, &much[1..], false),
        data(3, b"x", false),
        data(5, b"y", true),
        data(1, &much[..1], false),
    ];
    assert_eq!(said(&mut table), words);
}

#[test]
fn a_full_queue_takes_no_more_until_some_is_out() {
    let mut table = with(&[1]);
    let much = vec![0; LIMITS.send_buffer + 1];
    assert_eq!(table.write(1, &much).unwrap(), LIMITS.send_buffer);
    assert_eq!(table.write(1, &much).unwrap(), 0);
    assert!(matches!(table.next(), Next::Say(Word::Data { .. })));
    assert_eq!(table.write(1, &much).unwrap(), WRITE_CHUNK);
}

#[test]
fn data_waits_for_room_unless_nobody_will_read_it() {
    let piece = vec![0; crate::limits::READ_CHUNK];
    let mut table = with(&[1, 3]);
    assert!(table.deliver(1, &piece));
    assert!(table.deliver(1, &piece));
    assert!(!table.deliver(1, b"x"), "full");
    assert!(table.deliver(3, b"x"), "another has room");
    table.drop_reader(1);
    assert!(
        table.entry(1).unwrap().inbound.is_empty(),
        "nor holds what it had"
    );
    assert!(table.deliver(1, b"x"), "nobody reads it");
    assert!(table.deliver(7, b"x"), "there is no such stream");
    while table.deliver(3, &piece) {}
    table.close();
    assert!(table.deliver(3, &piece), "this side goes");
}

#[test]
fn a_stream_is_forgotten_when_both_sides_finished_and_nobody_holds_it() {
    let mut table = with(&[1]);
    table.peer_finished(1);
    table.finish(1);
    assert_eq!(said(&mut table), [data(1, b"", true)]);
    assert!(table.entry(1).is_some());
    table.drop_reader(1);
    table.drop_writer(1);
    assert!(table.entry(1).is_none());
    assert_eq!(said(&mut table), []);
}

#[test]
fn what_was_finished_goes_out_although_nobody_holds_it() {
    let mut table = with(&[1]);
    table.write(1, b"last").unwrap();
    table.finish(1);
    table.drop_writer(1);
    table.drop_reader(1);
    // The peer did not finish: it is told that nobody listens, after the data.
    let words = [data(1, b"last", true), reset(1, ResetCode::CANCEL)];
    assert_eq!(said(&mut table), words);
    assert!(table.entry(1).is_none());
}

#[test]
fn a_writer_that_is_dropped_unfinished_breaks_the_stream_off() {
    let mut table = with(&[1]);
    table.write(1, b"lost").unwrap();
    table.drop_writer(1);
    assert_eq!(said(&mut table), [reset(1, ResetCode::CANCEL)]);
    assert_eq!(table.entry(1).unwrap().broken, Some(Broken::Here));
    table.drop_reader(1);
    assert!(table.entry(1).is_none());
    assert_eq!(said(&mut table), [], "said once");
}

#[test]
fn a_reader_that_is_dropped_discards_and_says_nothing() {
    let mut table = with(&[1]);
    table.drop_reader(1);
    assert!(table.deliver(1, b"x"));
    assert!(table.entry(1).unwrap().inbound.is_empty());
    assert_eq!(table.write(1, b"x").unwrap(), 1);
    assert_eq!(said(&mut table), [data(1, b"x", false)]);
}

#[test]
fn a_reset_of_the_peer_ends_writing_and_leaves_what_came() {
    let mut table = with(&[1]);
    assert!(table.deliver(1, b"before"));
    table.write(1, b"lost").unwrap();
    table.peer_reset(1, ResetCode::CANCEL);
    assert!(matches!(
        table.write(1, b"x"),
        Err(StreamError::Reset(ResetCode::CANCEL))
    ));
    assert_eq!(said(&mut table), [], "nothing is said on it any more");
    assert_eq!(table.entry(1).unwrap().inbound.len(), 6);
    assert!(table.deliver(1, b"after"));
    assert_eq!(table.entry(1).unwrap().inbound.len(), 6);
    table.drop_writer(1);
    table.drop_reader(1);
    assert!(table.entry(1).is_none());
    assert_eq!(said(&mut table), [], "the peer knows");
}

#[test]
fn the_flags_of_a_stream_close_its_directions() {
    let mut table = table();
    table.accept(1, Headers::default(), (true, false));
    table.accept(3, Headers::default(), (false, true));
    assert_eq!(said(&mut table), [Word::Reply { stream: 1 }]);
    assert!(table.entry(1).unwrap().peer_finished);
    assert!(matches!(table.write(3, b"x"), Err(StreamError::Finished)));
}

#[test]
fn own_streams_have_odd_rising_ids_and_a_cap() {
    let mut table = table();
    let ids: Vec<Option<u32>> = (0..4).map(|_| table.open(Headers::default())).collect();
    assert_eq!(ids, [Some(1), Some(3), Some(5), None]);
    let opened = said(&mut table);
    assert!(matches!(opened[2], Word::Open { stream: 5, .. }), "{opened:?}");
    assert_eq!(table.entry(1).unwrap().own, Own::Opening);
    table.replied(1, true);
    assert_eq!(table.entry(1).unwrap().own, Own::Open);
    assert!(table.entry(1).unwrap().peer_finished);
    table.next_own = StreamId::MAX.get();
    table.peer_reset(3, ResetCode::REFUSED_STREAM);
    table.drop_reader(3);
    table.drop_writer(3);
    assert_eq!(table.open(Headers::default()), Some(StreamId::MAX.get()));
    table.peer_reset(5, ResetCode::REFUSED_STREAM);
    table.drop_reader(5);
    table.drop_writer(5);
    assert_eq!(table.open(Headers::default()), None, "no ids are left");
}

#[test]
fn what_a_peer_makes_this_side_answer_is_bounded() {
    let mut table = table();
    for ping in 0.. {
        if !table.may_read() {
            break;
        }
        table.pong(ping);
    }
    assert_eq!(said(&mut table).len(), LIMITS.signals());
    assert!(table.may_read());
    // Streams of this side are held to it too.
    for _ in 0..LIMITS.signals() {
        let Some(stream) = table.open(Headers::default()) else {
            break;
        };
        table.drop_reader(stream);
        table.drop_writer(stream);
    }
    assert!(said(&mut table).len() <= LIMITS.signals() + 1);
}

#[test]
fn streams_that_nobody_took_are_refused_when_no_more_are_wanted() {
    let mut table = with(&[1, 3]);
    assert!(matches!(table.arrival(), Ok(Some((1, _)))));
    table.stop_accepting();
    table.accept(5, Headers::default(), (false, false));
    let code = ResetCode::REFUSED_STREAM;
    assert_eq!(said(&mut table), [reset(3, code), reset(5, code)]);
    assert!(table.entry(1).is_some() && table.entry(3).is_none() && table.entry(5).is_none());
    assert!(table.deliver(3, b"x"), "what still comes for them is discarded");
}

#[test]
fn closing_says_what_is_queued_then_that_it_goes() {
    let mut table = with(&[1, 3]);
    while let Ok(Some(_)) = table.arrival() {}
    table.write(1, b"last").unwrap();
    table.close();
    assert!(matches!(table.write(3, b"x"), Err(StreamError::Finished)));
    table.accept(5, Headers::default(), (false, false));
    let end = Word::End {
        last_accepted: 3,
        failed: false,
    };
    assert_eq!(
        said(&mut table),
        [data(1, b"last", true), data(3, b"", true), end]
    );
    assert_eq!(table.next(), Next::Wait);
    assert!(table.arrival().is_err(), "streams that came too late are none");
    assert!(!table.is_done());
    table.peer_goes();
    assert!(table.is_done());
    assert!(matches!(table.over(), ConnectionError::Closed));
}

#[test]
fn an_end_is_in_order_only_after_a_word() {
    let mut table = table();
    assert!(matches!(table.over(), ConnectionError::Vanished));
    table.close();
    assert!(matches!(table.over(), ConnectionError::Vanished), "not yet said");
    let mut table = self::table();
    table.peer_goes();
    assert!(matches!(table.over(), ConnectionError::Closed));
    assert!(
        matches!(table.arrival(), Err(ConnectionError::Closed)),
        "no stream will come"
    );
}

#[test]
fn the_first_reason_stays_and_a_culprit_is_told() {
    let mut table = with(&[1]);
    table.write(1, b"lost").unwrap();
    table.end(ConnectionError::Vanished, true);
    table.end(ConnectionError::Closed, false);
    assert!(matches!(table.ended(), Some(ConnectionError::Vanished)));
    let last_word = Word::End {
        last_accepted: 1,
        failed: true,
    };
    assert_eq!(said(&mut table), [last_word]);
    assert_eq!(table.next(), Next::Stop);
    let lost = table.write(1, b"x");
    assert!(matches!(
        lost,
        Err(StreamError::Connection(ConnectionError::Vanished))
    ));
    assert!(
        matches!(table.arrival(), Ok(Some((1, _)))),
        "what had come is still given"
    );
    assert!(matches!(table.arrival(), Err(ConnectionError::Vanished)));
}

#[test]
fn channels_have_the_directions_they_are_given() {
    let mut table = table();
    table.fix(0, Direction::In);
    table.fix(1, Direction::Out);
    table.fix(2, Direction::Both);
    assert!(matches!(table.write(0, b"x"), Err(StreamError::Finished)));
    assert_eq!(table.write(1, b"x").unwrap(), 1);
    assert!(table.deliver(1, b"discarded"));
    assert!(table.entry(1).unwrap().inbound.is_empty());
    assert!(!table.is_quiet());
    assert!(!table.is_written(&[1]));
    table.finish(1);
    table.finish(2);
    said(&mut table);
    assert!(table.is_quiet() && table.is_written(&[1, 2]));
}
