//! What people do during the storm: with pods, and with devices. `controllers` is what Kubernetes adds by itself.

mod controllers;

use std::collections::BTreeMap;

use edge_protocol::PodUid;
use edge_protocol::frame::MAX_INLINE;
use edge_protocol::v1::{LinkClass, Owner, RestartPolicy};
use edge_provider_core::{Deletion, DeletionCause, Disconnect, UpdateStrategy};
use iot_hub_core::{Call, Enrolment};

use crate::coverage::Path;
use crate::device::ZONES;
use crate::event::{At, Caller, Event, UserEvent};
use crate::objects::Volumes;
use crate::pods::{Behaviour, Company, Pod};
use crate::trace::say;
use crate::world::World;

/// Pods that people have at the same time.
const MANY: usize = 7;
/// Two manifests with that much in them do not travel in one frame, so that a device fetches the other.
const BALLAST: usize = MAX_INLINE / 2 + 1;

#[derive(Debug, Default)]
pub(crate) struct Users {
    pods: u32,
    images: u32,
    owners: u32,
}

fn intent(grace_s: u32) -> Deletion {
    Deletion {
        grace_period_s: Some(grace_s),
        cause: DeletionCause::Intent,
    }
}

impl World {
    pub(crate) fn plan_users(&mut self) {
        self.user(500, 4_000, UserEvent::Acts);
        let mean = self.weather.incident_ms;
        self.user(mean / 2, mean * 2, UserEvent::Incident);
        self.user(5_000, 30_000, UserEvent::EditsSomething);
        if self.weather.restore {
            self.user(40_000, 100_000, UserEvent::BackUp);
            self.user(120_000, 170_000, UserEvent::RestoreHub);
        }
    }

    fn user(&mut self, low: u64, high: u64, event: UserEvent) {
        let delay = self.rng.within(low, high);
        self.push(delay, Event::User(event));
    }

    pub(crate) fn user_event(&mut self, event: UserEvent) {
        let storm = self.calm_at.is_none();
        match event {
            UserEvent::Acts if storm => {
                self.act_of_a_user();
                self.user(1_000, 14_000, UserEvent::Acts);
            }
            UserEvent::Incident if storm => {
                self.incident();
                let mean = self.weather.incident_ms;
                self.user(mean / 2, mean * 2, UserEvent::Incident);
            }
            UserEvent::EditsSomething if storm => {
                self.edit_some_object();
                self.user(2_000, 30_000, UserEvent::EditsSomething);
            }
            UserEvent::Edit(uid, kind) => self.edit_object(&uid, kind),
            UserEvent::BackUp => self.hub.backup = Some(self.hub.disk.clone()),
            UserEvent::RestoreHub if storm => self.restore_hub(),
            UserEvent::Acts | UserEvent::Incident | UserEvent::EditsSomething | UserEvent::RestoreHub => {}
            UserEvent::Replace(uid) => self.replace(&uid),
            UserEvent::DeleteOld(uid) => {
                if self.api.pods.get(&uid).is_some_and(|pod| pod.deletion.is_none()) {
                    self.delete(&uid, 5);
                }
            }
            UserEvent::RemoveFinalizer(uid) => self.remove_finalizer(&uid),
            UserEvent::CollectPods(node) => self.collect_pods(node),
            UserEvent::RepairImage(image) => {
                self.broken_images.remove(&image);
            }
        }
    }

    fn act_of_a_user(&mut self) {
        let live: Vec<PodUid> = self
            .api
            .pods
            .values()
            .filter(|pod| pod.deletion.is_none())
            .map(|pod| pod.uid.clone())
            .collect();
        let going: Vec<PodUid> = self
            .api
            .pods
            .values()
            .filter(|pod| pod.deletion.is_some_and(|d| d.cause == DeletionCause::Intent))
            .map(|pod| pod.uid.clone())
            .collect();
        let one = self.rng.pick(&live).cloned();
        match (self.rng.below(14), one) {
            (0..=4, _) if self.api.pods.len() < MANY => self.create(),
            (5, Some(uid)) => {
                let grace = *self.rng.pick(&[1, 5, 30]).unwrap_or(&30);
                self.delete(&uid, grace);
            }
            (6, Some(uid)) => self.force_delete(&uid),
            (7 | 8, Some(uid)) => self.set_image(&uid),
            (9, Some(uid)) => self.roll_out(&uid),
            (10, _) => self.retag(),
            (11, _) if self.rng.below(3) == 0 => self.evict(&live),
            (12, _) if self.rng.below(3) == 0 => self.delete_node(),
            (13, _) => {
                // Someone is impatient.
                if let Some(uid) = self.rng.pick(&going).cloned() {
                    if self.rng.flip() {
                        self.delete(&uid, 1);
                    } else {
                        self.force_delete(&uid);
                    }
                }
            }
            _ => {}
        }
    }

    fn new_uid(&mut self) -> PodUid {
        self.users.pods += 1;
        PodUid::new(format!("p{}", self.users.pods)).expect("letters and digits")
    }

    fn new_image(&mut self) -> String {
        self.users.images += 1;
        let image = format!("app:{}", self.users.images);
        if self.rng.below(7) == 0 {
            self.broken_images.insert(image.clone());
            self.user(15_000, 90_000, UserEvent::RepairImage(image.clone()));
        }
        image
    }

    fn create(&mut self) {
        let uid = self.new_uid();
        let count = 1 + self.rng.below(2);
        let images = (0..count).map(|_| self.new_image()).collect();
        let owner = self.rng.flip().then(|| {
            self.users.owners += 1;
            Owner {
                kind: "Deployment".to_owned(),
                name: format!("d{}", self.users.owners),
                uid: format!("owner-{}", self.users.owners),
            }
        });
        let job = self.rng.below(7) == 0;
        let code = if self.rng.flip() { 0 } else { 3 };
        let volumes = Volumes::of(self.users.pods);
        let objects = self.first_objects(&uid, volumes);
        let pod = Pod {
            name: uid.to_string(),
            company: Company::of(self.users.pods),
            volumes,
            objects,
            owner,
            images,
            behaviour: if job {
                Behaviour::Ends(self.rng.within(500, 40_000), code)
            } else {
                Behaviour::Serves
            },
            restart: if job {
                RestartPolicy::Never
            } else {
                RestartPolicy::Always
            },
            zone: self
                .rng
                .pick(&[None, Some(ZONES[0]), Some(ZONES[1])])
                .copied()
                .flatten(),
            grace_s: u32::try_from(self.rng.within(1, 6)).unwrap_or(1),
            template: 1,
            update: UpdateStrategy::Surge,
            disconnect: if self.rng.below(8) == 0 {
                Disconnect::Replace
            } else {
                Disconnect::Run
            },
            deletion: None,
            finalizer: self.rng.below(12) == 0,
            ballast: if self.weather.bulky { BALLAST } else { 0 },
            finished: false,
            shown: None,
            uid,
        };
        self.add(pod);
    }

    fn add(&mut self, pod: Pod) {
        let uid = pod.uid.clone();
        say!(
            self,
            "user",
            "creates {uid} for {:?}: {:?} {:?} owner {:?}",
            pod.zone,
            pod.images,
            pod.behaviour,
            pod.owner.as_ref().map(|owner| &owner.uid)
        );
        self.ledger.pods.insert(uid.clone(), (pod.zone, self.now));
        self.api.pods.insert(uid.clone(), pod);
        self.pod_changed(&uid);
    }

    fn delete(&mut self, uid: &PodUid, grace_s: u32) {
        self.coverage.met(Path::DeletedWithGrace);
        say!(self, "user", "deletes {uid} within {grace_s} s");
        self.api.intended.insert(uid.clone());
        if let Some(pod) = self.api.pods.get_mut(uid) {
            pod.deletion = Some(intent(grace_s));
            if pod.finalizer {
                self.user(2_000, 40_000, UserEvent::RemoveFinalizer(uid.clone()));
            }
        }
        self.pod_changed(uid);
    }

    fn force_delete(&mut self, uid: &PodUid) {
        self.coverage.met(Path::ForceDeleted);
        say!(self, "user", "force-deletes {uid}");
        self.api.intended.insert(uid.clone());
        if let Some(mut pod) = self.api.remove(uid) {
            pod.deletion = Some(intent(0));
            self.pod_gone(&pod);
        }
    }

    fn remove_finalizer(&mut self, uid: &PodUid) {
        let Some(pod) = self.api.pods.get_mut(uid) else {
            return;
        };
        pod.finalizer = false;
        self.coverage.met(Path::FinalizerRemoved);
        if pod.finished {
            if let Some(pod) = self.api.remove(uid) {
                self.pod_gone(&pod);
            }
        } else {
            self.pod_changed(uid);
        }
    }

    fn set_image(&mut self, uid: &PodUid) {
        let image = self.new_image();
        if let Some(pod) = self.api.pods.get_mut(uid).filter(|pod| !pod.is_job()) {
            let last = pod.images.len() - 1;
            pod.images[last].clone_from(&image);
            self.coverage.met(Path::ImageChanged);
            say!(self, "user", "sets the image of {uid} to {image}");
            self.pod_changed(uid);
        }
    }

    /// A new revision of the same owner; the old pod goes when the new one had its time.
    fn roll_out(&mut self, old: &PodUid) {
        let uid = self.new_uid();
        let image = self.new_image();
        let update = if self.rng.below(3) == 0 {
            UpdateStrategy::Surge
        } else {
            UpdateStrategy::Replace
        };
        let Some(pod) = self
            .api
            .pods
            .get(old)
            .filter(|pod| pod.owner.is_some() && !pod.is_job())
        else {
            return;
        };
        let newer = |other: &Pod| other.owner == pod.owner && other.template > pod.template;
        if self.api.pods.values().any(newer) {
            return;
        }
        let next = Pod {
            name: uid.to_string(),
            uid,
            images: vec![image],
            template: pod.template + 1,
            update,
            shown: None,
            finalizer: false,
            finished: false,
            ..pod.clone()
        };
        self.coverage.met(match update {
            UpdateStrategy::Surge => Path::RolledOut,
            UpdateStrategy::Replace => Path::TakenOver,
        });
        say!(self, "user", "rolls {old} over to {} by {update:?}", next.uid);
        self.add(next);
        self.user(10_000, 100_000, UserEvent::DeleteOld(old.clone()));
    }

    // Devices.

    pub(crate) fn enrol(&mut self, at: At) {
        let device = &self.devices[at];
        self.ledger.zones.push((at, self.now, device.zone));
        let call = Call::EnrolDevice {
            device: device.id.clone(),
            enrolment: Box::new(Enrolment {
                serial: device.enrolment.clone(),
                expected_previous: None,
                sealing_key: device.sealing.public(),
                group: String::new(),
                tags: tags(device.zone),
                link: LinkClass::default(),
            }),
        };
        let caller = Caller::Person;
        self.push(2, Event::Request { caller, call });
    }

    fn retag(&mut self) {
        let at = self.rng.below(self.devices.len());
        let zone = ZONES[self.rng.below(ZONES.len())];
        if self.devices[at].zone == zone {
            return;
        }
        self.devices[at].zone = zone;
        self.ledger.zones.push((at, self.now, zone));
        let device = self.devices[at].id.clone();
        self.coverage.met(Path::Retagged);
        say!(self, "user", "moves {device} to {zone}");
        let call = Call::SetTags {
            device,
            tags: tags(zone),
        };
        let caller = Caller::Person;
        self.push(5, Event::Request { caller, call });
    }
}

fn tags(zone: &str) -> BTreeMap<String, String> {
    [("zone".to_owned(), zone.to_owned())].into()
}
