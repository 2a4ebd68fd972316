//! The end of every step: plan, execute the plan on paper, and tell the hub what it does not know.

use std::collections::BTreeSet;

use edge_protocol::frame;
use edge_protocol::v1::up::HeldSet;
use edge_protocol::v1::{EventLevel, Hello, Reason, StatusReport, Up, UpFrame, VERSION};
use edge_protocol::{Lane, Now, PodUid};

use crate::agent::{Agent, Common, Reach};
use crate::claims::Telling;
use crate::io::{Effect, Note, Write};
use crate::plan::{self, Plan, Planned, World};
use crate::session::Due;
use crate::status::{self, Saying};
use crate::step::{Step, StepId};
use crate::workload::{InFlight, Sight};
use crate::{admission, allocation, succession};

const NORMAL: EventLevel = EventLevel::Normal;

impl Agent {
    pub(crate) fn world<'a>(&'a self, now: &'a Now) -> World<'a> {
        World {
            workloads: self.roster.workloads(),
            pods: self.roster.pods(),
            leaving: self.roster.leaving(),
            facts: self.claims.facts(),
            now,
            wall_trusted: self.device_time(now).wall_trusted,
        }
    }

    /// Plans from what is desired and observed, and starts the steps. Blind, it plans nothing. Only those are planned of which a plan may be
    /// another than it was: see [`roster`](crate::roster).
    pub(crate) fn reconcile(&mut self, now: &Now) {
        self.fetch_missing(now);
        self.plan_wake = None;
        if self.reach != Reach::Seen {
            return;
        }
        self.mind_common(now);
        self.roster.begin_turn(now);
        self.mind_health(now);
        self.mind_pulls(now);
        self.give_places(now);
        // A pull that waits for its turn is planned at every step.
        let mut whom = self.roster.turn().clone();
        whom.extend(self.pulls.waiting().cloned());
        let mut plans = plan::plan(self.world(now), &whom);
        self.set_moments(now, &whom, &plans);
        self.take_turns(now, &mut plans);
        #[cfg(debug_assertions)]
        if self.config.proved {
            self.prove_plans(now, &whom);
        }
        for (uid, plan) in plans {
            self.execute(now, &uid, plan);
        }
    }

    /// What all plans and statuses depend on.
    fn mind_common(&mut self, now: &Now) {
        let common = Common {
            wall_trusted: self.device_time(now).wall_trusted,
            runtime: self.runtime().to_owned(),
        };
        if self.common != common {
            self.common = common;
            self.roster.touch_all();
        }
    }

    /// Who takes whose place, who is admitted, and what of the device is whose.
    fn give_places(&mut self, now: &Now) {
        // Every mark is final for its workload or waits for another step, so this ends; the bound guards the claim.
        for _ in 0..=4 * self.roster.workloads().len() {
            let world = self.world(now);
            let weighed = || admission::next(world).or_else(|| allocation::next(world));
            let weighed = || weighed().filter(|_| self.roster.is_any_unweighed());
            let Some((uid, mark)) = succession::next(world, self.roster.turn()).or_else(weighed) else {
                break;
            };
            self.mark(now, &uid, mark);
            self.roster.gather(now);
        }
    }

    fn set_moments(&mut self, now: &Now, whom: &BTreeSet<PodUid>, plans: &[(PodUid, Plan)]) {
        let mut wakes = plans.iter().map(|(uid, plan)| (uid, plan.wake_at)).peekable();
        for uid in whom {
            let planned = wakes.next_if(|(planned, _)| *planned == uid);
            let own = self.roster.get(uid).and_then(|it| it.next_moment(now.mono_ms));
            let wake = planned.and_then(|(_, wake)| wake);
            self.roster.set_moment(uid, wake.into_iter().chain(own).min());
        }
        let wishes = [self.roster.next_moment(), self.pulls.wake_at()];
        self.plan_wake = wishes.into_iter().flatten().min();
    }

    fn execute(&mut self, now: &Now, uid: &PodUid, plan: Plan) {
        for mark in plan.marks {
            self.mark(now, uid, mark);
        }
        for planned in plan.steps {
            self.begin(now, uid, planned);
        }
    }

    fn begin(&mut self, now: &Now, uid: &PodUid, planned: Planned) {
        let Planned {
            subject,
            step,
            deadline_ms,
            why,
        } = planned;
        if let Step::Probe { kind, target, .. } = &step {
            self.probe_begins(now, uid, target, *kind);
        }
        let at = self.device_time(now);
        let Some((workload, pod)) = self.roster.get_mut_with_pod(uid) else {
            return;
        };
        let begins = matches!(step, Step::RunSandbox(_) | Step::SyncVolumes { .. });
        if begins && workload.record.started.is_none() {
            workload.record.started = Some(at);
            workload.disk.dirty = true;
        }
        let event = match &step {
            Step::RunSandbox(spec) => {
                let changed = "Pod sandbox changed, it will be killed and re-created.".to_owned();
                (spec.attempt > 0).then_some((Reason::SandboxChanged, None, changed))
            }
            Step::StartContainer(start) => {
                let name = &start.container.name;
                let restart = pod.current(name).is_some_and(|c| !c.is_live());
                if restart {
                    workload
                        .crashes
                        .entry(name.clone())
                        .or_default()
                        .restarted(&start.container, now.mono_ms);
                }
                None
            }
            Step::StopContainer { container_id, .. } => {
                let container = pod.containers.iter().find(|c| c.id == *container_id);
                let name = container
                    .map_or("", |container| container.name.as_str())
                    .to_owned();
                let message = why.unwrap_or_else(|| format!("Stopping container {name}"));
                Some((Reason::Killing, Some(name), message))
            }
            _ => None,
        };
        let id = StepId(self.next_step);
        self.next_step += 1;
        if let Step::PullImage { image, manifest } = &step {
            self.writes.extend(self.provenance.begin(image, manifest));
            self.pulls.begin(id, uid, image, now.mono_ms);
        }
        let flight = InFlight {
            subject,
            step: step.clone(),
            deadline_ms,
        };
        self.roster.begin_step(uid, id, flight);
        if let Some((reason, container, message)) = event {
            self.event(now, uid, (NORMAL, reason), container.as_deref(), &message);
        }
        self.effects.push(Effect::Run(id, step));
    }

    pub(crate) fn runtime(&self) -> &str {
        let name = self
            .claims
            .facts()
            .map_or("", |facts| facts.runtime_name.as_str());
        if name.is_empty() { "containerd" } else { name }
    }

    /// Hello, status, history and heartbeat: what the hub must be told now.
    pub(crate) fn tell(&mut self, now: &Now) {
        self.say_hello(now);
        if self.reach == Reach::Seen {
            self.say_statuses(now);
        }
        if self.session.epoch().is_some() {
            self.say_facts(now);
            if self.reach != Reach::Never
                && let Some(report) = self.reports.report(now.mono_ms)
            {
                self.send_report(now, report);
            }
            if let Some(report) = self.history.report(now.mono_ms) {
                self.send(now, Lane::Bulk, Up::Events(report));
            }
        }
        match self.session.due(now.mono_ms) {
            Some(Due::Heartbeat) => {
                self.send(now, Lane::Status, Up::Heartbeat);
            }
            Some(Due::Reconnect(why)) => self.redial(why),
            None => {}
        }
    }

    fn say_hello(&mut self, now: &Now) {
        let (Some(nonce), Some(facts)) = (self.session.unsaid(), self.claims.facts()) else {
            return;
        };
        let hello = Hello {
            nonce: nonce.clone(),
            agent_version: self.config.agent_version.clone(),
            features: self.config.features.clone(),
            held: self.desired.trusted.as_ref().map(|set| HeldSet {
                generation: set.generation,
                digest: set.digest,
            }),
            facts: facts.clone(),
        };
        self.session.ask(now.mono_ms);
        self.claims.said_hello();
        self.send(now, Lane::Status, Up::Hello(Box::new(hello)));
    }

    /// Facts that the hub does not acknowledge are told by another hello: an old hub knows no other way.
    fn say_facts(&mut self, now: &Now) {
        let seq = self.session.seq();
        match self.claims.due(seq, self.session.link(), now.mono_ms) {
            Some(Telling::Facts(facts)) => self.send(now, Lane::Status, Up::Facts { facts }),
            Some(Telling::Lost) => self.redial("the facts of the device were not acknowledged"),
            None => {}
        }
    }

    fn say_statuses(&mut self, now: &Now) {
        let world = self.world(now);
        let saying = Saying {
            runtime: self.runtime(),
            now: self.device_time(now),
        };
        let said: Vec<_> = self
            .roster
            .changed()
            .filter(|(_, workload)| workload.sight == Sight::Clear)
            .filter_map(|(uid, workload)| status::build(&world.given(uid, workload), saying))
            .collect();
        for status in said {
            self.reports.update(status);
        }
        #[cfg(debug_assertions)]
        if self.config.proved {
            self.prove_statuses(now);
        }
        self.drop_over(now);
    }

    /// Those that are gone and told, and that no set names, are over.
    fn drop_over(&mut self, now: &Now) {
        let world = self.world(now);
        let is_over = |uid: &&PodUid| {
            world.workloads.get(*uid).is_some_and(|workload| {
                workload.item.is_none()
                    && workload.disk.writing == 0
                    && status::is_gone(&world.given(uid, workload))
                    && self.reports.is_acknowledged(uid)
            })
        };
        let committing = self.desired.committing.is_some();
        let leaving = world.leaving.iter().filter(|_| !committing);
        let over: Vec<PodUid> = leaving.filter(is_over).cloned().collect();
        for uid in over {
            self.roster.remove(&uid);
            self.reports.forget(&uid);
            self.writes.push(Write::DropWorkload(uid));
            self.sweep_due = true;
        }
    }

    fn send_report(&mut self, now: &Now, report: StatusReport) {
        if !self.try_send(now, Lane::Status, Up::Status(report))
            && let Some(part) = self.reports.part(now.mono_ms)
        {
            self.send(now, Lane::Status, Up::Status(part));
        }
    }

    /// Sends a frame that is known to fit. Outside a session only the hello goes out.
    pub(crate) fn send(&mut self, now: &Now, lane: Lane, body: Up) {
        let kind = matches!(body, Up::Hello(_));
        if (kind || self.session.epoch().is_some()) && !self.try_send(now, lane, body) {
            self.note(Note::Damaged {
                what: format!("a frame on lane {} is too large to send", lane.topic_level()),
            });
        }
    }

    /// Whether the frame fits.
    fn try_send(&mut self, now: &Now, lane: Lane, body: Up) -> bool {
        let frame = UpFrame {
            v: VERSION,
            session: self.session.epoch(),
            incarnation: self
                .desired
                .trusted
                .as_ref()
                .map(|set| set.generation.incarnation),
            seq: self.session.seq(),
            time: self.device_time(now),
            body,
        };
        let Ok(bytes) = frame::encode(&frame) else {
            return false;
        };
        self.session.sent(now.mono_ms, frame.body.is_answered());
        self.effects.push(Effect::Send(lane, bytes));
        true
    }
}
