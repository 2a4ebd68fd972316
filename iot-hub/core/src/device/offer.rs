//! What to tell a device next: nothing, that it is up to date, a delta, or a snapshot.

use edge_protocol::v1::{Statement, StatementBody, VERSION};
use edge_protocol::{DesiredSet, Digest, HubId, Now, SetGeneration, SetItem};

use super::Device;

/// A set under way to a device, until it is acknowledged or the session ends.
#[derive(Debug)]
pub(crate) struct Offered {
    pub(super) generation: SetGeneration,
    pub(super) digest: Digest,
    pub(super) items: DesiredSet,
    pub(super) received: bool,
    pub(super) is_delta: bool,
    /// By the monotonic clock; `None` once the device refused it.
    pub(super) resend_at: Option<u64>,
}

/// The statements of one offer.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) form: &'static str,
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) body: StatementBody,
    /// The items whose blobs the device may lack.
    pub(crate) needs: Vec<Need>,
}

/// An item that is other than what the device is known to hold, with the blob it holds for that workload.
#[derive(Debug)]
pub(crate) struct Need {
    pub(crate) item: SetItem,
    pub(crate) held: Option<Digest>,
}

impl Device {
    /// What to send now, if anything. `resend_at` is when to try again unless the device answers.
    ///
    /// While an offer is under way it answers `None`, except when that offer's own time has come: then the present set goes out in
    /// its place. A statement holds at most `part_items` items.
    pub(crate) fn offer(&mut self, now: &Now, resend_at: u64, part_items: usize) -> Option<Offer> {
        let session = self.session()?;
        let up_to_date = session.knows_base && matches!(self.acknowledged, super::Acknowledged::Current);
        if up_to_date {
            let greeted = std::mem::replace(&mut self.session_mut()?.greeted, true);
            return (!greeted).then(Offer::same);
        }
        if let Some(offered) = &session.offered
            && !offered.is_due(now)
            && !(offered.resend_at.is_none() && offered.generation != self.generation)
        {
            return None;
        }
        let offer = self
            .delta(part_items)
            .unwrap_or_else(|| self.snapshot(part_items));
        let offered = Offered {
            generation: self.generation,
            digest: self.digest,
            items: self.items.clone(),
            received: false,
            is_delta: offer.form == "delta",
            resend_at: Some(resend_at),
        };
        self.unsent.clear();
        let session = self.session_mut()?;
        session.greeted = true;
        session.offered = Some(offered);
        Some(offer)
    }

    /// From what the device is known to hold, if that is of this incarnation.
    fn delta(&self, part_items: usize) -> Option<Offer> {
        let (base, held) = self.acknowledged().filter(|(base, _)| {
            base.incarnation == self.generation.incarnation && self.session().is_some_and(|s| s.knows_base)
        })?;
        let (put, forget) = held.delta_to(&self.items);
        if put.len() + forget.len() > part_items {
            return None;
        }
        let needs = needs(&put, Some(held));
        let body = StatementBody::Delta {
            base,
            base_digest: held.digest(),
            put,
            forget,
        };
        Some(Offer {
            form: "delta",
            parts: vec![Part { body, needs }],
        })
    }

    fn snapshot(&self, part_items: usize) -> Offer {
        let known = self.session().filter(|session| session.knows_base);
        let known = known.and(self.acknowledged()).map(|(_, set)| set);
        let items: Vec<SetItem> = self.items.iter().cloned().collect();
        let mut chunks: Vec<Vec<SetItem>> =
            items.chunks(part_items.max(1)).map(<[SetItem]>::to_vec).collect();
        if chunks.is_empty() {
            chunks.push(Vec::new());
        }
        let of = u32::try_from(chunks.len()).expect("a set in memory has fewer than 2^32 parts");
        let parts = (0..of)
            .zip(chunks)
            .map(|(part, items)| Part {
                needs: needs(&items, known),
                body: StatementBody::Snapshot { part, of, items },
            })
            .collect();
        Offer {
            form: "snapshot",
            parts,
        }
    }

    /// Binds a body to the present session, under the next number. `None` without a session.
    pub(crate) fn statement(&mut self, hub: HubId, now: &Now, body: StatementBody) -> Option<Statement> {
        let (generation, set_digest) = (self.generation, self.digest);
        let session = self.session.as_deref_mut()?;
        let seq = session.next_seq;
        session.next_seq += 1;
        Some(Statement {
            v: VERSION,
            hub,
            incarnation: generation.incarnation,
            device: self.record.id.clone(),
            enrolment: self.record.enrolment.clone(),
            nonce: session.nonce.clone(),
            session: session.epoch,
            seq,
            request: None,
            issued_ms: now.wall_ms,
            link: self.record.link,
            generation,
            set_digest,
            status_upto: self.record.status_upto,
            event_seq: self.record.event_seq,
            body,
        })
    }
}

impl Offer {
    fn same() -> Self {
        Self {
            form: "same",
            parts: vec![Part {
                body: StatementBody::Same,
                needs: Vec::new(),
            }],
        }
    }
}

impl Offered {
    fn is_due(&self, now: &Now) -> bool {
        self.resend_at.is_some_and(|at| at <= now.mono_ms)
    }
}

/// Those of these items that the device has not got with what it is known to hold.
fn needs(items: &[SetItem], known: Option<&DesiredSet>) -> Vec<Need> {
    let held = |item: &SetItem| known.and_then(|set| set.get(&item.uid)).map(|held| held.digest);
    items
        .iter()
        .map(|item| Need {
            item: item.clone(),
            held: held(item),
        })
        .filter(|need| need.held != Some(need.item.digest))
        .collect()
}
