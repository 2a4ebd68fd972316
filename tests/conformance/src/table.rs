//! The result, for people.

use comfy_table::Table;

use crate::faults::Judged;
use crate::faults::forgetting::Observed;
use crate::run::{Outcome, Verdict};

/// Longest text that a cell shows, in characters.
const CELL: usize = 240;

/// One line per case that is not equal, its differences below, and the sums; also what one play alone showed.
pub fn print(verdicts: &[Verdict]) {
    let mut table = Table::new();
    table.set_header(["case", "fact", "kubelet", "device"]);
    for verdict in verdicts {
        match &verdict.outcome {
            Outcome::Equal => {}
            Outcome::Failed(error) => {
                table.add_row([&verdict.case, "not played", &cut(error), ""]);
            }
            Outcome::Different(differences) | Outcome::Rare(differences) => {
                let rare = matches!(verdict.outcome, Outcome::Rare(_));
                let case = if rare {
                    format!("{} (one of {} plays)", verdict.case, verdict.plays)
                } else {
                    verdict.case.clone()
                };
                for difference in differences {
                    let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "-".to_owned(), cut);
                    table.add_row([
                        case.clone(),
                        difference.fact.clone(),
                        shown(&difference.kubelet),
                        shown(&difference.device),
                    ]);
                }
            }
        }
    }
    if table.row_count() > 0 {
        println!("{table}");
    }
    let equal = verdicts
        .iter()
        .filter(|verdict| verdict.outcome.is_equal())
        .count();
    println!("{equal} of {} cases equal", verdicts.len());
    let again = verdicts.iter().filter(|verdict| verdict.plays > 1);
    let again: Vec<String> = again
        .map(|verdict| format!("{} ({} plays)", verdict.case, verdict.plays))
        .collect();
    if !again.is_empty() {
        println!("played more than once: {}", again.join(", "));
    }
}

/// One line per fault, and the sum.
pub fn print_faults(judged: &[Judged]) {
    let mut table = Table::new();
    table.set_header(["fault", "case", "shown by"]);
    for Judged { fault, shown } in judged {
        let shown = match shown {
            Ok(what) => cut(what),
            Err(why) => format!("MISSED: {}", cut(why)),
        };
        table.add_row([&fault.breaks, &fault.case, &shown]);
    }
    println!("{table}");
    let found = judged.iter().filter(|judged| judged.shown.is_ok()).count();
    println!("{found} of {} faults shown", judged.len());
}

/// One line per path that no case observes, and the sum.
pub fn print_observed(judged: &[Observed]) {
    let mut table = Table::new();
    table.set_header(["path", "forgotten in"]);
    for Observed { path, by } in judged {
        if let Err(cases) = by {
            let cases: Vec<String> = cases.iter().map(|text| cut(text)).collect();
            table.add_row([path, &cases.join("\n")]);
        }
    }
    if table.row_count() > 0 {
        println!("{table}");
    }
    let found = judged.iter().filter(|observed| observed.by.is_ok()).count();
    println!("{found} of {} paths observed", judged.len());
}

pub(crate) fn cut(text: &str) -> String {
    match text.char_indices().nth(CELL) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
