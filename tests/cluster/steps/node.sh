#!/usr/bin/env bash
# The machine as the cluster's one node: kubelet, kube-proxy, and the cluster's names.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

cat >"$out/etc/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: $node_address
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $pki/ca.crt}}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$group
clusterDNS: [$dns_service]
clusterDomain: cluster.local
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
failCgroupV1: false
failSwapOn: false
# The disk is shared with whatever else this machine does.
evictionHard: {memory.available: 100Mi}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
resolvConf: ""
volumePluginDir: /var/lib/kubelet/volume-plugins
END
cat >"$out/etc/proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
bindAddress: $node_address
clientConnection: {kubeconfig: $pki/proxy.kubeconfig}
clusterCIDR: $pod_subnet
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
healthzBindAddress: 127.0.0.1:10256
hostnameOverride: $node_name
metricsBindAddress: 127.0.0.1:10249
mode: iptables
END
serve kubelet kubelet --config "$out/etc/kubelet.yaml" --kubeconfig "$pki/node.kubeconfig" --hostname-override "$node_name" --node-ip "$node_address"
serve kube-proxy kube-proxy --config "$out/etc/proxy.yaml"
wait_for 90 "the node" inside kubectl wait --for=condition=Ready --timeout=2s "node/$node_name"
sed "s|ADDRESS|$dns_service|" "$cluster/manifests/dns.yaml" | inside kubectl apply -f - >/dev/null
wait_for 120 "the cluster's names" inside kubectl -n kube-system wait --for=condition=Available --timeout=2s deployment/dns
