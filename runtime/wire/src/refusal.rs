//! What a refused request is answered with: one JSON object with one member.

use serde_json::{Value, json};

/// `{"error": "…"}`.
#[must_use]
pub fn encode(message: &str) -> String {
    json!({ "error": message }).to_string()
}

/// The message of a refusal; none where the body is something else.
#[must_use]
pub fn decode(body: &[u8]) -> Option<String> {
    let object: Value = serde_json::from_slice(body).ok()?;
    object.get("error")?.as_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_object() {
        let body = encode("no \"room\"");
        assert_eq!(body, r#"{"error":"no \"room\""}"#);
        assert_eq!(decode(body.as_bytes()).as_deref(), Some("no \"room\""));
        assert_eq!(decode(b"<html>"), None);
        assert_eq!(decode(b"{}"), None);
    }
}
