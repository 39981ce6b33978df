//! What is wrong with the variables that the SDK reads by itself: it would take its defaults, or nothing, without a word.

use corymb_repository::nearest;

use crate::config::environment::Environment;

/// What a variable takes.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// A whole number of at least so much, of these.
    Whole(u64, &'static str),
    /// `true` or `false`.
    Flag,
    /// `NAME=VALUE,…`; values may be secret.
    Pairs,
    /// One of these, in any letters.
    Word(&'static [&'static str]),
    /// Read and checked elsewhere, or without effect.
    Other,
}

use Kind::{Flag, Other, Pairs, Whole, Word};

/// For each signal there is one of its own, too.
const OF_SIGNALS: [(&str, Kind); 9] = [
    ("ENDPOINT", Other),
    ("PROTOCOL", Other),
    ("COMPRESSION", Other),
    ("TIMEOUT", Other),
    ("HEADERS", Pairs),
    ("INSECURE", Flag),
    ("CERTIFICATE", Other),
    ("CLIENT_CERTIFICATE", Other),
    ("CLIENT_KEY", Other),
];

const MILLISECONDS: Kind = Whole(1, "milliseconds");

const OTHERS: [(&str, Kind); 32] = [
    ("OTEL_SDK_DISABLED", Flag),
    ("OTEL_SERVICE_NAME", Other),
    ("OTEL_RESOURCE_ATTRIBUTES", Pairs),
    ("OTEL_PROPAGATORS", Other),
    ("OTEL_LOG_LEVEL", Other),
    ("OTEL_TRACES_EXPORTER", Other),
    ("OTEL_METRICS_EXPORTER", Other),
    ("OTEL_LOGS_EXPORTER", Other),
    ("OTEL_TRACES_SAMPLER", Other),
    ("OTEL_TRACES_SAMPLER_ARG", Other),
    ("OTEL_METRICS_EXEMPLAR_FILTER", Other),
    ("OTEL_METRIC_EXPORT_INTERVAL", MILLISECONDS),
    ("OTEL_METRIC_EXPORT_TIMEOUT", Other),
    ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", Word(&["cumulative", "delta", "lowmemory"])),
    ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", Other),
    ("OTEL_BSP_SCHEDULE_DELAY", MILLISECONDS),
    ("OTEL_BSP_EXPORT_TIMEOUT", Other),
    ("OTEL_BSP_MAX_QUEUE_SIZE", Whole(1, "spans")),
    ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", Whole(1, "spans")),
    ("OTEL_BSP_MAX_CONCURRENT_EXPORTS", Whole(1, "exports")),
    ("OTEL_BLRP_SCHEDULE_DELAY", MILLISECONDS),
    ("OTEL_BLRP_EXPORT_TIMEOUT", Other),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", Whole(1, "records")),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", Whole(1, "records")),
    ("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", Whole(0, "attributes")),
    ("OTEL_SPAN_EVENT_COUNT_LIMIT", Whole(0, "events")),
    ("OTEL_SPAN_LINK_COUNT_LIMIT", Whole(0, "links")),
    ("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", Whole(0, "attributes")),
    ("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", Whole(0, "attributes")),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", Other),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", Other),
    ("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", Other),
];

fn known() -> Vec<(String, Kind)> {
    let of_signals = OF_SIGNALS.iter().flat_map(|(what, kind)| {
        let of = ["", "TRACES_", "METRICS_", "LOGS_"];
        of.map(|signal| (format!("OTEL_EXPORTER_OTLP_{signal}{what}"), *kind))
    });
    of_signals.chain(OTHERS.iter().map(|(name, kind)| ((*name).to_owned(), *kind))).collect()
}

/// A line for each variable that is not what it should be. Those of other languages' SDKs, of which there are many, are not ours to know:
/// a name is only said to be wrong where a known one is near.
pub(super) fn faults(environment: &Environment) -> Vec<String> {
    let known = known();
    let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).collect();
    let mut faults = Vec::new();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("OTEL_")) {
        match known.iter().find(|(known, _)| known == name) {
            Some((_, kind)) => faults.extend(fault(name, value.trim(), *kind)),
            None => {
                let near = nearest(name, &names).filter(|near| near.len().abs_diff(name.len()) <= 2);
                faults.extend(near.map(|near| format!("the variable {name} is unknown; did you mean {near}?")));
            }
        }
    }
    faults
}

/// What is wrong with one. An empty one counts as unset.
fn fault(name: &str, value: &str, kind: Kind) -> Option<String> {
    if value.is_empty() {
        return None;
    }
    match kind {
        Whole(least, unit) => {
            let is_right = value.parse::<u64>().is_ok_and(|number| number >= least);
            (!is_right).then(|| format!("{name} is '{value}'; expected a number of {unit}, {least} or more"))
        }
        Flag => {
            let is_right = ["true", "false"].contains(&value.to_ascii_lowercase().as_str());
            (!is_right).then(|| format!("{name} is '{value}', which counts as false; expected true or false"))
        }
        Word(words) => {
            let is_right = words.contains(&value.to_ascii_lowercase().as_str());
            let (last, others) = words.split_last()?;
            let words = format!("{} or {last}", others.join(", "));
            (!is_right).then(|| format!("{name} is '{value}', which is ignored; expected {words}"))
        }
        Pairs => {
            let is_pair = |part: &str| part.split_once('=').is_some_and(|(name, _)| !name.trim().is_empty());
            let stray = value.split_terminator(',').position(|part| !is_pair(part.trim()))?;
            // It may be a secret that lost its name.
            Some(format!("{name}: part {} is no NAME=VALUE, and is ignored", stray + 1))
        }
        Other => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, value: &str) -> Vec<String> {
        faults(&Environment::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn values_that_the_sdk_would_not_take_are_named() {
        for (name, value, words) in [
            ("OTEL_METRIC_EXPORT_INTERVAL", "abc", "is 'abc'; expected a number of milliseconds, 1 or more"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "5s", "is '5s'"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0", "is '0'"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "a number of spans"),
            ("OTEL_SDK_DISABLED", "yes", "counts as false"),
            ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "1", "expected true or false"),
            ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "deltas", "cumulative, delta or lowmemory"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,s3cret", "part 2 is no NAME=VALUE"),
            ("OTEL_RESOURCE_ATTRIBUTES", "team", "part 1 is no NAME=VALUE"),
            ("OTEL_EXPORTER_OTLP_ENDPIONT", "x", "did you mean OTEL_EXPORTER_OTLP_ENDPOINT?"),
            ("OTEL_METRICS_EXPORT_INTERVAL", "x", "did you mean OTEL_METRIC_EXPORT_INTERVAL?"),
        ] {
            let faults = of(name, value);
            assert!(faults.len() == 1 && faults[0].contains(words) && faults[0].contains(name), "{faults:?}");
            assert!(!faults[0].contains("s3cret"), "{faults:?}");
        }
        for (name, value) in [
            ("OTEL_METRIC_EXPORT_INTERVAL", " 5000 "),
            ("OTEL_METRIC_EXPORT_INTERVAL", ""),
            ("OTEL_SPAN_EVENT_COUNT_LIMIT", "0"),
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1, b=,"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a"),
            ("OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED", "x"),
            ("OTEL_RESOURCE_ATTRIBUTES_POD_NAME", "x"),
            ("OTEL_K8S_NAMESPACE", "x"),
        ] {
            assert_eq!(of(name, value), [""; 0], "{name}");
        }
    }
}
