//! A template filled in.
//!
//! A template is YAML with `${placeholders}`. A line whose placeholder has no value is left out, and so are the
//! comments right above it. What is filled in is written as a JSON string where it is text, which is YAML too.

use std::collections::BTreeMap;

use anyhow::bail;

/// What stands for each placeholder.
pub(super) type Values = BTreeMap<&'static str, String>;

/// A JSON string, which YAML reads as it is, whatever is in it.
pub(super) fn text(value: &str) -> String {
    serde_json::Value::from(value).to_string()
}

/// Fills a template in.
pub(super) fn fill(template: &str, values: &Values) -> anyhow::Result<String> {
    let mut filled = String::new();
    // Comments that wait for the line that they speak of.
    let mut comments = String::new();
    'lines: for line in template.lines() {
        if line.starts_with(' ') && line.trim_start().starts_with('#') {
            comments.push_str(line);
            comments.push('\n');
            continue;
        }
        let mut written = String::new();
        let mut rest = line;
        while let Some((before, behind)) = rest.split_once("${") {
            let Some((name, after)) = behind.split_once('}') else { bail!("a placeholder has no end: {line}") };
            let Some(value) = values.get(name) else {
                comments.clear();
                continue 'lines;
            };
            written.push_str(before);
            written.push_str(value);
            rest = after;
        }
        filled.push_str(&std::mem::take(&mut comments));
        filled.push_str(&written);
        filled.push_str(rest);
        filled.push('\n');
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_value_go_with_their_comments() {
        let template = "# Head.\na:\n  # Of b.\n  # More of b.\n  b: ${b}\n  # Of c.\n  c: ${c}\n  d: {{.Name}}\n";
        let filled = fill(template, &Values::from([("c", text("x: \"y\""))])).expect("filled");
        assert_eq!(filled, "# Head.\na:\n  # Of c.\n  c: \"x: \\\"y\\\"\"\n  d: {{.Name}}\n");
    }
}
