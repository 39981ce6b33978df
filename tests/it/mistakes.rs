//! The plain mistakes: each its status and a message one can act on, and the next request is served.

use serde_json::json;

use crate::harness::{Server, picture, send};
use crate::parity::base64;

const V1: &str = "/v1/models/flowers-sample:predict";
const V2: &str = "/v2/models/flowers-sample/infer";

struct Mistake {
    what: &'static str,
    method: &'static str,
    path: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
    status: u16,
    /// Parts of the message.
    says: &'static [&'static str],
}

fn post(
    what: &'static str,
    path: &'static str,
    body: impl Into<Vec<u8>>,
    status: u16,
    says: &'static [&'static str],
) -> Mistake {
    Mistake { what, method: "POST", path, content_type: "application/json", body: body.into(), status, says }
}

fn v2_input(name: &str, datatype: &str, shape: &serde_json::Value, data: &serde_json::Value) -> String {
    json!({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data,
        "parameters": {"content_type": "base64"}}]})
    .to_string()
}

fn mistakes() -> Vec<Mistake> {
    [v1_mistakes(), v2_mistakes(), mistakes_of_any_protocol()].into_iter().flatten().collect()
}

fn v1_mistakes() -> Vec<Mistake> {
    let b64 = base64(&picture());
    let cut = base64(&picture()[..picture().len() / 2]);
    vec![
        post("broken JSON", V1, "{\"instances\": [", 400, &[]),
        post("nothing", V1, "", 400, &[]),
        post("no instances", V1, "{}", 400, &["instances", "inputs"]),
        post("empty instances", V1, r#"{"instances": []}"#, 400, &["instances"]),
        post(
            "rows and columns",
            V1,
            json!({"instances": [{"b64": b64}], "inputs": [{"b64": b64}]}).to_string(),
            400,
            &["instances", "inputs"],
        ),
        post("wrong base64", V1, r#"{"instances": [{"image_bytes": {"b64": "!!"}}]}"#, 400, &["image_bytes", "base64"]),
        post("no picture", V1, r#"{"instances": [{"image_bytes": {"b64": "aGVsbG8="}}]}"#, 400, &["JPEG"]),
        post("half a picture", V1, json!({"instances": [{"b64": cut}]}).to_string(), 400, &[]),
        post("missing input", V1, r#"{"instances": [{"key": "1"}]}"#, 400, &["image_bytes"]),
        post(
            "unknown input",
            V1,
            json!({"instances": [{"image_bytes": {"b64": b64}, "kez": "1"}]}).to_string(),
            400,
            &["kez"],
        ),
        post("a number for bytes", V1, r#"{"instances": [{"image_bytes": 7}]}"#, 400, &["image_bytes"]),
        post(
            "unknown signature",
            V1,
            json!({"signature_name": "x", "instances": [{"b64": b64}]}).to_string(),
            400,
            &["x"],
        ),
    ]
}

fn v2_mistakes() -> Vec<Mistake> {
    let b64 = base64(&picture());
    vec![
        post("no inputs", V2, "{}", 400, &["inputs"]),
        post(
            "wrong dtype",
            V2,
            v2_input("image_bytes", "FP32", &json!([1]), &json!([1.0])),
            400,
            &["image_bytes", "FP32", "BYTES"],
        ),
        post("unknown dtype", V2, v2_input("image_bytes", "FLOAT", &json!([1]), &json!([1.0])), 400, &["FLOAT"]),
        post(
            "wrong rank",
            V2,
            v2_input("image_bytes", "BYTES", &json!([1, 1]), &json!([b64])),
            400,
            &["image_bytes", "[1,1]"],
        ),
        post("wrong count", V2, v2_input("image_bytes", "BYTES", &json!([2]), &json!([b64])), 400, &["image_bytes"]),
        post("huge shape", V2, v2_input("image_bytes", "BYTES", &json!([u64::MAX, 16]), &json!([b64])), 400, &[]),
        post("negative shape", V2, v2_input("image_bytes", "BYTES", &json!([-1]), &json!([b64])), 400, &[]),
    ]
}

/// Models, versions and URLs that are not there, and bodies that no protocol has.
fn mistakes_of_any_protocol() -> Vec<Mistake> {
    vec![
        post(
            "unknown V1 model",
            "/v1/models/other:predict",
            json!({"instances": [1]}).to_string(),
            404,
            &["other", "flowers-sample"],
        ),
        post("unknown V2 model", "/v2/models/other/infer", "{}", 404, &["other"]),
        post("unknown version", "/v2/models/flowers-sample/versions/9/infer", "{}", 404, &["9"]),
        post("deep nesting", V1, "[".repeat(100_000), 400, &[]),
        post("deep nesting inside", V1, format!("{{\"instances\":{}", "[".repeat(100_000)), 400, &[]),
        Mistake { what: "not a picture", content_type: "image/jpeg", ..post("", V1, "hello", 400, &["JPEG"]) },
        Mistake { what: "wrong method", method: "GET", ..post("", V1, "", 405, &[]) },
        Mistake { what: "unknown URL", method: "GET", ..post("", "/v1/modelz", "", 404, &["/v1/modelz"]) },
        Mistake { what: "unknown root", method: "GET", ..post("", "/x", "", 404, &["/x"]) },
        Mistake { what: "unknown status", method: "GET", ..post("", "/v1/models/other", "", 404, &["other"]) },
    ]
}

#[test]
fn each_mistake_is_named_and_the_next_request_is_served() {
    let server = Server::start(&[]);
    let good = json!({"instances": [{"image_bytes": {"b64": base64(&picture())}}]}).to_string();
    for mistake in mistakes() {
        let headers = [("content-type", mistake.content_type)];
        let body = if mistake.method == "GET" { &[][..] } else { &mistake.body };
        let answer = send(&server.url(mistake.path), mistake.method, &headers, body);
        assert_eq!(answer.status, mistake.status, "{}: {}", mistake.what, answer.text());
        let error = answer.error();
        for part in mistake.says {
            assert!(error.contains(part), "{}: '{part}' in: {error}", mistake.what);
        }
        for internal in ["src/", "panicked", ".rs:", "0x", "deploy/"] {
            assert!(!error.contains(internal), "{}: '{internal}' in: {error}", mistake.what);
        }
        let next = server.post(V1, "application/json", good.as_bytes());
        assert_eq!(next.status, 200, "after {}: {}", mistake.what, next.text());
    }
    let allow = send(&server.url(V1), "GET", &[], &[]);
    assert_eq!(allow.header("allow"), Some("POST"));
}

#[test]
fn a_body_beyond_the_limit_is_refused_before_it_is_read() {
    let server = Server::start(&["--max-body", "1MiB"]);
    let answer = server.post(V1, "application/json", &vec![b' '; (1 << 20) + 1]);
    assert_eq!(answer.status, 413, "{}", answer.text());
    assert!(answer.error().contains("1048576"), "{}", answer.text());
    assert_eq!(server.post(V1, "image/jpeg", &picture()).status, 200);
}

#[test]
fn deadlines_of_the_client_are_kept() {
    let server = Server::start(&[]);
    let url = server.url(V1);
    let late = send(&url, "POST", &[("content-type", "image/jpeg"), ("x-request-timeout", "10us")], &picture());
    assert_eq!(late.status, 504, "{}", late.text());
    let wrong = send(&url, "POST", &[("content-type", "image/jpeg"), ("x-request-timeout", "soon")], &picture());
    assert_eq!(wrong.status, 400, "{}", wrong.text());
    assert!(wrong.error().contains("x-request-timeout"), "{}", wrong.text());
    let fine = send(&url, "POST", &[("content-type", "image/jpeg"), ("x-request-timeout", "30s")], &picture());
    assert_eq!(fine.status, 200, "{}", fine.text());
}
