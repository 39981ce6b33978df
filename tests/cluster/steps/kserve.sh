#!/usr/bin/env bash
# KServe's controller from the manifests of its own module. What cert-manager does in a cluster of some size is done here
# by a certificate that is made beforehand.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

cd "$cluster/modules/kserve"
module="$(go list -m -f '{{.Dir}}' github.com/kserve/kserve)"
rm -rf "$out/kserve"
mkdir -p "$out/kserve/here"
cp -r "$module/config" "$out/kserve/config"
chmod -R u+w "$out/kserve/config"
authority="$(base64 -w0 "$pki/ca.crt")" image="$images/manager:1"
sed -e "s|AUTHORITY|$authority|" -e "s|IMAGE|$image|" "$cluster/manifests/kserve.yaml" >"$out/kserve/here/kustomization.yaml"
inside kubectl kustomize "$out/kserve/here" >"$out/kserve/kserve.yaml"
inside kubectl create namespace kserve --dry-run=client -o yaml | inside kubectl apply -f - >/dev/null
inside kubectl -n kserve create secret tls kserve-webhook-server-cert --cert "$pki/kserve.crt" --key "$pki/kserve.key" --dry-run=client -o yaml |
    inside kubectl apply -f - >/dev/null
inside kubectl apply --server-side --force-conflicts -k "$out/kserve/config/crd" >/dev/null
wait_for 60 "KServe's kinds" inside kubectl wait --for=condition=Established --timeout=30s --all crd
inside kubectl apply --server-side --force-conflicts -f "$out/kserve/kserve.yaml" >/dev/null
wait_for 300 "KServe" inside kubectl -n kserve wait --for=condition=Available --timeout=5s deployment/kserve-controller-manager
