//! A CSV file of seconds and rates.

use super::{MAX_RATE, MAX_STEPS, Trace, wrong};
use crate::simulate::{SECOND, SimulateError, Time};

/// Parses lines of `seconds,rate`. A first line that is no number is a heading; empty lines and those that begin with `#` are left
/// out. The first row is at 0, and the last says when the trace ends: its rate is not used.
pub(super) fn parse(text: &str) -> Result<Trace, SimulateError> {
    let mut rows: Vec<(Time, f64)> = Vec::new();
    let mut last = 0;
    let mut has_heading = false;
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split(',').map(str::trim);
        let (Some(seconds), Some(rate), None) = (fields.next(), fields.next(), fields.next()) else {
            return Err(wrong(number, format!("'{}'; expected seconds,rate", shown(line))));
        };
        let (seconds, rate) = match (seconds.parse::<f64>(), rate.parse::<f64>()) {
            (Ok(seconds), Ok(rate)) => (seconds, rate),
            (Err(_), Err(_)) if rows.is_empty() && !has_heading => {
                has_heading = true;
                continue;
            }
            _ => return Err(wrong(number, format!("'{}'; expected two numbers: seconds,rate", shown(line)))),
        };
        if !(0.0..=1e9).contains(&seconds) || !(0.0..=MAX_RATE).contains(&rate) {
            return Err(wrong(number, format!("'{}'; expected seconds and a rate from 0 to 1e9", shown(line))));
        }
        let at = (seconds * SECOND as f64).round() as Time;
        match rows.last() {
            None if at != 0 => return Err(wrong(number, format!("the trace begins at {seconds} s; expected 0"))),
            Some((before, _)) if at <= *before => {
                return Err(wrong(number, format!("{seconds} s does not come after the row before")));
            }
            _ => {}
        }
        if rows.len() == MAX_STEPS {
            return Err(wrong(number, format!("more than {MAX_STEPS} rows")));
        }
        rows.push((at, rate));
        last = number;
    }
    if rows.len() < 2 {
        return Err(wrong(last.max(1), "expected at least two rows: the last says when the trace ends"));
    }
    let (end, _) = rows.pop().unwrap_or_default();
    Trace::new(rows, end)
}

/// The beginning of a line, for who looks for it.
fn shown(line: &str) -> String {
    line.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn mistakes_name_their_line() {
        for (text, line, words) in [
            ("", 1, "at least two rows"),
            ("0,1", 1, "at least two rows"),
            ("0,1\nx,2", 2, "expected two numbers"),
            ("x,y\nx,y\n0,1\n1,1", 2, "expected two numbers"),
            ("0,1\n1,2,3", 2, "expected seconds,rate"),
            ("0,1\n0,2", 2, "does not come after"),
            ("0,1\n9,1\n5,1\n10,0", 3, "does not come after"),
            ("5,1\n6,2", 1, "begins at 5 s"),
            ("0,-1\n6,2", 1, "from 0 to 1e9"),
            ("0,NaN\n6,2", 1, "from 0 to 1e9"),
            ("0,1\n1,1.1e9\n2,0", 2, "from 0 to 1e9"),
        ] {
            match Trace::parse(text) {
                Err(SimulateError::Trace { line: named, reason }) => {
                    assert_eq!(named, line, "{text:?}: {reason}");
                    assert!(reason.contains(words), "{text:?}: {reason}");
                }
                other => panic!("{text:?}: {other:?}"),
            }
        }
        assert!(matches!(Trace::parse("0,1\n4e6,0"), Err(SimulateError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(gaps in prop::collection::vec((1_u32..100_000, 0_u32..2_000_000), 1..50)) {
            let mut at = 0;
            let mut text = String::from("seconds,rate\n");
            for (gap, rate) in &gaps {
                text.push_str(&format!("{},{}\n", f64::from(at) / 1e3, f64::from(*rate) / 8.0));
                at += gap;
            }
            text.push_str(&format!("{},0\n", f64::from(at) / 1e3));
            let trace = Trace::parse(&text).expect("valid");
            let expected: f64 = gaps.iter().map(|(gap, rate)| f64::from(*gap) / 1e3 * f64::from(*rate) / 8.0).sum();
            prop_assert!((trace.requests() - expected).abs() <= 1e-9 * expected.max(1.0));
            prop_assert_eq!(trace.end(), u64::from(at) * 1000);
        }

        #[test]
        fn anything_else_is_an_error_and_no_panic(text in "[ -~\n]{0,200}") {
            let _ = Trace::parse(&text);
        }
    }
}
