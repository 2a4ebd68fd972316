//! The lines of `volumes[]`.

use super::Expected::ApiAccessSource;
use super::{Rule, default_only, honoured, refuse};

const NETWORK: &str = "network storage is not supported on a fleet";
const OBJECT: &str = "files from cluster objects are not supported on a fleet";
const REMOVED: &str = "this volume type was removed from Kubernetes";

/// `name` is honoured in that it links the mounts of the `kube-api-access-*` volume to it; no volume reaches a device.
pub(super) const RULES: &[Rule] = &[
    honoured("volumes[].name"),
    default_only("volumes[].projected", ApiAccessSource),
    refuse("volumes[].awsElasticBlockStore", NETWORK),
    refuse("volumes[].azureDisk", NETWORK),
    refuse("volumes[].azureFile", NETWORK),
    refuse("volumes[].cephfs", NETWORK),
    refuse("volumes[].cinder", NETWORK),
    refuse("volumes[].configMap", OBJECT),
    refuse("volumes[].csi", NETWORK),
    refuse("volumes[].downwardAPI", OBJECT),
    refuse(
        "volumes[].emptyDir",
        "scratch volumes are not supported on a fleet; write into the container",
    ),
    refuse(
        "volumes[].ephemeral",
        "a claim belongs to one node, and a fleet pod runs on many devices",
    ),
    refuse("volumes[].fc", NETWORK),
    refuse("volumes[].flexVolume", NETWORK),
    refuse("volumes[].flocker", REMOVED),
    refuse("volumes[].gcePersistentDisk", NETWORK),
    refuse("volumes[].gitRepo", REMOVED),
    refuse("volumes[].glusterfs", NETWORK),
    refuse(
        "volumes[].hostPath",
        "paths of the device are not supported on a fleet",
    ),
    refuse("volumes[].image", "image volumes are not supported on a fleet"),
    refuse("volumes[].iscsi", NETWORK),
    refuse("volumes[].nfs", NETWORK),
    refuse(
        "volumes[].persistentVolumeClaim",
        "a claim belongs to one node, and a fleet pod runs on many devices",
    ),
    refuse("volumes[].photonPersistentDisk", REMOVED),
    refuse("volumes[].portworxVolume", NETWORK),
    refuse("volumes[].quobyte", REMOVED),
    refuse("volumes[].rbd", NETWORK),
    refuse("volumes[].scaleIO", REMOVED),
    refuse("volumes[].secret", OBJECT),
    refuse("volumes[].storageos", REMOVED),
    refuse("volumes[].vsphereVolume", NETWORK),
];
