#!/usr/bin/env bash
# Compiles the cluster from Go modules, and Corymb; what a second run finds unchanged it keeps. A quarter of an hour on two
# cores the first time.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

mkdir -p "$bin" "$logs"
export CGO_ENABLED=0 GOFLAGS=-mod=readonly

# programs MODULE PACKAGE…: bin/ gets a program for each package, called as its folder is.
programs() {
    local module="$1" flags="-s -w" sum package name version
    shift
    # What follows the call is in this folder too.
    cd "$cluster/modules/$module"
    sum="$({ go env GOVERSION; find . -type f -not -name '*_test.go' | sort | xargs cat; echo "$@"; } | sha256sum)"
    if [ "$(cat "$bin/$module.stamp" 2>/dev/null)" = "$sum" ]; then return; fi
    if [ "$module" = kubernetes ]; then
        # Knative asks the API server for its version, which Kubernetes' own scripts put there.
        version="$(go list -m -f '{{.Version}}' k8s.io/kubernetes)"
        for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do flags+=" -X $package.gitVersion=$version"; done
    fi
    for package in "$@"; do
        name="$(basename "$package")"
        [ "$name" != v3 ] || name=etcd
        nice -n 15 go build -p "${CORYMB_CLUSTER_JOBS:-2}" -trimpath -ldflags "$flags" -o "$bin/$name" "$package"
        say "$name"
    done
    echo "$sum" >"$bin/$module.stamp"
}

programs kubernetes go.etcd.io/etcd/server/v3 k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kube-proxy,kube-scheduler,kubectl,kubelet}
programs knative knative.dev/serving/cmd/{activator,autoscaler,controller,queue,webhook}
programs own ./dns ./ingress
go test ./ingress
programs kserve github.com/kserve/kserve/cmd/manager
if [ ! -x "$bin/pause" ]; then
    cd "$cluster/modules/kubernetes"
    cc -O2 -static -DVERSION=1 -o "$bin/pause" "$(go list -m -f '{{.Dir}}' k8s.io/kubernetes)/build/pause/linux/pause.c"
fi
cd "$root"
CARGO_TARGET_DIR="$target" nice -n 10 cargo build --release --workspace --bin corymb
