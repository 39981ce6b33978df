//! A picture as a whole request body: `curl --data-binary @daisy.jpg …`.

use bytes::Bytes;
use corymb_core::{Code, DType, Error, Signature, TensorSpec, Tensors};
use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::raw::{self, JSON_LENGTH};

/// Whether the body is a picture: by its content type, or, since no JSON begins so, by its first bytes. Bodies with
/// Triton's header are binary tensors, whatever they look like.
pub fn is_picture(headers: &HeaderMap, body: &[u8]) -> bool {
    if headers.contains_key(&JSON_LENGTH) {
        return false;
    }
    let declared = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let declared = declared
        .is_some_and(|value| value.trim_start().get(..6).is_some_and(|start| start.eq_ignore_ascii_case("image/")));
    declared || media_type(body).is_some()
}

/// The media type of a picture, by its first bytes: JPEG, PNG or WebP.
#[must_use]
pub fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        _ => None,
    }
}

/// The picture as the model's only required input: one BYTES element.
pub fn inputs(signature: &Signature, body: &Bytes) -> Result<Tensors, Error> {
    let mut required = signature.required_inputs();
    if let (Some(spec), None) = (required.next(), required.next())
        && takes_pictures(spec)
        && let Ok(tensor) = raw::whole_element(spec, body)
    {
        return Ok(Tensors::from_iter([(spec.name.as_str(), tensor)]));
    }
    let wanted = signature.required_inputs().map(|spec| {
        let media_type = spec.media_type.as_ref().map(|media_type| format!(" ({media_type})")).unwrap_or_default();
        format!("'{}' {} {}{media_type}", spec.name, spec.dtype, spec.shape_text())
    });
    let wanted = wanted.collect::<Vec<_>>().join(", ");
    let message =
        format!("a picture as the body needs a model with one required input of one picture; this one takes {wanted}");
    Err(Error::new(Code::UnsupportedMediaType, message))
}

fn takes_pictures(spec: &TensorSpec) -> bool {
    let media_type = spec.media_type.as_deref().unwrap_or("image/*");
    spec.dtype == DType::Bytes && (media_type.starts_with("image/") || media_type == "application/octet-stream")
}

#[cfg(test)]
mod tests {
    use corymb_core::Dim;
    use http::HeaderValue;

    use super::*;

    const JPEG: &[u8] = b"\xff\xd8\xff\xe0";

    #[test]
    fn pictures_are_told_by_type_or_by_their_first_bytes() {
        let of = |content_type: Option<&'static str>, body: &[u8]| {
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
            }
            is_picture(&headers, body)
        };
        assert!(of(Some("image/jpeg"), b"?"));
        assert!(of(Some("IMAGE/webp; q=1"), b"?"));
        assert!(of(Some("application/octet-stream"), JPEG));
        assert!(of(Some("application/x-www-form-urlencoded"), b"\x89PNG\r\n\x1a\n..."));
        assert!(of(None, b"RIFF\0\0\0\0WEBPVP8 "));
        assert!(!of(None, b"RIFF\0\0\0\0WAVE"));
        assert!(!of(Some("application/json"), b"{}"));
        assert!(!of(Some("imag"), b""));

        let mut headers = HeaderMap::new();
        headers.insert(&JSON_LENGTH, HeaderValue::from_static("0"));
        assert!(!is_picture(&headers, JPEG));
    }

    #[test]
    fn the_model_decides_whether_it_takes_one() {
        let n = || Dim::Symbol("N".into());
        let image = |media_type: Option<&str>, shape| {
            let mut spec = TensorSpec::new("image_bytes", DType::Bytes, shape);
            spec.media_type = media_type.map(str::to_owned);
            spec
        };
        let mut key = TensorSpec::new("key", DType::Bytes, vec![n()]);
        key.optional = true;
        let body = Bytes::from_static(JPEG);
        let of = |specs: Vec<TensorSpec>| inputs(&Signature { inputs: specs, outputs: Vec::new() }, &body);

        let tensors = of(vec![image(Some("image/*"), vec![n()]), key]).expect("taken");
        let tensor = tensors.get("image_bytes").expect("named");
        assert_eq!((tensor.shape(), tensor.elements()), (&[1][..], Some(&[body.clone()][..])));
        assert!(of(vec![image(None, vec![n(), Dim::Fixed(1)])]).is_ok());

        let refused = of(vec![TensorSpec::new("x", DType::Fp32, vec![n(), Dim::Fixed(4)])]).expect_err("refused");
        assert_eq!(refused.code, Code::UnsupportedMediaType);
        assert!(refused.message.ends_with("this one takes 'x' FP32 [N,4]"), "{}", refused.message);
        let refused = of(vec![image(Some("text/plain"), vec![n()])]).expect_err("refused");
        assert!(refused.message.ends_with("'image_bytes' BYTES [N] (text/plain)"), "{}", refused.message);
        assert!(of(vec![image(None, vec![n()]), image(None, vec![n()])]).is_err());
        assert!(of(vec![image(None, vec![Dim::Fixed(2)])]).is_err());
    }
}
