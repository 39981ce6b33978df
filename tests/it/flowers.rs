//! The seed: a request as the file of KFServing's flowers sample has it.

use serde_json::Value;

use crate::harness::{Server, sample_request};

const PREDICT: &str = "/v1/models/flowers-sample:predict";

#[test]
fn the_sample_request_is_answered_as_the_sample_says() {
    let body = sample_request();
    let server = Server::start(&[]);
    // As curl -d and hey send it.
    for content_type in ["application/x-www-form-urlencoded", "text/html", "application/json"] {
        let answer = server.post(PREDICT, content_type, &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let json = answer.json();
        let prediction = &json["predictions"][0];
        assert_eq!(json["predictions"].as_array().map(Vec::len), Some(1));
        assert_eq!(prediction["key"], "   1");
        assert_eq!(prediction["prediction"], 0, "a daisy");
        let scores: Vec<f64> =
            prediction["scores"].as_array().expect("a list").iter().filter_map(Value::as_f64).collect();
        assert_eq!(scores.len(), 6);
        assert!((scores.iter().sum::<f64>() - 1.0).abs() < 1e-5, "{scores:?}");
        assert!(scores[0] > 0.5, "{scores:?}");
        // Members in the order in which TF Serving's sample shows them.
        assert!(answer.text().starts_with(r#"{"predictions":[{"scores":["#), "{}", answer.text());
    }
}

#[test]
fn several_pictures_are_answered_in_their_order() {
    let server = Server::start(&[]);
    let picture = crate::parity::base64(&crate::harness::picture());
    let rows: Vec<String> =
        (0..5).map(|key| format!(r#"{{"image_bytes":{{"b64":"{picture}"}},"key":"{key}"}}"#)).collect();
    let answer =
        server.post(PREDICT, "application/json", format!(r#"{{"instances":[{}]}}"#, rows.join(",")).as_bytes());
    let json = answer.json();
    let predictions = json["predictions"].as_array().expect("a list");
    let keys: Vec<&str> = predictions.iter().filter_map(|prediction| prediction["key"].as_str()).collect();
    assert_eq!(keys, ["0", "1", "2", "3", "4"]);
    assert!(predictions.iter().all(|prediction| prediction["scores"] == predictions[0]["scores"]));
}
