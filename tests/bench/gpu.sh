#!/usr/bin/env bash
# Runs the flowers model on an NVIDIA GPU through the server, from a clean machine with Rust and pip: installs ONNX Runtime
# for CUDA into a folder of its own, says what the doctor sees, serves on cuda, and measures against the bare engine and
# against the processor. Without a GPU it goes as far as it can, says what is missing, and ends with 0.
#
#   tests/bench/gpu.sh [SECONDS] [DEVICE]      by default 10 and cuda:0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
seconds="${1:-10}"
device="${2:-cuda:0}"
work="${CORYMB_GPU_FOLDER:-target/gpu}"
mkdir -p "$work"
step() { printf '\n== %s\n' "$1"; }

step "ONNX Runtime for CUDA"
[ -x "$work/venv/bin/python" ] || python3 -m venv "$work/venv"
pip() { "$work/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
pip install onnx numpy
# The extras bring the CUDA and cuDNN libraries that the provider was built for: gigabytes that only a driver can use.
if command -v nvidia-smi >/dev/null; then pip install 'onnxruntime-gpu[cuda,cudnn]'; else pip install onnxruntime-gpu; fi
VIRTUAL_ENV="$(cd "$work/venv" && pwd)"
export VIRTUAL_ENV

step "build"
cargo build --release --workspace
[ -f "$work/mobilenet/model.onnx" ] || "$work/venv/bin/python" tests/bench/mobilenet.py "$work/mobilenet"

step "doctor"
corymb=target/release/corymb
if ! "$corymb" doctor --backend onnxruntime --device "$device"; then
    step "what serving on $device says"
    # It must end by itself, with the reason.
    if timeout 60 "$corymb" serve --host 127.0.0.1 --port 0 --backend onnxruntime --device "$device"; then
        echo "the server ran on a device that the doctor refuses" >&2
        exit 1
    fi
    step "no $device here: the rest is skipped"
    exit 0
fi

bench() { target/release/corymb-tests-bench "$@"; }
step "engines on $device, beside the bare engine"
bench engines --backend onnxruntime --device "$device" --seconds "$seconds" --mobilenet "$work/mobilenet"
step "engines on the processor"
bench engines --backend onnxruntime --device cpu --seconds "$seconds" --mobilenet "$work/mobilenet"
step "batches on $device"
bench batching --backend onnxruntime --seconds "$seconds" -- --device "$device"
