//! What the log looks like, and how much is in it.

use clap::{Args, ValueEnum};

/// The form and the level of the log.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct LogFlags {
    /// auto is text on a terminal and JSON elsewhere [default: auto]
    #[arg(long)]
    log_format: Option<LogFormat>,
    /// error, warn, info, debug, trace, or directives such as info,corymb_engine=debug [default: info]
    #[arg(long, value_parser = directives)]
    log_level: Option<String>,
}

/// Levels, each of one target or of all.
fn directives(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',') {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        // A word that is none would be taken for a target, and nothing else be logged.
        if !LEVELS.contains(&level.trim().to_ascii_lowercase().as_str()) {
            let levels = LEVELS.join(", ");
            return Err(format!(
                "'{level}' is no level; expected {levels}, or directives such as info,corymb_engine=debug"
            ));
        }
    }
    Ok(text.to_owned())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    Auto,
    Text,
    Json,
}

impl LogFlags {
    pub(super) fn or(self, lower: Self) -> Self {
        Self { log_format: self.log_format.or(lower.log_format), log_level: self.log_level.or(lower.log_level) }
    }

    pub(super) fn format(&self) -> LogFormat {
        self.log_format.unwrap_or(LogFormat::Auto)
    }

    pub(super) fn level(&self) -> String {
        self.log_level.clone().unwrap_or_else(|| "info".to_owned())
    }
}
