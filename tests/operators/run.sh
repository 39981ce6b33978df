#!/bin/sh
# The differential suite of operators on tract: `run.sh` compares it with backends/tract/verified.tsv, `--write` remakes
# that, `--tenth HASH` runs a tenth of the cases, drawn by the hash, and compares what they say.
# CORYMB_TEST_OPERATORS_PYTHON names a Python that has the packages of requirements.txt; without it one is made.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/operators
python=${CORYMB_TEST_OPERATORS_PYTHON:-}
if [ -z "$python" ]; then
    python=$work/python/bin/python
    if ! "$python" -c 'import onnx, onnxruntime' 2>/dev/null; then
        python3 -m venv "$work/python"
        "$python" -m pip install --quiet -r "$here/requirements.txt"
    fi
fi
runner=$target/release/corymb-tests-operators
if [ -z "${CORYMB_TEST_OPERATORS_BUILT:-}" ]; then
    cargo build --release --manifest-path "$root/Cargo.toml" --workspace --bins
fi
table=$root/backends/tract/verified.tsv
case ${1:-} in
--tenth)
    "$python" "$here/generate.py" "$work/cases.jsonl" --tenth "$2"
    exec "$runner" "$work/cases.jsonl" "$table" --part
    ;;
--write)
    "$python" "$here/schemas.py"
    "$python" "$here/generate.py" "$work/cases.jsonl"
    exec "$runner" "$work/cases.jsonl" "$table" --write
    ;;
'')
    "$python" "$here/generate.py" "$work/cases.jsonl"
    exec "$runner" "$work/cases.jsonl" "$table"
    ;;
*)
    echo "usage: run.sh [--write | --tenth HASH]" >&2
    exit 2
    ;;
esac
