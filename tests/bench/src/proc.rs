//! CPU time and memory of a process, as the kernel accounts them (proc(5)).

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

use crate::BenchError;

/// What all threads of a process have used since it began, the ended ones too: user and system time.
///
/// The kernel rounds down to a clock tick (10 ms), so a difference over one pod is coarse; a sum of differences over many is not, since the
/// errors of neighbouring readings cancel.
///
/// # Errors
/// [`BenchError::File`] when the process has ended.
pub fn cpu_time(pid: i32) -> Result<Duration, BenchError> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(BenchError::file(&path))?;
    let ticks = parse_cpu_ticks(&text).ok_or(BenchError::Unreadable {
        path,
        problem: "it has no user and system time",
    })?;
    Ok(Duration::from_secs_f64(to_float(ticks) / ticks_per_second()?))
}

/// The name may hold anything, so the fields count from its closing bracket: the 14th and 15th of proc(5) are the 12th and 13th after it.
fn parse_cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn ticks_per_second() -> Result<f64, BenchError> {
    let ticks = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    ticks
        .and_then(|ticks| u32::try_from(ticks).ok())
        .map(f64::from)
        .ok_or_else(|| BenchError::Unreadable {
            path: "sysconf(_SC_CLK_TCK)".to_owned(),
            problem: "the kernel does not say",
        })
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Its own pages, and its share of those that others map too. This is the figure that sums up over processes.
    pub pss: u64,
    /// Of that: heap, stacks and written data, which belong to nobody else.
    pub anonymous: u64,
    /// Of that: pages of files, mainly the program itself.
    pub file: u64,
    /// Of the pages of files: program text. The kernel drops them under pressure and reads them again.
    pub text: u64,
    /// Pages that only this process maps, written or not.
    pub private: u64,
}

/// Reads the sums from `smaps_rollup` and the text from `smaps`.
///
/// # Errors
/// [`BenchError::File`] when the process has ended or belongs to somebody else.
pub fn memory(pid: i32) -> Result<Memory, BenchError> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).map_err(BenchError::file(path))
    };
    let (rollup, maps) = (read("smaps_rollup")?, read("smaps")?);
    let memory = parse_rollup(&rollup).ok_or_else(|| BenchError::Unreadable {
        path: format!("/proc/{pid}/smaps_rollup"),
        problem: "a sum is missing",
    })?;
    Ok(Memory {
        text: parse_text(&maps),
        ..memory
    })
}

fn parse_rollup(text: &str) -> Option<Memory> {
    let field = |name: &str| text.lines().find_map(|line| kilobytes(line, name));
    Some(Memory {
        pss: field("Pss")?,
        anonymous: field("Pss_Anon")?,
        file: field("Pss_File")?,
        text: 0,
        private: field("Private_Clean")? + field("Private_Dirty")?,
    })
}

/// Sums the proportional pages of executable mappings. A mapping's header (`start-end rwxp …`) stands above its fields.
fn parse_text(maps: &str) -> u64 {
    let mut is_executable = false;
    let mut sum = 0;
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let is_header = words
            .next()
            .is_some_and(|word| word.contains('-') && !word.ends_with(':'));
        if is_header {
            is_executable = words
                .next()
                .is_some_and(|rights| rights.as_bytes().get(2) == Some(&b'x'));
        } else if is_executable {
            sum += kilobytes(line, "Pss").unwrap_or(0);
        }
    }
    sum
}

/// `Name:     12 kB` in bytes.
fn kilobytes(line: &str, name: &str) -> Option<u64> {
    let value = line
        .strip_prefix(name)?
        .strip_prefix(':')?
        .trim()
        .strip_suffix(" kB")?;
    value.parse::<u64>().ok()?.checked_mul(1024)
}

#[allow(
    clippy::cast_precision_loss,
    reason = "2^53 ticks are longer than any machine runs"
)]
fn to_float(ticks: u64) -> f64 {
    ticks as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_odd_names() {
        let rest = "S 1 2 3 0 -1 4194304 100 0 0 0 17 4 900 900 20 0 1 0 404231";
        let check = |given: String, expect: Option<u64>| {
            assert_eq!(parse_cpu_ticks(&given), expect, "{given}");
        };
        check(format!("42 (hub) {rest}"), Some(21));
        check(format!("42 (a) b (c) {rest}"), Some(21));
        check("42 (hub) S 1 2".to_owned(), None);
        check(String::new(), None);
        check(format!("42 (hub) {}", rest.replace("17", "x")), None);
    }

    #[test]
    fn this_process_uses_time_and_memory() {
        let me = i32::try_from(std::process::id()).unwrap();
        let memory = memory(me).unwrap();
        assert!(memory.pss >= memory.anonymous + memory.text);
        assert!(memory.anonymous > 0 && memory.text > 0, "{memory:?}");
        let before = cpu_time(me).unwrap();
        while cpu_time(me).unwrap() < before + Duration::from_millis(20) {}
    }

    #[test]
    fn rollup_is_read_by_field() {
        let text = "00400000-7ffc ---p 00000000 00:00 0  [rollup]\nRss:  1760 kB\nPss:   214 kB\nPss_Dirty:  112 kB\nPss_Anon:  112 kB\n\
                    Pss_File:  102 kB\nPrivate_Clean:   40 kB\nPrivate_Dirty:   112 kB\n";
        let expect = Memory {
            pss: 214 * 1024,
            anonymous: 112 * 1024,
            file: 102 * 1024,
            text: 0,
            private: 152 * 1024,
        };
        assert_eq!(parse_rollup(text), Some(expect));
        assert_eq!(parse_rollup("Pss: 1 kB\n"), None);
    }

    #[test]
    fn only_executable_mappings_are_text() {
        let maps = "55d0-55e0 r--p 0 fe:00 1 /bin/a\nPss:  8 kB\nVmFlags: rd mr\n\
                    55e0-55f0 r-xp 0 fe:00 1 /bin/a\nPss:  100 kB\nPss_Dirty:  5 kB\nVmFlags: rd ex\n\
                    55f0-5600 rw-p 0 00:00 0 [heap]\nPss:  50 kB\n";
        assert_eq!(parse_text(maps), 100 * 1024);
    }
}
