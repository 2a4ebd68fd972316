//! In mount namespaces of their own: what is mounted here goes with the test.

use std::os::unix::fs::{MetadataExt as _, symlink};

use edge_protocol::expand::Environment;
use edge_protocol::v1::object::kind;
use edge_protocol::v1::{
    ClaimPlugin, ContainerSpec, DownwardValue, HostPathCheck, KeyToPath, MountSpec, ObjectKind, PodField,
    ProjectedSource, Propagation, RecursiveReadOnly, Resources, SubPath,
};
use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use super::*;
use crate::runtime::fixture::Fixture;

/// A place for volumes whose mounts nobody else sees.
pub struct Ground {
    dir: tempfile::TempDir,
    volumes: Volumes,
    given: Fixture,
}

impl Ground {
    fn new(volumes: Vec<(&str, VolumeSource)>) -> Self {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut given = Fixture::new(vec![ContainerSpec::new("main", "image")]);
        given.manifest.workload.volumes = volumes
            .into_iter()
            .map(|(name, source)| VolumeSpec {
                name: name.into(),
                source,
            })
            .collect();
        Self {
            volumes: Volumes::new(dir.path().join("pods")),
            dir,
            given,
        }
    }

    #[track_caller]
    fn sync(&self) {
        self.volumes.sync(&self.given.sources()).unwrap();
    }

    fn own(&self, path: &str) -> PathBuf {
        self.volumes
            .directory(&self.given.manifest.uid)
            .join("volumes")
            .join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.own(path)).unwrap()
    }

    fn mounts(&self, mounts: Vec<MountSpec>) -> Result<Vec<Mounted>, MountFault> {
        let container = ContainerSpec {
            mounts,
            ..ContainerSpec::new("main", "image")
        };
        let environment = Environment::resolve([("POD", "web")]);
        self.volumes
            .mounts(&self.given.manifest, &container, &environment, false)
    }

    fn remove(&self) {
        for _ in 0..2 {
            self.volumes.remove(&self.given.manifest.uid).unwrap();
        }
        assert_eq!(fs::read_dir(self.dir.path().join("pods")).unwrap().count(), 0);
        assert_eq!(mounts::below(self.dir.path()).unwrap(), [] as [PathBuf; 0]);
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        let _ = mounts::clear(self.dir.path());
    }
}

fn mode(path: &Path) -> (u32, u32) {
    let meta = fs::metadata(path).unwrap();
    (meta.gid(), meta.mode() & 0o7777)
}

fn empty(medium: Medium, size_limit_bytes: Option<u64>) -> VolumeSource {
    VolumeSource::EmptyDir {
        medium,
        size_limit_bytes,
    }
}

fn files(sources: Vec<ProjectedSource>) -> VolumeSource {
    VolumeSource::Projected {
        sources,
        default_mode: 0o644,
    }
}

fn object(kind: ObjectKind, name: &str, items: Vec<KeyToPath>, optional: bool) -> ProjectedSource {
    ProjectedSource::Object {
        object: kind,
        name: name.into(),
        items,
        optional,
    }
}

fn item(key: &str, path: &str, mode: Option<u32>) -> KeyToPath {
    KeyToPath {
        key: key.into(),
        path: path.into(),
        mode,
    }
}

fn mount_of(volume: &str, sub_path: Option<SubPath>) -> MountSpec {
    MountSpec {
        volume: volume.into(),
        mount_path: "/mnt".into(),
        sub_path,
        read_only: false,
        recursive_read_only: RecursiveReadOnly::Disabled,
        propagation: Propagation::None,
    }
}

#[test]
fn an_empty_directory_is_made_once_and_given_to_the_group() {
    let mut ground = Ground::new(vec![
        ("disk", empty(Medium::Disk, None)),
        ("memory", empty(Medium::Memory, None)),
    ]);
    ground.given.manifest.workload.security.fs_group = Some(4711);
    ground.sync();
    for (name, bits) in [("disk", 0o2777), ("memory", 0o3777)] {
        assert_eq!(mode(&ground.own(name)), (4711, bits), "{name}");
        fs::write(ground.own(name).join("kept"), name).unwrap();
        fs::set_permissions(ground.own(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
    ground.sync();
    for name in ["disk", "memory"] {
        assert_eq!(ground.read(&format!("{name}/kept")), name);
        assert_eq!(
            mode(&ground.own(name)).1,
            0o700,
            "what a container did to it stands"
        );
    }
    // A reboot takes the memory away, and what was on the disk stays.
    mounts::clear(ground.dir.path()).unwrap();
    ground.sync();
    assert!(mounts::is_mounted(&fs::canonicalize(ground.own("memory")).unwrap()).unwrap());
    assert!(!ground.own("memory/kept").exists() && ground.own("disk/kept").exists());
    assert_eq!(mode(&ground.own("memory")), (4711, 0o3777));
    ground.remove();
}

#[test]
fn memory_is_bounded_by_the_least_of_volume_workload_and_device() {
    const MIB: u64 = 1 << 20;
    let limited = |limit| ContainerSpec {
        resources: Resources {
            memory_limit_bytes: limit,
            ..Resources::default()
        },
        ..ContainerSpec::new("main", "image")
    };
    let size = |volume: Option<u64>, container: Option<u64>| {
        let given = Fixture::new(vec![limited(container)]);
        memory_size(volume, &given.sources())
    };
    assert_eq!(size(None, None), 8 << 30);
    assert_eq!(size(Some(4 * MIB), None), 4 * MIB);
    assert_eq!(size(Some(4 * MIB), Some(64 * MIB)), 4 * MIB);
    assert_eq!(size(Some(128 * MIB), Some(64 * MIB)), 64 * MIB);
    assert_eq!(size(Some(u64::MAX), None), 8 << 30);

    let ground = Ground::new(vec![("memory", empty(Medium::Memory, Some(4 * MIB)))]);
    ground.sync();
    let stat = nix::sys::statvfs::statvfs(&ground.own("memory")).unwrap();
    assert_eq!(stat.blocks() * stat.fragment_size(), 4 * MIB);
}

#[test]
fn files_come_from_every_source_and_change_at_once() {
    let mut ground = Ground::new(vec![(
        "files",
        files(vec![
            object(
                ObjectKind::ConfigMap,
                "settings",
                vec![item("log.level", "etc/level", Some(0o400))],
                false,
            ),
            object(ObjectKind::Secret, "keys", Vec::new(), false),
            object(ObjectKind::ConfigMap, "absent", Vec::new(), true),
            ProjectedSource::Downward {
                path: "labels".into(),
                value: DownwardValue::Field {
                    field: PodField::Labels,
                },
                mode: None,
            },
            ProjectedSource::Token {
                path: "token".into(),
                object: "robot".into(),
            },
        ]),
    )]);
    ground.given.put(kind::TOKEN, "robot", &[("token", "jwt")], &[]);
    ground.sync();
    assert_eq!(
        (ground.read("files/etc/level"), ground.read("files/password")),
        ("debug".into(), "hunter2".into())
    );
    assert_eq!(fs::read(ground.own("files/raw")).unwrap(), [0xff]);
    assert_eq!(ground.read("files/labels"), "app=\"web\"\ntier=\"front\"");
    assert_eq!(mode(&ground.own("files/etc/level")).1, 0o400);
    assert_eq!(mode(&ground.own("files/token")).1, 0o644);
    assert!(
        mounts::is_mounted(&fs::canonicalize(ground.own("files")).unwrap()).unwrap(),
        "no secret is on a disk"
    );

    ground
        .given
        .put(kind::TOKEN, "robot", &[("token", "rotated")], &[]);
    ground.sync();
    assert_eq!(ground.read("files/token"), "rotated");
    ground.remove();
}

#[test]
fn only_a_volume_of_one_config_map_is_without_the_sticky_bit_of_a_tmpfs() {
    let of = |kind, name| object(kind, name, Vec::new(), false);
    let ground = Ground::new(vec![
        ("map", files(vec![of(ObjectKind::ConfigMap, "settings")])),
        ("secret", files(vec![of(ObjectKind::Secret, "keys")])),
        (
            "both",
            files(vec![
                of(ObjectKind::ConfigMap, "settings"),
                of(ObjectKind::Secret, "keys"),
            ]),
        ),
        ("memory", empty(Medium::Memory, None)),
    ]);
    ground.sync();
    let modes = ["map", "secret", "both", "memory"].map(|name| mode(&ground.own(name)).1);
    assert_eq!(modes, [0o777, 0o1777, 0o1777, 0o1777]);
}

#[test]
fn a_token_belongs_to_the_user_that_all_containers_have() {
    let token = |path: &str| ProjectedSource::Token {
        path: path.into(),
        object: "robot".into(),
    };
    let check = |users: [Option<u32>; 2], expect: (u32, u32)| {
        let mut ground = Ground::new(vec![("files", files(vec![token("deep/token")]))]);
        let containers = [("main", users[0]), ("other", users[1])].map(|(name, user)| {
            let mut container = ContainerSpec::new(name, "image");
            container.security.run_as_user = user;
            container
        });
        ground.given.manifest.workload.containers = containers.into();
        ground.given.put(kind::TOKEN, "robot", &[("token", "jwt")], &[]);
        ground.sync();
        let meta = fs::metadata(ground.own("files/deep/token")).unwrap();
        assert_eq!((meta.uid(), meta.mode() & 0o777), expect, "{users:?}");
        let link = fs::symlink_metadata(ground.own("files/deep")).unwrap();
        assert_eq!(link.uid(), expect.0, "{users:?}");
    };
    check([Some(1000), Some(1000)], (1000, 0o600));
    check([Some(1000), Some(1001)], (0, 0o644));
    check([Some(1000), None], (0, 0o644));
    check([None, None], (0, 0o644));
}

#[test]
fn a_group_may_read_a_token_and_nobody_else() {
    let token = ProjectedSource::Token {
        path: "token".into(),
        object: "robot".into(),
    };
    let mut ground = Ground::new(vec![("files", files(vec![token]))]);
    ground.given.manifest.workload.security.fs_group = Some(4711);
    ground.given.put(kind::TOKEN, "robot", &[("token", "jwt")], &[]);
    ground.sync();
    assert_eq!(mode(&ground.own("files/token")), (4711, 0o640));
}

#[test]
fn one_volume_that_is_missing_something_does_not_keep_the_others_from_theirs() {
    let absent = files(vec![object(ObjectKind::Secret, "absent", Vec::new(), false)]);
    let no_key = files(vec![object(
        ObjectKind::ConfigMap,
        "settings",
        vec![item("no", "x", None)],
        false,
    )]);
    let check = |ground: &Ground, reason: Reason, message: &str| {
        let error = ground.volumes.sync(&ground.given.sources()).unwrap_err();
        assert_eq!((error.reason(), error.to_string().as_str()), (reason, message));
        assert!(ground.own("scratch").is_dir());
    };
    let mut ground = Ground::new(vec![("creds", absent), ("scratch", empty(Medium::Disk, None))]);
    let message = "MountVolume.SetUp failed for volume \"creds\" : secret \"absent\" not found";
    check(&ground, Reason::FailedMount, message);

    ground.given.put(kind::SECRET, "absent", &[], &[]);
    ground.given.seal(kind::SECRET, "absent");
    let error = ground.volumes.sync(&ground.given.sources()).unwrap_err();
    assert_eq!(error.reason(), Reason::SecretNotSealed);

    let ground = Ground::new(vec![("conf", no_key), ("scratch", empty(Medium::Disk, None))]);
    let message = "MountVolume.SetUp failed for volume \"conf\" : references non-existent config key: no";
    check(&ground, Reason::FailedMount, message);
}

#[test]
fn what_the_device_shows_is_never_removed() {
    let shown = tempfile::tempdir().unwrap();
    fs::write(shown.path().join("data"), "precious").unwrap();
    let path = shown.path().to_str().unwrap().to_owned();
    let host = VolumeSource::HostPath {
        path: path.clone(),
        check: HostPathCheck::Directory,
    };
    let local = VolumeSource::Local {
        claim: "claim".into(),
        path: path.clone(),
        check: HostPathCheck::Unset,
        read_only: true,
        plugin: ClaimPlugin::HostPath,
    };
    let ground = Ground::new(vec![
        ("host", host),
        ("local", local),
        ("scratch", empty(Medium::Disk, None)),
    ]);
    ground.sync();
    let sub = |volume: &str| mount_of(volume, Some(SubPath::Literal("made/here".into())));
    let mounts = ground
        .mounts(vec![mount_of("host", None), mount_of("local", None), sub("host")])
        .unwrap();
    assert_eq!(
        (&mounts[0].on_device, mounts[0].read_only),
        (&PathBuf::from(&path), false)
    );
    assert!(mounts[1].read_only);
    fs::write(mounts[2].on_device.join("new"), "through the sub-path").unwrap();
    // A container with bidirectional propagation may have left a mount in a volume.
    let inner = ground.own("scratch/inner");
    fs::create_dir(&inner).unwrap();
    mounts::bind(shown.path(), &inner).unwrap();
    ground.remove();
    assert_eq!(fs::read_to_string(shown.path().join("data")).unwrap(), "precious");
    let kept = fs::read_to_string(shown.path().join("made/here/new")).unwrap();
    assert_eq!(kept, "through the sub-path");
}

fn claimed(path: &str, check: HostPathCheck, plugin: ClaimPlugin) -> VolumeSource {
    VolumeSource::Local {
        claim: "claim".into(),
        path: path.into(),
        check,
        read_only: false,
        plugin,
    }
}

#[test]
fn a_local_volume_must_be_there() {
    let ground = Ground::new(vec![(
        "local",
        claimed("/nowhere/at/all", HostPathCheck::Directory, ClaimPlugin::Local),
    )]);
    let error = ground.volumes.sync(&ground.given.sources()).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("path \"/nowhere/at/all\" does not exist"),
        "{error}"
    );
    let ground = Ground::new(vec![(
        "claimed",
        claimed("/nowhere/at/all", HostPathCheck::Unset, ClaimPlugin::HostPath),
    )]);
    ground.sync();
}

#[test]
fn a_local_volume_is_given_to_the_group_once() {
    let shown = tempfile::tempdir().unwrap();
    let path = shown.path().to_str().unwrap().to_owned();
    let claims = [
        ("local", HostPathCheck::Directory, ClaimPlugin::Local),
        ("claimed", HostPathCheck::Unset, ClaimPlugin::HostPath),
        ("checked", HostPathCheck::Directory, ClaimPlugin::HostPath),
    ];
    for (name, check, plugin) in claims {
        fs::set_permissions(shown.path(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(shown.path(), None, Some(0)).unwrap();
        let mut ground = Ground::new(vec![(name, claimed(&path, check, plugin))]);
        ground.given.manifest.workload.security.fs_group = Some(4711);
        ground.sync();
        let given = plugin == ClaimPlugin::Local;
        assert_eq!(
            mode(shown.path()),
            if given { (4711, 0o2775) } else { (0, 0o755) },
            "{name}"
        );
        fs::write(shown.path().join("later"), "").unwrap();
        ground.sync();
        assert_eq!(
            mode(&shown.path().join("later")).1 & 0o020,
            0,
            "what came later is as it was made"
        );
        fs::remove_file(shown.path().join("later")).unwrap();
    }
}

#[test]
fn a_sub_path_is_bound_and_made_with_the_mode_of_its_volume() {
    let ground = Ground::new(vec![
        ("data", empty(Medium::Disk, None)),
        (
            "files",
            files(vec![object(ObjectKind::ConfigMap, "settings", Vec::new(), false)]),
        ),
    ]);
    ground.sync();
    let expand = SubPath::Expand("logs/$(POD)".into());
    let of_file = SubPath::Literal("log.level".into());
    let asked = vec![mount_of("data", Some(expand)), mount_of("files", Some(of_file))];
    let mounts = ground.mounts(asked.clone()).unwrap();
    assert_eq!(mode(&ground.own("data/logs/web")).1, 0o777);
    fs::write(ground.own("data/logs/web/x"), "1").unwrap();
    assert_eq!(fs::read_to_string(mounts[0].on_device.join("x")).unwrap(), "1");
    assert_eq!(fs::read_to_string(&mounts[1].on_device).unwrap(), "debug");
    assert!(mounts[1].read_only);

    // Found again; and what was there before is not what is there now.
    let before = mounts::below(&fs::canonicalize(ground.dir.path()).unwrap())
        .unwrap()
        .len();
    fs::rename(ground.own("data/logs"), ground.own("data/old")).unwrap();
    let again = ground.mounts(asked).unwrap();
    assert_eq!(again, mounts);
    assert!(!again[0].on_device.join("x").exists());
    assert_eq!(
        mounts::below(&fs::canonicalize(ground.dir.path()).unwrap())
            .unwrap()
            .len(),
        before
    );
    ground.remove();
}

#[test]
fn no_sub_path_leaves_its_volume() {
    let ground = Ground::new(vec![("data", empty(Medium::Disk, None))]);
    ground.sync();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), "of the device").unwrap();
    symlink(outside.path(), ground.own("data/abroad")).unwrap();
    symlink("../../..", ground.own("data/up")).unwrap();
    symlink("real", ground.own("data/within")).unwrap();
    fs::create_dir(ground.own("data/real")).unwrap();
    let ask = |path: &str| ground.mounts(vec![mount_of("data", Some(SubPath::Literal(path.into())))]);
    for path in ["abroad", "abroad/secret", "abroad/new", "up", "up/new"] {
        let message = ask(path).unwrap_err().to_string();
        assert_eq!(
            message, "failed to prepare subPath for volumeMount \"data\" of container \"main\"",
            "{path}"
        );
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    let message = |path: &str| ask(path).unwrap_err().to_string();
    assert_eq!(
        message("/etc"),
        "error SubPath `/etc` must not be an absolute path"
    );
    assert_eq!(
        message("a/../.."),
        "unable to provision SubPath `a/../..`: must not contain '..'"
    );
    assert!(ask("within").is_ok(), "a link that stays inside is no trick");
    let from_the_root = fs::canonicalize(ground.own("data/real")).unwrap();
    symlink(&from_the_root, ground.own("data/rooted")).unwrap();
    assert!(ask("rooted").is_ok());
    assert!(ask("rooted/new").is_ok());
    assert_eq!(mode(&from_the_root.join("new")).1, mode(&ground.own("data")).1);
    assert!(ask("within/made").is_ok());
}

#[test]
fn mounts_are_refused_in_the_kubelets_words() {
    let ground = Ground::new(vec![("data", empty(Medium::Disk, None))]);
    ground.sync();
    let message = |mount: MountSpec| ground.mounts(vec![mount]).unwrap_err().to_string();
    assert_eq!(
        message(mount_of("other", None)),
        "cannot find volume \"other\" to mount into container \"main\""
    );
    let unknown = Some(SubPath::Expand("$(NOBODY)/x".into()));
    assert_eq!(message(mount_of("data", unknown)), "missing value for \"NOBODY\"");
    let recursive = |mode| MountSpec {
        read_only: true,
        recursive_read_only: mode,
        ..mount_of("data", None)
    };
    let refused = message(recursive(RecursiveReadOnly::Enabled));
    assert!(
        refused.ends_with("but it is not supported by the runtime"),
        "{refused}"
    );
    let possible = ground
        .mounts(vec![recursive(RecursiveReadOnly::IfPossible)])
        .unwrap();
    assert!(possible[0].read_only && !possible[0].recursive_read_only);
}
