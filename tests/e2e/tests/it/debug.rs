//! `kubectl debug` of pods and nodes that are devices.

use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{TestSite, TestSiteOptions, Way, busybox, eventually, is_ready, pod, restarts};

const NODE: &str = "press-1";
const IMAGE: &str = "--image=images.outrigger.local/busybox:v1";

fn site() -> TestSite {
    TestSite::with(TestSiteOptions {
        devices: vec![DeviceSpec::new(NODE, &[("node", "true")])],
        device_nodes: DeviceNodes::Tagged,
        kubelet_api: true,
        ..TestSiteOptions::default()
    })
}

#[track_caller]
fn debug(site: &TestSite, arguments: &[&str]) -> String {
    let said = site.ran(Way::WebSocket, &[&["debug", IMAGE], arguments].concat(), b"");
    assert_eq!(said.code, Some(0), "{arguments:?}: {}", said.stderr);
    format!("{}{}", said.text(), said.stderr)
}

/// What this container has said, once that holds the words.
#[track_caller]
fn log(site: &TestSite, pod: &str, container: &str, has: &str) -> String {
    eventually(&format!("{pod}/{container} says {has:?}"), || {
        let said = site.ran(Way::WebSocket, &["logs", pod, "-c", container], b"");
        let text = said.text();
        if text.contains(has) {
            return Ok(text);
        }
        let status = site.pod(pod).map(|pod| pod["status"].clone());
        Err(format!("{text} {} {}", said.stderr, status.unwrap_or_default()))
    })
}

#[test]
fn a_pod_is_looked_into_and_goes_on() {
    let site = site();
    let mut one = pod("one", &[], &[busybox("main", "exec sleep 12345")]);
    one["spec"]["nodeName"] = json!(NODE);
    one["spec"]["nodeSelector"] = Value::Null;
    site.apply(&one);
    let main = || {
        let pod = site.pod("one").unwrap();
        let status = &pod["status"]["containerStatuses"][0];
        let id = status["containerID"].as_str().unwrap_or_default().to_owned();
        if is_ready(&pod) && restarts(&pod) == 0 {
            Ok(id)
        } else {
            Err(pod["status"].to_string())
        }
    };
    let before = eventually("it is Ready", main);

    let script = "ps | grep '[s]leep 12345'; echo seen";
    debug(
        &site,
        &["one", "--target=main", "-c", "look", "--", "sh", "-c", script],
    );
    assert!(log(&site, "one", "look", "seen").contains("sleep 12345"));

    let mut terminal = site.at_terminal(
        Way::WebSocket,
        &["debug", IMAGE, "-it", "one", "-c", "shell", "--", "sh"],
        40,
        123,
    );
    terminal.types("echo he''re\n");
    terminal.shows("here");
    terminal.types("exit\n");
    assert_eq!(terminal.code(), Some(0));

    let script = "read line; echo got $line";
    let waits = [
        "one",
        "-i",
        "--attach=false",
        "-c",
        "waits",
        "--",
        "sh",
        "-c",
        script,
    ];
    debug(&site, &waits);
    eventually("it runs", || {
        let pod = site.pod("one").unwrap();
        let mut all = pod["status"]["ephemeralContainerStatuses"]
            .as_array()
            .into_iter()
            .flatten();
        let runs = all.any(|one| one["name"] == "waits" && one["state"]["running"].is_object());
        runs.then_some(()).ok_or_else(|| pod["status"].to_string())
    });
    // A runtime lets go of the output where the input ends, as under a kubelet.
    let said = site.ran(
        Way::WebSocket,
        &["attach", "-i", "one", "-c", "waits"],
        b"words\n",
    );
    assert_eq!(said.code, Some(0), "{said:?}");
    log(&site, "one", "waits", "got words");
    assert_eq!(main().unwrap(), before, "nothing of it was restarted");

    let copy = ["one", "--copy-to=two", "--same-node", "-c", "look", "--"];
    debug(
        &site,
        &[&copy[..], &["sh", "-c", "echo copied; exec sleep 1000"]].concat(),
    );
    log(&site, "two", "look", "copied");
    site.nothing_was_forbidden();
}

#[test]
fn a_device_is_looked_into_as_a_node() {
    let site = site();
    let script = "test -d /host/proc && echo sees $(ls /host | grep -c etc)";
    let said = debug(&site, &[&format!("node/{NODE}"), "--", "sh", "-c", script]);
    let name = said
        .split_whitespace()
        .find(|word| word.starts_with("node-debugger-"))
        .unwrap_or_else(|| panic!("{said}"));
    log(&site, name, "debugger", "sees 1");
}
