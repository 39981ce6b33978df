//! The answer of Prometheus to a range query: `/api/v1/query_range`.

use std::borrow::Cow;
use std::fmt;

use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::{MAX_RATE, MAX_STEPS, Trace, wrong};
use crate::simulate::{SECOND, SimulateError};

/// The most series that are summed.
const MAX_SERIES: usize = 10_000;

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow, default)]
    error: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(borrow, rename = "resultType")]
    result_type: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "capped::<_, Series<'_>, MAX_SERIES>")]
    result: Vec<Series<'a>>,
}

#[derive(Deserialize)]
struct Series<'a> {
    #[serde(borrow, default, deserialize_with = "capped::<_, Sample<'_>, MAX_STEPS>")]
    values: Vec<Sample<'a>>,
    /// Of a vector.
    #[serde(default)]
    value: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Sample<'a>(f64, #[serde(borrow)] Cow<'a, str>);

/// A list of so many at most.
fn capped<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    struct Capped<T, const MOST: usize>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Capped<T, MOST> {
        type Value = Vec<T>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(formatter, "a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(one) = list.next_element()? {
                if all.len() == MOST {
                    return Err(serde::de::Error::custom(format_args!("a list of more than {MOST}")));
                }
                all.push(one);
            }
            Ok(all)
        }
    }
    deserializer.deserialize_seq(Capped::<T, MOST>(std::marker::PhantomData))
}

/// Parses a matrix. Several series are summed where they have the same timestamps. The first is second 0; each value holds until the
/// next, the last as long as the one before.
pub(super) fn parse(text: &str) -> Result<Trace, SimulateError> {
    let answer: Answer<'_> = serde_json::from_str(text)
        .map_err(|error| wrong(error.line().max(1), format!("no answer of Prometheus to a range query: {error}")))?;
    if let Some(error) = answer.error {
        return Err(wrong(1, format!("Prometheus answered with an error: {error}")));
    }
    let data = answer.data.ok_or_else(|| wrong(1, "no answer of Prometheus to a range query: there is no 'data'"))?;
    if data.result_type != "matrix" {
        let found = data.result_type;
        return Err(wrong(1, format!("the answer is a {found}; expected a matrix, as /api/v1/query_range answers")));
    }
    let mut sum: Vec<(f64, f64)> = Vec::new();
    let mut before = 0;
    for (index, series) in data.result.iter().enumerate() {
        let rates = rates(series, before)?;
        if index == 0 {
            sum = rates;
        } else {
            add(&mut sum, &rates, index, before)?;
        }
        before += series.values.len();
    }
    if sum.len() < 2 {
        return Err(wrong(1, format!("{} samples; expected at least two", sum.len())));
    }
    let begin = sum[0].0;
    let micros = |at: f64| ((at - begin) * SECOND as f64).round() as u64;
    let last = micros(sum[sum.len() - 1].0);
    let end = last + (last - micros(sum[sum.len() - 2].0));
    if let Some(place) = sum.iter().position(|(_, rate)| *rate > MAX_RATE) {
        let reason = format!("the series sum to {}; expected 0 to 1e9", sum[place].1);
        return Err(SimulateError::Sample { sample: place + 1, reason });
    }
    Trace::new(sum.iter().map(|&(at, rate)| (micros(at), rate)).collect(), end)
}

/// The samples of one series, `before` of which were in others.
fn rates(series: &Series<'_>, before: usize) -> Result<Vec<(f64, f64)>, SimulateError> {
    if series.value.is_some() {
        return Err(wrong(1, "a series has one value; expected values, as /api/v1/query_range answers"));
    }
    let mut rates: Vec<(f64, f64)> = Vec::with_capacity(series.values.len());
    for (place, Sample(at, text)) in series.values.iter().enumerate() {
        let wrong = |reason: String| SimulateError::Sample { sample: before + place + 1, reason };
        let rate = match text.parse::<f64>() {
            Ok(rate) if (0.0..=MAX_RATE).contains(&rate) => rate,
            _ => return Err(wrong(format!("'{text}'; expected a rate from 0 to 1e9"))),
        };
        // Microseconds of a later time than any Prometheus knows are still exact.
        if !(0.0..=1e11).contains(at) {
            return Err(wrong(format!("a timestamp of {at}; expected seconds since 1970")));
        }
        if rates.last().is_some_and(|(last, _)| *at < last + 1e-6) {
            return Err(wrong(format!("{at} does not come after the sample before")));
        }
        rates.push((*at, rate));
    }
    Ok(rates)
}

fn add(sum: &mut [(f64, f64)], rates: &[(f64, f64)], index: usize, before: usize) -> Result<(), SimulateError> {
    let other = |place: usize| SimulateError::Sample {
        sample: before + place + 1,
        reason: format!("series {} has other timestamps than the first: sum them in the query, by sum(…)", index + 1),
    };
    if let Some(place) = sum.iter().zip(rates).position(|(known, rate)| known.0 != rate.0) {
        return Err(other(place));
    }
    if sum.len() != rates.len() {
        return Err(other(sum.len().min(rates.len())));
    }
    for (known, rate) in sum.iter_mut().zip(rates) {
        known.1 += rate.1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matrix(series: &[&str]) -> String {
        let series: Vec<String> =
            series.iter().map(|values| format!("{{\"metric\":{{\"pod\":\"a\"}},\"values\":[{values}]}}")).collect();
        format!("{{\"status\":\"success\",\"data\":{{\"resultType\":\"matrix\",\"result\":[{}]}}}}", series.join(","))
    }

    #[test]
    fn the_last_value_holds_for_a_step() {
        let trace = Trace::parse(&matrix(&["[1700000000.5,\"10\"],[1700000030.5,\"20.5\"],[1700000060.5,\"5\"]"]))
            .expect("valid");
        assert_eq!([0, 29, 30, 60, 89, 90].map(|at| trace.rate(at * SECOND)), [10.0, 10.0, 20.5, 5.0, 5.0, 0.0]);
    }

    #[test]
    fn series_of_the_same_times_are_summed() {
        let trace = Trace::parse(&matrix(&["[0,\"1\"],[15,\"2\"]", "[0,\"10\"],[15,\"20\"]"])).expect("valid");
        assert_eq!([0, 15].map(|at| trace.rate(at * SECOND)), [11.0, 22.0]);
    }

    #[test]
    fn mistakes_name_their_sample() {
        for (text, sample, words) in [
            (matrix(&["[0,\"1\"],[15,\"-2\"]"]), 2, "'-2'; expected a rate"),
            (matrix(&["[0,\"1\"],[15,\"NaN\"]"]), 2, "'NaN'"),
            (matrix(&["[0,\"1\"],[15,\"+Inf\"]"]), 2, "'+Inf'"),
            (matrix(&["[0,\"1\"],[15,\"1.5e9\"]"]), 2, "0 to 1e9"),
            (matrix(&["[0,\"1\"],[15,\"1\"],[10,\"1\"]"]), 3, "does not come after"),
            (matrix(&["[0,\"1\"],[15,\"1\"]", "[0,\"1\"],[16,\"1\"]"]), 4, "series 2 has other timestamps"),
            (matrix(&["[0,\"1\"],[15,\"1\"]", "[0,\"1\"]"]), 4, "series 2 has other timestamps"),
            (matrix(&["[0,\"9e8\"],[15,\"1\"]", "[0,\"9e8\"],[15,\"1\"]"]), 1, "sum to 1800000000"),
        ] {
            match Trace::parse(&text) {
                Err(SimulateError::Sample { sample: named, reason }) => {
                    assert!(named == sample && reason.contains(words), "{text}: {named}: {reason}");
                }
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_range_is_refused() {
        let good = matrix(&["[0,\"1\"],[15,\"2\"]"]);
        for (text, words) in [
            (good[..good.len() - 4].to_owned(), "EOF"),
            (matrix(&[]), "0 samples"),
            (matrix(&["[0,\"1\"]"]), "1 samples"),
            ("{\"status\":\"error\",\"errorType\":\"bad_data\",\"error\":\"parse error\"}".to_owned(), "parse error"),
            ("{\"data\":{\"resultType\":\"vector\",\"result\":[]}}".to_owned(), "is a vector"),
            ("{\"a\":1}".to_owned(), "no 'data'"),
            (matrix(&["[0,1],[15,2]"]), "expected a string"),
        ] {
            let error = Trace::parse(&text).expect_err(&text).to_string();
            assert!(error.starts_with("line 1 of the trace: ") && error.contains(words), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_cut_answer_is_an_error_and_no_panic(cut in 0_usize..90) {
            let text = matrix(&["[0,\"1\"],[15,\"2\"]"]);
            prop_assert!(Trace::parse(&text[..cut.min(text.len() - 1)]).is_err());
        }
    }
}
