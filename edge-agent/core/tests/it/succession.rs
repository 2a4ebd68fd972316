//! Who may take whose place.

use edge_protocol::v1::Rung;

use crate::hub::{manifest, uid};
use crate::world::World;

#[test]
fn a_workload_of_another_namespace_is_not_replaced() {
    for (namespace, left) in [("default", 0), ("intruder", 1)] {
        let mut world = World::new();
        world.link_up();
        world.hub.run(&manifest("old", &["a:1"]));
        world.settle();
        let mut new = manifest("new", &["a:1"]);
        new.namespace = namespace.to_owned();
        new.replaces = vec![uid("old")];
        world.hub.run(&new);
        world.push();
        world.settle();
        assert_eq!(world.runtime.running(&uid("old")), left, "{namespace}");
        assert_eq!(world.status("new").rung, Rung::Healthy, "{namespace}");
    }
}

#[test]
fn an_orphan_of_another_namespace_goes_on_over_a_restart() {
    let mut world = World::new();
    world.link_up();
    world.hub.run(&manifest("old", &["a:1"]));
    world.settle();
    world.hub.release(&uid("old"));
    let mut new = manifest("new", &["a:1"]);
    new.namespace = "intruder".to_owned();
    new.replaces = vec![uid("old")];
    world.hub.run(&new);
    world.push();
    world.settle();
    world.crash();
    world.settle();
    assert_eq!(
        world.runtime.running(&uid("old")),
        1,
        "an orphan as well, over a restart"
    );
}
