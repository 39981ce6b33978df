#!/usr/bin/env bash
# Keys, etcd and Kubernetes' control plane, each a process inside the machine.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

mkdir -p "$pki"
cd "$pki"
if [ ! -e ca.crt ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=corymb-cluster -keyout ca.key -out ca.crt 2>/dev/null
    openssl genrsa -out accounts.key 2048 2>/dev/null
fi

# certificate NAME SUBJECT ALTERNATIVES: signed by the cluster's authority.
certificate() {
    [ ! -e "$1.crt" ] || return 0
    openssl req -newkey rsa:2048 -nodes -subj "$2" -keyout "$1.key" -out "$1.csr" 2>/dev/null
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$1.crt" \
        -extfile <(echo "subjectAltName=$3") 2>/dev/null
}

# client NAME SUBJECT: a certificate, and the file by which a program comes to the API server with it.
client() {
    certificate "$1" "$2" "DNS:$1"
    cat >"$1.kubeconfig" <<END
apiVersion: v1
kind: Config
clusters: [{name: here, cluster: {server: "https://$node_address:6443", certificate-authority: "$pki/ca.crt"}}]
users: [{name: me, user: {client-certificate: "$pki/$1.crt", client-key: "$pki/$1.key"}}]
contexts: [{name: here, context: {cluster: here, user: me}}]
current-context: here
END
}

certificate server /CN=kube-apiserver "IP:$node_address,IP:$api_service,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc"
certificate kserve /CN=kserve-webhook DNS:kserve-webhook-server-service.kserve.svc
client admin /O=system:masters/CN=admin
client controller-manager /CN=system:kube-controller-manager
client scheduler /CN=system:kube-scheduler
client proxy /CN=system:kube-proxy
client node "/O=system:nodes/CN=system:node:$node_name"

serve etcd etcd --name "$node_name" --data-dir "$state/etcd" --unsafe-no-fsync --log-level warn
serve kube-apiserver kube-apiserver --etcd-servers http://127.0.0.1:2379 --bind-address "$node_address" --advertise-address "$node_address" \
    --service-cluster-ip-range "$service_subnet" --authorization-mode Node,RBAC --allow-privileged \
    --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/server.crt" --tls-private-key-file "$pki/server.key" \
    --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$pki/accounts.key" \
    --service-account-signing-key-file "$pki/accounts.key" \
    --kubelet-client-certificate "$pki/admin.crt" --kubelet-client-key "$pki/admin.key" --kubelet-preferred-address-types InternalIP
wait_for 120 "kube-apiserver" inside kubectl get --raw /readyz
serve kube-controller-manager kube-controller-manager --kubeconfig "$pki/controller-manager.kubeconfig" --use-service-account-credentials \
    --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/accounts.key" --leader-elect=false --bind-address 127.0.0.1
serve kube-scheduler kube-scheduler --kubeconfig "$pki/scheduler.kubeconfig" --leader-elect=false --bind-address 127.0.0.1
wait_for 60 "kube-controller-manager" inside kubectl get serviceaccount default
