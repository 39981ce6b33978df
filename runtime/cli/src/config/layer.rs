//! One layer of the configuration: texts under the names of flags, which the parser of the flags understands.

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use super::flags::ServeFlags;

/// Keys with several values: a list in the file, words in a variable.
pub(super) const LISTS: [&str; 4] = ["model", "verify_signature", "custom_operators", "admin_root"];

/// Parses one layer with the parser of the flags, so that a duration, a size or a choice is understood alike in all.
#[derive(Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Layer {
    #[command(flatten)]
    flags: ServeFlags,
}

/// Parses arguments of the form `--flag=value`. An error names the flag.
pub(super) fn parse(arguments: Vec<String>) -> Result<ServeFlags, String> {
    let matches = Layer::command().try_get_matches_from(arguments);
    let layer = matches.and_then(|matches| Layer::from_arg_matches(&matches));
    layer.map(|layer| layer.flags).map_err(|error| first_line(&error))
}

/// clap's text draws usage and hints over many lines: the first says what is wrong, another what was expected.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let possible = text.lines().find_map(|line| line.trim().strip_prefix("[possible values: ")?.strip_suffix(']'));
    possible.map_or_else(|| line.to_owned(), |possible| format!("{line}; expected one of {possible}"))
}

/// The flags' names, as keys of the file: `max_in_flight`.
pub(super) fn keys() -> Vec<String> {
    Layer::command().get_arguments().map(|argument| argument.get_id().to_string()).collect()
}
