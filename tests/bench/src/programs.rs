//! Which build of which program is measured.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use site::Programs;

use crate::BenchError;

/// The profile that devices' binaries are built with, and the directory that cargo gives it.
const EDGE: &str = "edge";

/// The programs beside this one, but for the agent, which is the one that devices get: built with the profile `edge`.
///
/// # Errors
/// [`BenchError::Site`] when a program is not built, [`BenchError::File`].
pub fn with_edge_agent(directory: &Path) -> Result<Programs, BenchError> {
    let built = Programs::default();
    let target = built.directory().parent().unwrap_or(built.directory());
    let agent = Programs::in_directory(target.join(EDGE)).agent()?;
    let mixed = directory.join("programs");
    match fs::remove_dir_all(&mixed) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(BenchError::file(mixed)(error));
        }
        _ => {}
    }
    fs::create_dir_all(&mixed).map_err(BenchError::file(&mixed))?;
    for program in [built.hub()?, built.kubelet()?, built.cli()?, agent] {
        let absolute = fs::canonicalize(&program).map_err(BenchError::file(&program))?;
        let link = mixed.join(program.file_name().expect("a program has a name"));
        symlink(absolute, &link).map_err(BenchError::file(link))?;
    }
    Ok(Programs::in_directory(mixed))
}
