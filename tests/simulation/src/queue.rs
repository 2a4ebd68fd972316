//! What will happen, in the order of virtual time and, at one moment, in the order it was asked for.

use std::collections::BTreeMap;

use crate::event::Event;

#[derive(Debug, Default)]
pub(crate) struct Queue {
    next: u64,
    events: BTreeMap<(u64, u64), Event>,
}

impl Queue {
    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    pub(crate) fn pop(&mut self) -> Option<(u64, Event)> {
        let ((at, _), event) = self.events.pop_first()?;
        Some((at, event))
    }
}
