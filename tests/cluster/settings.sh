# What every step of tests/cluster knows: where things are, what they are called, how to wait. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail

cluster="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
root="$(cd "$cluster/../.." && pwd)"
target="$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")"
out="${CORYMB_CLUSTER_OUT:-$target/cluster}"
bin="$out/bin" logs="$out/log" pki="$out/pki" state="$out/state"

# Addresses exist inside the machine's own network alone.
node_address=10.79.0.1
pod_subnet=10.77.0.0/24
service_subnet=10.78.0.0/24
api_service=10.78.0.1
dns_service=10.78.0.10
node_name=corymb-cluster
# One folder of this name in each hierarchy of control groups.
group=corymb-cluster
# Knative looks up no digest, and the kubelet pulls nothing, of images that are called so.
images=dev.local

say() { printf '   %s (after %d s)\n' "$*" "$((SECONDS - ${begin:-0}))"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# The process that holds the machine together; nothing where it has ended, even if another has got its number.
machine() {
    local pid started
    [ -r "$out/machine" ] || return 1
    read -r pid started <"$out/machine"
    [ "$(awk '{print $22}' "/proc/$pid/stat" 2>/dev/null)" = "$started" ] || return 1
    echo "$pid"
}

# Runs a command inside the machine.
inside() {
    local pid
    pid="$(machine)" || fail "the machine is not up: tests/cluster/up.sh starts it"
    nsenter --target "$pid" --mount --net --pid --uts --ipc -- env PATH="$bin:/usr/sbin:/usr/bin:/sbin:/bin" \
        KUBECONFIG="$pki/admin.kubeconfig" "$@"
}

# Starts a server inside the machine, unless it runs; its output is log/NAME.log.
serve() {
    local name="$1"
    shift
    if inside pgrep -f "^$1( |\$)" >/dev/null; then return; fi
    inside setsid "$@" </dev/null >>"$logs/$name.log" 2>&1 &
}

# wait_for SECONDS WHAT COMMAND…: until the command succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what="$2"
    shift 2
    until "$@" >"$logs/wait.log" 2>&1; do
        if [ "$SECONDS" -ge "$end" ]; then
            cat "$logs/wait.log" >&2
            fail "$what did not come in time; see $logs"
        fi
        sleep 0.5
    done
    say "$what"
}
