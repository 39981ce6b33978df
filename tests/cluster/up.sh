#!/usr/bin/env bash
# KServe on a real control plane on this one machine, and KFServing's page on autoscaling in it: etcd, Kubernetes, Knative
# Serving and KServe are compiled from their Go modules, containerd, runc and the CNI plugins are Debian's. Everything runs
# in namespaces of its own (processes, network, mounts), so that nothing listens on this machine. Run by hand, as root; CI
# does not. The first time it compiles for a quarter of an hour on two cores; after that it takes ten minutes.
#
# Usage: tests/cluster/up.sh [--out FOLDER] [--model converted|embedded] [--stay]
#   --out FOLDER   where everything goes: programs, state, logs, the page's report (default: target/cluster)
#   --model WHAT   `converted` makes a SavedModel and runs convert.py on it, with TensorFlow from PyPI (default);
#                  `embedded` is the flowers model of this repository
#   --stay         leave the cluster up, also after a failure, until tests/cluster/down.sh
#
# The steps are the files of tests/cluster/steps, in the order below, and each can be run again alone.
here="$(dirname "${BASH_SOURCE[0]}")"
model=converted stay=""
while [ $# -gt 0 ]; do
    case "$1" in
    --out | --model)
        [ $# -ge 2 ] || { echo "$1 needs a value" >&2; exit 2; }
        if [ "$1" = --out ]; then CORYMB_CLUSTER_OUT="$(realpath -m "$2")"; else model="$2"; fi
        shift 2
        ;;
    --stay)
        stay=1
        shift
        ;;
    *)
        sed -n '2,/^here=/{/^here=/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
        [ "$1" = --help ] || { echo "unknown argument: $1" >&2; exit 2; }
        exit 0
        ;;
    esac
done
[ "$model" = converted ] || [ "$model" = embedded ] || { echo "--model is converted or embedded, not '$model'" >&2; exit 2; }
[ -z "${CORYMB_CLUSTER_OUT:-}" ] || export CORYMB_CLUSTER_OUT
. "$here/settings.sh"

[ "$(id -u)" = 0 ] || fail "this needs root: it makes namespaces, mounts and groups of processes"
missing=()
for need in containerd:containerd runc:runc iptables:iptables conntrack:conntrack nsenter:util-linux ip:iproute2 cc:build-essential \
    openssl:openssl curl:curl hey:hey pgrep:procps; do
    command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
[ -x /usr/lib/cni/ptp ] || missing+=(containernetworking-plugins)
[ ${#missing[@]} = 0 ] || fail "missing: apt-get install ${missing[*]}"
command -v go >/dev/null || fail "missing: Go 1.26 or newer, https://go.dev/dl"

begin=$SECONDS
export begin
mkdir -p "$out" "$logs"
[ -n "$stay" ] || trap '"$cluster/down.sh"' EXIT
step() {
    printf '== %s\n' "$*"
    # Every wait inside has a limit of its own; this is for what compiles or downloads.
    timeout --foreground 2h "$cluster/steps/$1.sh" "${@:2}"
}
step build
step machine
step containers
step images
step control-plane
step node
step knative
step kserve
step model "$model"
step page
say "done; $out/page has the report, $logs the logs"
