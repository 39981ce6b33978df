//! What hey prints: a table of requests with `-o csv`, else a summary.

use super::{MAX_RATE, MAX_STEPS, Trace, wrong};
use crate::simulate::{LONGEST, SECOND, SimulateError};

/// How a summary begins.
pub(super) const SUMMARY: &str = "Summary:";

const OFFSET: &str = "offset";
const RESPONSE_TIME: &str = "response-time";

/// Whether a heading is that of hey's table.
pub(super) fn is_table(heading: &str) -> bool {
    let mut columns = heading.split(',').map(str::trim);
    columns.clone().any(|column| column == OFFSET) && columns.any(|column| column == RESPONSE_TIME)
}

/// Of a table: the rate of each second is the requests that were sent in it. Rows are in the order of the answers, so offsets may
/// go back.
pub(super) fn table(text: &str) -> Result<Trace, SimulateError> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let (_, heading) = lines.next().unwrap_or_default();
    let columns: Vec<&str> = heading.split(',').map(str::trim).collect();
    let place = |name: &str| columns.iter().position(|column| *column == name).unwrap_or_default();
    let (offset, response_time) = (place(OFFSET), place(RESPONSE_TIME));
    let mut seconds: Vec<u32> = Vec::new();
    for (index, line) in lines {
        let number = index + 1;
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != columns.len() {
            let (found, expected) = (fields.len(), columns.len());
            return Err(wrong(number, format!("{found} columns; expected {expected}, as in the heading")));
        }
        for (name, place, most) in [(RESPONSE_TIME, response_time, 1e9), (OFFSET, offset, LONGEST as f64 - 1.0)] {
            match fields[place].parse::<f64>() {
                Ok(value) if (0.0..=most).contains(&value) => {}
                _ => {
                    return Err(wrong(
                        number,
                        format!("{name} is '{}'; expected seconds from 0 to {most}", fields[place]),
                    ));
                }
            }
        }
        let second = fields[offset].parse::<f64>().unwrap_or_default() as usize;
        if second >= MAX_STEPS {
            return Err(wrong(number, format!("{OFFSET} is {}; expected less than {MAX_STEPS} s", fields[offset])));
        }
        if second >= seconds.len() {
            seconds.resize(second + 1, 0);
        }
        seconds[second] += 1;
    }
    if seconds.is_empty() {
        return Err(wrong(1, "a heading without requests"));
    }
    let end = seconds.len() as u64 * SECOND;
    let steps = seconds.into_iter().enumerate().map(|(second, sent)| (second as u64 * SECOND, f64::from(sent)));
    Trace::new(steps.collect(), end)
}

/// Of a summary: the rate that it was, for as long as it took.
pub(super) fn summary(text: &str) -> Result<Trace, SimulateError> {
    let read = |name: &str| {
        for (index, line) in text.lines().enumerate() {
            let Some(value) = line.trim().strip_prefix(name) else { continue };
            let value = value.trim().trim_end_matches("secs").trim();
            return match value.parse::<f64>() {
                Ok(value) if value.is_finite() && value >= 0.0 => Ok((index + 1, value)),
                _ => Err(wrong(index + 1, format!("{name} '{value}'; expected a number"))),
            };
        }
        Err(wrong(text.lines().count().max(1), format!("hey's summary has no line '{name}'")))
    };
    let (line, seconds) = read("Total:")?;
    if seconds < 1e-3 {
        return Err(wrong(line, format!("a total of {seconds} s; expected more than 0")));
    }
    let (line, rate) = read("Requests/sec:")?;
    if rate > MAX_RATE {
        return Err(wrong(line, format!("a rate of {rate}; expected 0 to 1e9")));
    }
    Trace::new(vec![(0, rate)], (seconds.min(1e9) * SECOND as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str =
        "response-time,DNS+dialup,DNS,Request-write,Response-delay,Response-read,status-code,offset\n";

    fn row(offset: &str) -> String {
        format!("0.0123,0.0010,0.0000,0.0001,0.0100,0.0002,200,{offset}\n")
    }

    #[test]
    fn a_table_is_the_requests_of_each_second() {
        let text = format!("{HEADING}{}{}{}{}", row("0.9000"), row("0.1000"), row("3.2000"), row("1.0000"));
        let trace = Trace::parse(&text).expect("valid");
        assert_eq!([0, 1, 2, 3, 4].map(|second| trace.rate(second * SECOND)), [2.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(trace.end(), 4 * SECOND);
    }

    #[test]
    fn a_summary_is_a_constant_rate() {
        let text = "\nSummary:\n  Total:\t10.5000 secs\n  Slowest:\t0.1 secs\n  Requests/sec:\t199.8000\n\nLatency distribution:\n";
        let trace = Trace::parse(text).expect("valid");
        assert_eq!((trace.rate(5 * SECOND), trace.end()), (199.8, 10_500_000));
    }

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, words) in [
            (HEADING.to_owned(), 1, "without requests"),
            (format!("{HEADING}{}{}", row("0.1"), row("-1")), 3, "offset is '-1'"),
            (format!("{HEADING}{}", row("NaN")), 2, "offset is 'NaN'"),
            (format!("{HEADING}{}0.01,200", row("0.1")), 3, "2 columns; expected 8"),
            (format!("{HEADING}{}", row("9e9")), 2, "expected seconds from 0"),
            ("Summary:\n  Total:\t0.0000 secs\n".to_owned(), 2, "more than 0"),
            ("Summary:\n  Total:\t5 secs\n".to_owned(), 2, "no line 'Requests/sec:'"),
            ("Summary:\n  Total:\t5 secs\n  Requests/sec:\t2e9\n".to_owned(), 3, "0 to 1e9"),
            ("Summary:\n  Total:\tsoon\n".to_owned(), 2, "expected a number"),
        ] {
            match Trace::parse(&text) {
                Err(SimulateError::Trace { line: named, reason }) => {
                    assert!(named == line && reason.contains(words), "{text:?}: {named}: {reason}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
    }
}
