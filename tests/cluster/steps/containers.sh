#!/usr/bin/env bash
# containerd, and a network for pods: a pair of interfaces for each, routed, without a bridge.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

mkdir -p "$out/cni" "$out/etc"
cat >"$out/cni/10-pods.conflist" <<END
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipam": {"type": "host-local", "dataDir": "/run/cni", "ranges": [[{"subnet": "$pod_subnet"}]], "routes": [{"dst": "0.0.0.0/0"}]}}
]}
END
cat >"$out/etc/containerd.toml" <<END
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
[grpc]
address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "$images/pause:1"
disable_apparmor = true
# Where root may not be preferred by the kernel when memory is short (no CAP_SYS_RESOURCE), neither may pods.
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "${CORYMB_CLUSTER_SNAPSHOTTER:-overlayfs}"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "$out/cni"
END
serve containerd containerd --config "$out/etc/containerd.toml"
wait_for 30 "containerd" inside ctr version
