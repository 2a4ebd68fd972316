//! Whatever is written, rotated, compressed and removed, and wherever a link is cut: a reader has each line once, in order.

use proptest::prelude::*;

use super::super::files::COMPRESSED;
use super::*;

#[derive(Debug, Clone, Copy)]
enum Event {
    /// A line, or a part of one, of so much text.
    Write {
        source: LogSource,
        partial: bool,
        length: usize,
    },
    /// The runtime has written this much of its next line.
    Half(usize),
    /// The file is moved away, unless it is empty; the runtime goes on writing to it.
    Move,
    /// The runtime opens its file.
    Open,
    Compress,
    /// The oldest file goes, once the reader has all of it.
    Remove,
    Read,
    /// The reader gets this much of a turn, and comes again.
    Cut(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let source = prop_oneof![Just(LogSource::Stdout), Just(LogSource::Stderr)];
    let length = prop_oneof![3 => 0..40_usize, 1 => 200..900_usize];
    let write = (source, any::<bool>(), length).prop_map(|(source, partial, length)| Event::Write {
        source,
        partial,
        length,
    });
    prop_oneof![
        8 => write,
        1 => (1..60_usize).prop_map(Event::Half),
        2 => Just(Event::Move),
        3 => Just(Event::Open),
        1 => Just(Event::Compress),
        1 => Just(Event::Remove),
        4 => Just(Event::Read),
        2 => (0..600_usize).prop_map(Event::Cut),
    ]
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (256..600_usize, 40..90_usize, 1..400_usize).prop_map(|(buffer, frame, turn)| Sizes {
        buffer,
        frame,
        turn,
    })
}

fn query() -> impl Strategy<Value = LogQuery> {
    let source = prop_oneof![
        Just(None),
        Just(Some(LogSource::Stdout)),
        Just(Some(LogSource::Stderr))
    ];
    (any::<bool>(), source).prop_map(|(timestamps, source)| LogQuery {
        follow: true,
        timestamps,
        source,
        ..LogQuery::default()
    })
}

/// A runtime, its files, and what of them a reader must have in the end.
struct World {
    logs: Logs,
    query: LogQuery,
    sizes: Sizes,
    expect: Vec<u8>,
    is_new_line: bool,
    written: u32,
    rotations: u32,
    /// Where the runtime writes.
    current: String,
    is_moved: bool,
    /// A line that is not whole.
    half: Option<(String, usize)>,
    /// Rotated files, the oldest first: what is to be told up to their end, and whether that ends a line.
    rotated: Vec<(String, usize, bool)>,
    reader: Option<Reader>,
    client: Client,
}

impl World {
    fn new(query: LogQuery, sizes: Sizes) -> Self {
        let logs = Logs::with(&[("0.log", "")]);
        Self {
            reader: logs.reader(&query, sizes),
            logs,
            query,
            sizes,
            expect: Vec::new(),
            is_new_line: true,
            written: 0,
            rotations: 0,
            current: "0.log".to_owned(),
            is_moved: false,
            half: None,
            rotated: Vec::new(),
            client: Client::default(),
        }
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Write {
                source,
                partial,
                length,
            } => {
                self.complete();
                self.write(source, partial, length);
            }
            Event::Half(bytes) => {
                self.complete();
                let line = self.line(LogSource::Stdout, "F", 40);
                let bytes = bytes.min(line.len() - 1);
                self.logs.append(&self.current, &line[..bytes]);
                self.half = Some((line, bytes));
            }
            Event::Move if !self.is_moved && fs::metadata(self.logs.path("0.log")).unwrap().len() > 0 => {
                self.rotations += 1;
                let rotated = format!("0.log.20261122-{:06}", self.rotations);
                self.logs.rename("0.log", &rotated);
                self.current = rotated;
                self.is_moved = true;
            }
            Event::Open if self.is_moved => {
                self.complete();
                let name = std::mem::replace(&mut self.current, "0.log".to_owned());
                self.rotated.push((name, self.expect.len(), self.is_new_line));
                self.logs.append("0.log", "");
                self.is_moved = false;
            }
            Event::Compress => {
                for (name, ..) in &mut self.rotated {
                    if !name.ends_with(COMPRESSED) {
                        self.logs.compress(name);
                        name.push_str(COMPRESSED);
                    }
                }
            }
            Event::Remove => self.remove(),
            Event::Read => {
                self.client.turn(self.reader.as_mut().unwrap());
            }
            Event::Cut(bytes) => self.cut(bytes),
            Event::Move | Event::Open => {}
        }
    }

    fn line(&mut self, source: LogSource, tag: &str, length: usize) -> String {
        self.written += 1;
        let source = if source == LogSource::Stdout {
            "stdout"
        } else {
            "stderr"
        };
        let mut text = format!("{}:", self.written);
        while text.len() < length {
            text.push(char::from(b'a' + u8::try_from(text.len() % 26).unwrap()));
        }
        text.truncate(length);
        format!("2026-11-22T18:00:00.{:09}Z {source} {tag} {text}\n", self.written)
    }

    fn write(&mut self, source: LogSource, partial: bool, length: usize) {
        let line = self.line(source, if partial { "P" } else { "F" }, length);
        self.logs.append(&self.current, &line);
        self.expect(&line);
    }

    fn complete(&mut self) {
        if let Some((line, bytes)) = self.half.take() {
            self.logs.append(&self.current, &line[bytes..]);
            self.expect(&line);
        }
    }

    /// By the kubelet's rules, written another way than the reader's.
    fn expect(&mut self, line: &str) {
        let mut fields = line.trim_end_matches('\n').splitn(4, ' ');
        let mut field = || fields.next().unwrap().to_owned();
        let (time, source, tag, mut text) = (field(), field(), field(), field());
        if tag == "F" {
            text.push('\n');
        }
        let wanted = self
            .query
            .source
            .is_none_or(|wanted| (wanted == LogSource::Stdout) == (source == "stdout"));
        if wanted && self.query.timestamps && self.is_new_line {
            self.expect.extend_from_slice(format!("{time} ").as_bytes());
        }
        if wanted {
            self.expect.extend_from_slice(text.as_bytes());
        }
        self.is_new_line = text.is_empty() || text.ends_with('\n');
    }

    fn remove(&mut self) {
        let has = self.client.text.len();
        let is_told = |(_, end, ends_line): &(String, usize, bool)| has > *end || (has == *end && *ends_line);
        if self.rotated.first().is_some_and(is_told) {
            let (name, ..) = self.rotated.remove(0);
            fs::remove_file(self.logs.path(&name)).unwrap();
        }
    }

    fn cut(&mut self, bytes: usize) {
        let mut wire = Vec::new();
        self.reader.as_mut().unwrap().turn(&mut wire).unwrap();
        self.client.receive(&wire[..bytes.min(wire.len())]);
        self.client.frames = LogFrames::default();
        let query = LogQuery {
            after: self.client.position,
            ..self.query.clone()
        };
        self.reader = self.logs.reader(&query, self.sizes);
    }

    fn finish(mut self) -> (String, String) {
        self.complete();
        let mut reader = self.reader.take().unwrap();
        while self.client.turn(&mut reader) == Turn::More {}
        reader.finish();
        while self.client.turn(&mut reader) != Turn::Ended {}
        (self.client.text(), String::from_utf8(self.expect).unwrap())
    }
}

proptest! {
    #[test]
    fn a_reader_has_each_line_once(
        query in query(),
        sizes in sizes(),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut world = World::new(query, sizes);
        for event in events {
            world.apply(event);
        }
        let (told, expect) = world.finish();
        prop_assert_eq!(told, expect);
    }
}
