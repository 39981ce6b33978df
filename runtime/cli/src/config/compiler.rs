//! What a process that compiles a component is started with: by a server, never by hand.

use std::ffi::OsString;

use clap::Args;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Args)]
pub(crate) struct CompilerFlags {
    /// What it may take beside this program's own code, in bytes
    #[arg(long)]
    pub(crate) memory: u64,
    /// Of processors' time
    #[arg(long)]
    pub(crate) seconds: u64,
}

impl CompilerFlags {
    /// The arguments that stand for these.
    pub(crate) fn typed(self) -> Vec<OsString> {
        let Self { memory, seconds } = self;
        ["compiler".to_owned(), format!("--memory={memory}"), format!("--seconds={seconds}")].map(Into::into).into()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        flags: CompilerFlags,
    }

    #[test]
    fn what_is_typed_is_understood() {
        let flags = CompilerFlags { memory: 1 << 40, seconds: 7 };
        let understood = Typed::try_parse_from(flags.typed()).map(|typed| typed.flags).expect("understood");
        assert_eq!(understood, flags);
    }
}
