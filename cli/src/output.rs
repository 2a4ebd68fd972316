//! How answers look: tables as kubectl prints them, or the API's own documents.

use clap::{Args, ValueEnum};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use jiff::Timestamp;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table.
    Table,
    /// A table with more columns.
    Wide,
    Json,
    Yaml,
    /// Only the names, one a line.
    Name,
}

#[derive(Debug, Args)]
pub struct OutputArgs {
    /// How to print.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// One kind of row. The first column is the name.
pub trait Row: Serialize {
    /// Headers of the table, then those that only `wide` shows.
    const COLUMNS: (&'static [&'static str], &'static [&'static str]);

    /// Cells in the order of all headers.
    fn cells(&self, now: Timestamp) -> Vec<String>;
}

/// Prints the rows. An empty table says so on standard error, as kubectl does.
pub fn print<R: Row>(format: Format, what: &str, rows: &[R]) -> anyhow::Result<()> {
    match format {
        Format::Json => println!("{}", serde_json::to_string_pretty(rows)?),
        Format::Yaml => print!("{}", serde_saphyr::to_string(&rows)?),
        Format::Name => {
            let now = Timestamp::now();
            for row in rows {
                println!("{}", row.cells(now).swap_remove(0));
            }
        }
        Format::Table | Format::Wide if rows.is_empty() => eprintln!("No {what} found."),
        Format::Table => println!("{}", table(rows, false)),
        Format::Wide => println!("{}", table(rows, true)),
    }
    Ok(())
}

fn table<R: Row>(rows: &[R], wide: bool) -> String {
    let (narrow, more) = R::COLUMNS;
    let columns = narrow.len() + if wide { more.len() } else { 0 };
    let now = Timestamp::now();
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(narrow.iter().chain(more).take(columns));
    for row in rows {
        table.add_row(row.cells(now).into_iter().take(columns));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

/// The time since then as kubectl shows ages (apimachinery `duration.HumanDuration`), or `-` when there is no then.
pub fn age(then_ms: Option<i64>, now: Timestamp) -> String {
    let Some(then_ms) = then_ms else {
        return "-".to_owned();
    };
    let seconds = (now.as_millisecond() - then_ms).max(0) / 1000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |whole: i64, unit: &str, rest: i64, small: &str| {
        if rest == 0 {
            format!("{whole}{unit}")
        } else {
            format!("{whole}{unit}{rest}{small}")
        }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => two(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

/// A unit variant as the API spells it.
pub fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other
            .get("state")
            .and_then(|state| state.as_str())
            .unwrap_or("?")
            .to_owned(),
        Err(_) => "?".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_look_like_kubectls() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (601, "10m"),
            (10_800, "3h"),
            (10_860, "3h1m"),
            (86_400, "24h"),
            (180_000, "2d2h"),
            (864_000, "10d"),
        ] {
            assert_eq!(age(Some(now.as_millisecond() - seconds * 1000), now), text);
        }
        assert_eq!(age(None, now), "-");
    }
}
