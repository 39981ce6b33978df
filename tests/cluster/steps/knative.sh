#!/usr/bin/env bash
# Knative Serving from the manifests of its own module, and an ingress.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

cd "$cluster/modules/knative"
folder() { go list -m -f '{{.Dir}}' "$1"; }
core="$(folder knative.dev/serving)/config/core"
networking="$(folder knative.dev/networking)/config"
caching="$(folder knative.dev/caching)/config"

# Manifests name images by the Go package that they are built from.
apply() { cat "$@" | sed -E "s|ko://[^ ]*/([a-z-]+)$|$images/\1:1|" | inside kubectl apply --server-side --force-conflicts -f - >/dev/null; }
# Files that are joined need a line between them.
joined() { for file in "$@"; do echo ---; cat "$file"; done; }

joined "$core"/100-namespace.yaml "$core"/200-serviceaccount.yaml "$core"/200-roles/*.yaml | apply
joined "$core"/300-resources/*.yaml "$networking"/{certificate,domain-claim,ingress,serverlessservice}.yaml "$caching"/image.yaml | apply
wait_for 60 "Knative's kinds" inside kubectl wait --for=condition=Established --timeout=30s --all crd
joined "$core"/300-knativecertificate.yaml "$core"/configmaps/*.yaml "$networking"/config-network.yaml "$cluster"/manifests/knative.yaml | apply
joined "$core"/webhooks/*.yaml "$core"/deployments/{activator,autoscaler,controller,webhook}.yaml "$cluster"/manifests/ingress.yaml | apply
wait_for 300 "Knative Serving" inside kubectl -n knative-serving wait --for=condition=Available --timeout=5s deployment --all
