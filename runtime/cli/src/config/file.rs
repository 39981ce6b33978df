//! The configuration file: TOML whose keys are the names of flags with _ for -.

use std::path::Path;

use anyhow::{Context as _, bail};
use corymb_core::files;

use super::flags::ServeFlags;
use super::layer::{LISTS, keys, parse};

/// A larger file is none, in bytes.
const MOST: u64 = 1 << 20;

/// The flags that a file sets. An error names it.
pub(super) fn read(path: &Path) -> anyhow::Result<ServeFlags> {
    let named = || format!("--config {}", path.display());
    let text = files::read_text(path, MOST).with_context(named)?;
    flags(&text).with_context(named)
}

fn flags(text: &str) -> anyhow::Result<ServeFlags> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        anyhow::anyhow!("line {line}: {}", error.message().replace('\n', " "))
    })?;
    let keys = keys();
    // A file that names another would raise the question which of the two wins.
    let known: Vec<&str> = keys.iter().map(String::as_str).filter(|key| *key != "config").collect();
    corymb_repository::check_keys(&table, &known).map_err(anyhow::Error::msg)?;
    let mut flags = ServeFlags::default();
    for (key, value) in &table {
        let flag = key.replace('_', "-");
        let values = match value {
            toml::Value::Array(values) if LISTS.contains(&&**key) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        let mut arguments = Vec::new();
        for value in values {
            let value = match value {
                toml::Value::String(text) => text.clone(),
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Boolean(switch) => switch.to_string(),
                other => {
                    bail!("`{key}` is of the type {}; expected a text, a number, or true or false", other.type_str())
                }
            };
            arguments.push(format!("--{flag}={value}"));
        }
        flags = flags.or(parse(arguments).map_err(|error| anyhow::anyhow!("`{key}`: {error}"))?);
    }
    Ok(flags)
}
