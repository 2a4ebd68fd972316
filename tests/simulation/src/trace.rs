//! What happened, line by line: virtual time, who, what.

use std::fmt::Write as _;

use edge_protocol::Digest;

/// Off, it costs nothing: the text of a line is only made when it is kept.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    on: bool,
    text: String,
}

impl Trace {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            text: String::new(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    pub(crate) fn add(&mut self, now: u64, who: &str, what: &str) {
        writeln!(
            self.text,
            "{:>5}.{:03}s {who:<10} {what}",
            now / 1_000,
            now % 1_000
        )
        .expect("writing to a String cannot fail");
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.text)
    }
}

/// One line of the trace.
macro_rules! say {
    ($world:expr, $who:expr, $($what:tt)*) => {
        if $world.trace.is_on() {
            let (who, what) = ($who.to_string(), format!($($what)*));
            $world.trace.add($world.now, &who, &what);
        }
    };
}
pub(crate) use say;
