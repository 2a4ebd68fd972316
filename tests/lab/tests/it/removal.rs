//! Labs do not clash, and each goes completely, whatever state its file is in.

use std::path::Path;

use lab::{DeviceOptions, Error, Lab, LabOptions, Program, down};

use crate::devices::traces;
use crate::{is_alive, start};

#[test]
fn two_labs_stand_side_by_side_and_one_goes_alone() {
    let one = || {
        start(|options| LabOptions {
            devices: vec![DeviceOptions::named("edge")],
            ..options
        })
    };
    let ((_first_directory, first), (_second_directory, second)) = std::thread::scope(|scope| {
        let (first, second) = (scope.spawn(one), scope.spawn(one));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_ne!(first.address().unwrap(), second.address().unwrap());
    let device = first.device("edge").unwrap();
    down(first.directory()).unwrap();
    down(first.directory()).unwrap();
    assert_eq!(traces(&device), Vec::<String>::new());
    assert!(matches!(
        Lab::open(first.directory()),
        Err(Error::File { .. } | Error::NoLab { .. })
    ));
    assert!(second.device("edge").unwrap().ctr(["version"]).is_ok());
}

#[test]
fn a_process_that_the_state_file_does_not_know_goes_too() {
    let (_directory, lab) = start(|options| options);
    let sleep = Program::new("sleep").arg("1000");
    // Its child has another pid than the one on record.
    let shell = Program::new("sh").args(["-c", "sleep 1000 & wait"]);
    let known = [
        lab.spawn("sleep", sleep).unwrap(),
        lab.spawn("shell", shell).unwrap(),
    ];
    let pids = known.map(|process| process.pid().unwrap().unwrap());
    let file = lab.directory().join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["processes"] = serde_json::json!({});
    std::fs::write(&file, state.to_string()).unwrap();
    down(lab.directory()).unwrap();
    assert!(pids.into_iter().all(|pid| !is_alive(pid)));
}

#[test]
fn what_a_deleted_directory_left_behind_goes_by_its_name() {
    let (_directory, lost) = start(|options| options);
    let pid = lost
        .spawn("sleep", Program::new("sleep").arg("1000"))
        .unwrap()
        .pid()
        .unwrap()
        .unwrap();
    let bridge = Path::new("/sys/class/net").join(format!("orl{}", lost.address().unwrap().octets()[2]));
    assert!(bridge.exists());
    std::fs::remove_dir_all(lost.directory()).unwrap();
    down(lost.directory()).unwrap();
    assert!(!is_alive(pid));
    assert!(!bridge.exists());
}

#[test]
fn a_directory_holds_one_lab_and_removing_none_is_no_error() {
    let (directory, lab) = start(|options| options);
    let again = Lab::start(LabOptions::in_directory(lab.directory()));
    assert!(matches!(again, Err(Error::Taken { .. })));
    down(directory.path().join("nothing")).unwrap();
    down(directory.path()).unwrap();
    assert!(
        directory.path().exists(),
        "a directory without a lab is left alone"
    );
}
