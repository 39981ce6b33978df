#!/usr/bin/env bash
# Ends the cluster of tests/cluster/up.sh: its processes, its mounts and network, which end with them, and its control
# groups. What was compiled, the logs and the report stay.
#
# Usage: tests/cluster/down.sh [--out FOLDER]
if [ "${1:-}" = --out ] && [ $# = 2 ]; then
    CORYMB_CLUSTER_OUT="$(realpath -m "$2")"
    export CORYMB_CLUSTER_OUT
elif [ $# -gt 0 ]; then
    sed -n '2,/^if/{/^if/!s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
    [ "$1" = --help ] || { echo "unknown arguments: $*" >&2; exit 2; }
    exit 0
fi
. "$(dirname "${BASH_SOURCE[0]}")/settings.sh"

if pid="$(machine)"; then
    # The first process of a namespace: the kernel ends all others with it, and lets go of their mounts and network.
    kill -KILL "$pid"
    for _ in $(seq 100); do
        [ -e "/proc/$pid" ] || break
        sleep 0.1
    done
fi
rm -f "$out/machine" "$out/machine-is-up"
for hierarchy in /sys/fs/cgroup/*/"$group"; do
    [ -d "$hierarchy" ] || continue
    # From the leaves; a group whose last process is still ending is busy for a moment.
    for _ in $(seq 50); do
        find "$hierarchy" -depth -type d -exec rmdir {} \; 2>/dev/null || true
        [ -d "$hierarchy" ] || break
        sleep 0.1
    done
    [ ! -d "$hierarchy" ] || fail "$hierarchy is still in use"
done
rm -rf "$state"
