//! The end of a step: what follows from its changes, then one transaction and what depends on it.

use std::collections::BTreeSet;

use edge_protocol::frame::{self, MAX_INLINE};
use edge_protocol::v1::{Blob, DeploymentState, Down, DownFrame, Phase, ReportAck, TombstoneReason, VERSION};
use edge_protocol::{DeviceId, Digest, Lane, PodUid};

use super::timers::Timer;
use super::{Hub, Turn};
use crate::device::{Need, Part};
use crate::io::{Change, Effect, Note, Tx, Write};

impl Hub {
    pub(super) fn finish(&mut self, mut turn: Turn) -> Vec<Effect> {
        loop {
            while let Some(uid) = turn.checks.pop_first() {
                self.check(&mut turn, &uid);
            }
            if !self.fill_rooms(&mut turn) {
                break;
            }
        }
        for id in &turn.edited {
            if let Some(device) = self.devices.get_mut(id) {
                device.bump(self.incarnation);
            }
        }
        turn.offers.extend(turn.edited.iter().cloned());
        for id in std::mem::take(&mut turn.offers) {
            self.offer(&mut turn, &id);
        }
        for id in std::mem::take(&mut turn.acks) {
            self.acknowledge(&mut turn, &id);
        }
        let writes = self.writes(&mut turn);
        let mut effects = std::mem::take(&mut turn.effects);
        if writes.is_empty() && turn.changes.is_empty() && !turn.audited {
            effects.extend(self.after.join(turn.after));
        } else {
            let id = self.after.begin(turn.after);
            let changes = turn.changes.iter().cloned().collect();
            effects.push(Effect::Commit(Tx { id, writes, changes }));
        }
        effects.extend(
            turn.announced
                .difference(&turn.changes)
                .cloned()
                .map(Effect::Announce),
        );
        effects.extend(self.timers.news().map(Effect::WakeAt));
        effects
    }

    /// Whether a deployment's own life goes on by what changed: its end, its final phase, its place taken by a successor.
    fn check(&mut self, turn: &mut Turn, uid: &PodUid) {
        let Some(deployment) = self.fleet.get_mut(uid) else {
            return;
        };
        let phase = deployment.phase();
        if deployment.record.ended.is_none() && matches!(phase, Phase::Succeeded | Phase::Failed) {
            // Also while it is being deleted: the API takes no phase back.
            deployment.record.ended = Some(phase);
            turn.deployment_changed(uid);
        }
        let Some(deployment) = self.fleet.get(uid) else {
            return;
        };
        if deployment.is_deleting() && !deployment.is_owed() {
            self.end_deployment(turn, uid);
        } else if deployment.is_released() && deployment.is_wholly_superseded() && self.has_successor(uid) {
            self.delete(turn, uid, None, TombstoneReason::Superseded);
        }
    }

    fn has_successor(&self, uid: &PodUid) -> bool {
        self.fleet.get(uid).is_some_and(|replaced| {
            self.fleet
                .successors(uid)
                .any(|next| next.record.state == DeploymentState::Active && next.may_replace(replaced))
        })
    }

    fn offer(&mut self, turn: &mut Turn, id: &DeviceId) {
        let jitter = self.draw();
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        let had_received = device.has_received();
        // A third of a keep-alive, and up to half of that more, so that a fleet does not repeat itself in step.
        let pause = u64::from(device.record.link.keep_alive_s()) * 1000 / 3;
        let resend_at = turn.now.mono_ms + pause + jitter % (pause / 2);
        let Some(offer) = device.offer(&turn.now, resend_at, self.config.limits.part_items) else {
            return;
        };
        turn.note(Note::SetOffered {
            device: id.clone(),
            generation: device.generation(),
            form: offer.form,
        });
        if let Some(at) = device.session().and_then(crate::device::Session::resend_at) {
            self.timers.set(Timer::Resend(id.clone()), at);
        }
        for part in offer.parts {
            self.send_part(turn, id, part);
        }
        if had_received {
            self.refresh_all(turn, id);
        }
    }

    fn send_part(&mut self, turn: &mut Turn, id: &DeviceId, part: Part) {
        let blobs = self.inline(&part.needs);
        let Some(device) = self.devices.get_mut(id) else {
            return;
        };
        let Some(connection) = device.connection else {
            return;
        };
        let Some(statement) = device.statement(self.config.hub, &turn.now, part.body) else {
            return;
        };
        let statement = |blobs| DownFrame {
            v: VERSION,
            body: Down::Statement {
                envelope: self.config.signer.seal_statement(&statement),
                blobs,
            },
        };
        // Blobs that do not compress may not fit: then the device fetches them.
        let bytes = frame::encode(&statement(blobs)).or_else(|_| frame::encode(&statement(Vec::new())));
        match bytes {
            Ok(bytes) => turn.after.push(Effect::Send {
                device: id.clone(),
                connection,
                lane: Lane::Desired,
                bytes,
            }),
            Err(error) => self.refuse(
                turn,
                id,
                format!("the statement for it cannot be framed: {error}"),
            ),
        }
    }

    /// Those of the blobs that travel along: the smaller ones first, so that most need no second round trip.
    fn inline(&self, needs: &[Need]) -> Vec<Blob> {
        let digests: BTreeSet<Digest> = needs
            .iter()
            .flat_map(|need| {
                self.objects_beyond(&need.item, need.held)
                    .into_iter()
                    .chain([need.item.digest])
            })
            .collect();
        let mut bodies: Vec<_> = digests
            .into_iter()
            .filter_map(|digest| Some((digest, self.blobs.get(&digest)?)))
            .collect();
        bodies.sort_by_key(|(_, body)| body.len());
        let mut room = MAX_INLINE;
        let fits = bodies.into_iter().take_while(|(_, body)| {
            let left = room.checked_sub(body.len());
            room = left.unwrap_or(0);
            left.is_some()
        });
        fits.map(|(digest, body)| Blob {
            digest,
            body: body.to_owned(),
        })
        .collect()
    }

    fn acknowledge(&mut self, turn: &mut Turn, id: &DeviceId) {
        let Some(device) = self.devices.get(id) else {
            return;
        };
        let (Some(connection), Some(session)) = (device.connection, device.session()) else {
            return;
        };
        let ack = DownFrame {
            v: VERSION,
            body: Down::Ack(ReportAck {
                nonce: session.nonce.clone(),
                session: session.epoch,
                status_upto: device.record.status_upto,
                event_seq: device.record.event_seq,
                facts_seq: session.facts_seq,
            }),
        };
        let bytes = frame::encode(&ack).expect("four numbers fit a frame");
        turn.after.push(Effect::Send {
            device: id.clone(),
            connection,
            lane: Lane::Command,
            bytes,
        });
    }

    /// The named rows as they are now, parents before children, and removals in the opposite order.
    fn writes(&mut self, turn: &mut Turn) -> Vec<Write> {
        let mut writes = Vec::new();
        let mut drops = Vec::new();
        if turn.incarnation {
            writes.push(Write::Incarnation(self.incarnation));
        }
        for id in &turn.devices {
            if let Some(device) = self.devices.get_mut(id) {
                device.stamp();
                writes.push(Write::PutDevice(Box::new(device.record.clone())));
            }
        }
        for uid in &turn.deployments {
            match self.fleet.get(uid) {
                Some(deployment) => writes.push(Write::PutDeployment(Box::new(deployment.record.clone()))),
                None => drops.push(Write::DropDeployment(uid.clone())),
            }
        }
        for digest in &turn.blobs {
            match self.blobs.settle(digest) {
                Some(put @ Write::PutBlob { .. }) => writes.push(put),
                other => drops.extend(other),
            }
        }
        for (key, sealing_key) in &turn.wraps {
            match self.keys.get(key, sealing_key) {
                Some(wrap) => writes.push(Write::PutKeyWrap(Box::new(wrap.clone()))),
                None => drops.push(Write::DropKeyWrap {
                    key: *key,
                    sealing_key: *sealing_key,
                }),
            }
        }
        let sets: BTreeSet<_> = turn.edited.union(&turn.sets).collect();
        for id in sets {
            if let Some(device) = self.devices.get(id) {
                writes.push(Write::PutDeviceSet {
                    device: id.clone(),
                    set: Box::new(device.set_record()),
                });
            }
        }
        for (uid, device) in &turn.assignments {
            let assignment = self
                .fleet
                .get(uid)
                .and_then(|deployment| deployment.assignment(device));
            match assignment {
                Some(assignment) => {
                    writes.push(Write::PutAssignment(Box::new(assignment.record(uid, device))));
                }
                None => writes.push(Write::DropAssignment {
                    uid: uid.clone(),
                    device: device.clone(),
                }),
            }
        }
        for (device, event) in std::mem::take(&mut turn.events) {
            turn.changes.insert(Change::DeviceEvent {
                device: device.clone(),
                seq: event.seq,
            });
            writes.push(Write::PutEvent { device, event });
        }
        writes.extend(drops);
        writes
    }
}
