//! Triton's `config.pbtxt`: what of it has a counterpart here, and the names of what has none.
//!
//! The schema: <https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto>.

mod engine;

use std::time::Duration;

use corymb_core::DType;

use crate::manifest::Manifest;
use crate::shape::is_inside;
use crate::textproto::{Message, Value};

/// A configuration, understood.
#[derive(Clone, Debug, Default)]
pub(crate) struct Triton {
    pub(crate) manifest: Manifest,
    /// Keys that have no effect here.
    pub(crate) ignored: Vec<String>,
    /// Samples for warm-up.
    pub(crate) warmup: Vec<RawSample>,
    /// Files of the model's folder, each with its MD5 in lower-case hexadecimal.
    pub(crate) checksums: Vec<(String, String)>,
    /// What shall drive the devices that `instance_group` says, where that is not what usually does.
    accelerator: Option<&'static str>,
}

/// A file of `warmup/` that holds one tensor's bytes and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RawSample {
    pub(crate) input: String,
    pub(crate) file: String,
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
}

/// Keys that are true of an ONNX model without being told, or that say how Triton itself would run it.
const KNOWN: &[&str] = &["name", "platform", "backend", "input", "output", "default_model_filename"];

impl Triton {
    /// Understands the text of a `config.pbtxt`. `model` is the name that the model has here.
    ///
    /// # Errors
    /// One line: the text is malformed, or says something of the model that cannot be served.
    pub(crate) fn parse(text: &str, model: &str) -> Result<Self, String> {
        let config = Message::parse(text)?;
        refuse(&config, model)?;
        let mut triton = Self::default();
        triton.manifest.file = config.text("default_model_filename").map(str::to_owned);
        triton.manifest.labels =
            config.messages("output").find_map(|output| output.text("label_filename")).map(str::to_owned);
        for (key, value) in &config.0 {
            match (key.as_str(), value) {
                ("version_policy", Value::Message(policy)) => triton.versions(policy)?,
                ("instance_group", Value::Message(group)) => triton.instances(group)?,
                ("dynamic_batching", Value::Message(batching)) => triton.batching(batching)?,
                ("max_batch_size", _) => match config.number("max_batch_size")? {
                    // The tensors have no dimension for rows then.
                    None | Some(0) => triton.manifest.batching.enabled = Some(false),
                    Some(max) => triton.manifest.batching.max_size = Some(count(max)),
                },
                ("parameters", Value::Message(parameter)) => triton.parameter(parameter)?,
                ("model_operations", Value::Message(operations)) => triton.libraries(operations)?,
                ("optimization", Value::Message(optimization)) => triton.optimization(optimization)?,
                ("model_warmup", Value::Message(sample)) => {
                    let rows = config.number("max_batch_size")?.unwrap_or_default() > 0;
                    triton.warm_up(sample, rows)?;
                }
                ("model_repository_agents", Value::Message(agents)) => triton.agents(agents)?,
                (known, _) if KNOWN.contains(&known) => {}
                (other, _) => triton.ignore(other),
            }
        }
        triton.place();
        triton.manifest.check()?;
        if let Some(name) = config.text("name").filter(|name| !name.is_empty() && *name != model) {
            triton.ignore(&format!("name (it says '{name}')"));
        }
        Ok(triton)
    }

    fn ignore(&mut self, key: &str) {
        if !self.ignored.iter().any(|known| known == key) {
            self.ignored.push(key.to_owned());
        }
    }

    fn ignore_others(&mut self, path: &str, message: &Message, known: &[&str]) {
        for (key, _) in message.0.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
            self.ignore(&format!("{path}.{key}"));
        }
    }

    fn versions(&mut self, policy: &Message) -> Result<(), String> {
        let versions = &mut self.manifest.versions;
        if let Some(latest) = policy.message("latest") {
            versions.latest = Some(count(latest.number("version_policy.latest.num_versions")?.unwrap_or(1)));
        } else if policy.message("all").is_some() {
            versions.all = true;
        } else if let Some(specific) = policy.message("specific") {
            versions.only = Some(specific.numbers("version_policy.specific.versions")?);
            versions.where_present = true;
        } else if let Some((other, _)) = policy.0.first() {
            return Err(format!("`version_policy` has '{other}'; expected latest, all or specific"));
        }
        Ok(())
    }

    /// What is to be done before the model is loaded: Triton's own agent compares checksums. What another would do is not known.
    ///
    /// <https://github.com/triton-inference-server/checksum_repository_agent>
    fn agents(&mut self, agents: &Message) -> Result<(), String> {
        const KEY: &str = "model_repository_agents.agents";
        for agent in agents.messages("agents") {
            let name = agent.text("name").unwrap_or_default();
            if name != "checksum" {
                return Err(format!("`{KEY}` has '{name}', which is not supported; only checksum is"));
            }
            for parameter in agent.messages("parameters") {
                let (key, value) = (parameter.text("key").unwrap_or_default(), parameter.text("value"));
                let Some((file, md5)) = key.strip_prefix("MD5:").zip(value) else {
                    return Err(format!("`{KEY}.parameters` has '{key}'; expected MD5:FILE and a checksum"));
                };
                if !is_inside(file) || md5.len() != 32 || !md5.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    let expected = "a file of the model's folder, and 32 hexadecimal digits";
                    return Err(format!("`{KEY}.parameters` has '{key}' with '{md5}'; expected {expected}"));
                }
                self.checksums.push((file.to_owned(), md5.to_ascii_lowercase()));
            }
        }
        Ok(())
    }

    /// Several groups are copies of one kind, or only the first counts.
    fn instances(&mut self, group: &Message) -> Result<(), String> {
        let gpus = group.numbers("instance_group.gpus")?;
        let gpus = gpus.into_iter().map(|number| format!("cuda:{number}")).collect::<Vec<_>>().join(",");
        let device = match group.text("kind") {
            Some("KIND_CPU" | "2") => Some("cpu".to_owned()),
            Some("KIND_GPU" | "1") if gpus.is_empty() => Some("cuda".to_owned()),
            Some("KIND_GPU" | "1") => Some(gpus),
            None | Some("KIND_AUTO" | "0" | "KIND_MODEL" | "3") => None,
            Some(other) => {
                return Err(format!(
                    "`instance_group.kind` is {other}; expected KIND_AUTO, KIND_CPU, KIND_GPU or KIND_MODEL"
                ));
            }
        };
        let instances = &mut self.manifest.instances;
        if instances.count.is_some() && self.manifest.device != device {
            self.ignore("instance_group (all but the first kind)");
            return Ok(());
        }
        let more = count(group.number("instance_group.count")?.unwrap_or(1)).max(1);
        instances.count = Some(instances.count.unwrap_or_default().saturating_add(more));
        self.manifest.device_by = device.as_ref().map(|_| "`instance_group` in config.pbtxt");
        self.manifest.device = device;
        self.ignore_others("instance_group", group, &["name", "count", "kind", "gpus"]);
        Ok(())
    }

    fn batching(&mut self, batching: &Message) -> Result<(), String> {
        let section = &mut self.manifest.batching;
        section.enabled = section.enabled.or(Some(true));
        let sizes = batching.numbers("dynamic_batching.preferred_batch_size")?;
        section.preferred = sizes.into_iter().filter(|size| *size > 0).map(count).collect();
        section.preferred.sort_unstable();
        section.preferred.dedup();
        let delay = batching.number("dynamic_batching.max_queue_delay_microseconds")?;
        section.max_delay = delay.map(Duration::from_micros);
        let priority = batching.number("dynamic_batching.default_priority_level")?;
        self.manifest.queue.priority = priority.filter(|level| *level > 0);
        if let Some(policy) = batching.message("default_queue_policy") {
            const PATH: &str = "dynamic_batching.default_queue_policy";
            let number = |name: &str| {
                let number = policy.number(&format!("{PATH}.{name}"))?;
                Ok::<_, String>(number.filter(|number| *number > 0))
            };
            if let Some(max) = number("max_queue_size")? {
                self.manifest.queue.max = Some(count(max));
            }
            if let Some(timeout) = number("default_timeout_microseconds")? {
                self.manifest.queue.timeout = Some(Duration::from_micros(timeout));
            }
            let known = ["max_queue_size", "default_timeout_microseconds"];
            self.ignore_others(PATH, policy, &known);
        }
        let known = [
            "preferred_batch_size",
            "max_queue_delay_microseconds",
            "default_queue_policy",
            // Any priority may be named here.
            "priority_levels",
            "default_priority_level",
        ];
        self.ignore_others("dynamic_batching", batching, &known);
        Ok(())
    }

    /// A sample of zeros is what is tried without one.
    fn warm_up(&mut self, sample: &Message, rows: bool) -> Result<(), String> {
        let size = sample.number("model_warmup.batch_size")?;
        for input in sample.messages("inputs") {
            let (Some(name), Some(value)) = (input.text("key"), input.message("value")) else { continue };
            if value.text("zero_data").is_some() {
                continue;
            }
            let dtype = value.text("data_type").and_then(|name| name.strip_prefix("TYPE_")).and_then(dtype);
            let dims = value.numbers("model_warmup.inputs.dims")?.into_iter().map(count);
            match (value.text("input_data_file"), dtype) {
                (Some(file), Some(dtype)) if !self.warmup.iter().any(|known| known.input == name) => {
                    let batch = rows.then(|| count(size.unwrap_or(1)));
                    let shape = batch.into_iter().chain(dims).collect();
                    self.warmup.push(RawSample { input: name.to_owned(), file: file.to_owned(), dtype, shape });
                }
                _ => self.ignore(&format!("model_warmup.inputs.{name}")),
            }
        }
        Ok(())
    }
}

/// What cannot be served at all, by its name.
fn refuse(config: &Message, model: &str) -> Result<(), String> {
    let set = |key: &str| config.get(key).is_some();
    if config.text("platform") == Some("ensemble") || set("ensemble_scheduling") {
        return Err(format!("'{model}' is an ensemble, which is not supported"));
    }
    if set("sequence_batching") {
        return Err("`sequence_batching`: models with a state between requests are not supported".to_owned());
    }
    let policy = config.message("model_transaction_policy");
    if policy
        .and_then(|policy| policy.text("decoupled"))
        .is_some_and(|value| matches!(value, "true" | "True" | "t" | "1"))
    {
        return Err(
            "`model_transaction_policy.decoupled`: models that answer several times are not supported".to_owned()
        );
    }
    for (key, onnx) in [("platform", "onnxruntime_onnx"), ("backend", "onnxruntime")] {
        if let Some(other) = config.text(key).filter(|value| !value.is_empty() && *value != onnx) {
            return Err(format!("`{key}` is '{other}'; expected '{onnx}': only ONNX models are served"));
        }
    }
    Ok(())
}

/// Triton's names are the protocol's. Its texts have lengths in front of them, which a sample here does not.
fn dtype(name: &str) -> Option<DType> {
    DType::from_name(name).filter(|dtype| dtype.size().is_some())
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_counterpart_is_mapped_and_the_rest_is_named() {
        let text = r#"
            name: "m"
            platform: "onnxruntime_onnx"
            default_model_filename: "net.onnx"
            input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, 2 ] } ]
            output [ { name: "y" data_type: TYPE_FP32 dims: [ 5 ] label_filename: "labels.txt" } ]
            version_policy: { latest { num_versions: 2 } }
            instance_group [ { count: 2 kind: KIND_CPU }, { count: 1 kind: KIND_CPU } ]
            max_batch_size: 8
            dynamic_batching {
              preferred_batch_size: [ 8, 4 ] max_queue_delay_microseconds: 100 preserve_ordering: true
              default_queue_policy { max_queue_size: 9, default_timeout_microseconds: 1500 }
            }
            model_warmup [ { name: "w" inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 3, 2 ] input_data_file: "raw" } } } ]
            parameters { key: "intra_op_thread_count" value: { string_value: "4" } }
            parameters { key: "execution_mode" value: { string_value: "1" } }
            optimization { priority: PRIORITY_MAX }
        "#;
        let triton = Triton::parse(text, "m").expect("valid");
        let manifest = &triton.manifest;
        assert_eq!(manifest.file.as_deref(), Some("net.onnx"));
        assert_eq!(manifest.labels.as_deref(), Some("labels.txt"));
        assert_eq!(manifest.versions.latest, Some(2));
        assert_eq!((manifest.instances.count, manifest.device.as_deref()), (Some(3), Some("cpu")));
        assert_eq!(manifest.queue.max, Some(9));
        assert_eq!(manifest.queue.timeout, Some(Duration::from_micros(1500)));
        let sample = RawSample { input: "x".into(), file: "raw".into(), dtype: DType::Fp32, shape: vec![1, 3, 2] };
        assert_eq!(triton.warmup, [sample]);
        assert_eq!((manifest.batching.enabled, manifest.batching.max_size), (Some(true), Some(8)));
        assert_eq!(manifest.batching.preferred, [4, 8]);
        assert_eq!(manifest.batching.max_delay, Some(Duration::from_micros(100)));
        assert_eq!(manifest.instances.threads, Some(4));
        let names: Vec<&str> = triton.ignored.iter().filter_map(|key| key.split(' ').next()).collect();
        assert_eq!(names, ["dynamic_batching.preserve_ordering", "parameters.execution_mode", "optimization.priority"]);
    }

    #[test]
    fn policies_and_devices() {
        let manifest = |text: &str| Triton::parse(text, "m").expect(text).manifest;
        assert!(manifest("version_policy { all {} }").versions.all);
        let specific = manifest("version_policy { specific { versions: [ 1, 7 ] } }").versions;
        assert_eq!(specific.select(&[1, 2]), Ok(vec![1]));
        assert!(specific.select(&[2, 3]).is_err());
        let md5 = "900150983CD24FB0D6963F7D28E17F72";
        let text = format!(
            "model_repository_agents {{ agents [ {{ name: 'checksum', parameters [ {{ key: 'MD5:1/m' value: '{md5}' }} ] }} ] }}"
        );
        let checksums = Triton::parse(&text, "m").expect("valid").checksums;
        assert_eq!(checksums, [("1/m".to_owned(), md5.to_ascii_lowercase())]);
        assert_eq!(manifest("version_policy { specific { versions: [ 1, 3 ] } }").versions.only, Some(vec![1, 3]));
        let device = manifest("instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }").device;
        assert_eq!(device.as_deref(), Some("cuda:0,cuda:1"));
        assert_eq!(manifest("max_batch_size: 0").batching.enabled, Some(false));
        assert_eq!(manifest("max_batch_size: 0x8").batching.max_size, Some(8));
        assert_eq!(manifest("instance_group { kind: 2 count: 010 }").instances.count, Some(8));
        let triton = Triton::parse("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]", "m").expect("valid");
        assert_eq!(triton.ignored, ["instance_group (all but the first kind)"]);
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        for (text, expected) in [
            ("platform: \"ensemble\"", "'m' is an ensemble"),
            ("ensemble_scheduling { }", "'m' is an ensemble"),
            ("backend: \"python\"", "`backend` is 'python'"),
            ("sequence_batching { }", "`sequence_batching`"),
            ("model_repository_agents { agents [ { name: 'relocate' } ] }", "has 'relocate', which is not supported"),
            (
                "model_repository_agents { agents { name: 'checksum' parameters { key: 'SHA1:m' value: '0' } } }",
                "has 'SHA1:m'; expected MD5:FILE",
            ),
            (
                "model_repository_agents { agents { name: 'checksum' parameters { key: 'MD5:../m' value: '0' } } }",
                "has 'MD5:../m' with '0'; expected a file",
            ),
            ("model_transaction_policy { decoupled: true }", "`model_transaction_policy.decoupled`"),
            ("name: ", "line 1"),
            ("max_batch_size: -1", "`max_batch_size` is -1; expected a number, 0 or more"),
            ("max_batch_size: \"8\"", "`max_batch_size` is the text \"8\"; expected a number without quotes"),
            ("instance_group { count: 8.5 }", "`instance_group.count` is 8.5; expected a number, 0 or more"),
            ("instance_group { kind: GPU }", "`instance_group.kind` is GPU; expected KIND_AUTO"),
            ("version_policy { latst {} }", "`version_policy` has 'latst'; expected latest, all or specific"),
            (
                "version_policy { specific { versions: [ 1, -1 ] } }",
                "`version_policy.specific.versions` is -1; expected a number, 0 or more",
            ),
            (
                "dynamic_batching { default_queue_policy { max_queue_size: -1 } }",
                "`dynamic_batching.default_queue_policy.max_queue_size` is -1; expected a number",
            ),
        ] {
            let message = Triton::parse(text, "m").expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
