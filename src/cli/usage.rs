//! `outpost usage`: what was worked and earned, from the ledger.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::process::{fail, print};
use crate::accounts::{self, Grouping, UsageRow};
use crate::app::ExitStatus;
use crate::config::{Environment, LedgerConfig};
use crate::messages::untrusted::Untrusted;

#[derive(Args)]
pub(super) struct Usage {
    /// Count jobs that ended in this time, such as 24h or 30d, or `all`
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = since)]
    since: Since,
    /// What a row of the table stands for
    #[arg(long, value_enum, default_value = "model")]
    by: Grouping,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    json: bool,
    /// Print CSV, with a header and without the sum
    #[arg(long)]
    csv: bool,
}

/// How far back jobs count; `None`: all of them.
#[derive(Clone, Copy)]
struct Since(Option<Duration>);

fn since(text: &str) -> Result<Since, humantime::DurationError> {
    if text == "all" { Ok(Since(None)) } else { humantime::parse_duration(text).map(|time| Since(Some(time))) }
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    rows: &'a [UsageRow],
    total: &'a UsageRow,
}

pub(super) fn run(options: &Usage, env: &dyn Environment) -> ExitStatus {
    let path = match LedgerConfig::from_env(env) {
        Ok(Some(ledger)) => ledger.path,
        Ok(None) => return fail(ExitStatus::Failure, "OUTPOST_LEDGER_PATH is off: there is no ledger"),
        Err(report) => return fail(ExitStatus::Configuration, report),
    };
    let failed =
        |fault| fail(ExitStatus::Failure, format_args!("the ledger {} can't be read: {fault}", path.display()));
    let ledger = match accounts::Usage::open(&path) {
        Ok(Some(ledger)) => ledger,
        Ok(None) => {
            let advice = "has the agent run on this machine, as this user, and with this OUTPOST_IDENTITY_PATH?";
            return fail(ExitStatus::Failure, format_args!("there is no ledger at {}: {advice}", path.display()));
        }
        Err(fault) => return failed(fault),
    };
    let since = options.since.0.and_then(|time| SystemTime::now().checked_sub(time)).unwrap_or(UNIX_EPOCH);
    let (rows, total) = match ledger.by(options.by, since) {
        Ok(found) => found,
        Err(fault) => return failed(fault),
    };
    if options.json {
        let text = serde_json::to_string_pretty(&Report { rows: &rows, total: &total }).unwrap_or_default();
        return print(&format!("{text}\n"));
    }
    let name = options.by.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    print(&if options.csv { csv(&name, &rows) } else { table(&name, &rows, &total) })
}

/// The columns behind the name of the group.
const COLUMNS: [&str; 8] =
    ["jobs", "done", "failed", "cancelled", "input_tokens", "cached_tokens", "output_tokens", "earned_usd"];

fn figures(row: &UsageRow, earned: String) -> [String; 8] {
    let UsageRow { group: _, jobs, done, failed, cancelled, input_tokens, cached_tokens, output_tokens, .. } = row;
    let [jobs, done, failed, cancelled, input, cached, output] =
        [jobs, done, failed, cancelled, input_tokens, cached_tokens, output_tokens].map(u64::to_string);
    [jobs, done, failed, cancelled, input, cached, output, earned]
}

/// USD with all the digits that there are.
fn usd(nano: u64) -> String {
    format!("{}.{:09}", nano / 1_000_000_000, nano % 1_000_000_000)
}

/// Names are quoted: they may contain commas, and what a spreadsheet takes for a formula.
fn csv(name: &str, rows: &[UsageRow]) -> String {
    let mut text = format!("{name},{}\n", COLUMNS.join(","));
    for row in rows {
        let guard = if row.group.starts_with(['=', '+', '-', '@']) { "'" } else { "" };
        let group: String = row.group.chars().filter(|c| !c.is_control()).collect();
        let group = group.replace('"', "\"\"");
        // Writing to a String can't fail.
        let _ = writeln!(text, "\"{guard}{group}\",{}", figures(row, usd(row.earned_nano)).join(","));
    }
    text
}

fn table(name: &str, rows: &[UsageRow], total: &UsageRow) -> String {
    if total.jobs == 0 {
        return "no job ended in this time\n".to_owned();
    }
    let cents = |row: &UsageRow| {
        let micro = row.earned_nano / 1000;
        format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000)
    };
    let named = |name: String, row: &UsageRow| [&[name][..], &figures(row, cents(row))].concat();
    let header = [&[name.to_owned()][..], &COLUMNS.map(|column| column.replace('_', " "))].concat();
    let mut lines = vec![header];
    lines.extend(rows.iter().map(|row| named(Untrusted(&row.group).to_string(), row)));
    lines.push(named("all".to_owned(), total));
    let widths: Vec<usize> = (0..=COLUMNS.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default())
        .collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = if column == 0 { write!(text, "{cell:width$}") } else { write!(text, "  {cell:>width$}") };
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: &str) -> UsageRow {
        UsageRow {
            group: group.to_owned(),
            jobs: 12,
            done: 10,
            failed: 1,
            cancelled: 1,
            input_tokens: 20_000,
            cached_tokens: 5_000,
            output_tokens: 3_000,
            earned_nano: 1_012_250_007,
        }
    }

    #[test]
    fn a_table_is_aligned_and_ends_with_the_sum() {
        let text = table("model", &[row("llama3.2:3b"), row("é\u{1b}")], &row(""));
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("model        jobs  done  failed"), "{text}");
        assert!(lines[1].starts_with("llama3.2:3b    12    10       1"), "{text}");
        assert!(lines[3].starts_with("all ") && lines[3].ends_with("1.012250"), "{text}");
        assert!(lines.iter().all(|line| line.chars().count() == lines[0].chars().count()), "{text}");
        assert!(!text.contains('\u{1b}'));
    }

    #[test]
    fn csv_has_every_digit_and_no_formulas() {
        let text = csv("model", &[row("a,\"b\""), row("=cmd()")]);
        let expected = "model,jobs,done,failed,cancelled,input_tokens,cached_tokens,output_tokens,earned_usd\n\
            \"a,\"\"b\"\"\",12,10,1,1,20000,5000,3000,1.012250007\n\"'=cmd()\",12,10,1,1,20000,5000,3000,1.012250007\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn without_a_job_there_is_no_table() {
        assert_eq!(table("model", &[], &UsageRow::default()), "no job ended in this time\n");
    }
}
