//! What a model asks of ONNX Runtime: `[onnxruntime]` of a manifest, or what Triton's configuration comes to.

mod keys;
mod kind;

use std::collections::BTreeMap;

use corymb_core::{EngineSettings, Optimization};
use serde::Deserialize;
use toml::{Table, Value};

use self::keys::{DEVICES, Keys, SESSION};
use self::kind::Kind;
use crate::keys::nearest;

/// The backend's name, which is the section's.
const NAME: &str = "onnxruntime";

const LEVELS: [(&str, Optimization); 5] = [
    ("off", Optimization::Off),
    ("basic", Optimization::Basic),
    ("extended", Optimization::Extended),
    ("layout", Optimization::Layout),
    ("all", Optimization::All),
];

/// `[onnxruntime]`: ONNX Runtime's own options under their own names, checked. They count where ONNX Runtime runs the
/// model.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Typed")]
pub struct OnnxRuntimeSection(EngineSettings);

/// The section as it stands in the file.
#[derive(Debug, Deserialize)]
struct Typed {
    optimization: Option<String>,
    #[serde(default)]
    custom_operators: Vec<String>,
    #[serde(default)]
    session: Table,
    #[serde(flatten)]
    devices: BTreeMap<String, Table>,
}

impl Default for OnnxRuntimeSection {
    fn default() -> Self {
        Self(EngineSettings { backend: NAME, ..EngineSettings::default() })
    }
}

impl TryFrom<Typed> for OnnxRuntimeSection {
    type Error = String;

    fn try_from(typed: Typed) -> Result<Self, String> {
        let mut section = Self::default();
        if let Some(level) = &typed.optimization {
            let found = LEVELS.iter().find(|(word, _)| word == level);
            let known = LEVELS.map(|(word, _)| word).join(", ");
            let (_, found) =
                found.ok_or_else(|| format!("`onnxruntime.optimization` is '{level}'; expected one of {known}"))?;
            section.0.optimization = Some(*found);
        }
        for name in &typed.custom_operators {
            section.add_library(name)?;
        }
        let mut session = Vec::new();
        flatten(&typed.session, "", &mut session);
        for (key, value) in session {
            section.set_session(&key, value)?;
        }
        for (kind, table) in &typed.devices {
            for (key, value) in table {
                section.set_device(kind, key, value)?;
            }
        }
        Ok(section)
    }
}

/// A key with dots in it that stands without quotes is a table in a table.
fn flatten<'a>(table: &'a Table, prefix: &str, found: &mut Vec<(String, &'a Value)>) {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        match value {
            Value::Table(inner) => flatten(inner, &format!("{path}."), found),
            value => found.push((path, value)),
        }
    }
}

impl OnnxRuntimeSection {
    /// All of it, for the backend.
    #[must_use]
    pub fn settings(&self) -> &EngineSettings {
        &self.0
    }

    pub(crate) fn set_optimization(&mut self, level: Optimization) {
        self.0.optimization = Some(level);
    }

    /// Sets an option of the session.
    pub(crate) fn set_session(&mut self, key: &str, value: &Value) -> Result<(), String> {
        let text = check("onnxruntime.session", SESSION, key, value)?;
        self.0.session.insert(key.to_owned(), text);
        Ok(())
    }

    /// Sets an option of what drives devices of a kind.
    pub(crate) fn set_device(&mut self, kind: &str, key: &str, value: &Value) -> Result<(), String> {
        let Some(&(kind, keys)) = DEVICES.iter().find(|(known, _)| *known == kind) else {
            return Err(unknown("onnxruntime", kind, &DEVICES.map(|(known, _)| known)));
        };
        let text = check(&format!("onnxruntime.{kind}"), keys, key, value)?;
        self.0.devices.entry(kind).or_default().insert(key.to_owned(), text);
        Ok(())
    }

    /// Adds a library of custom operators by its name.
    pub(crate) fn add_library(&mut self, name: &str) -> Result<(), String> {
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '=', '\0']) {
            return Err(format!(
                "`onnxruntime.custom_operators` names '{name}'; expected the name of a library, without folders: the \
                 places of libraries are given by --custom-operators when the server starts"
            ));
        }
        if !self.0.custom_operators.iter().any(|known| known == name) {
            self.0.custom_operators.push(name.to_owned());
        }
        Ok(())
    }
}

/// Why a session has no such option here, for keys that ONNX Runtime knows; none where a model may set it, or nobody
/// knows it.
pub(crate) fn refusal_of_session(key: &str) -> Option<&'static str> {
    refusal(SESSION, key)
}

/// Whether a model may set this option of a session.
pub(crate) fn is_of_session(key: &str) -> bool {
    SESSION.iter().any(|(known, kind)| *known == key && !matches!(kind, Kind::Refused(_)))
}

/// The same for what drives devices of a kind.
pub(crate) fn refusal_of_device(kind: &str, key: &str) -> Option<&'static str> {
    let (_, keys) = *DEVICES.iter().find(|(known, _)| *known == kind)?;
    refusal(keys, key)
}

fn refusal(keys: Keys, key: &str) -> Option<&'static str> {
    keys.iter().find_map(|&(known, kind)| match kind {
        Kind::Refused(reason) if known == key => Some(reason.strip_prefix("nothing: ").unwrap_or(reason)),
        _ => None,
    })
}

fn check(table: &str, keys: Keys, key: &str, value: &Value) -> Result<String, String> {
    let Some((_, kind)) = keys.iter().find(|(known, _)| *known == key) else {
        let open = keys.iter().filter(|(_, kind)| !matches!(kind, Kind::Refused(_)));
        return Err(unknown(table, key, &open.map(|(known, _)| *known).collect::<Vec<_>>()));
    };
    kind.text(value).map_err(|wrong| format!("`{table}.{key}` is {wrong}"))
}

fn unknown(table: &str, key: &str, known: &[&str]) -> String {
    match nearest(key, known) {
        Some(near) => format!("unknown key `{table}.{key}`; did you mean `{near}`?"),
        None => format!("unknown key `{table}.{key}`; known are {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EngineSettings, String> {
        let section: Result<OnnxRuntimeSection, _> = toml::from_str(text);
        section.map(|section| section.settings().clone()).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn options_become_the_texts_that_the_library_takes() {
        let text = r#"
            optimization = "extended"
            custom_operators = ["libortextensions.so", "libortextensions.so"]
            [session]
            "session.disable_prepacking" = true
            session.dynamic_block_base = 4
            "session.qdq_matmulnbits_block_size" = "-1"
            "optimization.disable_specified_optimizers" = "ConstantFolding;GeluFusionL2"
            [cuda]
            gpu_mem_limit = 2147483648
            cudnn_conv_algo_search = "HEURISTIC"
            use_tf32 = "0"
            [openvino]
            disable_dynamic_shapes = 1
        "#;
        let settings = parse(text).expect("valid");
        assert_eq!((settings.backend, settings.optimization), ("onnxruntime", Some(Optimization::Extended)));
        assert_eq!(settings.custom_operators, ["libortextensions.so"]);
        let pairs = |map: &BTreeMap<String, String>| -> Vec<String> {
            map.iter().map(|(key, value)| format!("{key}={value}")).collect()
        };
        assert_eq!(
            pairs(&settings.session),
            [
                "optimization.disable_specified_optimizers=ConstantFolding;GeluFusionL2",
                "session.disable_prepacking=1",
                "session.dynamic_block_base=4",
                "session.qdq_matmulnbits_block_size=-1",
            ]
        );
        let cuda = ["cudnn_conv_algo_search=HEURISTIC", "gpu_mem_limit=2147483648", "use_tf32=0"];
        assert_eq!(pairs(&settings.devices["cuda"]), cuda);
        assert_eq!(pairs(&settings.devices["openvino"]), ["disable_dynamic_shapes=true"]);
        assert!(!settings.is_empty());
        assert!(parse("").expect("valid").is_empty());
    }

    #[test]
    fn a_mistake_names_the_key_what_was_given_and_what_is_expected() {
        for (text, expected) in [
            (
                "optimization = 'most'",
                "`onnxruntime.optimization` is 'most'; expected one of off, basic, extended, lay",
            ),
            (
                "[session]\n'session.disable_prepakcing' = 1",
                "unknown key `onnxruntime.session.session.disable_prepakcing`; did you mean `session.disable_prepacking`?",
            ),
            (
                "[session]\n'session.disable_prepacking' = 2",
                "`onnxruntime.session.session.disable_prepacking` is '2'; expected true or false",
            ),
            ("[session]\n'session.dynamic_block_base' = -1", "is '-1'; expected a number from 0 to 1024"),
            ("[session]\n'session.dynamic_block_base' = 1.5", "is 'float'; expected a number from 0 to 1024"),
            ("[session]\n'session.use_env_allocators' = 1", "expected nothing: the server bounds what a run takes"),
            ("[session]\n'ep.context_file_path' = '/etc/x'", "is '/etc/x'; expected nothing: it reads or writes files"),
            ("[cuda]\ngpu_mem_limt = 1", "unknown key `onnxruntime.cuda.gpu_mem_limt`; did you mean `gpu_mem_limit`?"),
            (
                "[cuda]\ngpu_mem_limit = 'lots'",
                "`onnxruntime.cuda.gpu_mem_limit` is 'lots'; expected a number from 0 to",
            ),
            ("[cuda]\nenable_cuda_graph = true", "expected nothing: a CUDA graph is replayed"),
            ("[cuda]\ncudnn_conv_algo_search = 'BEST'", "is 'BEST'; expected EXHAUSTIVE, HEURISTIC, DEFAULT"),
            ("[tensorrt]\ntrt_extra_plugin_lib_paths = 'x.so'", "expected nothing: it loads code"),
            ("[tensorrt]\ntrt_tactic_sources = \"a\\nb\"", "expected one line of at most 1024 bytes"),
            ("[cudo]\nx = 1", "unknown key `onnxruntime.cudo`; did you mean `cuda`?"),
            (
                "custom_operators = ['../x.so']",
                "`onnxruntime.custom_operators` names '../x.so'; expected the name of a",
            ),
            ("custom_operators = ['/lib/x.so']", "without folders"),
            ("custom_operators = 'x.so'", "expected a sequence"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(expected), "{text}: {message}");
        }
    }

    #[test]
    fn no_key_stands_twice() {
        for keys in DEVICES.iter().map(|(_, keys)| keys).chain([&SESSION]) {
            let mut seen = std::collections::BTreeSet::new();
            assert!(keys.iter().all(|(key, _)| seen.insert(key)), "{seen:?}");
        }
        assert!(
            refusal_of_session("session.use_env_allocators").is_some_and(|reason| reason.starts_with("the server"))
        );
        assert_eq!(refusal_of_session("session.disable_prepacking"), None);
        assert_eq!(refusal_of_device("tensorrt", "trt_fp16_enable"), None);
    }
}
