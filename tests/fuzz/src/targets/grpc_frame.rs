//! gRPC's framing: a prefix is read as it stands, and a message that was written, compressed or not, is read again.

use bytes::Bytes;
use corymb_core::Code;
use corymb_proto::inference::ModelStreamInferResponse;
use corymb_wire::Coding;
use corymb_wire::grpc::{self, Head, Message, PREFIX};
use prost::Message as _;

use super::inflate::inflated;
use crate::input::Input;

/// Bytes that are accepted of one message.
const MAX: usize = 16 * 1024;

/// A byte for the coding, a prefix, and what follows it.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let coding = *input.pick(&[None, Some(Coding::Gzip), Some(Coding::Deflate)]);
    let prefix = [(); PREFIX].map(|()| input.byte());
    let follows = input.body();
    let [flag, a, b, c, d] = prefix;
    let len = u32::from_be_bytes([a, b, c, d]) as usize;
    match Head::parse(prefix, coding, MAX) {
        Ok(head) => {
            assert!(len <= MAX && flag <= 1);
            assert_eq!(head, Head { compressed: flag == 1, len });
            if head.compressed && head.len <= follows.len() {
                inflated(coding.expect("a compressed message has a coding"), &follows.slice(..head.len), 100);
            }
        }
        Err(error) if len > MAX => assert_eq!(error.code, Code::TooLarge),
        // As gRPC's specification demands.
        Err(error) => {
            assert_eq!(error.code, Code::Internal);
            assert!(flag > 1 || (flag == 1 && coding.is_none()), "{prefix:?} is refused: {error}");
        }
    }
    written_and_read(&String::from_utf8_lossy(&follows));
}

fn written_and_read(text: &str) {
    let message = grpc::refusal("id".to_owned(), text).expect("short");
    let plain = payload(message.clone(), None);
    let read = ModelStreamInferResponse::decode(plain.clone()).expect("a message");
    assert_eq!((&*read.error_message, read.infer_response.map(|answer| answer.id)), (text, Some("id".to_owned())));
    for coding in [Coding::Gzip, Coding::Deflate] {
        let compressed = payload(message.clone().deflated(coding).expect("short"), Some(coding));
        let (output, ended) = inflated(coding, &compressed, 1000);
        assert!(ended && output == plain, "{coding:?} gives other bytes");
        // Cut anywhere: at a place that depends on the bytes, so that all are tried in time.
        let cut = plain.iter().map(|byte| usize::from(*byte)).sum::<usize>() % compressed.len();
        let (_, ended) = inflated(coding, &compressed.slice(..cut), 1000);
        assert!(!ended, "{cut} of {} bytes pass for a message", compressed.len());
    }
}

/// What follows the prefix, which says so.
fn payload(message: Message, coding: Option<Coding>) -> Bytes {
    assert_eq!(message.len(), message.clone().into_pieces().concat().len());
    let all = Bytes::from(message.into_pieces().concat());
    let prefix = all[..PREFIX].try_into().expect("a prefix");
    let head = Head::parse(prefix, coding, usize::MAX).expect("valid");
    assert_eq!(head, Head { compressed: coding.is_some(), len: all.len() - PREFIX });
    all.slice(PREFIX..)
}
