#!/usr/bin/env bash
# Builds plugins written in Rust.
#
#   plugins/build.sh                       the flowers plugin, the examples and the tests' guests
#   plugins/build.sh CRATE_DIR OUT.wasm    one plugin
#   plugins/build.sh --stamp CRATE_DIR     prints the stamp of a plugin's sources
#
# A core module is compiled for wasm32-unknown-unknown, which has no WASI to import, and corymb-componentize makes a
# component of it. The toolchain is rustup's, which gets the target where it lacks it, else Debian's packages rustc-web,
# cargo-web, rust-web-src and lld. CORYMB_COMPONENTIZE names an encoder that is built already.
#
# The stamp tells whether a committed .wasm belongs to the sources beside it. It is one SHA-256 over the files of
# CRATE_DIR/src, plugins/sdk/src and plugins/wit, and CRATE_DIR/Cargo.toml, CRATE_DIR/Cargo.lock and
# plugins/sdk/Cargo.toml: their paths from the project's root sorted by bytes, and for each the path, a newline, the
# content. OUT.wasm.stamp holds it in hexadecimal, and a newline.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=wasm32-unknown-unknown

fail() {
    echo "build.sh: $*" >&2
    exit 1
}

stamp() {
    local crate=$1
    (
        cd "$root"
        {
            find "$crate/src" plugins/sdk/src plugins/wit -type f
            printf '%s\n' "$crate/Cargo.toml" "$crate/Cargo.lock" plugins/sdk/Cargo.toml
        } | LC_ALL=C sort | while IFS= read -r path; do
            printf '%s\n' "$path"
            cat "$path"
        done | sha256sum | cut -d ' ' -f 1
    )
}

# Sets `cargo`, `flags` (of rustc) and `arguments` (of cargo).
choose_toolchain() {
    # The build machine's folders are nobody's business, and without them the output is the same everywhere.
    flags=(-C target-feature=+simd128 "--remap-path-prefix=$root/=")
    local registry
    for registry in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/; do
        flags+=("--remap-path-prefix=$registry=")
    done
    arguments=(--release --target "$target" --message-format json-render-diagnostics)
    if command -v rustc >/dev/null && has_target "$(rustc --print sysroot)"; then
        toolchain="$(rustc --version), with its $target"
        cargo=(cargo)
    elif command -v rustup >/dev/null && rustup target add "$target" >&2; then
        toolchain="$(rustc --version), with rustup's $target"
        cargo=(cargo)
    elif [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && command -v wasm-ld >/dev/null && has_source; then
        # The compiler knows the target but brings no standard library for it: that is built too.
        toolchain="$(/usr/bin/rustc --version) of Debian, with a standard library built from source"
        cargo=(env RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 /usr/bin/cargo)
        flags+=(-C linker=wasm-ld)
        arguments+=(-Zbuild-std=std,panic_abort)
    else
        fail "no compiler for $target: 'rustup target add $target', or on Debian" \
            "'apt install rustc-web cargo-web rust-web-src lld'"
    fi
    echo "build.sh: $toolchain" >&2
}

has_target() {
    [ -d "$1/lib/rustlib/$target/lib" ]
}

has_source() {
    [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std/Cargo.toml" ]
}

# With the features of a whole-workspace build, so that nothing is compiled twice.
encoder() {
    if [ -z "${CORYMB_COMPONENTIZE:-}" ]; then
        (cd "$root" && cargo build --release --workspace --bin corymb-componentize)
        CORYMB_COMPONENTIZE=${CARGO_TARGET_DIR:-$root/target}/release/corymb-componentize
    fi
}

build() {
    local crate=$1 out=$2 encoded_flags core
    encoded_flags=$(IFS=$'\x1f' && echo "${flags[*]}")
    core=$(
        cd "$crate"
        CARGO_ENCODED_RUSTFLAGS=$encoded_flags CARGO_TARGET_DIR=$root/target/guests "${cargo[@]}" build "${arguments[@]}" |
            sed -n 's/^{"reason":"compiler-artifact".*"\([^"]*\.wasm\)".*/\1/p' | tail -n 1
    )
    [ -n "$core" ] || fail "$crate makes no .wasm: its Cargo.toml needs [lib] crate-type = [\"cdylib\"]"
    mkdir -p "$(dirname "$out")"
    "$CORYMB_COMPONENTIZE" "$core" "$out"
}

# The tests' guests are committed as the host's tests read them; examples only have to build.
output_of() {
    local name
    name=$(basename "$1").wasm
    case "$1" in
        "$root"/tests/guests/*) echo "$root/tests/fixtures/plugins/$name" ;;
        *) echo "$root/target/guests/components/$name" ;;
    esac
}

build_all() {
    local crate
    for crate in "$root"/plugins/examples/*/Cargo.toml "$root"/tests/guests/*/Cargo.toml; do
        [ -e "$crate" ] || continue
        crate=$(dirname "$crate")
        build "$crate" "$(output_of "$crate")"
    done
    local flowers=$root/deploy/models/flowers/flowers.wasm
    build "$root/plugins/flowers" "$flowers"
    stamp plugins/flowers >"$flowers.stamp"
}

case "$#:${1:-}" in
    2:--stamp)
        crate=$(cd "$2" && pwd)
        stamp "${crate#"$root"/}"
        ;;
    0:)
        choose_toolchain
        encoder
        build_all
        ;;
    2:*)
        choose_toolchain
        encoder
        build "$1" "$2"
        ;;
    *)
        sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac
