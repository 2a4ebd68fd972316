//! That nobody had to be attended to who was not: where `AgentConfig::proved` asks for it, every step of a build with debug assertions
//! asks the whole again. The tests of the core and the simulation run with it.

use std::collections::BTreeSet;

use edge_protocol::v1::WorkloadStatus;
use edge_protocol::{Now, PodUid};

use crate::agent::Agent;
use crate::plan;
use crate::status::{self, Saying};
use crate::workload::Sight;
use crate::{admission, allocation, succession};

impl Agent {
    /// Of all but these, just planned and not yet executed, there is nothing to plan, nor before the moment that is set for each.
    pub(crate) fn prove_plans(&self, now: &Now, planned: &BTreeSet<PodUid>) {
        let world = self.world(now);
        let all: BTreeSet<PodUid> = world.workloads.keys().cloned().collect();
        assert_eq!(
            succession::next(world, &all),
            None,
            "a change of places was missed"
        );
        assert_eq!(admission::next(world), None, "an admission was missed");
        assert_eq!(allocation::next(world), None, "a resize was missed");
        let leaving = |uid: &&PodUid| world.workloads[*uid].record.ending.is_some();
        assert!(
            all.iter().filter(leaving).eq(world.leaving),
            "who leaves is known"
        );
        for (uid, plan) in plan::plan(world, all.difference(planned)) {
            assert!(
                plan.steps.is_empty() && plan.marks.is_empty(),
                "{uid} was untouched, and has a plan: {plan:?}"
            );
            assert!(
                plan.wake_at
                    .is_none_or(|at| self.roster.moment(&uid).is_some_and(|moment| moment <= at)),
                "{uid} was untouched, and waits for another moment than {:?}: {plan:?}",
                self.roster.moment(&uid)
            );
        }
        assert!(self.fetches.wants(&self.missing()), "a blob is missed");
    }

    /// What was said last of every workload is what would be said of it now.
    pub(crate) fn prove_statuses(&self, now: &Now) {
        let world = self.world(now);
        let saying = Saying {
            runtime: self.runtime(),
            now: self.device_time(now),
        };
        for (uid, workload) in self.roster.workloads() {
            if workload.sight != Sight::Clear {
                continue;
            }
            let said = self.reports.status(uid);
            // Of what nothing is known any more, the last word stands.
            let Some(status) = status::build(&world.given(uid, workload), saying) else {
                continue;
            };
            let since = said.map_or(status.since, |said| said.since);
            let status = WorkloadStatus { since, ..status };
            assert_eq!(Some(&status), said, "{uid} was untouched");
        }
    }
}
