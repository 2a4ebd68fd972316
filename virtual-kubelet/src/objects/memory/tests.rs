use serde_json::json;

use super::*;

fn pod(config_maps: &[&str]) -> PodObjects {
    PodObjects {
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        config_maps: config_maps.iter().map(|name| (*name).to_owned()).collect(),
        ..PodObjects::default()
    }
}

fn map(name: &str) -> Key {
    Key::ConfigMap("shop".to_owned(), name.to_owned())
}

fn present(version: &str) -> Read<Held> {
    Read::Present(Held::Object(Raw::new(
        json!({"metadata": {"resourceVersion": version}}),
    )))
}

fn changed(memory: &mut Memory, node: NodeId) -> Vec<String> {
    memory.take_changed(node).into_iter().collect()
}

fn wanted(memory: &Memory) -> Vec<(Key, Vec<String>)> {
    let owned = |nodes: BTreeSet<&str>| nodes.into_iter().map(str::to_owned).collect();
    memory
        .wanted()
        .map(|(key, nodes)| (key.clone(), owned(nodes)))
        .collect()
}

#[test]
fn an_object_is_wanted_once_for_all_pods_until_the_last_is_forgotten() {
    let mut memory = Memory::default();
    let (a, _) = memory.join("a");
    let (b, _) = memory.join("b");
    assert!(memory.refer(a, "u1", pod(&["one"])));
    assert!(
        !memory.refer(a, "u1", pod(&["one"])),
        "the same again is nothing new"
    );
    assert!(memory.refer(b, "u2", pod(&["one", "two"])));
    let both = vec!["a".to_owned(), "b".to_owned()];
    assert_eq!(
        wanted(&memory),
        [(map("one"), both), (map("two"), vec!["b".to_owned()])]
    );
    let run = memory.begin(&map("one"));
    memory.tell(&map("one"), run, present("1"));
    assert!(memory.forget(a, "u1"));
    assert!(!memory.forget(a, "u1"));
    assert_eq!(
        *memory.read(&map("one")),
        present("1"),
        "another pod has it still"
    );
    memory.leave(b);
    assert_eq!(wanted(&memory), []);
    assert_eq!(*memory.read(&map("one")), Read::UNREAD);
    memory.tell(&map("one"), run, present("2"));
    assert_eq!(
        *memory.read(&map("one")),
        Read::UNREAD,
        "a late word about what is forgotten is not kept"
    );
}

#[test]
fn news_wake_each_pod_concerned_once() {
    let mut memory = Memory::default();
    let (a, _) = memory.join("a");
    let (b, _) = memory.join("b");
    memory.refer(a, "u1", pod(&["one", "two"]));
    memory.refer(a, "u2", pod(&["two"]));
    memory.refer(b, "u3", pod(&["three"]));
    let (one, two) = (memory.begin(&map("one")), memory.begin(&map("two")));
    memory.tell(&map("one"), one, present("1"));
    memory.tell(&map("one"), one, present("2"));
    memory.tell(&map("two"), two, Read::Missing);
    assert_eq!(changed(&mut memory, a), ["u1", "u2"]);
    assert_eq!(changed(&mut memory, a), [] as [&str; 0]);
    assert_eq!(changed(&mut memory, b), [] as [&str; 0]);
    memory.tell(&map("two"), two, Read::Missing);
    assert_eq!(
        changed(&mut memory, a),
        [] as [&str; 0],
        "the same again is no news"
    );
}

#[test]
fn only_the_newest_run_of_a_key_is_heard() {
    let mut memory = Memory::default();
    let (a, _) = memory.join("a");
    memory.refer(a, "u1", pod(&["one"]));
    let old = memory.begin(&map("one"));
    memory.tell(&map("one"), old, present("1"));
    let new = memory.begin(&map("one"));
    memory.tell(&map("one"), old, Read::Missing);
    assert_eq!(
        *memory.read(&map("one")),
        present("1"),
        "what is known stays known"
    );
    memory.tell(&map("one"), new, Read::Missing);
    assert_eq!(*memory.read(&map("one")), Read::Missing);
}

#[test]
fn a_failed_try_makes_nothing_missing() {
    let mut memory = Memory::default();
    let (a, _) = memory.join("a");
    memory.refer(a, "u1", pod(&["one"]));
    let run = memory.begin(&map("one"));
    memory.trouble(&map("one"), run, "403");
    let why = Some("403".to_owned());
    assert_eq!(*memory.read(&map("one")), Read::NotRead { why });
    assert_eq!(changed(&mut memory, a), ["u1"]);
    memory.trouble(&map("one"), run, "403");
    assert_eq!(changed(&mut memory, a), [] as [&str; 0]);
    memory.tell(&map("one"), run, present("1"));
    memory.trouble(&map("one"), run, "503");
    assert_eq!(*memory.read(&map("one")), present("1"));
}

fn services(entries: &[(&str, &str, &str)]) -> BTreeMap<ServiceName, Value> {
    let entry = |(namespace, name, address): &(&str, &str, &str)| {
        let name = ServiceName {
            namespace: (*namespace).to_owned(),
            name: (*name).to_owned(),
        };
        (name, json!(address))
    };
    entries.iter().map(entry).collect()
}

#[test]
fn a_service_concerns_the_pods_of_its_namespace_and_the_api_servers_own_all() {
    let mut memory = Memory::default();
    let (a, _) = memory.join("a");
    let wants = |namespace: &str| PodObjects {
        namespace: namespace.to_owned(),
        services: true,
        ..PodObjects::default()
    };
    memory.refer(a, "shop", wants("shop"));
    memory.refer(a, "bank", wants("bank"));
    memory.refer(a, "none", pod(&[]));
    let run = memory.begin(&Key::Services);
    assert_eq!(memory.services("shop"), Read::UNREAD);
    let master = ("default", "kubernetes", "10.0.0.1");
    memory.tell_services(run, &services(&[master]));
    assert_eq!(changed(&mut memory, a), ["bank", "shop"]);
    memory.tell_services(run, &services(&[master, ("shop", "db", "10.0.0.2")]));
    assert_eq!(changed(&mut memory, a), ["shop"]);
    assert_eq!(
        memory.services("shop"),
        Read::Present(vec![json!("10.0.0.1"), json!("10.0.0.2")])
    );
    assert_eq!(memory.services("bank"), Read::Present(vec![json!("10.0.0.1")]));
    memory.tell_services(
        run,
        &services(&[("default", "kubernetes", "10.0.0.9"), ("shop", "db", "10.0.0.2")]),
    );
    assert_eq!(changed(&mut memory, a), ["bank", "shop"]);
    memory.tell_services(run, &services(&[("shop", "db", "10.0.0.2")]));
    assert_eq!(changed(&mut memory, a), ["bank", "shop"]);
    memory.leave(a);
    assert_eq!(memory.services("shop"), Read::UNREAD);
}
