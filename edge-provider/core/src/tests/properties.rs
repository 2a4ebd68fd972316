//! Whatever happens in whatever order: only intent removes, and once faults stop, both sides agree.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Happening {
    Create(u8),
    Update(u8, u8),
    Delete(u8),
    React(u8),
    List,
    EmptyList,
    OldList,
    ForeignList,
    ListDeployments,
    HubDown(bool),
    Pass(u32),
    Restart,
    NodeReplaced,
}

fn happening() -> impl Strategy<Value = Happening> {
    let pod = 0..6_u8;
    prop_oneof![
        4 => pod.clone().prop_map(Happening::Create),
        2 => (pod.clone(), 0..3_u8).prop_map(|(pod, n)| Happening::Update(pod, n)),
        1 => pod.clone().prop_map(Happening::Delete),
        1 => pod.prop_map(Happening::React),
        2 => Just(Happening::List),
        2 => Just(Happening::EmptyList),
        1 => Just(Happening::OldList),
        1 => Just(Happening::ForeignList),
        1 => Just(Happening::ListDeployments),
        1 => any::<bool>().prop_map(Happening::HubDown),
        3 => (1..90_000_u32).prop_map(Happening::Pass),
        1 => Just(Happening::Restart),
        1 => Just(Happening::NodeReplaced),
    ]
}

struct World {
    rig: Rig,
    intended: Vec<PodUid>,
    /// UIDs are never used again.
    births: u32,
    names: BTreeMap<u8, String>,
}

impl World {
    fn apply(&mut self, happening: &Happening) {
        let rig = &mut self.rig;
        match *happening {
            Happening::Create(slot) => {
                if self.names.contains_key(&slot) {
                    return;
                }
                self.births += 1;
                let uid = format!("u{}", self.births);
                rig.see(pod_of(&uid, "1", UpdateStrategy::Surge));
                self.names.insert(slot, uid);
            }
            Happening::Update(slot, n) => {
                if let Some(mut pod) = self.live(slot) {
                    pod.plan.as_mut().unwrap().target.condition = format!("c{n}");
                    self.rig.see(pod);
                }
            }
            Happening::Delete(slot) => {
                if let Some(uid) = self.names.remove(&slot) {
                    self.intended.push(id(&uid));
                    self.rig.delete(&uid, DeletionCause::Intent, Some(30));
                }
            }
            Happening::React(slot) => {
                if let Some(uid) = self.names.remove(&slot) {
                    self.rig.delete(&uid, DeletionCause::Reaction, Some(30));
                }
            }
            Happening::List => drop(rig.list()),
            Happening::EmptyList => self.lie(|_| {}),
            Happening::OldList => self.lie(|list| list.resource_version = 1),
            Happening::ForeignList => self.lie(|list| list.cluster_uid = "cluster-b".into()),
            Happening::ListDeployments => drop(rig.list_deployments()),
            Happening::HubDown(down) => rig.hub_down = down,
            Happening::Pass(ms) => drop(rig.wake_in(u64::from(ms))),
            Happening::Restart => rig.restart(),
            Happening::NodeReplaced => rig.node_uid = Some(format!("node-{}", rig.rv)),
        }
    }

    fn live(&self, slot: u8) -> Option<WantedPod> {
        let uid = self.names.get(&slot)?;
        self.rig.pods.get(&id(uid)).cloned()
    }

    /// An empty list, and right after it a true one: a lie that lasts a minute would be a fact.
    fn lie(&mut self, change: fn(&mut PodList)) {
        let mut list = self.rig.pod_list();
        list.pods.clear();
        change(&mut list);
        self.rig.input(Input::PodsListed(list));
        self.rig.list();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn only_intent_deletes_and_both_sides_agree_in_the_end(happenings in prop::collection::vec(happening(), 1..60)) {
        let mut world = World { rig: Rig::with_pods(&[]), intended: vec![], births: 0, names: BTreeMap::new() };
        for happening in happenings {
            world.apply(&happening);
        }
        for uid in deletes(&world.rig.seen) {
            prop_assert!(world.intended.contains(&id(uid)), "{uid} was deleted by no one's intent");
        }
        let rig = &mut world.rig;
        rig.hub_down = false;
        rig.list();
        rig.list_deployments();
        for _ in 0..3 {
            rig.wake_in(61_000);
            rig.list();
        }
        for (uid, pod) in &rig.pods {
            prop_assert!(pod.deletion.is_none(), "{uid} was never finished");
            let held = rig.hub.get(uid);
            prop_assert!(held.is_some_and(|held| held.state == DeploymentState::Active), "{uid} does not run: {held:?}");
            let condition = &pod.plan.as_ref().unwrap().target.condition;
            prop_assert_eq!(&held.unwrap().spec.target.condition, condition);
        }
        for (uid, held) in &rig.hub {
            prop_assert!(rig.pods.contains_key(uid) || held.state != DeploymentState::Active, "{uid} has no pod");
        }
        let settled = rig.seen.len();
        rig.list();
        rig.list_deployments();
        let after = &rig.seen[settled..];
        prop_assert!(puts(after).is_empty() && removals(after).is_empty(), "a converged state plans nothing: {after:?}");
    }

    #[test]
    fn nothing_panics_and_nothing_is_removed_by_lists_that_do_not_count(
        lists in prop::collection::vec((any::<bool>(), 0..9_u64, 0..600_000_u64), 1..20),
    ) {
        let mut rig = Rig::with_pods(&["a", "b"]);
        for (foreign, version, pass) in lists {
            let cluster_uid = if foreign { "cluster-b" } else { CLUSTER }.to_owned();
            rig.now_ms += pass;
            rig.input(Input::PodsListed(PodList { cluster_uid, resource_version: version, node_uid: None, pods: vec![] }));
        }
        prop_assert!(removals(&rig.seen).is_empty());
    }
}
