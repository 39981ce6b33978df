#!/usr/bin/env bash
# A machine inside this one: namespaces for processes, mounts and the network, so that nothing listens on this machine, no
# rule of its firewall changes, and one signal ends everything.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

if [ "${1:-}" = init ]; then
    # Inside, as the first process. What is mounted here is seen here alone.
    hostname "$node_name"
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/log
    mount -t tmpfs tmpfs /var/lib
    mkdir -p /var/lib/kubelet /var/lib/containerd
    mount --bind "$state/kubelet" /var/lib/kubelet
    mount --make-shared /var/lib/kubelet
    mount --bind "$state/containerd" /var/lib/containerd
    # The kubelet wants these of the machine that it runs on, and would set them outside too. It finds what it wants.
    for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 kernel/keys/root_maxkeys=1000000 \
        kernel/keys/root_maxbytes=25000000; do
        file="/run/sysctl/${setting%=*}"
        mkdir -p "$(dirname "$file")"
        echo "${setting#*=}" >"$file"
        mount --bind "$file" "/proc/sys/${setting%=*}"
    done
    ip link set lo up
    ip address add "$node_address/32" dev lo
    # Addresses of services lead nowhere; kube-proxy turns them into pods' on the way out, which only a route begins.
    ip route add "$service_subnet" dev lo src "$node_address"
    echo 1 >/proc/sys/net/ipv4/ip_forward
    touch "$out/machine-is-up"
    # Adopts and reaps what others leave behind.
    exec "$bin/pause"
fi

if machine >/dev/null; then exit 0; fi
for hierarchy in /sys/fs/cgroup/*/; do
    hierarchy="${hierarchy%/}"
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy/$group"
    # A group of processors has none until it is given some.
    for file in cpuset.cpus cpuset.mems; do
        if [ -e "$hierarchy/$group/$file" ] && [ -e "$hierarchy/cpuset.cpus" ]; then cat "$hierarchy/$file" >"$hierarchy/$group/$file"; fi
    done
done
rm -rf "$state" "$out/machine-is-up"
mkdir -p "$state/kubelet" "$state/containerd" "$logs"
mkdir -m 700 "$state/etcd"
setsid unshare --mount --net --pid --uts --ipc --fork --kill-child --mount-proc --propagation slave \
    "${BASH_SOURCE[0]}" init </dev/null >>"$logs/machine.log" 2>&1 &
wait_for 20 "the machine" test -e "$out/machine-is-up"
# unshare waits outside; its one child is the first process inside.
pid="$(pgrep -P $!)"
echo "$pid $(awk '{print $22}' "/proc/$pid/stat")" >"$out/machine"
