//! Listings of buckets, as far as they can be understood.

use bytes::Bytes;

use crate::uri::percent_decoded;

/// A page of a listing without the objects whose keys are no paths, such as `a//b` and `a/../b`: the library gives up a listing for
/// one of them, which no model needs. None where all are.
pub(super) fn with_plain_keys(page: &Bytes) -> Option<Bytes> {
    // S3 and Google, and Azure.
    const ELEMENTS: [(&str, &str); 2] = [("Contents", "Key"), ("Blob", "Name")];
    let text = std::str::from_utf8(page).ok()?;
    let (element, key) = ELEMENTS.into_iter().find(|(element, _)| text.contains(&format!("<{element}>")))?;
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    let (key_open, key_close) = (format!("<{key}>"), format!("</{key}>"));
    let (mut kept, mut rest, mut left_out) = (String::new(), text, Vec::new());
    while let Some(at) = rest.find(&open) {
        let (before, from) = rest.split_at(at);
        let end = from.find(&close)? + close.len();
        let (whole, after) = from.split_at(end);
        kept.push_str(before);
        let name = whole.split_once(&key_open)?.1.split_once(&key_close)?.0;
        if is_plain(name) {
            kept.push_str(whole);
        } else {
            left_out.push(name);
        }
        rest = after;
    }
    if left_out.is_empty() {
        return None;
    }
    let (count, first) = (left_out.len(), left_out.first().copied().unwrap_or_default());
    tracing::warn!(count, first, "objects whose keys are no paths are left out");
    kept.push_str(rest);
    Some(kept.into())
}

/// Whether a key, as XML or percent-encoded, is a path; one may end with a slash, which is how tools mark folders.
fn is_plain(key: &str) -> bool {
    let key = percent_decoded(key);
    let key = key.strip_suffix('/').unwrap_or(&key);
    let has_control = key.chars().any(char::is_control) || key.contains("&#");
    !has_control && !key.split('/').any(|part| matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::with_plain_keys;

    #[test]
    fn keys_that_are_no_paths_are_left_out_of_a_listing() {
        let page = |keys: &[&str]| {
            let contents: Vec<String> =
                keys.iter().map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>")).collect();
            format!("<?xml version=\"1.0\"?><ListBucketResult><Name>b</Name>{}</ListBucketResult>", contents.concat())
        };
        let kept = with_plain_keys(&page(&["m/a", "m//x", "m/../x", "/m", "m/b/", "m/./c", "m%2F%2Fd"]).into());
        assert_eq!(kept.as_deref(), Some(page(&["m/a", "m/b/"]).as_bytes()));
        assert_eq!(with_plain_keys(&page(&["a", "b"]).into()), None);
        let blobs = "<Blobs><Blob><Name>a/../b</Name></Blob><Blob><Name>c</Name></Blob></Blobs>";
        assert_eq!(with_plain_keys(&blobs.into()).as_deref(), Some(&b"<Blobs><Blob><Name>c</Name></Blob></Blobs>"[..]));
        for broken in ["", "<Contents>", "<Contents><Key>a", "no XML"] {
            assert_eq!(with_plain_keys(&broken.into()), None, "{broken}");
        }
    }
}
