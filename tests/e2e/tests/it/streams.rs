//! `kubectl logs`, `exec`, `attach`, `cp` and `port-forward` to containers on devices, by a kubectl that knows nothing of devices.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;

use lab::Device;
use serde_json::{Value, json};
use site::{DeviceNodes, DeviceSpec};

use crate::support::{
    Relay, Talking, TestSite, TestSiteOptions, WAYS, Way, busybox, condition, eventually, is_ready, pod,
    server, within,
};

/// The deadline of a `lan` link is 45 s.
const DARK: Duration = Duration::from_mins(3);
const COUNTING: &str = "trap 'exit 0' TERM; i=0; while true; do echo line $i; i=$((i+1)); sleep 0.1; done";
const ECHO: &str = "exec nc -ll -p 9000 -e cat";
/// Five million bytes for everyone who comes.
const GIVES: &str = "exec nc -ll -p 9001 -e sh -c 'seq 1 900000 | head -c 5000000'";
/// Takes its time, and says how much it got.
const TAKES: &str = "exec nc -ll -p 9002 -e sh -c 'sleep 2; wc -c'";

/// What passes through one stream, in bytes, and how many there are at once.
#[derive(Clone, Copy)]
struct Load {
    stdin: u32,
    upload: usize,
    downloads: usize,
}

const HEAVY: Load = Load {
    stdin: 50_000_000,
    upload: 50_000_000,
    downloads: 20,
};
/// Behind the choice of the device all is the same.
const LIGHT: Load = Load {
    stdin: 1_000_000,
    upload: 1_000_000,
    downloads: 2,
};

/// One device that is a Node, one of the fleet. The cluster has signed their certificate.
fn site() -> TestSite {
    let site = TestSite::with(TestSiteOptions {
        devices: vec![
            DeviceSpec::new("press-1", &[("node", "true")]),
            DeviceSpec::new("plain-1", &[]),
        ],
        device_nodes: DeviceNodes::Tagged,
        kubelet_api: true,
        ..TestSiteOptions::default()
    });
    for node in ["press-1", site.node()] {
        eventually(&format!("{node} has a certificate"), || {
            let seen = site
                .api()
                .get(&format!("/api/v1/nodes/{node}"))
                .unwrap_or_default();
            match condition(&seen, "outrigger.io/ServingCertificate") {
                ("True", ..) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
    site
}

/// A pod on this node, once it runs: one that counts, those that echo, give and take, one that answers and hangs up.
#[track_caller]
fn run(site: &TestSite, name: &str, node: &str) {
    let containers = [
        busybox("shell", COUNTING),
        busybox("echo", ECHO),
        busybox("gives", GIVES),
        busybox("takes", TAKES),
        server("web", &["http", "--port", "8080"]),
    ];
    let mut pod = pod(name, &[], &containers);
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["nodeSelector"] = Value::Null;
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    site.apply(&pod);
    eventually(&format!("{name} is Ready"), || {
        let pod = site.pod(name).unwrap();
        is_ready(&pod)
            .then_some(())
            .ok_or_else(|| pod["status"].to_string())
    });
}

/// The numbers of `line N`.
fn numbers(text: &str) -> Vec<u64> {
    let number = |line: &str| line.strip_prefix("line ")?.parse().ok();
    text.lines()
        .map(|line| number(line).unwrap_or_else(|| panic!("{line:?} in {text}")))
        .collect()
}

#[track_caller]
fn are_consecutive(numbers: &[u64]) {
    let gap = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1);
    assert!(gap.is_none(), "{gap:?} of {} lines", numbers.len());
}

#[test]
fn stock_kubectl_is_at_home_on_a_device() {
    let site = site();
    all_verbs(&site, "own", "press-1", HEAVY);
    site.nothing_was_forbidden();
}

#[test]
fn stock_kubectl_is_at_home_in_the_fleet() {
    let site = site();
    let fleet = site.node().to_owned();
    all_verbs(&site, "spread", &fleet, LIGHT);
    let pod = site.pod("spread").unwrap();
    assert_eq!(
        condition(&pod, "outrigger.io/Answers"),
        ("True", "OnlyDevice", "plain-1")
    );
    site.nothing_was_forbidden();

    site.kubelet_process().terminate(DARK).unwrap();
    let lease = "/apis/coordination.k8s.io/v1/namespaces/outrigger-system/leases";
    let lease = site
        .api()
        .get(&format!("{lease}/outrigger-kubelet-{fleet}"))
        .unwrap();
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    assert_eq!(holder, "", "one that stops gives its lease back");
}

fn all_verbs(site: &TestSite, pod: &str, node: &str, load: Load) {
    run(site, pod, node);
    for way in WAYS {
        commands(site, pod, way, load.stdin);
        terminal(site, pod, way);
        copies(site, pod, way);
        forwards(site, pod, way, load);
    }
    logs(site, pod);
    run_and_attach(site, node);
}

fn commands(site: &TestSite, pod: &str, way: Way, stdin: u32) {
    let exec = |options: &[&str], script: &str, input: &[u8]| {
        let command = ["exec", pod, "-c", "shell"];
        site.ran(
            way,
            &[&command, options, &["--", "sh", "-c", script]].concat(),
            input,
        )
    };
    let said = exec(&["-i"], "cat; echo bad >&2; exit 7", b"through");
    assert_eq!(said.code, Some(7), "{way:?} {pod}: {}", said.stderr);
    assert_eq!(said.text(), "through", "{way:?} {pod}");
    assert!(said.stderr.starts_with("bad\n"), "{way:?} {pod}: {}", said.stderr);

    let input: Vec<u8> = (0..stdin).map(|number| (number % 249) as u8).collect();
    let said = exec(&["-i"], "cat", &input);
    assert_eq!(said.code, Some(0), "{way:?} {pod}: {}", said.stderr);
    assert!(said.stdout == input, "{way:?}: {} bytes", said.stdout.len());

    let missing = site.ran(way, &["exec", pod, "-c", "shell", "--", "no-such-program"], b"");
    assert_ne!(missing.code, Some(0), "{way:?} {pod}");
    assert!(
        missing.stderr.contains("executable file not found"),
        "{way:?} {pod}: {}",
        missing.stderr
    );
}

fn terminal(site: &TestSite, pod: &str, way: Way) {
    let command = ["exec", "-it", pod, "-c", "shell", "--", "sh"];
    let mut terminal = site.at_terminal(way, &command, 40, 123);
    terminal.types("stty size\n");
    terminal.shows("40 123");
    terminal.resize(51, 99);
    // The size is on its way while the shell is asked for it.
    terminal.types("until [ \"$(stty size)\" = '51 99' ]; do sleep 0.1; done; echo re''sized\n");
    terminal.shows("resized");
    terminal.types("exit 5\n");
    assert_eq!(terminal.code(), Some(5), "{way:?} {pod}");
}

/// A tree with modes and a link, there and back. kubectl itself leaves links and modes out on the way back.
fn copies(site: &TestSite, pod: &str, way: Way) {
    let directory = tempfile::tempdir().unwrap();
    let (there, back) = (directory.path().join("tree"), directory.path().join("back"));
    let bytes: Vec<u8> = (0..1_500_000_u32).map(|number| (number % 251) as u8).collect();
    std::fs::create_dir_all(there.join("deep/er")).unwrap();
    std::fs::write(there.join("deep/er/data"), &bytes).unwrap();
    std::fs::write(there.join("run"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(there.join("run"), Permissions::from_mode(0o751)).unwrap();
    symlink("run", there.join("link")).unwrap();
    let far = format!("{pod}:/tmp/tree-{way:?}");
    let (there, back) = (there.display().to_string(), back.display().to_string());
    for (from, to) in [(&there, &far), (&far, &back)] {
        let said = site.ran(way, &["cp", "-c", "shell", from, to], b"");
        assert_eq!(said.code, Some(0), "{way:?} {from} to {to}: {}", said.stderr);
    }
    let script = format!("cd /tmp/tree-{way:?} && stat -c %a run && readlink link && ls");
    let said = site.ran(way, &["exec", pod, "-c", "shell", "--", "sh", "-c", &script], b"");
    assert_eq!(
        said.text(),
        "751\nrun\ndeep\nlink\nrun\n",
        "{way:?} {pod}: {}",
        said.stderr
    );
    let back = Path::new(&back);
    assert!(
        std::fs::read(back.join("deep/er/data")).unwrap() == bytes,
        "{way:?} {pod}"
    );
}

/// Sends this through a forwarded port, ends its direction, and returns what comes back.
fn exchange(address: &str, sent: &[u8]) -> Vec<u8> {
    let io = TcpStream::connect(address).unwrap();
    let (mut writing, mut received) = (io.try_clone().unwrap(), Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            writing.write_all(sent).unwrap();
            writing.shutdown(Shutdown::Write).unwrap();
        });
        (&io).read_to_end(&mut received).unwrap();
    });
    received
}

fn forwards(site: &TestSite, pod: &str, way: Way, load: Load) {
    let pod_name = format!("pod/{pod}");
    let ports = [":9000", ":9001", ":9002", ":8080", ":9"];
    let forward = site.talking(way, &[&["port-forward", &pod_name], &ports[..]].concat());
    let local = |remote: &str| {
        eventually(&format!("port {remote} is forwarded"), || {
            let lines = forward.lines();
            let line = lines
                .iter()
                .find(|line| line.contains("127.0.0.1") && line.ends_with(&format!("-> {remote}")));
            let address = line.and_then(|line| line.split_whitespace().nth(2).map(str::to_owned));
            address.ok_or_else(|| format!("{lines:?} {:?}", forward.errors()))
        })
    };
    let (echo, gives, takes, web) = (local("9000"), local("9001"), local("9002"), local("8080"));
    let given: Vec<String> = (1..=900_000).map(|number| format!("{number}\n")).collect();
    let given = &given.concat().into_bytes()[..5_000_000];
    std::thread::scope(|scope| {
        for number in 0..8_u8 {
            let echo = &echo;
            scope.spawn(move || {
                let sent = vec![number; 200_000 + usize::from(number)];
                assert!(exchange(echo, &sent) == sent, "{way:?} connection {number}");
            });
        }
        for number in 0..load.downloads {
            let gives = &gives;
            scope.spawn(move || {
                let received = exchange(gives, b"");
                assert!(
                    received == given,
                    "{way:?} download {number}: {} bytes",
                    received.len()
                );
            });
        }
        scope.spawn(|| {
            let received = exchange(&takes, &vec![7; load.upload]);
            let taken = format!("{}\n", load.upload);
            assert_eq!(String::from_utf8(received).unwrap(), taken, "{way:?}");
        });
    });
    // Here the pod hangs up, while the client still could speak.
    for _ in 0..3 {
        let mut io = TcpStream::connect(&web).unwrap();
        io.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        io.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1."), "{way:?} {pod}: {answer}");
    }
    assert_eq!(forward.errors(), [""; 0], "{way:?} {pod}");
    // Nobody listens there. A kubectl that hears of it ends, as with a kubelet.
    let mut io = TcpStream::connect(local("9")).unwrap();
    assert_eq!(io.read_to_end(&mut Vec::new()).unwrap_or_default(), 0);
    eventually("kubectl says why", || {
        let errors = forward.errors().join("\n");
        errors.contains("connection refused").then_some(()).ok_or(errors)
    });
}

fn logs(site: &TestSite, pod: &str) {
    let logs = |more: &[&str]| {
        let said = site.ran(
            Way::WebSocket,
            &[&["logs", pod, "-c", "shell"], more].concat(),
            b"",
        );
        assert_eq!(said.code, Some(0), "{pod}: {}", said.stderr);
        said.text()
    };
    let all = numbers(&logs(&[]));
    assert_eq!(all.first(), Some(&0));
    are_consecutive(&all);
    let tail = numbers(&logs(&["--tail=3"]));
    assert_eq!(tail.len(), 3);
    assert!(tail[0] >= all.len() as u64 - 3, "{tail:?}");
    assert_eq!(logs(&["--limit-bytes=6"]), "line 0");
    let timed = logs(&["--timestamps", "--tail=1"]);
    let time = timed.split(' ').next().unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{timed}");

    let since = numbers(&logs(&["--since=2s"]));
    assert!((1..=40).contains(&since.len()), "{since:?}");
    let since = numbers(&logs(&[&format!("--since-time={time}")]));
    // kubectl sends whole seconds, of ten lines.
    let last = numbers(timed.split_once(' ').unwrap().1)[0];
    assert!(
        since
            .first()
            .is_some_and(|first| (last.saturating_sub(12)..=last).contains(first)),
        "{since:?}"
    );
    let every = site.ran(
        Way::WebSocket,
        &["logs", pod, "--all-containers", "--prefix", "--tail=1"],
        b"",
    );
    for line in [
        format!("[pod/{pod}/shell] line "),
        format!("[pod/{pod}/web] listening"),
    ] {
        assert!(every.text().contains(&line), "{} {}", every.text(), every.stderr);
    }

    let mut following = site.talking(Way::WebSocket, &["logs", "-f", pod, "-c", "shell", "--tail=2"]);
    following.has_lines(20);
    let said = site.ran(
        Way::WebSocket,
        &["exec", pod, "-c", "shell", "--", "kill", "1"],
        b"",
    );
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    assert_eq!(
        following.code(),
        Some(0),
        "a followed log ends with its container"
    );
    let followed = numbers(&following.lines().join("\n"));
    are_consecutive(&followed);
    within(DARK, "the container runs again", || {
        let said = site.ran(Way::WebSocket, &["logs", pod, "-c", "shell", "-p"], b"");
        let previous = said.text();
        let is_over = said.code == Some(0) && previous.ends_with(&format!("{}\n", followed.last().unwrap()));
        is_over.then_some(()).ok_or(format!("{previous} {}", said.stderr))
    });
    eventually("it counts from zero", || {
        let said = site.ran(Way::WebSocket, &["logs", pod, "-c", "shell"], b"");
        let text = said.text();
        text.starts_with("line 0\n")
            .then_some(())
            .ok_or(text + &said.stderr)
    });
}

/// `kubectl run -i` starts a pod, attaches to it, and ends with it.
fn run_and_attach(site: &TestSite, node: &str) {
    let overrides = json!({"spec": {"nodeName": node, "automountServiceAccountToken": false}}).to_string();
    for (number, way) in WAYS.into_iter().enumerate() {
        let name = format!("once-{number}-{node}");
        let image = "--image=images.outrigger.local/busybox:v1";
        let run = ["run", &name, "-i", "--quiet", "--rm", "--restart=Never", image];
        let flags = ["--overrides", &overrides, "--command", "--"];
        let script = ["sh", "-c", "cat; exit 4"];
        let said = site.ran(way, &[&run[..], &flags, &script].concat(), b"hello\n");
        assert_eq!(said.code, Some(4), "{way:?} {node}: {}", said.stderr);
        assert_eq!(said.text(), "hello\n", "{way:?} {node}: {}", said.stderr);
    }
}

/// The command ends with code 1, and says why.
#[track_caller]
fn is_told_of_the_loss(command: &mut Talking) {
    let code = within(DARK, "the command's end", || match command.poll() {
        Some(code) => Ok(code),
        None => Err(format!("{:?}", command.errors())),
    });
    let errors = command.errors().join("\n");
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("the link to the device was lost"), "{errors}");
}

/// The log has told so many lines more.
#[track_caller]
fn goes_on(following: &Talking, lines: usize) {
    let before = following.lines().len();
    within(DARK, "the log goes on", || {
        let now = following.lines().len();
        (now > before + lines)
            .then_some(())
            .ok_or(format!("{now} lines, {before} before; {:?}", following.errors()))
    });
}

#[test]
fn a_cut_link_ends_commands_and_not_logs() {
    let site = site();
    run(&site, "own", "press-1");
    let following = site.talking(Way::WebSocket, &["logs", "-f", "own", "-c", "shell"]);
    following.has_lines(5);
    let mut commands = WAYS.map(|way| {
        let script = "echo begun; exec sleep 600";
        site.talking(way, &["exec", "own", "-c", "shell", "--", "sh", "-c", script])
    });
    for command in &commands {
        command.has_lines(1);
    }
    let device = site.device("press-1").unwrap();
    device.cut_link().unwrap();
    for command in &mut commands {
        is_told_of_the_loss(command);
    }
    device.restore_link().unwrap();
    goes_on(&following, 300);
    are_consecutive(&numbers(&following.lines().join("\n")));
}

/// A relay on the device's link, with the agent's connection through it.
fn relayed(site: &TestSite, device: &Device) -> Relay {
    let relay = Relay::between(device, site.hub().device_port);
    device.process("agent").terminate(DARK).unwrap();
    device.process("agent").start().unwrap();
    relay
}

/// Through the worst that a link does short of being away.
#[test]
fn streams_survive_a_link_that_is_slow_and_stalls() {
    let site = site();
    let device = site.device("press-1").unwrap();
    let relay = relayed(&site, &device);
    run(&site, "own", "press-1");
    relay.delay(Duration::from_millis(300));
    relay.stall_every(100);
    // How kubectl speaks to the API server is another link's affair.
    let way = Way::Spdy;
    commands(&site, "own", way, LIGHT.stdin);
    terminal(&site, "own", way);
    copies(&site, "own", way);
    forwards(&site, "own", way, LIGHT);
    logs(&site, "own");
}

/// The agent's connection dies in the middle, and dies without a word.
#[test]
fn a_link_that_dies_ends_commands_and_forwards_and_not_logs() {
    let site = site();
    let device = site.device("press-1").unwrap();
    let relay = relayed(&site, &device);
    run(&site, "own", "press-1");
    let following = site.talking(Way::WebSocket, &["logs", "-f", "own", "-c", "shell"]);
    for is_mute in [false, true] {
        following.has_lines(following.lines().len() + 5);
        let mut command = site.talking(
            Way::WebSocket,
            &[
                "exec",
                "own",
                "-c",
                "shell",
                "--",
                "sh",
                "-c",
                "echo begun; exec sleep 600",
            ],
        );
        command.has_lines(1);
        let forward = site.talking(Way::WebSocket, &["port-forward", "pod/own", ":9000"]);
        forward.has_lines(1);
        let address = forward.lines()[0].split_whitespace().nth(2).unwrap().to_owned();
        let mut io = TcpStream::connect(address).unwrap();
        io.write_all(b"x").unwrap();
        io.read_exact(&mut [0]).unwrap();
        if is_mute {
            relay.mute(true);
        } else {
            relay.cut();
        }
        is_told_of_the_loss(&mut command);
        io.set_read_timeout(Some(DARK)).unwrap();
        let is_over = match io.read(&mut [0]) {
            Ok(length) => length == 0,
            // Not a time that ran out.
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(is_over, "the forwarded connection goes on");
        relay.mute(false);
        goes_on(&following, 50);
    }
    are_consecutive(&numbers(&following.lines().join("\n")));
}

/// Open files and threads of each program on the way, and the processes in the pod.
fn held(site: &TestSite) -> Vec<(String, usize)> {
    let device = site.device("press-1").unwrap();
    let programs = [
        site.hub_process(),
        site.kubelet_process(),
        device.process("agent"),
        device.containerd(),
    ];
    let entries = |path: String| std::fs::read_dir(path).map_or(0, Iterator::count);
    let mut held = Vec::new();
    for program in programs {
        let pid = program.pid().unwrap().unwrap();
        let (files, threads) = (
            entries(format!("/proc/{pid}/fd")),
            entries(format!("/proc/{pid}/task")),
        );
        held.push((format!("files of {}", program.name()), files));
        held.push((format!("threads of {}", program.name()), threads));
    }
    let processes = device.ctr(["tasks", "ls", "-q"]).unwrap().stdout;
    for container in processes.lines() {
        let listed = device.ctr(["tasks", "ps", container]).unwrap().stdout;
        held.push((format!("processes of {container}"), listed.lines().count()));
    }
    held
}

/// A client that is killed leaves nothing open, anywhere.
#[test]
fn clients_that_vanish_leave_nothing_behind() {
    const ROUNDS: usize = 8;
    let site = site();
    run(&site, "own", "press-1");
    let round = || {
        let mut open = Vec::new();
        for way in WAYS {
            open.push(site.talking(
                way,
                &[
                    "exec",
                    "-i",
                    "own",
                    "-c",
                    "shell",
                    "--",
                    "sh",
                    "-c",
                    "echo begun; exec cat",
                ],
            ));
            open.push(site.talking(way, &["logs", "-f", "own", "-c", "shell"]));
            open.push(site.talking(way, &["port-forward", "pod/own", ":9000"]));
        }
        for talking in &open {
            talking.has_lines(1);
        }
        let address = open[2].lines()[0].split_whitespace().nth(2).unwrap().to_owned();
        let mut io = TcpStream::connect(address).unwrap();
        io.write_all(b"x").unwrap();
        io.read_exact(&mut [0]).unwrap();
    };
    round();
    let settled = |most: &dyn Fn(&str) -> usize| {
        within(DARK, "what was open is closed", || {
            let over: Vec<_> = held(&site)
                .into_iter()
                .filter(|(what, count)| *count > most(what))
                .collect();
            if over.is_empty() {
                Ok(())
            } else {
                Err(format!("{over:?}"))
            }
        });
    };
    let before: BTreeMap<_, _> = held(&site).into_iter().collect();
    for _ in 0..ROUNDS {
        round();
    }
    // A leak shows once per round at the least; connections that are kept for reuse do not.
    settled(&|what| before.get(what).copied().unwrap_or_default() + ROUNDS / 2);
}
