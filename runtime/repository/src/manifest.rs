//! `model.toml`: what a folder says of its model.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use toml::Table;

use crate::keys::check_keys;
use crate::onnxruntime::OnnxRuntimeSection;

const KNOWN_KEYS: &[&str] = &[
    "file",
    "sha256",
    "labels",
    "backend",
    "device",
    "unverified",
    "pinned",
    "onnxruntime.optimization",
    "onnxruntime.custom_operators",
    // The section itself knows what may stand in these.
    "onnxruntime.session.*",
    "onnxruntime.cuda.*",
    "onnxruntime.tensorrt.*",
    "onnxruntime.migraphx.*",
    "onnxruntime.openvino.*",
    "onnxruntime.coreml.*",
    "plugin.file",
    "plugin.headers",
    "plugin.timeout",
    "plugin.config.*",
    "instances.count",
    "instances.threads",
    "instances.alone",
    "instances.run_timeout",
    "instances.isolation",
    "batching.enabled",
    "batching.max_size",
    "batching.max_delay",
    "batching.preferred",
    "batching.latency_target",
    "queue.max",
    "queue.timeout",
    "queue.priority",
    "share.weight",
    "versions.latest",
    "versions.all",
    "versions.only",
    "versions.canary",
    "versions.weights.*",
];

/// The manifest of a model. Every key has a default; an unknown key is an error that names the nearest known one.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The ONNX file; by default the only one of the folder.
    pub file: Option<String>,
    /// Of `file`, in hexadecimal.
    pub sha256: Option<String>,
    /// A file with one class name a line, in the order of the scores.
    pub labels: Option<String>,
    /// `auto`, `fastest`, or a backend's name.
    pub backend: Option<String>,
    /// `auto`, `cpu`, `cuda`, `cuda:N`, `cuda-or-cpu`, `cuda:0,cuda:1`, …
    pub device: Option<String>,
    /// Which words of another server's file ask for `device`, for messages.
    #[serde(skip)]
    pub device_by: Option<&'static str>,
    /// Whether a backend may run what it is not known to compute rightly.
    #[serde(default)]
    pub unverified: bool,
    /// Whether it stays loaded where models are loaded on demand.
    #[serde(default)]
    pub pinned: bool,
    /// Options of ONNX Runtime.
    #[serde(default)]
    pub onnxruntime: OnnxRuntimeSection,
    /// The Wasm component around the model.
    pub plugin: Option<PluginSection>,
    /// Executable copies.
    #[serde(default)]
    pub instances: InstancesSection,
    /// Requests that share a run.
    #[serde(default)]
    pub batching: BatchingSection,
    /// Waiting requests.
    #[serde(default)]
    pub queue: QueueSection,
    /// The model's part of the processor while others want it, too.
    #[serde(default)]
    pub share: ShareSection,
    /// Which of numbered folders are served.
    #[serde(default)]
    pub versions: VersionsSection,
}

/// `[plugin]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSection {
    /// The component's file.
    pub file: String,
    /// Request headers that the plugin sees as parameters, in any case.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Time of one call; by default what the server allows.
    #[serde(default, deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// Given to `configure` as JSON.
    #[serde(default)]
    pub config: Table,
}

/// `[instances]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstancesSection {
    /// On each device; by default as many as the compute pool has workers, and one on an accelerator.
    pub count: Option<usize>,
    /// Threads that one run may use; by default 1.
    pub threads: Option<usize>,
    /// Whether a request that is alone may have all workers, where a measurement shows a gain. By default it may.
    pub alone: Option<bool>,
    /// Time of one run; by default what the server allows.
    #[serde(default, deserialize_with = "duration")]
    pub run_timeout: Option<Duration>,
    /// Which process they run in.
    #[serde(default)]
    pub isolation: Isolation,
}

/// `isolation`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// The server's, unless a node is known to have ended processes and cannot be kept from it.
    #[default]
    Auto,
    /// Each a process of its own.
    Process,
    /// The server's, whatever is known.
    Thread,
}

/// `[batching]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchingSection {
    /// Overrides what warm-up found: whether rows of a run are independent of each other.
    pub enabled: Option<bool>,
    /// Rows of one run at most; by default what measured best.
    pub max_size: Option<usize>,
    /// How long the first of a run waits for others; by default not at all.
    #[serde(default, deserialize_with = "duration")]
    pub max_delay: Option<Duration>,
    /// Rows of one run that are not waited beyond, ascending.
    #[serde(default)]
    pub preferred: Vec<usize>,
    /// A request that would take longer than this is refused at once.
    #[serde(default, deserialize_with = "duration")]
    pub latency_target: Option<Duration>,
}

/// `[queue]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueSection {
    /// Requests that may wait.
    pub max: Option<usize>,
    /// How long one may wait.
    #[serde(default, deserialize_with = "duration")]
    pub timeout: Option<Duration>,
    /// The priority of requests that do not say; 1 is served first. By default they come after all that say.
    pub priority: Option<u64>,
}

/// `[share]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareSection {
    /// From 1 to 100: who has twice the weight of another has twice its time while both want more than there is. By default 1.
    pub weight: Option<u32>,
}

impl ShareSection {
    const HEAVIEST: u32 = 100;

    /// What is said, or the default.
    #[must_use]
    pub fn weight(&self) -> u32 {
        self.weight.unwrap_or(1)
    }
}

/// `[versions]`: which are served, and who answers requests that name none. Of the first three keys one at most; without
/// any those are served that the weights name, with a canary the latest two, else the latest. Of the last two one at most; without
/// either the newest answers. It stands in the `model.toml` beside numbered folders.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionsSection {
    /// So many, those with the largest numbers.
    pub latest: Option<usize>,
    /// Every one.
    #[serde(default)]
    pub all: bool,
    /// These.
    pub only: Option<Vec<u64>>,
    /// Of `only` those that are there, which may not be all: so Triton means it.
    #[serde(skip)]
    pub where_present: bool,
    /// Of a hundred requests so many go to the newest, the others to the one before it.
    pub canary: Option<u8>,
    /// Shares by version; one that is not named gets nothing.
    #[serde(default)]
    pub weights: BTreeMap<String, u32>,
}

impl VersionsSection {
    /// Those of `present`, which is ascending, that are to be served, ascending.
    ///
    /// # Errors
    /// A line that says which version is named and not there.
    pub fn select(&self, present: &[u64]) -> Result<Vec<u64>, String> {
        let is_weighed = |number: &u64| self.weights.get(&number.to_string()).is_some_and(|weight| *weight > 0);
        let listed = |numbers: &[u64]| match numbers {
            [one] => format!("there is {one}"),
            several => format!("there are {}", several.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        };
        let chosen: Vec<u64> = if self.all {
            present.to_vec()
        } else if let Some(only) = &self.only {
            let absent = only.iter().find(|number| !present.contains(number));
            let found: Vec<u64> = present.iter().copied().filter(|number| only.contains(number)).collect();
            if let Some(absent) = absent.filter(|_| !self.where_present || found.is_empty()) {
                return Err(format!("`versions.only` names {absent}; {}", listed(present)));
            }
            found
        } else if self.latest.is_none() && !self.weights.is_empty() {
            present.iter().copied().filter(is_weighed).collect()
        } else {
            // Who divides requests between the newest and the one before it wants both.
            let count = self.latest.unwrap_or(if self.canary.is_some() { 2 } else { 1 });
            present[present.len() - count.min(present.len())..].to_vec()
        };
        if !self.weights.is_empty() && !chosen.iter().any(is_weighed) {
            let named: Vec<&str> = self.weights.keys().map(String::as_str).collect();
            let there = if chosen.is_empty() { listed(present) } else { listed(&chosen) };
            return Err(format!("`versions.weights` names {}, of which none is served; {there}", named.join(", ")));
        }
        Ok(chosen)
    }

    fn check_policy(&self) -> Result<(), String> {
        let policies = [self.latest.is_some(), self.all, self.only.is_some()];
        if policies.into_iter().filter(|given| *given).count() > 1 {
            return Err("`versions` has several of `latest`, `all` and `only`; expected one".to_owned());
        }
        if self.latest == Some(0) {
            return Err("`versions.latest` is 0; expected at least 1".to_owned());
        }
        if self.only.as_ref().is_some_and(Vec::is_empty) {
            return Err("`versions.only` is empty; expected at least one version".to_owned());
        }
        Ok(())
    }

    fn check_split(&self) -> Result<(), String> {
        if let Some(canary) = self.canary.filter(|canary| *canary > 100) {
            return Err(format!("`versions.canary` is {canary}; expected at most 100, in percent"));
        }
        let is_number = |version: &str| version.parse::<u64>().is_ok_and(|number| number.to_string() == version);
        if let Some(wrong) = self.weights.keys().find(|version| !is_number(version)) {
            return Err(format!("`versions.weights` names '{wrong}'; expected numbers of versions"));
        }
        if !self.weights.is_empty() && self.weights.values().all(|weight| *weight == 0) {
            return Err("`versions.weights` are all 0; expected at least one above 0".to_owned());
        }
        if self.canary.is_some() && !self.weights.is_empty() {
            return Err("`versions` has both `canary` and `weights`; expected one".to_owned());
        }
        Ok(())
    }
}

/// Copies of a model, and threads of each: more than any machine has cores.
const MOST_INSTANCES: usize = 1024;
/// Rows of one run.
const MOST_ROWS: usize = 1 << 20;
/// Requests that wait for one model.
const MOST_WAITING: usize = 1 << 20;
/// Longer than anybody waits; beyond it the clocks of some systems end.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);

fn duration<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map(Some).map_err(|error| {
        serde::de::Error::custom(format!("'{text}' is not a duration such as \"250ms\" or \"30s\": {error}"))
    })
}

impl Manifest {
    /// Parses the text of a `model.toml`.
    ///
    /// # Errors
    /// One line that says what is wrong and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| one_line(&error, text))?;
        check_keys(&table, KNOWN_KEYS)?;
        let manifest: Self = toml::from_str(text).map_err(|error| one_line(&error, text))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// What a key's type does not say.
    pub(crate) fn check(&self) -> Result<(), String> {
        let batching = &self.batching;
        let priority = self.queue.priority.map(|priority| usize::try_from(priority).unwrap_or(usize::MAX));
        let numbers = [
            ("instances.count", self.instances.count, MOST_INSTANCES),
            ("instances.threads", self.instances.threads, MOST_INSTANCES),
            ("batching.max_size", batching.max_size, MOST_ROWS),
            ("batching.preferred", batching.preferred.first().copied(), MOST_ROWS),
            ("batching.preferred", batching.preferred.last().copied(), MOST_ROWS),
            ("queue.max", self.queue.max, MOST_WAITING),
            ("queue.priority", priority, usize::MAX),
        ];
        for (key, value, most) in numbers.into_iter().filter_map(|(key, value, most)| Some((key, value?, most))) {
            match value {
                0 => return Err(format!("`{key}` is 0; expected at least 1")),
                value if value > most => return Err(format!("`{key}` is {value}; expected at most {most}")),
                _ => {}
            }
        }
        if let Some(weight) = self.share.weight.filter(|weight| !(1..=ShareSection::HEAVIEST).contains(weight)) {
            return Err(format!("`share.weight` is {weight}; expected 1 to {}", ShareSection::HEAVIEST));
        }
        if !batching.preferred.is_sorted_by(|one, two| one < two) {
            return Err(format!("`batching.preferred` is {:?}; expected ascending sizes", batching.preferred));
        }
        if let (Some(max), Some(last)) = (batching.max_size, batching.preferred.last())
            && last > &max
        {
            return Err(format!("`batching.preferred` goes up to {last}; `batching.max_size` is {max}"));
        }
        let durations = [
            ("batching.latency_target", batching.latency_target),
            ("instances.run_timeout", self.instances.run_timeout),
            ("plugin.timeout", self.plugin.as_ref().and_then(|plugin| plugin.timeout)),
            ("queue.timeout", self.queue.timeout),
        ];
        if let Some((key, _)) = durations.into_iter().find(|(_, value)| value.is_some_and(|time| time.is_zero())) {
            return Err(format!("`{key}` is 0; expected a duration such as \"50ms\""));
        }
        let too_long = |(_, value): &(&str, Option<Duration>)| value.is_some_and(|time| time > LONGEST);
        let max_delay = ("batching.max_delay", batching.max_delay);
        if let Some((key, _)) = durations.into_iter().chain([max_delay]).find(too_long) {
            return Err(format!("`{key}` is longer than a year; expected a duration such as \"50ms\""));
        }
        if let Some(wrong) = self.plugin.iter().flat_map(|plugin| &plugin.headers).find(|name| !is_header(name)) {
            return Err(format!("`plugin.headers` names '{wrong}'; expected names of headers such as \"x-tenant\""));
        }
        self.versions.check_policy()?;
        self.versions.check_split()?;
        if let Some(sha256) = &self.sha256
            && (sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(format!("`sha256` is '{sha256}'; expected 64 hexadecimal digits"));
        }
        Ok(())
    }
}

/// Whether it is a token of HTTP: <https://www.rfc-editor.org/rfc/rfc9110#name-tokens>.
fn is_header(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

/// toml's own text spans lines and draws arrows: kept to its message and a line number.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let message = error.message().replace('\n', " ");
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}

impl PluginSection {
    /// The configuration as JSON, `{}` where there is none.
    #[must_use]
    pub fn config_json(&self) -> String {
        serde_json::to_string(&self.config).unwrap_or_else(|_| "{}".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_understood() {
        let text = r#"
            file = "model.onnx"
            sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
            labels = "labels.txt"
            backend = "tract"
            device = "cpu"
            [onnxruntime]
            optimization = "basic"
            custom_operators = ["libortextensions.so"]
            [onnxruntime.session]
            session.disable_prepacking = true
            [onnxruntime.cuda]
            gpu_mem_limit = 1073741824
            [plugin]
            file = "flowers.wasm"
            headers = ["X-Tenant"]
            config = { size = 160 }
            timeout = "5s"
            [instances]
            count = 2
            threads = 1
            alone = false
            run_timeout = "30s"
            isolation = "process"
            [batching]
            enabled = true
            max_size = 8
            max_delay = "1ms"
            preferred = [4, 8]
            latency_target = "50ms"
            [queue]
            max = 1024
            timeout = "1s"
            priority = 3
            [share]
            weight = 2
            [versions]
            latest = 2
            weights = { 1 = 90, 2 = 10 }
        "#;
        let manifest = Manifest::parse(text).expect("valid");
        assert_eq!(manifest.onnxruntime.settings().session["session.disable_prepacking"], "1");
        assert_eq!(manifest.queue.timeout, Some(Duration::from_secs(1)));
        assert_eq!(manifest.instances.count, Some(2));
        assert_eq!(manifest.instances.isolation, Isolation::Process);
        assert_eq!(manifest.batching.preferred, [4, 8]);
        assert_eq!(manifest.versions.weights.get("2"), Some(&10));
        assert_eq!(manifest.batching.latency_target, Some(Duration::from_millis(50)));
        assert_eq!(manifest.plugin.expect("given").config_json(), r#"{"size":160}"#);
        assert!(Manifest::parse("").is_ok());
    }

    #[test]
    fn mistakes_are_named_in_one_line() {
        for (text, expected) in [
            ("fil = 'x'", "unknown key `fil`; did you mean `file`?"),
            ("[queue]\ntimeout = 'soon'", "'soon' is not a duration"),
            ("[batching]\npreferred = [4, 2]", "`batching.preferred` is [4, 2]; expected ascending sizes"),
            (
                "[batching]\nmax_size = 4\npreferred = [8]",
                "`batching.preferred` goes up to 8; `batching.max_size` is 4",
            ),
            (
                "[onnxruntime]\noptimisation = 'all'",
                "unknown key `onnxruntime.optimisation`; did you mean `onnxruntime.opt",
            ),
            ("[onnxruntime.session]\n'session.x' = 1", "unknown key `onnxruntime.session.session.x`; "),
            ("[onnxruntime.cuda]\nuse_tf32 = 2", "`onnxruntime.cuda.use_tf32` is '2'; expected true or false"),
            ("[queue]\nmax = 0", "`queue.max` is 0; expected at least 1"),
            ("[queue]\nmax = 99999999999", "`queue.max` is 99999999999; expected at most 1048576"),
            ("[queue]\ntimeout = '0s'", "`queue.timeout` is 0; expected a duration"),
            ("[queue]\ntimeout = '18446744073709551615s'", "`queue.timeout` is longer than a year"),
            ("[batching]\nmax_delay = '366days'", "`batching.max_delay` is longer than a year"),
            ("[batching]\npreferred = [1, 9999999]", "`batching.preferred` is 9999999; expected at most 1048576"),
            ("[instances]\ncount = 1000000000", "`instances.count` is 1000000000; expected at most 1024"),
            ("[instances]\nthreads = 1000000", "`instances.threads` is 1000000; expected at most 1024"),
            ("file = 3", "invalid type: integer `3`, expected a string"),
            ("file = 'x'\nsha256 = 'abc'", "`sha256` is 'abc'; expected 64 hexadecimal digits"),
            ("[versions]\nlatest = 1\nall = true", "several of `latest`, `all` and `only`"),
            ("[versions]\nonly = []", "`versions.only` is empty"),
            ("[plugin]\nfile = 'p'\nheaders = ['a b']", "`plugin.headers` names 'a b'; expected names of headers"),
            ("[versions]\nlatest = 0", "`versions.latest` is 0; expected at least 1"),
            ("[versions]\nweights = { 01 = 1 }", "`versions.weights` names '01'; expected numbers"),
            ("[versions]\ncanary = 101", "`versions.canary` is 101; expected at most 100"),
            ("[versions]\nweights = { one = 1 }", "`versions.weights` names 'one'; expected numbers"),
            ("[versions]\nweights = { 1 = 0 }", "`versions.weights` are all 0"),
            ("[versions]\ncanary = 1\nweights = { 1 = 1 }", "both `canary` and `weights`"),
            ("a = [", "line 1"),
        ] {
            let message = Manifest::parse(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
            assert!(!message.contains('\n'), "{message}");
        }
    }
}
