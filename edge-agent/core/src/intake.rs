//! What comes from the hub: frames, statements, blobs; and the way of a set from an offer to the trusted one.

use std::collections::{BTreeMap, BTreeSet};

use edge_protocol::frame;
use edge_protocol::v1::{AckStage, Blob, Down, DownFrame, SetAck, Statement, Up, VERSION};
use edge_protocol::{Digest, Lane, Now, PodUid, SetItem, Verdict};

use crate::agent::{Agent, Deferred, FLOOR_KEY, LINK_KEY};
use crate::desired::{Candidate, Offer, QUARANTINE_KEY, in_force};
use crate::io::{Effect, Note, TrustedSet, Write};
use crate::record::Record;
use crate::shelf::{self, Shelf};
use crate::transition::{Doc, Rules};

impl Agent {
    pub(crate) fn frame(&mut self, now: &Now, lane: Lane, bytes: &[u8]) {
        if self.stopping {
            return;
        }
        if !matches!(lane, Lane::Desired | Lane::Command) {
            return self.refuse("a frame on a lane that leads to the hub");
        }
        match frame::decode::<DownFrame>(bytes) {
            Err(error) => self.refuse(&error.to_string()),
            Ok(frame) if frame.v != VERSION => self.refuse(&format!("frame version {}", frame.v)),
            Ok(DownFrame {
                body: Down::Statement { envelope, blobs },
                ..
            }) => {
                let Some(binding) = self.session.binding() else {
                    return self.refuse("a statement that answers no hello");
                };
                match self.config.keys.open_statement(&envelope, binding) {
                    Err(refusal) => self.refuse(&refusal.to_string()),
                    Ok(statement) => self.statement(now, statement, blobs),
                }
            }
            Ok(DownFrame {
                body: Down::Ack(ack), ..
            }) => {
                let ours = self
                    .session
                    .binding()
                    .is_some_and(|binding| binding.nonce == ack.nonce);
                if ours && self.session.epoch() == Some(ack.session) {
                    self.session.heard(now.mono_ms);
                    self.reports.acknowledged(ack.status_upto);
                    self.claims.acknowledged(ack.facts_seq);
                    let writes = self.history.acknowledged(ack.event_seq);
                    self.writes.extend(writes);
                } else {
                    self.refuse("an acknowledgement of another session");
                }
            }
            Ok(DownFrame {
                body: Down::Keys { wraps },
                ..
            }) => self.take_keys(now, wraps),
            Ok(DownFrame {
                body: Down::StatsAsk(ask),
                ..
            }) => self.stats_asked(now, &ask),
            Ok(DownFrame {
                body: Down::Stream { envelope },
                ..
            }) => self.order(lane, &envelope),
            Ok(DownFrame {
                body: Down::Unknown, ..
            }) => self.refuse("a kind of frame this agent does not know"),
        }
    }

    pub(crate) fn refuse(&mut self, why: &str) {
        self.note(Note::FrameRefused {
            why: edge_protocol::text::sanitise(why),
        });
    }

    fn statement(&mut self, now: &Now, statement: Statement, blobs: Vec<Blob>) {
        let began = self.session.accept(&statement, now.mono_ms);
        self.floor_ms = self.floor_ms.max(statement.issued_ms);
        if began {
            self.note(Note::SessionBegan {
                session: statement.session,
            });
            self.keys.begin();
            self.commands.begin();
            self.reports.begin(statement.status_upto);
            let writes = self.history.begin(statement.event_seq);
            self.writes.extend(writes);
        }
        let writes = self.history.acknowledged(statement.event_seq);
        self.writes.extend(writes);
        if self.session.assign(statement.link) {
            self.effects
                .push(Effect::KeepAlive(statement.link.keep_alive_s()));
            self.put_meta(LINK_KEY, &statement.link);
        }
        self.fetch_due = true;
        let (generation, digest) = (statement.generation, statement.set_digest);
        let offer = self
            .desired
            .offer(statement, blobs, &self.shelf, &self.config.limits);
        let held = self
            .desired
            .trusted
            .as_ref()
            .is_some_and(|set| (set.generation, set.digest) == (generation, digest));
        let stage = match offer {
            Offer::Part => return,
            Offer::Damaged(why) => {
                self.session.await_resync(now.mono_ms);
                return self.refuse(&why);
            }
            Offer::Refused(why) => {
                self.refuse(&why);
                AckStage::Refused
            }
            Offer::BaseMissing => {
                self.session.await_resync(now.mono_ms);
                AckStage::BaseMissing
            }
            Offer::Judged(Verdict::Same) if held => AckStage::Persisted,
            Offer::Received | Offer::Judged(Verdict::Same | Verdict::Newer) => AckStage::Received,
            Offer::Judged(Verdict::Stale) => AckStage::Stale,
            Offer::Judged(Verdict::Conflict) => AckStage::Quarantined,
        };
        if stage != AckStage::BaseMissing {
            self.session.resynced();
        }
        let verdict = match stage {
            AckStage::BaseMissing => "base_missing",
            AckStage::Received => "newer",
            AckStage::Persisted => "same",
            AckStage::Stale => "stale",
            AckStage::Refused => "refused",
            AckStage::Quarantined | AckStage::Unknown => "conflict",
        };
        self.note(Note::SetJudged { verdict, generation });
        self.send(
            now,
            Lane::Status,
            Up::Ack(SetAck {
                generation,
                digest,
                stage,
            }),
        );
    }

    pub(crate) fn blob(&mut self, now: &Now, digest: Digest, body: Option<String>) {
        let body = body.filter(|body| {
            let sound = Digest::of(body) == digest && body.len() <= frame::MAX_DOCUMENT;
            if !sound {
                self.note(Note::FrameRefused {
                    why: format!("what came for blob {digest} is not it"),
                });
            }
            sound
        });
        if !self
            .fetches
            .ended(&digest, body.is_some(), &mut self.rng, now.mono_ms)
        {
            return;
        }
        self.fetch_due = true;
        let Some(body) = body else { return };
        self.desired.fill(digest, &body, &self.shelf);
        let named = self.named();
        let mut found = false;
        // A blob of the trusted set that the store had lost, or that an agent of before did not ask for.
        if self.objects_of(&named).contains(&digest) && !self.shelf.has_object(&digest) {
            let write = self.shelf.put_object(digest, body.clone());
            self.writes.push(write);
            found = true;
        }
        if named.contains(&digest) && self.shelf.doc(&digest).is_none() {
            self.shelf.put_doc(digest, Doc::parse(&body));
            self.writes.push(Write::PutBlob { digest, body });
            found = true;
        }
        if found {
            self.settle_restored(now);
        }
    }

    /// The blobs that sets on disk and records name.
    fn named(&self) -> BTreeSet<Digest> {
        let records = self.roster.workloads().values();
        let records = records.filter_map(|workload| workload.record.manifest);
        let items = self.desired.on_disk().map(|item| item.digest);
        items.chain(records).collect()
    }

    /// The objects of those of these blobs that are manifests.
    fn objects_of(&self, blobs: &BTreeSet<Digest>) -> BTreeSet<Digest> {
        blobs
            .iter()
            .flat_map(|blob| self.shelf.objects_of(blob))
            .collect()
    }

    /// Asks for the blobs that are named and not here. What only a record names no hub would give any more.
    pub(crate) fn fetch_missing(&mut self, now: &Now) {
        if std::mem::take(&mut self.fetch_due) {
            self.fetches.want(&self.missing());
        }
        let next = self.fetches.next(now.mono_ms);
        self.effects.extend(next.into_iter().map(Effect::Fetch));
    }

    pub(crate) fn missing(&self) -> BTreeSet<Digest> {
        let mut missing = self.desired.missing(&self.shelf);
        for digest in self.desired.blobs_in_force() {
            if self.shelf.doc(&digest).is_none() {
                missing.insert(digest);
            }
            let objects = self.shelf.objects_of(&digest).into_iter();
            missing.extend(objects.filter(|object| !self.shelf.has_object(object)));
        }
        missing
    }

    /// What this step wants on disk of sets and records. While a set is being committed the records wait: a record written in between
    /// would carry the state before that set past it.
    pub(crate) fn commit_desired(&mut self, now: &Now) {
        if self.desired.committing.is_some() {
            return;
        }
        if self.desired.candidate.is_some() && self.desired.missing(&self.shelf).is_empty() {
            self.desired.committing = self.desired.candidate.take();
            self.fetch_due = true;
        }
        if let Some(candidate) = &mut self.desired.committing {
            self.writes.extend(candidate.coming.write());
        }
        let mut records: BTreeMap<PodUid, Record> = self
            .roster
            .take_unsaved()
            .into_iter()
            .filter_map(|uid| Some((uid.clone(), self.roster.get(&uid)?.record.clone())))
            .collect();
        if let Some(candidate) = &self.desired.committing {
            let (writes, changed) = self.candidate_writes(now, candidate);
            self.writes.extend(writes);
            self.deferred.push(Deferred::Trust);
            records.extend(changed);
        } else if self.sweep_due {
            self.sweep();
        }
        for (uid, record) in records {
            let text = serde_json::to_string(&record).expect("a record has only string keys");
            self.writes.push(Write::PutWorkload {
                uid: uid.clone(),
                record: text,
            });
            if let Some(workload) = self.roster.get_mut(&uid) {
                workload.disk.dirty = false;
                workload.disk.writing += 1;
                self.deferred.push(Deferred::Record(uid));
            }
        }
    }

    /// The set, its quarantine, and the records as they will be: one transaction, so that a crash leaves all or nothing.
    fn candidate_writes(&self, now: &Now, candidate: &Candidate) -> (Vec<Write>, BTreeMap<PodUid, Record>) {
        let mut writes = vec![Write::Set(candidate.set.clone())];
        let quarantine = self.desired.quarantine_after(&candidate.set);
        let list: Vec<&SetItem> = quarantine.values().collect();
        writes.push(meta(QUARANTINE_KEY, &list));
        writes.push(meta(FLOOR_KEY, &self.floor_ms));
        let rules = self.rules(now, Some(&candidate.coming.shelf));
        let after = in_force(&candidate.set.items, &quarantine);
        let mut records = BTreeMap::new();
        for uid in self.roster.workloads().keys().chain(after.keys()) {
            let workload = self.roster.get(uid);
            let old = workload
                .map(|workload| workload.record.clone())
                .unwrap_or_default();
            let mut record = old.clone();
            let before = workload.and_then(|workload| workload.item.as_ref());
            rules.apply(&mut record, before, after.get(uid).map(|(item, _)| item));
            if record != old
                || (after.contains_key(uid) && workload.is_none_or(|workload| !workload.disk.stored))
            {
                records.insert(uid.clone(), record);
            }
        }
        (writes, records)
    }

    fn rules<'a>(&'a self, now: &'a Now, coming: Option<&'a Shelf>) -> Rules<'a> {
        Rules {
            stored: &self.shelf,
            coming,
            features: &self.config.features,
            now,
        }
    }

    /// The set is on disk: say so, and act on it from now on.
    pub(crate) fn trust(&mut self, now: &Now) {
        let Some(candidate) = self.desired.committing.take() else {
            return;
        };
        let quarantine = self.desired.quarantine_after(&candidate.set);
        self.shelf.absorb(candidate.coming.shelf);
        (self.sweep_due, self.fetch_due) = (true, true);
        let TrustedSet {
            generation, digest, ..
        } = candidate.set;
        for uid in quarantine
            .keys()
            .filter(|uid| !self.desired.quarantine.contains_key(*uid))
        {
            self.effects
                .push(Effect::Report(Note::Quarantined { uid: uid.clone() }));
        }
        let held = self.desired.trusted.as_ref();
        if held.is_some_and(|held| held.generation.incarnation != generation.incarnation) {
            // A restored hub may have thrown away what it was told before it knew of the workload again.
            self.reports.begin(0);
        }
        let contradicted = !quarantine.is_empty();
        self.desired.trusted = Some(candidate.set);
        self.desired.quarantine = quarantine;
        self.adopt_items(now);
        // The hub is done with an offer that is persisted: what it must know of it besides comes before that.
        let quarantined = contradicted.then_some(AckStage::Quarantined);
        for stage in quarantined.into_iter().chain([AckStage::Persisted]) {
            let ack = SetAck {
                generation,
                digest,
                stage,
            };
            self.send(now, Lane::Status, Up::Ack(ack));
        }
    }

    fn adopt_items(&mut self, now: &Now) {
        let in_force = self.desired.in_force();
        for uid in in_force.keys() {
            // Its record was written with the set.
            if self.roster.get(uid).is_none_or(|workload| !workload.disk.stored) {
                self.roster.ensure(uid).disk.stored = true;
            }
        }
        let rules = Rules {
            stored: &self.shelf,
            coming: None,
            features: &self.config.features,
            now,
        };
        let effects = &mut self.effects;
        self.roster.each(|uid, workload, _| {
            let before = workload.item.clone();
            let touch = rules.settle(workload, before.as_ref(), in_force.get(uid));
            if let Some((_, why)) = &workload.refused {
                effects.push(Effect::Report(Note::Refused {
                    uid: uid.clone(),
                    why: why.clone(),
                }));
            }
            touch
        });
    }

    /// Drops blobs that nothing names any more. What only a step under way may still read goes after it.
    fn sweep(&mut self) {
        let mut docs = self.named();
        docs.extend(self.desired.coming_items());
        let mut named = self.objects_of(&docs);
        named.extend(docs.iter().flat_map(|digest| self.desired.coming_objects(digest)));
        let steps = self
            .roster
            .workloads()
            .values()
            .flat_map(|workload| workload.steps.values());
        let manifests = steps.filter_map(|flight| flight.step.manifest());
        let read = manifests
            .flat_map(shelf::objects)
            .filter(|object| !named.contains(object));
        let read: BTreeSet<Digest> = read.collect();
        self.sweep_due = !read.is_empty();
        named.extend(read);
        let writes = self.shelf.keep(&docs, &named);
        self.writes.extend(writes);
        let writes = self.keys.keep(&self.shelf.keys());
        self.writes.extend(writes);
    }

    fn put_meta(&mut self, key: &str, value: &impl serde::Serialize) {
        self.writes.push(meta(key, value));
    }
}

fn meta(key: &str, value: &impl serde::Serialize) -> Write {
    let value = serde_json::to_string(value).expect("meta values have only string keys");
    Write::PutMeta {
        key: key.to_owned(),
        value,
    }
}
