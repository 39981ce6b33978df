//! A template filled in.
//!
//! A template is YAML with `${placeholders}`. A line whose placeholder has no value is left out, and so are the
//! comments right above it. What is filled in is written as a JSON string where it is text, which is YAML too. A flag
//! that was given and that no line speaks of is an error: nobody is to believe that it was heard.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;

/// What stands for each placeholder.
#[derive(Clone, Debug, Default)]
pub(super) struct Values {
    texts: BTreeMap<&'static str, String>,
    /// The flags that were given, and the placeholders that any of them may be in.
    given: Vec<(&'static str, &'static [&'static str])>,
}

impl Values {
    pub(super) fn insert(&mut self, name: &'static str, value: String) {
        self.texts.insert(name, value);
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.texts.remove(name);
    }

    /// What was asked for by a flag is in one of these, or is refused.
    pub(super) fn given(&mut self, flag: &'static str, names: &'static [&'static str]) {
        self.given.push((flag, names));
    }
}

/// A JSON string, which YAML reads as it is, whatever is in it.
pub(super) fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Fills a template in; `kind` is what its document is called.
pub(super) fn fill(kind: &str, template: &str, values: &Values) -> anyhow::Result<String> {
    let mut filled = String::new();
    let mut used = BTreeSet::new();
    // Comments that wait for the line that they speak of.
    let mut comments = String::new();
    'lines: for line in template.lines() {
        if line.starts_with(' ') && line.trim_start().starts_with('#') {
            comments.push_str(line);
            comments.push('\n');
            continue;
        }
        let (mut written, mut names) = (String::new(), Vec::new());
        let mut rest = line;
        while let Some((before, behind)) = rest.split_once("${") {
            let Some((name, after)) = behind.split_once('}') else { bail!("a placeholder has no end: {line}") };
            let Some(value) = values.texts.get(name) else {
                comments.clear();
                continue 'lines;
            };
            written.push_str(before);
            // What has several lines stands as deep as its first.
            let depth = line.len() - line.trim_start().len();
            written.push_str(&value.replace('\n', &format!("\n{}", &line[..depth])));
            names.push(name);
            rest = after;
        }
        used.extend(names);
        filled.push_str(&std::mem::take(&mut comments));
        filled.push_str(&written);
        filled.push_str(rest);
        filled.push('\n');
    }
    let unheard = values.given.iter().find(|(_, names)| !names.iter().any(|name| used.contains(name)));
    if let Some((flag, _)) = unheard {
        bail!("{flag} has no place in {kind}");
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEMPLATE: &str = "# Head.\na:\n  # Of b.\n  # More of b.\n  b: ${b}\n  # Of c.\n  c: ${c}\n  d: {{.Name}}\n";

    #[test]
    fn lines_without_a_value_go_with_their_comments() {
        let mut values = Values::default();
        values.insert("c", text("x: \"y\""));
        let filled = fill("it", TEMPLATE, &values).expect("filled");
        assert_eq!(filled, "# Head.\na:\n  # Of c.\n  c: \"x: \\\"y\\\"\"\n  d: {{.Name}}\n");
    }

    #[test]
    fn a_flag_that_no_line_speaks_of_is_an_error() {
        let mut values = Values::default();
        values.insert("c", text("1"));
        values.given("--see", &["b", "c"]);
        fill("it", TEMPLATE, &values).expect("one of them is there");
        values.given("--bee", &["b"]);
        let error = fill("it", TEMPLATE, &values).expect_err("b has no value");
        assert_eq!(error.to_string(), "--bee has no place in it");
    }
}
