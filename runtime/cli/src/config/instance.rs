//! What a process that runs one instance is started with: by a server, never by hand.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use super::models::{NamedFile, parse_library};

#[derive(Clone, Debug, Args)]
pub(crate) struct InstanceFlags {
    /// ONNX Runtime's library, or none
    #[arg(long)]
    pub(crate) onnxruntime: PathBuf,
    #[arg(long, value_parser = parse_library)]
    pub(crate) custom_operators: Vec<NamedFile>,
    /// What the tensors of one run may take
    #[arg(long)]
    pub(crate) run_bytes: u64,
    /// The number of the open file that tensors lie in
    #[arg(default_value_t = 0)]
    pub(crate) memory: u32,
}

impl InstanceFlags {
    /// The arguments that stand for these, `memory` left out.
    pub(crate) fn typed(&self) -> Vec<OsString> {
        let mut typed: Vec<OsString> =
            vec!["instance".into(), "--onnxruntime".into(), self.onnxruntime.clone().into(), "--run-bytes".into()];
        typed.push(self.run_bytes.to_string().into());
        for library in &self.custom_operators {
            typed.extend(["--custom-operators".into(), library.typed()]);
        }
        typed
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        flags: InstanceFlags,
    }

    #[test]
    fn what_is_typed_is_understood() {
        let custom_operators = vec![NamedFile { name: Some("ops".to_owned()), file: "/o/p=s.so".into() }];
        let flags =
            InstanceFlags { onnxruntime: "/a b/ort.so".into(), custom_operators, run_bytes: 1 << 40, memory: 0 };
        let typed = flags.typed().into_iter().chain(["7".into()]);
        let understood = Typed::try_parse_from(typed).map(|typed| typed.flags).expect("understood");
        assert_eq!(understood.memory, 7);
        assert_eq!(InstanceFlags { memory: 0, ..understood }.typed(), flags.typed());
        assert_eq!(flags.typed()[0], "instance");
    }
}
