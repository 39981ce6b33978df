//! What ONNX Runtime says went wrong, in words that may be shown, and whose fault it is.

use corymb_core::{BackendError, Device, too_much_memory};
use ort::ErrorCode;

use crate::elements;
use crate::memory::Refusal;

/// Before the reason in the error of a run.
const STATUS: &str = "Status Message: ";
/// Before the operator.
const RUNNING: &str = "while running ";

/// What the processor's kernels say where they could not have memory.
const NO_MEMORY: &str = "std::bad_alloc";

/// An error of a run: the caller's where the values are at fault, else the engine's. On the processor a node fails of
/// what it is given, whatever code the library has for that; an accelerator may fail by itself.
pub(crate) fn of_run(error: &ort::Error, device: Device) -> BackendError {
    of_message(error.message(), error.code(), device)
}

fn of_message(message: &str, code: ErrorCode, device: Device) -> BackendError {
    if let Some((node, needed)) = elements::blamed(message) {
        return BackendError::InvalidInput(format!(
            "the model refuses these values: what they leave for the node {node} has not the {needed} that it needs"
        ));
    }
    let (node, reason) = (node_of(message), reason(message));
    let of_node = device == Device::Cpu && node.is_some();
    let reason = if reason.is_empty() { "the library gives no reason".to_owned() } else { reason };
    // A kernel asks for more than there is by what it is given: what is there for a run was there before.
    let reason = if reason == NO_MEMORY { "it would take more memory than there is".to_owned() } else { reason };
    let node = node.map_or_else(String::new, |operator| format!("{operator}: "));
    if of_node || code == ErrorCode::InvalidArgument {
        BackendError::InvalidInput(format!("the model refuses these values: {node}{reason}"))
    } else {
        BackendError::Failed(format!("run the model: {node}{reason}"))
    }
}

/// An error of a run that was refused memory: the request's fault, since another may take less.
pub(crate) fn of_memory(error: &ort::Error, refusal: Refusal) -> BackendError {
    let node = innermost_node_of(error.message()).unwrap_or("a tensor");
    let Refusal { asked, held, limit, shortage } = refusal;
    if let Some(shortage) = shortage {
        return BackendError::Memory(shortage);
    }
    BackendError::InvalidInput(if asked > limit.saturating_sub(held) {
        too_much_memory(asked.saturating_add(held), asked, node, limit)
    } else {
        format!("the machine has no {asked} bytes for {node} beside {held} that the run holds")
    })
}

/// An error of loading: the file's fault where it is malformed, else something that this engine lacks.
pub(crate) fn of_load(name: &str, error: &ort::Error) -> BackendError {
    let reason = reason(error.message());
    match error.code() {
        ErrorCode::InvalidProtobuf | ErrorCode::NoModel => {
            BackendError::InvalidModel(format!("'{name}' is not an ONNX model: {reason}"))
        }
        ErrorCode::NoSuchFile => BackendError::InvalidModel(format!("'{name}' needs a file that is missing: {reason}")),
        _ => BackendError::Unsupported(format!("onnxruntime cannot run '{name}': {reason}")),
    }
}

/// The operator in the error of a run, of the graph that is innermost.
fn innermost_node_of(message: &str) -> Option<&str> {
    node_of(&message[message.rfind(RUNNING)?..])
}

/// The operator in the error of a run.
fn node_of(message: &str) -> Option<&str> {
    message.split_once(RUNNING)?.1.split_once(" node")?.0.split_whitespace().next()
}

/// The reason alone: without the places in ONNX Runtime's sources, its function names and stack traces.
pub(crate) fn reason(message: &str) -> String {
    let mut text = message.split_once(STATUS).map_or(message, |(_, reason)| reason);
    for _ in 0..4 {
        let cleaned = strip_location(text);
        if cleaned.len() == text.len() {
            break;
        }
        text = cleaned;
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.take_while(|line| !line.starts_with("Stacktrace")).collect::<Vec<_>>().join(" ")
}

/// Drops `file.cc:123 function` or `/path/file.h:45 type function(arguments) const` at the start.
fn strip_location(text: &str) -> &str {
    let text = text.trim_start();
    let Some((place, rest)) = text.split_once(' ') else { return text };
    let is_place = place.rsplit_once(':').is_some_and(|(file, line)| {
        (file.ends_with(".cc") || file.ends_with(".h")) && line.bytes().all(|byte| byte.is_ascii_digit())
    });
    if !is_place {
        return text;
    }
    if !place.starts_with('/') {
        return rest.split_once(' ').map_or(rest, |(_, reason)| reason);
    }
    let mut depth = 0_usize;
    for (index, byte) in rest.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => {
                let after = rest[index + 1..].trim_start();
                return after.strip_prefix("const ").unwrap_or(after);
            }
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_freed_of_sources() {
        let cases = [
            (
                "Non-zero status code returned while running Gather node. Name:'x' Status Message: indices element out \
                 of data bounds, idx=99 must be within the inclusive range [-10,9]",
                "indices element out of data bounds, idx=99 must be within the inclusive range [-10,9]",
            ),
            (
                "Non-zero status code returned while running Div node. Name:'' Status Message: element_wise_ops.cc:703 \
                 Compute Integer division by zero",
                "Integer division by zero",
            ),
            (
                "Non-zero status code returned while running Range node. Name:'' Status Message: /src/core/bfc_arena.cc:360 \
                 void* onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*) Failed to allocate \
                 memory for requested buffer of size 140737488355328\n",
                "Failed to allocate memory for requested buffer of size 140737488355328",
            ),
            ("plain words", "plain words"),
        ];
        for (message, expected) in cases {
            assert_eq!(reason(message), expected);
        }
        assert_eq!(node_of(cases[1].0), Some("Div"));
        assert_eq!(node_of("plain words"), None);
    }

    #[test]
    fn a_node_of_the_processor_fails_of_what_it_is_given() {
        let split = "Non-zero status code returned while running Split node. Name:'a' Status Message: split.cc:99 \
            PrepareForCompute Cannot split";
        let failed = |message: &str, device| of_message(message, ErrorCode::RuntimeException, device);
        let refused = failed(split, Device::Cpu);
        assert!(matches!(&refused, BackendError::InvalidInput(text) if text.ends_with(": Split: Cannot split")));
        assert!(matches!(failed(split, Device::Cuda(0)), BackendError::Failed(_)));
        assert!(matches!(failed("no reason", Device::Cpu), BackendError::Failed(_)));
        let full = "Non-zero status code returned while running Conv node. Name:'' Status Message: std::bad_alloc";
        assert!(
            matches!(failed(full, Device::Cpu), BackendError::InvalidInput(text) if text.contains("Conv: it would take"))
        );
    }
}
