//! What Triton's configuration asks of ONNX Runtime: `optimization`, `parameters` and `model_operations`.
//!
//! Its backend's keys: <https://github.com/triton-inference-server/onnxruntime_backend#readme>. What has no counterpart
//! is named with the reason. What Triton itself refuses is refused.

use corymb_core::Optimization;
use toml::Value as Toml;

use super::Triton;
use crate::onnxruntime::{is_of_session, refusal_of_device, refusal_of_session};
use crate::textproto::{Message, Value};

/// Parameters of the backend that have no counterpart here, and why.
const PARAMETERS: [(&str, &str); 6] = [
    ("execution_mode", "the nodes of a run follow each other; runs are side by side"),
    ("inter_op_thread_count", "the nodes of a run follow each other; runs are side by side"),
    ("enable_mem_arena", "there is no arena: the server bounds what a run takes"),
    ("enable_mem_pattern", "memory is planned where all shapes follow from the rows"),
    ("memory.enable_memory_arena_shrinkage", "there is no arena: freed memory goes back"),
    ("share_session_between_instances", "instances share one where they can"),
];

/// Parameters that are options of CUDA, with the words that stand for their numbers.
const CUDA: [(&str, &[&str]); 4] = [
    ("cudnn_conv_algo_search", &["EXHAUSTIVE", "HEURISTIC", "DEFAULT"]),
    ("arena_extend_strategy", &["kNextPowerOfTwo", "kSameAsRequested"]),
    ("gpu_mem_limit", &[]),
    ("do_copy_in_default_stream", &[]),
];

impl Triton {
    /// One of `parameters`.
    pub(super) fn parameter(&mut self, parameter: &Message) -> Result<(), String> {
        let key = parameter.text("key").unwrap_or_default();
        let path = format!("parameters.{key}");
        let Some(text) = parameter.message("value").and_then(|value| value.text("string_value")) else {
            self.ignore(&path);
            return Ok(());
        };
        if key == "intra_op_thread_count" {
            match text.parse::<i64>() {
                // What is not positive is the engine's own choice, as is saying nothing.
                Ok(threads) => {
                    self.manifest.instances.threads = usize::try_from(threads).ok().filter(|threads| *threads > 0);
                }
                Err(_) => return Err(format!("`{path}` is '{text}'; expected a number of threads")),
            }
        } else if let Some((_, words)) = CUDA.iter().find(|(known, _)| *known == key) {
            let word =
                match words {
                    [] => text,
                    words => text.parse().ok().and_then(|index: usize| words.get(index).copied()).ok_or_else(|| {
                        format!("`{path}` is '{text}'; expected a number from 0 to {}", words.len() - 1)
                    })?,
                };
            self.device("cuda", key, word, &path)?;
        } else if is_of_session(key) {
            let set = self.manifest.onnxruntime.set_session(key, &Toml::String(text.to_owned()));
            set.map_err(|reason| format!("`{path}`: {reason}"))?;
        } else {
            let reason = PARAMETERS.iter().find_map(|(known, reason)| (*known == key).then_some(*reason));
            self.ignore_because(&path, reason.or_else(|| refusal_of_session(key)));
        }
        Ok(())
    }

    /// `model_operations`: libraries go by their names, wherever Triton has them.
    pub(super) fn libraries(&mut self, operations: &Message) -> Result<(), String> {
        for value in operations.all("op_library_filename") {
            let Value::Text(path) = value else { continue };
            let name = path.rsplit('/').next().unwrap_or(path);
            let added = self.manifest.onnxruntime.add_library(name);
            added.map_err(|_| format!("`model_operations.op_library_filename` is '{path}'; expected a library"))?;
        }
        self.ignore_others("model_operations", operations, &["op_library_filename"]);
        Ok(())
    }

    /// `optimization`.
    pub(super) fn optimization(&mut self, optimization: &Message) -> Result<(), String> {
        if let Some(graph) = optimization.message("graph") {
            let level = graph.text("level").unwrap_or("0");
            self.manifest.onnxruntime.set_optimization(match level {
                "-1" => Optimization::Basic,
                "1" => Optimization::Extended,
                "2" => Optimization::Off,
                "0" => Optimization::All,
                other => return Err(format!("`optimization.graph.level` is '{other}'; expected -1, 0, 1 or 2")),
            });
            self.ignore_others("optimization.graph", graph, &["level"]);
        }
        if let Some(all) = optimization.message("execution_accelerators") {
            for place in ["gpu_execution_accelerator", "cpu_execution_accelerator"] {
                for accelerator in all.messages(place) {
                    self.accelerate(place, accelerator)?;
                }
            }
            let known = ["gpu_execution_accelerator", "cpu_execution_accelerator"];
            self.ignore_others("optimization.execution_accelerators", all, &known);
        }
        self.ignore_others("optimization", optimization, &["graph", "execution_accelerators"]);
        Ok(())
    }

    fn accelerate(&mut self, place: &str, accelerator: &Message) -> Result<(), String> {
        let path = format!("optimization.execution_accelerators.{place}");
        let name = accelerator.text("name").unwrap_or_default();
        let kind = match (place, name) {
            ("gpu_execution_accelerator", "tensorrt") => "tensorrt",
            ("gpu_execution_accelerator", "cuda") => "cuda",
            ("cpu_execution_accelerator", "openvino") => "openvino",
            _ => return Err(format!("`{path}` names '{name}'; expected tensorrt or cuda on GPUs, openvino elsewhere")),
        };
        // CUDA is what drives a GPU without being asked for.
        if kind != "cuda" {
            self.accelerator = Some(kind);
        }
        for parameter in accelerator.messages("parameters") {
            let (key, text) = (parameter.text("key").unwrap_or_default(), parameter.text("value").unwrap_or_default());
            let path = format!("{path}.parameters.{key}");
            let (key, text) = match (kind, key, text) {
                ("tensorrt", "precision_mode", "FP32") => continue,
                ("tensorrt", "precision_mode", "FP16") => ("trt_fp16_enable", "1"),
                ("tensorrt", "precision_mode", "BF16") => ("trt_bf16_enable", "1"),
                ("tensorrt", "precision_mode", "INT8") => ("trt_int8_enable", "1"),
                ("tensorrt", "precision_mode", other) => {
                    return Err(format!("`{path}` is '{other}'; expected FP32, FP16, BF16 or INT8"));
                }
                ("tensorrt", "max_workspace_size_bytes", text) => ("trt_max_workspace_size", text),
                ("tensorrt", "int8_calibration_table_name", text) => ("trt_int8_calibration_table_name", text),
                ("tensorrt", "int8_use_native_calibration_table", text) => {
                    ("trt_int8_use_native_calibration_table", text)
                }
                (_, key, text) => (key, text),
            };
            self.device(kind, key, text, &path)?;
        }
        Ok(())
    }

    fn device(&mut self, kind: &str, key: &str, text: &str, path: &str) -> Result<(), String> {
        if let Some(reason) = refusal_of_device(kind, key) {
            self.ignore_because(path, Some(reason));
            return Ok(());
        }
        let set = self.manifest.onnxruntime.set_device(kind, key, &Toml::String(text.to_owned()));
        set.map_err(|reason| format!("`{path}`: {reason}"))
    }

    /// Puts what shall drive the devices and where the instances are together, when all has been read.
    pub(super) fn place(&mut self) {
        let Some(accelerator) = self.accelerator else { return };
        let device = self.manifest.device.as_deref();
        self.manifest.device = match (accelerator, device) {
            // TensorRT is for the GPUs that instances are on, OpenVINO for the processor.
            ("tensorrt", Some("cpu")) => {
                return self
                    .ignore("optimization.execution_accelerators.gpu_execution_accelerator (instances on CPUs)");
            }
            ("tensorrt", Some(gpus)) => Some(gpus.replace("cuda", "tensorrt")),
            ("tensorrt", None) => Some("tensorrt-or-cpu".to_owned()),
            (_, Some(gpus)) if gpus != "cpu" => {
                return self
                    .ignore("optimization.execution_accelerators.cpu_execution_accelerator (instances on GPUs)");
            }
            (other, _) => Some(other.to_owned()),
        };
    }

    fn ignore_because(&mut self, path: &str, reason: Option<&str>) {
        match reason {
            Some(reason) => self.ignore(&format!("{path} ({reason})")),
            None => self.ignore(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Triton {
        Triton::parse(text, "m").expect(text)
    }

    #[test]
    fn what_onnxruntime_understands_is_handed_on() {
        let triton = parse(
            r#"
            optimization {
              graph { level: -1 }
              execution_accelerators { gpu_execution_accelerator : [ {
                name : "tensorrt"
                parameters { key: "precision_mode" value: "FP16" }
                parameters { key: "max_workspace_size_bytes" value: "1073741824" }
                parameters { key: "trt_engine_cache_enable" value: "1" }
              } ] }
            }
            instance_group { kind: KIND_GPU gpus: [ 1 ] }
            parameters { key: "cudnn_conv_algo_search" value: { string_value: "1" } }
            parameters { key: "gpu_mem_limit" value: { string_value: "4294967200" } }
            parameters { key: "session.disable_prepacking" value: { string_value: "1" } }
            parameters { key: "session.use_env_allocators" value: { string_value: "1" } }
            parameters { key: "intra_op_thread_count" value: { string_value: "0" } }
            parameters { key: "enable_mem_arena" value: { string_value: "1" } }
            parameters { key: "my_own" value: { string_value: "x" } }
            model_operations { op_library_filename: [ "/opt/ops/libmine.so" ] }
            "#,
        );
        let settings = triton.manifest.onnxruntime.settings();
        assert_eq!(settings.optimization, Some(Optimization::Basic));
        assert_eq!(triton.manifest.device.as_deref(), Some("tensorrt:1"));
        assert_eq!(settings.devices["tensorrt"]["trt_fp16_enable"], "1");
        assert_eq!(settings.devices["tensorrt"]["trt_max_workspace_size"], "1073741824");
        assert_eq!(settings.devices["cuda"]["cudnn_conv_algo_search"], "HEURISTIC");
        assert_eq!(settings.devices["cuda"]["gpu_mem_limit"], "4294967200");
        assert_eq!(settings.session["session.disable_prepacking"], "1");
        assert_eq!(settings.custom_operators, ["libmine.so"]);
        let named = |key: &str| triton.ignored.iter().any(|ignored| ignored.starts_with(key));
        assert!(named("parameters.session.use_env_allocators (the server bounds"), "{:?}", triton.ignored);
        assert!(named("parameters.enable_mem_arena (there is no arena"), "{:?}", triton.ignored);
        assert!(named("parameters.my_own"), "{:?}", triton.ignored);
        let cache =
            "optimization.execution_accelerators.gpu_execution_accelerator.parameters.trt_engine_cache_enable (";
        assert!(named(cache), "{:?}", triton.ignored);
        assert_eq!(triton.ignored.len(), 4, "{:?}", triton.ignored);
    }

    #[test]
    fn accelerators_go_where_the_instances_are() {
        let device = |text: &str| parse(text).manifest.device;
        let accelerated = |place: &str, name: &str, group: &str| {
            let accelerator = format!("execution_accelerators {{ {place}: [ {{ name: \"{name}\" }} ] }}");
            device(&format!("optimization {{ {accelerator} }} {group}"))
        };
        let (gpu, cpu) = ("gpu_execution_accelerator", "cpu_execution_accelerator");
        assert_eq!(accelerated(gpu, "tensorrt", "").as_deref(), Some("tensorrt-or-cpu"));
        assert_eq!(accelerated(gpu, "tensorrt", "instance_group { kind: KIND_CPU }").as_deref(), Some("cpu"));
        assert_eq!(accelerated(gpu, "cuda", ""), None);
        assert_eq!(accelerated(cpu, "openvino", "").as_deref(), Some("openvino"));
        assert_eq!(accelerated(cpu, "openvino", "instance_group { kind: KIND_GPU }").as_deref(), Some("cuda"));
    }

    #[test]
    fn what_triton_refuses_is_refused() {
        for (text, expected) in [
            ("optimization { graph { level: 3 } }", "`optimization.graph.level` is '3'; expected -1, 0, 1 or 2"),
            (
                "parameters { key: \"cudnn_conv_algo_search\" value { string_value: \"7\" } }",
                "`parameters.cudnn_conv_algo_search` is '7'; expected a number from 0 to 2",
            ),
            (
                "parameters { key: \"session.disable_prepacking\" value { string_value: \"x\" } }",
                "`onnxruntime.session.session.disable_prepacking` is 'x'; expected true or false",
            ),
            (
                "optimization { execution_accelerators { gpu_execution_accelerator { name: \"openvino\" } } }",
                "names 'openvino'; expected tensorrt or cuda on GPUs",
            ),
            (
                "optimization { execution_accelerators { gpu_execution_accelerator { name: \"cuda\" parameters { key: \
                 \"use_tf33\" value: \"1\" } } } }",
                "did you mean `use_tf32`?",
            ),
        ] {
            let message = Triton::parse(text, "m").expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
