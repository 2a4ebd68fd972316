use std::os::unix::fs::{PermissionsExt as _, symlink};

use edge_protocol::v1::{ContainerSecurity, EnvFrom, EnvVar, HostPathCheck, Namespaces, VolumeSpec};

use super::*;
use crate::runtime::fixture::Fixture;

fn manifest(container: ContainerSpec) -> Manifest {
    Fixture::new(vec![container]).manifest
}

fn plain() -> ContainerSpec {
    ContainerSpec::new("main", "registry.example/shop/web:1")
}

#[track_caller]
fn check(policy: &Policy, manifest: &Manifest, expect: &str) {
    assert_eq!(Policy::default().allows(manifest), Ok(()));
    assert_eq!(policy.allows(manifest).unwrap_err().to_string(), expect);
    assert_eq!(policy.allows(&self::manifest(plain())), Ok(()));
}

#[test]
fn each_rule_names_itself_and_what_it_forbids() {
    let privileged = ContainerSpec {
        security: ContainerSecurity {
            privileged: true,
            ..ContainerSecurity::default()
        },
        ..plain()
    };
    let policy = Policy {
        forbid_privileged: true,
        ..Policy::default()
    };
    check(
        &policy,
        &manifest(privileged),
        "forbid_privileged: container \"main\" is privileged",
    );

    let powerful = ContainerSpec {
        security: ContainerSecurity {
            add_capabilities: vec!["NET_BIND_SERVICE".into(), "SYS_ADMIN".into()],
            ..ContainerSecurity::default()
        },
        ..plain()
    };
    check(
        &policy,
        &manifest(powerful),
        "forbid_privileged: container \"main\" adds \"SYS_ADMIN\", which is as good as privileged",
    );

    let mut on_device = manifest(plain());
    on_device.workload.namespaces = Namespaces {
        host_pid: true,
        ..Namespaces::default()
    };
    let policy = Policy {
        forbid_host_network: true,
        forbid_host_pid: true,
        forbid_host_ipc: true,
        ..Policy::default()
    };
    check(
        &policy,
        &on_device,
        "forbid_host_pid: the pod wants the device's own",
    );

    let policy = Policy {
        forbid_secrets_in_environment: true,
        ..Policy::default()
    };
    let message = "forbid_secrets_in_environment: container \"main\" takes variables from secret \"keys\"";
    let whole = ContainerSpec {
        env_from: vec![EnvFrom {
            prefix: String::new(),
            object: ObjectKind::Secret,
            name: "keys".into(),
            optional: true,
        }],
        ..plain()
    };
    check(&policy, &manifest(whole), message);
    let one = ContainerSpec {
        env: vec![EnvVar {
            from: Some(ValueFrom::Object {
                object: ObjectKind::Secret,
                name: "keys".into(),
                key: "password".into(),
                optional: false,
            }),
            ..EnvVar::literal("PASSWORD", "")
        }],
        ..plain()
    };
    check(&policy, &manifest(one), message);

    let policy = Policy {
        only_registries: vec!["registry.example".into()],
        ..Policy::default()
    };
    let elsewhere = manifest(ContainerSpec::new("main", "busybox"));
    check(
        &policy,
        &elsewhere,
        "only_registries: image \"busybox\" comes from \"docker.io\"",
    );
    assert!(policy.allows_image("registry.example:5000/web").is_err());
    assert!(policy.allows_image("registry.example.evil/web").is_err());
}

#[test]
fn a_forbidden_path_is_not_shown_by_any_way() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    fs::create_dir_all(place("etc/keys")).unwrap();
    fs::create_dir(place("data")).unwrap();
    symlink(place("etc"), place("data/link")).unwrap();
    let policy = Policy {
        forbid_host_paths: vec![place("etc/keys")],
        ..Policy::default()
    };
    let allows = |path: PathBuf| {
        let mut manifest = manifest(plain());
        manifest.workload.volumes.push(VolumeSpec {
            name: "host".into(),
            source: VolumeSource::HostPath {
                path: path.display().to_string(),
                check: HostPathCheck::Unset,
            },
        });
        policy.allows(&manifest).is_ok()
    };
    for (path, allowed) in [
        ("data", true),
        ("etc/keys", false),
        ("etc/keys/deep", false),
        ("etc", false),
        ("", false),
        ("etc/keysmith", true),
        ("data/link/keys", false),
        ("data/link", false),
        ("data/link/other", true),
    ] {
        assert_eq!(allows(place(path)), allowed, "{path}");
    }
}

#[test]
fn a_file_that_cannot_be_obeyed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("policy.toml");
    assert_eq!(Policy::load(&path).unwrap(), Policy::default());
    let load = |text: &str, mode: u32| {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Policy::load(&path)
    };
    let policy = load("forbid_privileged = true\nforbid_host_paths = ['/etc']\n", 0o644).unwrap();
    assert!(policy.forbid_privileged && policy.forbid_host_paths == [PathBuf::from("/etc")]);
    assert!(matches!(load("", 0o666), Err(PolicyError::NotOurs { .. })));
    assert!(matches!(
        load("forbid_everything = true", 0o644),
        Err(PolicyError::Malformed { .. })
    ));
    for path in ["etc", "/a/../etc"] {
        let text = format!("forbid_host_paths = ['{path}']");
        assert!(
            matches!(load(&text, 0o600), Err(PolicyError::NoPath { .. })),
            "{path}"
        );
    }
}

/// What a person adds is not started; what the pod consists of goes on being started.
#[test]
fn a_container_that_is_added_has_its_own_rule() {
    let mut manifest = manifest(plain());
    let mut added = plain();
    added.name = "debugger".to_owned();
    manifest.workload.ephemeral_containers = vec![added];
    let of = |text: &str| toml::from_str::<Policy>(text).unwrap();
    let words = "streams.debug: container \"debugger\" is added to a pod that runs; the device's owner has to allow that";
    for (text, allowed) in [
        ("", true),
        ("[streams]\ndebug = 'allow'", true),
        ("[streams]\ndebug = 'deny'", false),
        ("[streams]\ndebug = 'ask-locally'", false),
    ] {
        assert_eq!(of(text).allows_start(&manifest, "main"), Ok(()), "{text}");
        let started = of(text).allows_start(&manifest, "debugger");
        let expect = if allowed { Ok(()) } else { Err(words.to_owned()) };
        assert_eq!(
            started.map_err(|violation| violation.to_string()),
            expect,
            "{text}"
        );
    }
    // Nor is one that is forbidden a reason against the pod that it was added to.
    manifest.workload.ephemeral_containers[0].security.privileged = true;
    let policy = of("forbid_privileged = true");
    assert_eq!(policy.allows_start(&manifest, "main"), Ok(()));
    let refused = policy.allows_start(&manifest, "debugger").unwrap_err();
    assert_eq!(
        refused.to_string(),
        "forbid_privileged: container \"debugger\" is privileged"
    );
}
