# Short names for the commands of the README. `just` alone lists them.

_default:
    @just --list --unsorted

# Serve; the embedded flowers model when nothing is named
run *ARGUMENTS:
    cargo run --release -- serve {{ARGUMENTS}}

# One prediction per file, in this process or by a running server (--url)
predict +ARGUMENTS:
    cargo run --release -- predict {{ARGUMENTS}}

# The whole suite, or the tests whose names contain a word
test *FILTER:
    cargo test --release --workspace {{FILTER}}

# Format and lints, as CI sees them
lint:
    cargo fmt --all --check
    cargo clippy --release --workspace --all-targets -- -D warnings

# Rebuild the Wasm plugins that are committed
plugins:
    plugins/build.sh

# Make docs/operations.md anew from the table of refusals
operations:
    CORYMB_WRITE_OPERATIONS=1 cargo test --release --workspace the_page_of_operations_is_made_from_the_table

# Make the template of `corymb manifest` for alerts anew from deploy/telemetry/rules.yaml
rules:
    CORYMB_WRITE_RULES=1 cargo test --release --workspace the_template_is_made_from_the_rules

# The benchmarks; built with the whole workspace, so that no dependency is compiled twice
bench *ARGUMENTS:
    cargo build --release --workspace --bin corymb-tests-bench
    "${CARGO_TARGET_DIR:-target}/release/corymb-tests-bench" {{ARGUMENTS}}

# KFServing's page on autoscaling with hey and Knative's own autoscaler, beside its numbers (needs Go and hey; 7 minutes)
seed *ARGUMENTS:
    tests/knative/page.sh {{ARGUMENTS}}

# 1,000 models of which 50 fit, asked for by Zipf's law (needs Python with onnx; 10 minutes)
zipf *ARGUMENTS:
    cargo build --release --workspace --bin corymb
    tests/repository/zipf.py "${CARGO_TARGET_DIR:-target}/release/corymb" {{ARGUMENTS}}

# 2 GiB from a store that states a checksum, beside curl (needs nginx and curl; 1 minute)
transfer *ARGUMENTS:
    cargo build --release --workspace --bin corymb
    tests/repository/transfer.py "${CARGO_TARGET_DIR:-target}/release/corymb" {{ARGUMENTS}}

# Fuzz a decoder of the wire; tests/fuzz/src/lib.rs says which there are
fuzz TARGET SECONDS="60" *FLAGS:
    tests/fuzz/fuzz.sh run {{TARGET}} {{SECONDS}} {{FLAGS}}

# Keep what covers most of a fuzz target's committed and new inputs
fuzz-minimise TARGET:
    tests/fuzz/fuzz.sh minimise {{TARGET}}

# The forms of operators that tract is trusted with, compared with the table; --write makes it anew (a quarter of an hour)
operators *ARGUMENTS:
    tests/operators/run.sh {{ARGUMENTS}}

# ONNX's own suites through the server, on both engines (needs what tests/operators/suites-requirements.txt names; 2 minutes)
suites *ARGUMENTS:
    python3 tests/operators/suites.py "${CARGO_TARGET_DIR:-target}/release/corymb" {{ARGUMENTS}}

# Operators with which a request ends the process of ONNX Runtime, beside those that are guarded (a quarter of an hour)
kill *ARGUMENTS:
    python3 tests/operators/kill.py {{ARGUMENTS}}

# Public models from PyPI and npm against Python's onnxruntime (needs what tests/models/requirements.txt names; half an hour)
models *ARGUMENTS:
    python3 tests/models/public.py {{ARGUMENTS}}
