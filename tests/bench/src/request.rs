//! V2 REST requests with one FP32 input, and the same bytes as one HTTP/1.1 message.

use serde_json::json;

/// How many bytes of a body are JSON.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Path, headers and body.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    /// The values as JSON numbers.
    pub(crate) fn json(model: &str, input: &str, shape: &[usize], values: &[f32]) -> Self {
        let tensor = json!({"name": input, "shape": shape, "datatype": "FP32", "data": values});
        Self {
            path: path(model),
            headers: vec![("content-type", "application/json".to_owned())],
            body: json!({ "inputs": [tensor] }).to_string().into_bytes(),
        }
    }

    /// The values as they lie in memory, and `output` asked for in the same way.
    pub(crate) fn binary(model: &str, input: &str, output: &str, shape: &[usize], values: &[f32]) -> Self {
        let raw = raw(values);
        let size = json!({ "binary_data_size": raw.len() });
        let tensor = json!({"name": input, "shape": shape, "datatype": "FP32", "parameters": size});
        let wanted = json!({"name": output, "parameters": {"binary_data": true}});
        let json = json!({"inputs": [tensor], "outputs": [wanted]}).to_string();
        let headers =
            vec![("content-type", "application/octet-stream".to_owned()), (JSON_LENGTH, json.len().to_string())];
        Self { path: path(model), headers, body: [json.as_bytes(), &raw].concat() }
    }

    /// Head and body, as they go onto the wire in one write.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut head = format!("POST {} HTTP/1.1\r\nHost: localhost\r\n", self.path);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", self.body.len()));
        [head.as_bytes(), &self.body].concat()
    }
}

fn path(model: &str) -> String {
    format!("/v2/models/{model}/infer")
}

/// Little endian, as on every wire here.
pub(crate) fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// What [`raw`] wrote.
pub(crate) fn floats(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
