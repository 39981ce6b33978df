//! The model that a request names, as its log line and its span tell it. Metrics name models that are served, and no others.

use std::borrow::Cow;

/// Characters of a name that are told. Callers may ask for anything.
const MAX: usize = 128;

/// The model that a URL names, whatever becomes of the request.
pub(super) fn of_path(path: &str) -> Option<Cow<'_, str>> {
    let (rest, is_v1) = match path.strip_prefix("/v1/models/") {
        Some(rest) => (rest, true),
        None => {
            let rest = path.strip_prefix("/v2/models/").or_else(|| path.strip_prefix("/v2/repository/models/"))?;
            (rest, false)
        }
    };
    let name = match rest.split_once('/') {
        Some((name, _)) => name,
        // V1's verbs stand behind the last name.
        None if is_v1 => rest.rsplit_once(':').map_or(rest, |(name, _)| name),
        None => rest,
    };
    (!name.is_empty()).then(|| decoded(name))
}

/// Undoes percent-encoding. What is no text then, or was not encoded right, is shown as well as can be.
fn decoded(name: &str) -> Cow<'_, str> {
    if !name.contains('%') {
        return Cow::Borrowed(name);
    }
    let (mut bytes, mut rest) = (Vec::with_capacity(name.len()), name.as_bytes());
    while let [first, behind @ ..] = rest {
        let byte = match behind {
            [high, low, ..] if *first == b'%' => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A name from outside, made fit for a line: cut where it is long, without control characters.
pub(super) fn shown(name: Cow<'_, str>) -> Cow<'_, str> {
    let fits = name.len() <= MAX || name.chars().nth(MAX).is_none();
    if fits && !name.contains(char::is_control) {
        return name;
    }
    let clean =
        name.chars().take(MAX).map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter });
    let mut shown: String = clean.collect();
    if !fits {
        shown.push('…');
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_models() {
        for (path, expected) in [
            ("/v1/models/m:predict", Some("m")),
            ("/v1/models/m:explain", Some("m")),
            ("/v1/models/m", Some("m")),
            ("/v1/models/m/metadata", Some("m")),
            ("/v1/models/a:b/versions/3:predict", Some("a:b")),
            ("/v1/models/a%20b%2fc:predict", Some("a b/c")),
            ("/v2/models/m/infer", Some("m")),
            ("/v2/models/a:b", Some("a:b")),
            ("/v2/models/m/versions/1/infer", Some("m")),
            ("/v2/models/m/no/such/thing", Some("m")),
            ("/v2/repository/models/m/load", Some("m")),
            ("/v2/models/%e4%zz%", Some("\u{fffd}%zz%")),
            ("/v1/models", None),
            ("/v1/models/", None),
            ("/v2/models//infer", None),
            ("/v2/repository/index", None),
            ("/metrics", None),
        ] {
            assert_eq!(of_path(path).as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_stays_on_its_line() {
        let shown = |name: &str| shown(Cow::Owned(name.to_owned())).into_owned();
        assert_eq!(shown("blümchen"), "blümchen");
        assert_eq!(shown("a\n\u{1b}[31mb"), "a\u{fffd}\u{fffd}[31mb");
        assert_eq!(shown(&"ü".repeat(MAX)), "ü".repeat(MAX));
        assert_eq!(shown(&"ü".repeat(4096)), "ü".repeat(MAX) + "…");
    }
}
