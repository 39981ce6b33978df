#!/usr/bin/env bash
# Coverage-guided fuzzing of one target with libFuzzer, on stable Rust:
#
#   tests/fuzz/fuzz.sh run TARGET SECONDS [libFuzzer's flags]
#   tests/fuzz/fuzz.sh minimise TARGET
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

command="$1" target="$2"
committed="tests/fuzz/corpus/$target"
[ -d "$committed" ] || { echo "no target '$target'; the targets are: $(ls tests/fuzz/corpus | tr '\n' ' ')" >&2; exit 2; }

# A folder of its own: everything is compiled again, with instrumentation.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/fuzz"
host="$(rustc -vV | sed -n 's/^host: //p')"
# LLVM's pass that libFuzzer is guided by, and the checks of a debug build.
flags="-Cpasses=sancov-module -Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks --cfg fuzzing"
for flag in level=4 inline-8bit-counters pc-table trace-compares; do
    flags="$flags -Cllvm-args=-sanitizer-coverage-$flag"
done
# With `--target`, build scripts and macros are compiled without these flags: they would not link.
RUSTFLAGS="$flags" cargo build --release --target "$host" -p corymb-tests-fuzz --features libfuzzer --bin fuzz
export CORYMB_FUZZ="$target"
binary="$CARGO_TARGET_DIR/$host/release/fuzz"
found="$CARGO_TARGET_DIR/corpus/$target"
crashes="$CARGO_TARGET_DIR/crashes"
mkdir -p "$found" "$crashes"

case "$command" in
run)
    # No input is longer than the corpus may hold.
    exec "$binary" "$found" "$committed" -max_total_time="$3" -max_len=8192 -timeout=10 -rss_limit_mb=2048 \
        -dict=tests/fuzz/words.dict -artifact_prefix="$crashes/$target-" -print_final_stats=1 "${@:4}"
    ;;
minimise)
    scratch="$(mktemp -d)"
    trap 'rm -rf "$scratch"' EXIT
    mkdir "$scratch/merged"
    # A merge of this kind lists everything that each input covers.
    "$binary" -merge=1 -set_cover_merge=1 -merge_control_file="$scratch/covered" -max_len=8192 \
        "$scratch/merged" "$committed" "$found" 2>"$scratch/log" || { cat "$scratch/log" >&2; exit 1; }
    python3 tests/fuzz/minimise.py "$scratch/covered" "$committed"
    ;;
*)
    echo "expected run or minimise" >&2
    exit 2
    ;;
esac
