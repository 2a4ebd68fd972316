//! Faults on purpose: what the suite is judged by. Each breaks one rule of the agent or the translation, and one case must show it.
//!
//! `faults.yaml` lists them. All are planted at once into a copy of the sources, where each asks a file whether it is the one whose turn it
//! is; so one build and one lab serve them all, and without a name in that file the copy behaves as the original.

pub mod forgetting;
mod play;
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::ConformanceError;
use crate::case::Case;

pub use play::{Judged, judge};
pub use tree::Tree;

/// What stands in [`Fault::with`] for "it is this fault's turn", an expression of type `bool`.
const TURN: &str = "$FAULT";
/// What stands there for the path of the file that is asked, a text of Rust.
const TURN_FILE: &str = "$TURN";

/// One entry of `faults.yaml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its file below the project's root.
    pub file: PathBuf,
    /// A text that occurs once in the file,
    pub find: String,
    /// and what it becomes; `$FAULT` is true while it is this fault's turn.
    pub with: String,
    /// The case that shows it,
    pub case: String,
    /// by this fact, or by never coming so far where it is absent.
    pub fact: Option<String>,
    /// The rule that is broken, in a few words; also its name.
    pub breaks: String,
}

impl Fault {
    /// The file's text with the fault in it.
    fn plant(&self, text: &str, turn: &Path) -> Result<String, ConformanceError> {
        let wrong = |problem: &str| ConformanceError::Fault {
            fault: self.breaks.clone(),
            problem: format!("{problem} in {}", self.file.display()),
        };
        match text.matches(&self.find).count() {
            1 => {}
            0 => return Err(wrong("its text is not")),
            _ => return Err(wrong("its text is more than once")),
        }
        if !self.with.contains(TURN) && !self.with.contains(TURN_FILE) {
            return Err(wrong("`with` does not ask for its turn"));
        }
        let turn = turn.display().to_string();
        let asked = format!(
            "::std::fs::read_to_string({turn:?}).is_ok_and(|turn| turn == {:?})",
            self.breaks
        );
        let with = self
            .with
            .replace(TURN, &asked)
            .replace(TURN_FILE, &format!("{turn:?}"));
        Ok(text.replacen(&self.find, &with, 1))
    }
}

/// The faults of a file, of which every one names a case.
///
/// # Errors
/// The file is wrong, two faults have one name, or a case does not exist.
pub fn all(path: &Path, cases: &[Case]) -> Result<Vec<Fault>, ConformanceError> {
    let text = std::fs::read_to_string(path).map_err(ConformanceError::file(path))?;
    let faults: Vec<Fault> = serde_saphyr::from_str(&text).map_err(|error| ConformanceError::Case {
        path: path.to_owned(),
        problem: error.to_string(),
    })?;
    let mut names = BTreeSet::new();
    for fault in &faults {
        if !cases.iter().any(|case| case.name == fault.case) {
            return Err(ConformanceError::NoCase(fault.case.clone()));
        }
        if !names.insert(&fault.breaks) {
            return Err(ConformanceError::Fault {
                fault: fault.breaks.clone(),
                problem: "it is listed twice".to_owned(),
            });
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many as the issue of this suite asks for.
    const FAULTS: usize = 30;

    fn fault(find: &str, with: &str) -> Fault {
        Fault {
            file: "a.rs".into(),
            find: find.into(),
            with: with.into(),
            case: "env/literal".into(),
            fact: None,
            breaks: "nothing".into(),
        }
    }

    #[test]
    fn every_fault_can_be_planted() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let cases = Case::all(&home.join("cases")).unwrap();
        let faults = all(&home.join("faults.yaml"), &cases).unwrap();
        assert!(faults.len() >= FAULTS, "{}", faults.len());
        for fault in faults {
            let text = std::fs::read_to_string(home.join("../..").join(&fault.file)).unwrap();
            fault.plant(&text, Path::new("/turn")).unwrap();
        }
    }

    #[test]
    fn a_fault_asks_for_its_turn_at_its_one_place() {
        let turn = Path::new("/turn");
        let planted = fault("a > b", "(a > b) != $FAULT").plant("if a > b {}", turn);
        let asked = r#"::std::fs::read_to_string("/turn").is_ok_and(|turn| turn == "nothing")"#;
        assert_eq!(planted.unwrap(), format!("if (a > b) != {asked} {{}}"));
        for (text, find, with) in [("x", "a", "$FAULT"), ("a a", "a", "$FAULT"), ("a", "a", "true")] {
            assert!(fault(find, with).plant(text, turn).is_err(), "{text}");
        }
    }
}
