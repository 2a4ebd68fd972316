use edge_protocol::v1::{ContainerResource, PodField, Reason, ResourceField};

use super::*;
use crate::runtime::fixture::Fixture;

fn from(object: ObjectKind, name: &str, prefix: &str, optional: bool) -> EnvFrom {
    EnvFrom {
        prefix: prefix.into(),
        object,
        name: name.into(),
        optional,
    }
}

fn key(variable: &str, object: ObjectKind, name: &str, key: &str, optional: bool) -> EnvVar {
    EnvVar {
        name: variable.into(),
        value: String::new(),
        from: Some(ValueFrom::Object {
            object,
            name: name.into(),
            key: key.into(),
            optional,
        }),
    }
}

fn container(env_from: Vec<EnvFrom>, env: Vec<EnvVar>) -> ContainerSpec {
    ContainerSpec {
        env_from,
        env,
        expand: true,
        ..ContainerSpec::new("main", "image")
    }
}

#[track_caller]
fn check(given: &Fixture, container: &ContainerSpec, expect: &[(&str, &str)]) {
    let resolved = resolve(container, &given.sources()).unwrap();
    assert_eq!(resolved.iter().collect::<Vec<_>>(), expect);
}

#[track_caller]
fn check_waits(given: &Fixture, container: &ContainerSpec, reason: Reason, message: &str) {
    let error = resolve(container, &given.sources()).unwrap_err();
    assert_eq!(
        (
            error.reason(Reason::CreateContainerConfigError),
            error.to_string().as_str()
        ),
        (reason, message)
    );
}

#[test]
fn variables_come_from_everywhere_in_the_kubelets_order() {
    let mut given = Fixture::new(vec![ContainerSpec::new("main", "image")]);
    given.put(
        kind::SERVICES,
        "services",
        &[("DB_SERVICE_HOST", "10.0.0.9"), ("COLOUR", "of a service")],
        &[],
    );
    let literals = [
        EnvVar::literal("COLOUR", "red"),
        EnvVar::literal(
            "DSN",
            "$(DB_SERVICE_HOST) $(P_password) $(NONE) $$(COLOUR) $(COLOUR)",
        ),
    ];
    let field = EnvVar {
        from: Some(ValueFrom::Field {
            field: PodField::Name,
        }),
        ..EnvVar::literal("POD", "")
    };
    let cpu = ResourceField {
        container: "main".into(),
        resource: ContainerResource::LimitsCpu,
        divisor_milli: 1000,
    };
    let resource = EnvVar {
        from: Some(ValueFrom::Resource(cpu)),
        ..EnvVar::literal("CPUS", "")
    };
    let mut env = literals.to_vec();
    env.extend([
        field,
        resource,
        key("LEVEL", ObjectKind::ConfigMap, "settings", "log.level", false),
    ]);
    let sources = vec![
        from(ObjectKind::ConfigMap, "settings", "", false),
        from(ObjectKind::Secret, "keys", "P_", false),
    ];
    check(
        &given,
        &container(sources, env),
        &[
            ("COLOUR", "red"),
            ("log.level", "debug"),
            ("P_password", "hunter2"),
            ("P_raw", "\u{fffd}"),
            ("DSN", "10.0.0.9 hunter2 $(NONE) $(COLOUR) red"),
            ("POD", "web"),
            ("CPUS", "4"),
            ("LEVEL", "debug"),
            ("DB_SERVICE_HOST", "10.0.0.9"),
        ],
    );
}

#[test]
fn literals_that_the_writer_expanded_are_left_alone() {
    let given = Fixture::new(Vec::new());
    let container = ContainerSpec {
        expand: false,
        ..container(
            Vec::new(),
            vec![EnvVar::literal("A", "1"), EnvVar::literal("B", "$(A) $$")],
        )
    };
    check(&given, &container, &[("A", "1"), ("B", "$(A) $$")]);
}

#[test]
fn what_is_missing_waits_unless_it_is_optional() {
    let given = Fixture::new(Vec::new());
    let config_error = Reason::CreateContainerConfigError;
    let (map, secret) = (ObjectKind::ConfigMap, ObjectKind::Secret);
    let of = |variable| container(Vec::new(), vec![variable]);
    check_waits(
        &given,
        &of(key("A", map, "no", "k", false)),
        config_error,
        "configmap \"no\" not found",
    );
    check_waits(
        &given,
        &of(key("A", secret, "no", "k", false)),
        config_error,
        "secret \"no\" not found",
    );
    let message = "couldn't find key no in ConfigMap shop/settings";
    check_waits(
        &given,
        &of(key("A", map, "settings", "no", false)),
        config_error,
        message,
    );
    // Only `data` of a config map makes variables.
    let message = "couldn't find key logo in ConfigMap shop/settings";
    check_waits(
        &given,
        &of(key("A", map, "settings", "logo", false)),
        config_error,
        message,
    );
    let absent = container(vec![from(secret, "no", "", false)], Vec::new());
    check_waits(&given, &absent, config_error, "secret \"no\" not found");

    check(&given, &of(key("A", map, "no", "k", true)), &[]);
    check(&given, &of(key("A", map, "settings", "no", true)), &[]);
    check(
        &given,
        &container(vec![from(secret, "no", "", true)], Vec::new()),
        &[],
    );
}

#[test]
fn what_is_not_sealed_yet_says_so() {
    let mut given = Fixture::new(Vec::new());
    given.seal(kind::SECRET, "keys");
    let waits = container(vec![from(ObjectKind::Secret, "keys", "", true)], Vec::new());
    let error = resolve(&waits, &given.sources()).unwrap_err();
    assert_eq!(
        error.reason(Reason::CreateContainerConfigError),
        Reason::SecretNotSealed
    );
}

#[test]
fn names_that_no_environment_holds_are_left_out() {
    let given = Fixture::new(Vec::new());
    let names = ["", "a=b", "new\nline", "ok.name-1", "1"];
    let env = names.map(|name| EnvVar::literal(name, "x")).to_vec();
    let resolved = resolve(&container(Vec::new(), env), &given.sources()).unwrap();
    assert_eq!(
        resolved.iter().collect::<Vec<_>>(),
        [("ok.name-1", "x"), ("1", "x")]
    );
}
