//! The differential suite of operators: runs its cases on tract, and makes or checks the table of what is verified.
//!
//! `corymb-tests-operators CASES TABLE [--write | --part]`: `run.sh` calls it. Without a flag the table must be what the
//! cases say; with `--part` the cases are a part of the suite, and must not contradict the table.

mod case;
mod child;
mod children;
mod compare;
mod table;

use std::path::Path;
use std::process::ExitCode;

use crate::table::Findings;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["--child", cases] => child::run(Path::new(cases)).map(|()| true),
        [cases, table] => suite(Path::new(cases), Path::new(table), Mode::Check),
        [cases, table, "--write"] => suite(Path::new(cases), Path::new(table), Mode::Write),
        [cases, table, "--part"] => suite(Path::new(cases), Path::new(table), Mode::Part),
        _ => Err("usage: corymb-tests-operators CASES TABLE [--write | --part]".to_owned()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Check,
    Write,
    Part,
}

/// What the suite has at least: with fewer cases the generator is broken.
const CASES: usize = 100_000;
/// The same of a tenth of it.
const CASES_OF_PART: usize = 9_000;

/// Whether all is as it should be.
fn suite(path: &Path, table: &Path, mode: Mode) -> Result<bool, String> {
    let cases = case::read(path)?;
    let expected = if mode == Mode::Part { CASES_OF_PART } else { CASES };
    if cases.len() < expected {
        return Err(format!("{} has {} cases; at least {expected} are expected", path.display(), cases.len()));
    }
    let results = children::run(path, cases.len()).map_err(|error| format!("run the cases: {error}"))?;
    let findings = Findings::of(&cases, &results);
    let report = path.with_file_name("report.txt");
    let written = |error: std::io::Error| format!("write: {error}");
    std::fs::write(&report, findings.report(&cases, &results)).map_err(written)?;
    println!("{}", findings.summary());
    println!("what is not verified, and why: {}", report.display());
    let known = || std::fs::read_to_string(table).map_err(|error| format!("{}: {error}", table.display()));
    let mut complaints = match mode {
        Mode::Part => table::contradictions(&cases, &results, &known()?),
        Mode::Check => findings.differences(&known()?),
        Mode::Write => Vec::new(),
    };
    if mode == Mode::Write {
        std::fs::write(table, findings.table()).map_err(written)?;
    }
    if mode != Mode::Part {
        let blamed = findings.rewritten_wrongly.iter().map(|fault| format!("a rewrite is at fault: {fault}"));
        complaints.extend(blamed);
    }
    complaints.iter().for_each(|complaint| println!("{complaint}"));
    Ok(complaints.is_empty())
}
