//! Plugins that misbehave: each costs its own request and nothing else.

mod harness;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use corymb_core::{CancelFlag, Code, Plugin, PluginError, Request, Step, Tensor, Value};
use corymb_plugin_host::Host;
use harness::{block_on, doubled, hostile, load, options, request, serve, serves};

fn host() -> Host {
    Host::new().expect("host")
}

/// How a request fails, and that the next one is served.
fn failure(plugin: &dyn Plugin, request: Request) -> PluginError {
    let failure = serve(plugin, request).expect_err("failed");
    serves(plugin);
    failure
}

fn contract(plugin: &dyn Plugin, what: &str) -> String {
    match failure(plugin, request(what)) {
        PluginError::Contract { plugin, what } => {
            assert_eq!(plugin, "hostile");
            what
        }
        other => panic!("{other:?}"),
    }
}

fn limit(plugin: &dyn Plugin, what: &str) -> String {
    match failure(plugin, request(what)) {
        PluginError::Limit { what, .. } => what,
        other => panic!("{other:?}"),
    }
}

fn trap(plugin: &dyn Plugin, what: &str) -> String {
    match failure(plugin, request(what)) {
        error @ PluginError::Trap { .. } => {
            assert_eq!(error.to_string(), "plugin hostile failed");
            error.details().expect("a backtrace").to_owned()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tensors_are_as_the_contract_says() {
    let host = host();
    serve(&*hostile(&host), request("conformance")).expect("conforming");
}

#[test]
fn what_is_carried_comes_back() {
    let host = host();
    let plugin = hostile(&host);
    let note = Tensor::from_elements([1], vec![Bytes::from_static(b"keep")]).expect("valid");
    let mut request = request("");
    request.inputs.push("note", note.clone());
    let response = serve(&*plugin, request).expect("served");
    assert_eq!(response.outputs.get("note"), Some(&note));
}

#[test]
fn endless_loops_end_at_the_deadline() {
    let host = host();
    let plugin = hostile(&host);
    for what in ["loop", "loop in host calls"] {
        let mut request = request(what);
        request.deadline = Some(Instant::now() + Duration::from_millis(50));
        assert!(matches!(failure(&*plugin, request), PluginError::Deadline { .. }), "{what}");
    }
}

#[test]
fn endless_loops_end_when_the_call_has_had_its_time() {
    let host = host();
    let mut options = options();
    options.call_timeout = Duration::from_millis(50);
    let plugin = load(&host, &options).expect("loaded");
    for what in ["loop", "loop in postprocess"] {
        match serve(&*plugin, request(what)) {
            Err(PluginError::Deadline { limit, .. }) => assert_eq!(limit, options.call_timeout),
            other => panic!("{what}: {other:?}"),
        }
    }
    options.config = "\"loop\"".to_owned();
    assert!(matches!(load(&host, &options), Err(PluginError::Deadline { .. })));
}

#[test]
fn late_requests_are_not_begun() {
    let host = host();
    let mut request = request("");
    request.deadline = Some(Instant::now());
    assert!(matches!(failure(&*hostile(&host), request), PluginError::Deadline { limit: Duration::ZERO, .. }));
}

#[test]
fn a_caller_who_leaves_ends_the_call() {
    let host = host();
    let plugin = hostile(&host);
    let mut request = request("loop");
    request.cancel = CancelFlag::new();
    let cancel = request.cancel.clone();
    let leaves = thread::spawn(move || {
        thread::sleep(Duration::from_millis(30));
        cancel.cancel();
    });
    assert!(matches!(failure(&*plugin, request), PluginError::Cancelled));
    leaves.join().expect("left");
}

#[test]
fn traps_are_told_apart_and_cost_one_request() {
    let host = host();
    let plugin = hostile(&host);
    assert!(trap(&*plugin, "trap").contains("unreachable"));
    assert!(trap(&*plugin, "trap in postprocess").contains("unreachable"));
    assert!(trap(&*plugin, "overflow the stack").contains("call stack exhausted"));
}

#[test]
fn memory_has_an_end() {
    let host = host();
    let mut options = options();
    options.memory = 16 << 20;
    let plugin = load(&host, &options).expect("loaded");
    let what = limit(&*plugin, "grow");
    assert!(what.ends_with("bytes of memory; 16777216 are allowed"), "{what}");
    options.memory = 1 << 16;
    let refused = harness::refusal(load(&host, &options));
    assert!(refused.contains("65536 are allowed"), "{refused}");
}

#[test]
fn what_the_host_keeps_has_an_end() {
    let host = host();
    let plugin = hostile(&host);
    assert!(limit(&*plugin, "flood the handles").contains("handles at once"));
    assert_eq!(limit(&*plugin, "large carry"), "65537 bytes of carry; 65536 are allowed, tensors are not counted");
    assert_eq!(limit(&*plugin, "huge carry"), "67108864 bytes in one call of the host");
    assert_eq!(limit(&*plugin, "large element"), "67108864 bytes in one call of the host");
    assert_eq!(limit(&*plugin, "large parameter"), "65540 bytes of parameters in its answer; 65536 are allowed");
    assert_eq!(failure(&*plugin, request("large tensors")).code(), Code::TooLarge);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn logs_and_metrics_have_an_end() {
    let host = host();
    let plugin = hostile(&host);
    serve(&*plugin, request("flood the metrics")).expect("served");
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, || serve(&*plugin, request("flood the log")).expect("served"));
    let logged = String::from_utf8(lines.0.lock().expect("not poisoned").clone()).expect("text");
    assert_eq!(logged.lines().count(), 64 + 1);
    assert!(logged.lines().all(|line| line.len() < 1024 + 200));
    assert!(logged.lines().last().expect("there").contains("further log lines of this request are dropped"));
}

#[test]
fn answers_that_break_the_description_are_refused() {
    let host = host();
    let plugin = hostile(&host);
    assert_eq!(contract(&*plugin, "answer nothing"), "output 'y' is missing from its answer");
    assert_eq!(contract(&*plugin, "answer twice"), "it answered output 'y' twice");
    assert_eq!(contract(&*plugin, "answer unknown"), "it answered output 'z', which it does not describe");
    assert_eq!(contract(&*plugin, "answer another shape"), "output 'y' is FP32 [2]; it described FP32 [?,2]");
    assert_eq!(contract(&*plugin, "answer another dtype"), "output 'y' is INT32 [1,2]; it described FP32 [?,2]");
    assert_eq!(
        contract(&*plugin, "prepare another dtype"),
        "preprocess made for the model: input 'x' has datatype INT32; expected FP32"
    );
    assert_eq!(
        contract(&*plugin, "prepare another name"),
        "preprocess made for the model: unknown input 'z'; expected 'x'"
    );
}

#[test]
fn errors_keep_their_code_and_are_cut() {
    let host = host();
    match failure(&*hostile(&host), request("error")) {
        PluginError::Answered(error) => {
            assert_eq!(error.code, Code::NotFound);
            // Three bytes each: the last one that fits ends at 4095.
            assert_eq!(error.message.len(), 4095);
            assert_eq!(error.details.as_deref(), Some("for the log"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn received_tensors_cannot_be_written() {
    let host = host();
    let error = failure(&*hostile(&host), request("write what was received"));
    assert_eq!(error.code(), Code::PermissionDenied);
}

#[test]
fn requests_finish_in_another_instance_where_many_wait() {
    let host = host();
    let plugin = hostile(&host);
    let begin = || match block_on(plugin.preprocess(request(""))).expect("begun") {
        Step::Run { inputs, rest } => (inputs, rest),
        Step::Answer(_) => panic!("answered"),
    };
    // More than there are instances; each is still finished.
    let begun: Vec<_> = (0..100).map(|_| begin()).collect();
    let mut calls = [0; 3];
    for (inputs, rest) in begun {
        let response = block_on(rest.postprocess(doubled(&inputs))).expect("finished");
        assert_eq!(response.outputs.get("y").and_then(Tensor::as_slice::<f32>), Some(&[2.0, 4.0][..]));
        match response.parameters.get("calls") {
            Some(Value::Uint64(count)) => calls[usize::try_from(*count).expect("small")] += 1,
            other => panic!("{other:?}"),
        }
    }
    // `calls` counts within an instance: two where both halves met the same one.
    assert_eq!(calls, [0, 92, 8]);
    drop((begin(), begin()));
    serves(&*plugin);
}

#[test]
fn plugins_ask_other_models() {
    let host = host();
    let plugin = hostile(&host);
    let infer = |model: &str, depth: u8| {
        let mut request = request("infer");
        request.parameters.set("model", Value::Text(model.to_owned()));
        request.depth = depth;
        serve(&*plugin, request)
    };
    let response = infer("other", 0).expect("answered");
    assert_eq!(response.outputs.get("y").and_then(Tensor::as_slice::<f32>), Some(&[2.0, 4.0][..]));
    assert_eq!(infer("missing", 0).expect_err("refused").code(), Code::NotFound);
    assert_eq!(infer("busy", 0).expect_err("refused").code(), Code::Overloaded);
    assert_eq!(infer("deep", 3).expect_err("refused").to_string(), "4");
    let response = serve(&*plugin, request("infer all")).expect("answered");
    assert_eq!(response.outputs.get("y").and_then(Tensor::as_slice::<f32>), Some(&[2.0, 4.0][..]));
}

#[test]
fn plugins_that_wait_for_another_model_are_dropped_with_their_caller() {
    let host = host();
    let plugin = hostile(&host);
    let waiting = || {
        let mut request = request("infer");
        request.parameters.set("model", Value::Text("never".to_owned()));
        let mut call = plugin.preprocess(request);
        assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        call
    };
    // As many as there are instances.
    let calls: Vec<_> = (0..64).map(|_| waiting()).collect();
    match serve(&*plugin, request("")) {
        Err(error @ PluginError::Exhausted { .. }) => assert_eq!(error.code(), Code::Overloaded),
        other => panic!("{other:?}"),
    }
    drop(calls);
    serves(&*plugin);
}

#[test]
fn the_clock_starts_again_after_a_rest() {
    let host = host();
    let plugin = hostile(&host);
    // Long enough for it to fall asleep; were it not woken, the loop would not end.
    thread::sleep(Duration::from_secs(1));
    let mut request = request("loop");
    request.deadline = Some(Instant::now() + Duration::from_millis(50));
    assert!(matches!(failure(&*plugin, request), PluginError::Deadline { .. }));
}

#[test]
fn many_threads_share_one_plugin() {
    let host = host();
    let plugin = hostile(&host);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..50).for_each(|_| serves(&*plugin)));
        }
    });
}
