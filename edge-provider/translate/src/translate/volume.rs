//! A pod's volumes → a manifest's.

use edge_protocol::v1::HostPathCheck;

/// What a `hostPath` volume's type asks for; `None` for a type that is none.
pub(crate) fn host_path_check(kind: &str) -> Option<HostPathCheck> {
    Some(match kind {
        "" => HostPathCheck::Unset,
        "DirectoryOrCreate" => HostPathCheck::DirectoryOrCreate,
        "Directory" => HostPathCheck::Directory,
        "FileOrCreate" => HostPathCheck::FileOrCreate,
        "File" => HostPathCheck::File,
        "Socket" => HostPathCheck::Socket,
        "CharDevice" => HostPathCheck::CharDevice,
        "BlockDevice" => HostPathCheck::BlockDevice,
        _ => return None,
    })
}
