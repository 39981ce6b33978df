//! Names in archives: which are paths into a folder, which are left out, and how they are shown.

use crate::archive::{Limits, Refusal};

/// Letters of a name that are shown.
const SHOWN: usize = 200;

/// Where an entry goes: a path that names something in the folder, or the folder itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// As the archive has it.
    pub(super) raw: Vec<u8>,
    /// None of them is empty, `.` or `..`. None at all: the folder itself.
    pub(super) parts: Vec<String>,
    /// Whether it ends in a slash, as only folders do.
    pub(super) has_slash: bool,
}

impl Name {
    pub(super) fn parse(raw: &[u8], limits: &Limits) -> Result<Self, Refusal> {
        let refused = |reason: &str| Refusal::entry(raw, reason);
        let text = text(raw, "has a name", limits.path)?;
        if text.starts_with('/') {
            return Err(refused("is an absolute path"));
        }
        let mut parts = Vec::new();
        for part in text.split('/') {
            match part {
                "" | "." => {}
                ".." => return Err(refused("leads out of its folder by '..'")),
                _ if part.len() > limits.part => {
                    return Err(refused(&format!("has a part of more than {} bytes", limits.part)));
                }
                _ => parts.push(part.to_owned()),
            }
        }
        if parts.len() > limits.depth {
            return Err(refused(&format!("lies more than {} folders deep", limits.depth)));
        }
        Ok(Self { raw: raw.to_owned(), parts, has_slash: text.ends_with('/') || text.ends_with("/.") || text == "." })
    }

    /// Whether macOS or a reader of tapes that does not know pax made it: resource forks, views of Finder, headers.
    pub(super) fn is_junk(&self) -> bool {
        self.parts.iter().any(|part| {
            matches!(part.as_str(), "__MACOSX" | ".DS_Store" | "PaxHeader")
                || part.starts_with("._")
                || part.starts_with("PaxHeaders.")
        })
    }
}

/// Where a symbolic link leads, in parts; `..` is one of them.
pub(super) fn target(name: &Name, raw: &[u8], limits: &Limits) -> Result<Vec<String>, Refusal> {
    let refused = |reason: String| Refusal::entry(&name.raw, reason);
    // The system takes one byte less, for the one that ends it.
    let text = text(raw, "is a link to a path", limits.path - 1).map_err(|refusal| match refusal {
        Refusal::Entry { reason, .. } => refused(reason),
        other => other,
    })?;
    let out = || refused(format!("is a link out of its folder, to '{}'", shown(raw)));
    if text.starts_with('/') {
        return Err(out());
    }
    let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect();
    // Up and down again: twice as many as any sensible path has.
    if parts.len() > 2 * limits.depth {
        return Err(refused(format!("is a link to a path of more than {} parts", 2 * limits.depth)));
    }
    let mut depth = name.parts.len().saturating_sub(1);
    for part in &parts {
        depth = if part == ".." { depth.checked_sub(1).ok_or_else(out)? } else { depth + 1 };
    }
    Ok(parts)
}

/// `what` is a verb and what it is that has these bytes.
fn text<'a>(raw: &'a [u8], what: &str, most: usize) -> Result<&'a str, Refusal> {
    if raw.is_empty() {
        return Err(Refusal::entry(raw, format!("{what} of no letters")));
    }
    if raw.contains(&0) {
        return Err(Refusal::entry(raw, format!("{what} with a NUL byte in it")));
    }
    if raw.len() > most {
        return Err(Refusal::entry(raw, format!("{what} of more than {most} bytes")));
    }
    std::str::from_utf8(raw).map_err(|_| Refusal::entry(raw, format!("{what} that is not UTF-8")))
}

/// Printable, in one line, and not too long.
pub(super) fn shown(raw: &[u8]) -> String {
    // No more than is needed is looked at: a name may be as long as its maker likes.
    let text = String::from_utf8_lossy(&raw[..raw.len().min(4 * SHOWN + 4)]);
    let mut letters = text.chars().flat_map(|letter| {
        let is_quote = matches!(letter, '\'' | '"');
        (!is_quote).then(|| letter.escape_debug()).into_iter().flatten().chain(is_quote.then_some(letter))
    });
    let mut shown: String = letters.by_ref().take(SHOWN).collect();
    if letters.next().is_some() {
        shown.push('…');
    }
    shown
}
