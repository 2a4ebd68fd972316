//! The workload of the tests: one static binary whose first argument chooses how it behaves.
//!
//! | mode | behaviour |
//! |---|---|
//! | `http --port N` | serves `/`, `/healthz`, `/env`, `/file/PATH` and `/elsewhere`, a redirect to another host; exits 0 on SIGTERM or SIGINT |
//! | `picky --port N` | as `http`, for who asks for `/wants/NAME/VALUE` with that header; `/told/WHAT` and TLS it says aloud |
//! | `grpc --port N` | answers every gRPC health check: a service called `sick` does not serve, any other does |
//! | `crash --after-seconds N --code C` | exits C after N seconds |
//! | `exit --code N` | exits N at once |
//! | `hog --mib N` | takes and touches N MiB, says so, and waits for SIGTERM |
//! | `ignore-term` | prints each SIGTERM and SIGINT and stays: only SIGKILL ends it |
//! | `print [PATH…]` | prints the environment and the named files, directories with all that is in them, and exits 0 |
//! | `pause` | the sandbox process: reaps orphans, exits 0 on SIGTERM or SIGINT |

mod grpc;
mod http;
mod picky;
mod report;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

const USAGE: &str = "usage: server http --port N | picky --port N | grpc --port N | crash --after-seconds N --code C | exit --code N | hog --mib N | ignore-term | print [PATH...] | pause";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Mode {
    Http { port: u16 },
    Picky { port: u16 },
    Grpc { port: u16 },
    Crash { after: Duration, code: u8 },
    Exit { code: u8 },
    Hog { mib: usize },
    IgnoreTerm,
    Print { paths: Vec<String> },
    Pause,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match parse(&arguments) {
        Ok(mode) => run(mode),
        Err(message) => Err(format!("{message}\n{USAGE}")),
    };
    outcome.unwrap_or_else(|message| {
        eprintln!("{message}");
        ExitCode::from(2)
    })
}

fn run(mode: Mode) -> Result<ExitCode, String> {
    match mode {
        Mode::Http { port } => http::serve(port, http::answer),
        Mode::Picky { port } => http::serve(port, picky::answer),
        Mode::Grpc { port } => http::serve(port, grpc::answer),
        Mode::Crash { after, code } => {
            println!("crashing with {code} in {} s", after.as_secs());
            Ok(signals::exit_on_term_within(after).map_or(ExitCode::from(code), |()| ExitCode::SUCCESS))
        }
        Mode::Exit { code } => Ok(ExitCode::from(code)),
        Mode::Hog { mib } => Ok(hog(mib)),
        Mode::IgnoreTerm => signals::ignore_term(),
        Mode::Print { paths } => Ok(report::print(&paths)),
        Mode::Pause => signals::pause(),
    }
}

/// Touches every page, since memory that is only reserved counts against no limit.
fn hog(mib: usize) -> ExitCode {
    let mut held: Vec<Vec<u8>> = Vec::new();
    for taken in 1..=mib {
        held.push(vec![1; 1024 * 1024]);
        if taken % 16 == 0 || taken == mib {
            println!("holding {taken} MiB");
        }
    }
    signals::wait_for_term();
    drop(held);
    ExitCode::SUCCESS
}

fn parse(arguments: &[String]) -> Result<Mode, String> {
    let (mode, rest) = arguments.split_first().ok_or("a mode is missing")?;
    let mode = match mode.as_str() {
        "http" => Mode::Http {
            port: option(rest, "--port")?,
        },
        "picky" => Mode::Picky {
            port: option(rest, "--port")?,
        },
        "grpc" => Mode::Grpc {
            port: option(rest, "--port")?,
        },
        "crash" => Mode::Crash {
            after: Duration::from_secs(option(rest, "--after-seconds")?),
            code: option(rest, "--code")?,
        },
        "exit" => Mode::Exit {
            code: option(rest, "--code")?,
        },
        "hog" => Mode::Hog {
            mib: option(rest, "--mib")?,
        },
        "ignore-term" => Mode::IgnoreTerm,
        "print" => Mode::Print { paths: rest.to_vec() },
        "pause" => Mode::Pause,
        other => return Err(format!("{other:?} is no mode")),
    };
    Ok(mode)
}

/// The number that follows `name`.
fn option<N: std::str::FromStr>(arguments: &[String], name: &str) -> Result<N, String> {
    let at = arguments
        .iter()
        .position(|each| each == name)
        .ok_or_else(|| format!("{name} is missing"))?;
    let value = arguments
        .get(at + 1)
        .ok_or_else(|| format!("{name} needs a value"))?;
    value
        .parse()
        .map_err(|_| format!("{name} {value:?} is not a number in range"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_of_the_table_is_understood_and_nothing_else() {
        let check = |given: &str, expect: Option<Mode>| {
            let arguments: Vec<String> = given.split_whitespace().map(str::to_owned).collect();
            assert_eq!(parse(&arguments).ok(), expect, "{given}");
        };
        check("http --port 80", Some(Mode::Http { port: 80 }));
        check("picky --port 82", Some(Mode::Picky { port: 82 }));
        check("grpc --port 81", Some(Mode::Grpc { port: 81 }));
        check(
            "crash --after-seconds 2 --code 3",
            Some(Mode::Crash {
                after: Duration::from_secs(2),
                code: 3,
            }),
        );
        check("exit --code 7", Some(Mode::Exit { code: 7 }));
        check("hog --mib 64", Some(Mode::Hog { mib: 64 }));
        check("ignore-term", Some(Mode::IgnoreTerm));
        check(
            "print /etc a",
            Some(Mode::Print {
                paths: vec!["/etc".into(), "a".into()],
            }),
        );
        check("pause", Some(Mode::Pause));
        check("", None);
        check("sing", None);
        check("http", None);
        check("http --port 99999", None);
        check("exit --code", None);
    }
}
