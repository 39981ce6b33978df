//! Replays a trace of requests through [`RequestStats`] and prints each report: `tests/knative` compares them with
//! Knative's own.
//!
//! Standard input has one event a line: nanoseconds since the start, then `in`, `out`, `proxied-in`, `proxied-out` or
//! `report`; the word `start` alone begins another trace. A report is one line: average concurrency, average proxied
//! concurrency, requests, proxied requests.

use std::io::{BufRead as _, Write as _};
use std::time::{Duration, Instant};

use corymb_engine::RequestStats;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = Instant::now();
    let mut stats = RequestStats::new(start);
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "start" {
            stats = RequestStats::new(start);
            continue;
        }
        let (nanoseconds, event) = line.split_once(' ').ok_or("expected NANOSECONDS EVENT")?;
        let now = start + Duration::from_nanos(nanoseconds.parse()?);
        match event {
            "in" => stats.enter(now, false),
            "out" => stats.leave(now, false),
            "proxied-in" => stats.enter(now, true),
            "proxied-out" => stats.leave(now, true),
            "report" => {
                let report = stats.report(now);
                writeln!(
                    out,
                    "{:?} {:?} {} {}",
                    report.average_concurrency,
                    report.average_proxied_concurrency,
                    report.request_count,
                    report.proxied_request_count
                )?;
            }
            other => return Err(format!("unknown event '{other}'").into()),
        }
    }
    Ok(out.flush()?)
}
