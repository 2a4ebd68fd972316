use NamespaceMode::{Container, Node, Pod};

use super::*;
use crate::runtime::fixture::Fixture;

fn given(security: ContainerSecurity) -> (Manifest, ContainerSpec) {
    let spec = ContainerSpec {
        security,
        ..ContainerSpec::new("main", "image")
    };
    (Fixture::new(vec![spec.clone()]).manifest, spec)
}

fn translate(security: ContainerSecurity) -> Result<LinuxContainerSecurityContext, SecurityFault> {
    let (manifest, spec) = given(security);
    container(&manifest, &spec, &ImageUser::Id(0), Path::new("/profiles"))
}

#[test]
fn a_process_that_must_not_be_root_is_not() {
    let message = |run_as_user, image: &ImageUser| {
        let (manifest, spec) = given(ContainerSecurity {
            run_as_user,
            run_as_non_root: true,
            ..ContainerSecurity::default()
        });
        let verified = verify_non_root(&manifest, &spec, image);
        verified.err().map(|error| error.to_string())
    };
    let named = ImageUser::Name("www".into());
    let of_pod = "(pod: \"web_shop(uid-web)\", container: main)";
    assert_eq!(
        message(Some(0), &ImageUser::Id(5)).unwrap(),
        format!("container's runAsUser breaks non-root policy {of_pod}")
    );
    assert_eq!(
        message(None, &ImageUser::Id(0)).unwrap(),
        format!("container has runAsNonRoot and image will run as root {of_pod}")
    );
    assert_eq!(
        message(None, &named).unwrap(),
        format!(
            "container has runAsNonRoot and image has non-numeric user (www), cannot verify user is non-root {of_pod}"
        )
    );
    assert_eq!(message(Some(7), &ImageUser::Id(0)), None);
    assert_eq!(message(None, &ImageUser::Id(5)), None);
    assert_eq!(message(Some(7), &named), None);
}

#[test]
fn an_image_that_says_nothing_runs_as_root() {
    let image = |uid: Option<i64>, username: &str| Image {
        uid: uid.map(|value| Int64Value { value }),
        username: username.into(),
        ..Image::default()
    };
    assert_eq!(ImageUser::of(Some(&image(Some(7), ""))), ImageUser::Id(7));
    assert_eq!(
        ImageUser::of(Some(&image(None, "www"))),
        ImageUser::Name("www".into())
    );
    assert_eq!(ImageUser::of(Some(&image(None, ""))), ImageUser::Id(0));
    assert_eq!(ImageUser::of(None), ImageUser::Id(0));
}

#[test]
fn profiles_are_the_kubelets() {
    let of = |seccomp| {
        let translated = translate(ContainerSecurity {
            seccomp,
            ..ContainerSecurity::default()
        });
        translated.map(|context| context.seccomp.unwrap())
    };
    let kind = |seccomp| of(seccomp).unwrap().profile_type();
    assert_eq!(kind(None), ProfileType::Unconfined);
    assert_eq!(kind(Some(Profile::Unconfined)), ProfileType::Unconfined);
    assert_eq!(kind(Some(Profile::RuntimeDefault)), ProfileType::RuntimeDefault);
    let localhost = of(Some(Profile::Localhost("audit/strict.json".into()))).unwrap();
    assert_eq!(localhost.localhost_ref, "/profiles/audit/strict.json");
    for path in ["", "/etc/passwd", "../x", "a/../../x"] {
        assert!(of(Some(Profile::Localhost(path.into()))).is_err(), "{path}");
    }
}

#[test]
fn an_unmasked_proc_hides_nothing() {
    let masked = translate(ContainerSecurity::default()).unwrap();
    assert_eq!((masked.masked_paths.len(), masked.readonly_paths.len()), (12, 5));
    let open = translate(ContainerSecurity {
        unmasked_proc: true,
        ..ContainerSecurity::default()
    });
    let open = open.unwrap();
    assert!(open.masked_paths.is_empty() && open.readonly_paths.is_empty());
}

#[test]
fn namespaces_are_the_pods_unless_the_devices() {
    let modes = |of: Namespaces| {
        let option = namespaces(of);
        (option.network(), option.pid(), option.ipc())
    };
    assert_eq!(modes(Namespaces::default()), (Pod, Container, Pod));
    let shared = Namespaces {
        share_process_namespace: true,
        ..Namespaces::default()
    };
    assert_eq!(modes(shared), (Pod, Pod, Pod));
    let device = Namespaces {
        host_network: true,
        host_pid: true,
        host_ipc: true,
        share_process_namespace: false,
    };
    assert_eq!(modes(device), (Node, Node, Node));
}

#[test]
fn the_sandbox_is_privileged_when_a_container_is_and_every_process_is_in_the_groups() {
    let (mut manifest, _) = given(ContainerSecurity {
        privileged: true,
        ..ContainerSecurity::default()
    });
    manifest.workload.security = PodSecurity {
        run_as_user: Some(7),
        fs_group: Some(20),
        supplemental_groups: vec![21, 22],
        strict_supplemental_groups: true,
        ..PodSecurity::default()
    };
    let sandbox = sandbox(&manifest);
    assert!(sandbox.privileged);
    assert_eq!(sandbox.run_as_user.map(|user| user.value), Some(7));
    assert_eq!(sandbox.supplemental_groups, [20, 21, 22]);
    assert_eq!(
        sandbox.supplemental_groups_policy(),
        SupplementalGroupsPolicy::Strict
    );
    let spec = ContainerSpec::new("main", "image");
    let context = container(&manifest, &spec, &ImageUser::Name("www".into()), Path::new("/")).unwrap();
    assert_eq!(
        (context.run_as_user, context.run_as_username.as_str()),
        (None, "www")
    );
    assert_eq!(context.supplemental_groups, [20, 21, 22]);
}
