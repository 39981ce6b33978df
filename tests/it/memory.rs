//! Bytes that would end a pod of little memory, each kind by itself and all together, beside a client that loses nothing: what
//! requests, answers and runs hold is bounded by what the control group has left.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corymb_proto::inference::grpc_inference_service_client::GrpcInferenceServiceClient;
use corymb_proto::inference::model_infer_request::InferInputTensor;
use corymb_proto::inference::{InferTensorContents, ModelInferRequest};
use flate2::write::{GzEncoder, ZlibEncoder};
use flate2::{Compression, Crc};
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Server, SetOnDrop, agent, control_group, onnxruntime_environment, picture, root, send, try_send};

const FLOWERS: &str = "/v1/models/flowers-sample:predict";
/// So many send the same at once.
const CALLERS: usize = 4;
const LIMIT: Duration = Duration::from_secs(120);

/// A gigabyte of zeros, compressed: many members, of which each is what `gzip` writes.
fn bomb() -> Vec<u8> {
    let mut member = GzEncoder::new(Vec::new(), Compression::best());
    member.write_all(&vec![0; 32 << 20]).expect("written");
    member.finish().expect("finished").repeat(32)
}

/// A PNG of one colour whose pixels take a hundred times the bytes of the server's limit on bodies.
fn large_picture(side: u32) -> Vec<u8> {
    let mut pixels = ZlibEncoder::new(Vec::new(), Compression::fast());
    let line = vec![0; side as usize * 3 + 1];
    (0..side).for_each(|_| pixels.write_all(&line).expect("written"));
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    let side = side.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    for (kind, data) in [(b"IHDR", header), (b"IDAT", pixels.finish().expect("finished")), (b"IEND", Vec::new())] {
        let mut sum = Crc::new();
        sum.update(kind);
        sum.update(&data);
        file.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
        file.extend(kind);
        file.extend(&data);
        file.extend(sum.sum().to_be_bytes());
    }
    file
}

/// The status of a body that comes in chunks and never says how long it is; none where the server hangs up.
fn chunked(server: &Server, mebibytes: usize) -> Option<u16> {
    let mut stream = TcpStream::connect(&server.address).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    stream.set_write_timeout(Some(LIMIT)).expect("set");
    let head = format!("POST {FLOWERS} HTTP/1.1\r\nhost: here\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("written");
    let chunk = [b"100000\r\n", &vec![b'['; 1 << 20][..], b"\r\n"].concat();
    let _ = (0..mebibytes).try_for_each(|_| stream.write_all(&chunk));
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    std::str::from_utf8(&answer[9..]).ok()?.parse().ok()
}

/// A request of so many numbers, an even number of them, without the numbers.
fn numbers(count: usize) -> ModelInferRequest {
    ModelInferRequest {
        model_name: "numbers".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "INT64".to_owned(),
            shape: vec![i64::try_from(count / 2).expect("small"), 2],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// The codes of requests that are sent at once over one connection, each on a stream of its own.
fn codes(server: &Server, request: &ModelInferRequest, count: usize) -> Vec<Code> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = Channel::from_shared(server.url("")).expect("a URL").connect().await.expect("connects");
        let client = GrpcInferenceServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let all = (0..count).map(|_| {
            let (mut client, request) = (client.clone(), request.clone());
            tokio::spawn(
                async move { client.model_infer(request).await.map_or_else(|status| status.code(), |_| Code::Ok) },
            )
        });
        let all: Vec<_> = all.collect();
        let mut codes = Vec::new();
        for one in all {
            codes.push(one.await.expect("no panic"));
        }
        codes
    })
}

/// The status that HTTP has for the code of a request over gRPC, of twenty million numbers that take a byte each on the wire.
fn typed(server: &Server) -> u16 {
    let count = 20_000_000;
    let mut request = numbers(count);
    request.inputs[0].contents = Some(InferTensorContents { int64_contents: vec![1; count], ..Default::default() });
    match codes(server, &request, 1)[..] {
        [Code::ResourceExhausted] => 429,
        ref other => panic!("{other:?}"),
    }
}

/// The same for hundreds of streams of one connection, of half a megabyte each.
fn streams(server: &Server) -> u16 {
    let count = 1 << 16;
    let request = ModelInferRequest { raw_input_contents: vec![vec![1; 8 * count].into()], ..numbers(count) };
    let codes = codes(server, &request, 300);
    let wrong = codes.iter().find(|code| !matches!(code, Code::Ok | Code::ResourceExhausted));
    assert_eq!(wrong, None);
    429
}

/// The status of a body, none where the server hangs up on it, which it may while the body is sent.
fn sent(server: &Server, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<u16> {
    try_send(&agent(), &server.url(path), "POST", headers, body).ok().map(|answer| answer.status)
}

/// The largest resident set so far, in bytes.
fn peak(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it lives");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("told");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

/// A kind of bytes: its name, the statuses that are right, and how it is sent.
type Kind<'a> = (&'a str, &'a [u16], Box<dyn Fn() -> Option<u16> + Send + Sync + 'a>);

/// What the server does with each kind; `limit` is the memory of its group.
fn assault(server: &Server, limit: usize) {
    let (bomb, large) = (bomb(), large_picture(8_000));
    let body = limit / 8 - 1024;
    let texts = format!(
        r#"{{"inputs":[{{"name":"image_bytes","datatype":"BYTES","shape":[10000000],"data":[{}"a"]}}]}}"#,
        r#""a","#.repeat(10_000_000 - 1)
    );
    let base64 = format!(r#"{{"instances":[{{"image_bytes":{{"b64":"{}"}}}}]}}"#, "A".repeat(body));
    let many = r#"{"inputs":[{"name":"limit","datatype":"INT64","shape":[],"data":[30000000]}]}"#;
    let infer = "/v2/models/flowers-sample/infer";
    let base64 = || sent(server, FLOWERS, &[], base64.as_bytes());
    let answer = || sent(server, "/v2/models/many/infer", &[], many.as_bytes());
    let requests: Vec<Kind<'_>> = vec![
        ("zeros", &[413, 429], Box::new(|| sent(server, FLOWERS, &[("content-encoding", "gzip")], &bomb))),
        ("chunks", &[413, 429], Box::new(|| chunked(server, 300))),
        ("texts", &[413, 429], Box::new(|| sent(server, infer, &[], texts.as_bytes()))),
        ("a picture", &[400, 413, 429], Box::new(|| sent(server, FLOWERS, &[], &large))),
        ("base64", &[400, 413, 429], Box::new(base64)),
        ("an answer", &[400, 413, 429], Box::new(answer)),
        ("typed contents", &[413, 429], Box::new(|| Some(typed(server)))),
        ("streams", &[429], Box::new(|| Some(streams(server)))),
    ];
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let good = scope.spawn(|| {
            let picture = picture();
            while !done.load(Ordering::SeqCst) {
                let until = Instant::now() + LIMIT;
                loop {
                    let answer = server.post(FLOWERS, "image/jpeg", &picture);
                    if answer.status == 200 {
                        break;
                    }
                    // Nothing is lost: it is told to come again.
                    assert!(answer.status == 429 && answer.header("retry-after").is_some(), "{}", answer.text());
                    assert!(Instant::now() < until, "nothing but 429");
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let ended = SetOnDrop(&done);
        let each = requests.iter().map(std::slice::from_ref);
        for kinds in each.chain([requests.as_slice()]) {
            std::thread::scope(|scope| {
                for (what, statuses, ask) in kinds.iter().flat_map(|kind| std::iter::repeat_n(kind, CALLERS)) {
                    scope.spawn(move || {
                        let status = ask();
                        assert!(status.is_none_or(|status| statuses.contains(&status)), "{what}: {status:?}");
                    });
                }
            });
        }
        drop(ended);
        good.join().expect("the good client");
    });
}

fn survives(mebibytes: u64) {
    let fixtures = root().join("tests/fixtures");
    let numbers = format!("numbers={}", fixtures.join("models/identity_int64.onnx").display());
    let many = format!("many={}", fixtures.join("zoo/cases/range_by_value.onnx").display());
    let flowers = format!("flowers-sample={}", root().join("deploy/models/flowers").display());
    let library = onnxruntime_environment();
    for prefix in [Some(String::new()), library].into_iter().flatten() {
        let Some(group) = control_group(mebibytes << 20, None) else { return };
        let models = ["--model", &flowers, "--model", &numbers, "--model", &many];
        let server = Server::start_in(&group, &models, &[("VIRTUAL_ENV", &prefix)]);
        let limit = mebibytes << 20;
        assault(&server, usize::try_from(limit).expect("small"));
        let peak = peak(&server);
        println!("{mebibytes} MiB, library '{prefix}': at most {} MiB were resident", peak >> 20);
        assert!(peak * 10 <= limit * 9, "{peak} of {limit} bytes were resident");
        let answer = send(&server.url(FLOWERS), "POST", &[], &picture());
        assert_eq!(answer.status, 200, "{}", answer.text());
        drop(server);
    }
}

#[test]
fn half_a_gigabyte_is_enough_for_any_bytes() {
    survives(512);
}

#[test]
fn a_quarter_of_a_gigabyte_is_enough_for_any_bytes() {
    survives(256);
}
