//! Unknown keys: named, with the nearest known one.

use toml::{Table, Value};

/// The known word nearest to `given`, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let scored = known.iter().map(|word| (strsim::damerau_levenshtein(given, word), *word));
    scored.filter(|(distance, word)| *distance <= (word.len().max(3) / 3)).min().map(|(_, word)| word)
}

/// Checks that a table has only known keys.
///
/// `known` lists them; `prefix.key` stands for a key of the table `prefix`, and `prefix.*` for any.
///
/// # Errors
/// A line that names the first unknown key, and the nearest known one.
pub fn check_keys(table: &Table, known: &[&str]) -> Result<(), String> {
    check_table(table, known, "")
}

fn check_table(table: &Table, known: &[&str], prefix: &str) -> Result<(), String> {
    for (key, value) in table {
        let path = format!("{prefix}{key}");
        let inner = format!("{path}.");
        let is_table = known.iter().any(|word| word.starts_with(&inner));
        if known.contains(&path.as_str()) {
            continue;
        }
        match value {
            _ if known.contains(&format!("{prefix}*").as_str()) => {}
            Value::Table(nested) if is_table => check_table(nested, known, &inner)?,
            _ if is_table => return Err(format!("`{path}` must be a table: [{path}]")),
            _ => {
                let hint = match nearest(&path, known) {
                    Some(word) => format!("did you mean `{word}`?"),
                    None => format!("known are {}", siblings(known, prefix).join(", ")),
                };
                return Err(format!("unknown key `{path}`; {hint}"));
            }
        }
    }
    Ok(())
}

fn siblings(known: &[&str], prefix: &str) -> Vec<String> {
    let mut names: Vec<String> = known
        .iter()
        .filter_map(|word| word.strip_prefix(prefix))
        .map(|rest| format!("`{prefix}{}`", rest.split('.').next().unwrap_or(rest)))
        .collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: &[&str] = &["file", "backend", "plugin.file", "plugin.config.*", "queue.max"];

    fn check(text: &str) -> Result<(), String> {
        check_keys(&text.parse::<Table>().expect("TOML"), KNOWN)
    }

    #[test]
    fn known_keys_pass() {
        assert_eq!(check("file = 'x'\n[plugin]\nfile = 'y'\n[plugin.config]\nany = { thing = 1 }"), Ok(()));
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        assert_eq!(check("bakend = 'x'"), Err("unknown key `bakend`; did you mean `backend`?".into()));
        assert_eq!(check("[queue]\nmx = 1"), Err("unknown key `queue.mx`; did you mean `queue.max`?".into()));
        assert_eq!(check("plugin = 'x'"), Err("`plugin` must be a table: [plugin]".into()));
        let far = check("colour = 1").expect_err("unknown");
        assert_eq!(far, "unknown key `colour`; known are `file`, `backend`, `plugin`, `queue`");
    }
}
