#!/bin/sh
# The differential suite of operators on tract: `run.sh` compares it with backends/tract/verified.tsv, `--write` remakes
# that, `--tenth HASH` runs a tenth of the cases, drawn by the hash, and compares what they say.
# CORYMB_TEST_OPERATORS_PYTHON names a Python that has the packages of requirements.txt; without it one is made.
# CORYMB_TEST_OPERATORS_BUILT says that the runner is built; a table that is made anew needs it built anew.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
work=$target/operators
table=$root/backends/tract/verified.tsv
mode=check
case "$#:${1:-}" in
0:) ;;
1:--write) mode=write ;;
2:--tenth) mode=tenth ;;
*)
    echo "usage: run.sh [--write | --tenth HASH]" >&2
    exit 2
    ;;
esac
python=${CORYMB_TEST_OPERATORS_PYTHON:-}
if [ -z "$python" ]; then
    python=$work/python/bin/python
    [ -x "$python" ] || python3 -m venv "$work/python"
    "$python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
fi
# The runner and the server have the schemas compiled in.
if [ $mode = write ]; then
    "$python" "$here/schemas.py"
fi
if [ $mode = write ] || [ -z "${CORYMB_TEST_OPERATORS_BUILT:-}" ]; then
    cargo build --release --manifest-path "$root/Cargo.toml" --workspace --bins
fi
runner=$target/release/corymb-tests-operators
case $mode in
tenth)
    "$python" "$here/generate.py" "$work/cases.jsonl" --tenth "$2"
    exec "$runner" "$work/cases.jsonl" "$table" --part
    ;;
write)
    "$python" "$here/generate.py" "$work/cases.jsonl"
    exec "$runner" "$work/cases.jsonl" "$table" --write
    ;;
check)
    "$python" "$here/generate.py" "$work/cases.jsonl"
    exec "$runner" "$work/cases.jsonl" "$table"
    ;;
esac
