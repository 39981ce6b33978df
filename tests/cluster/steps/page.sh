#!/usr/bin/env bash
# The commands of docs/autoscaling.md, one after the other in one shell, and pods counted meanwhile.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

# block NAME: the commands between its fences.
block() { awk -v start="^\`\`\`sh $1\$" '$0 ~ start {on = 1; next} /^```$/ {on = 0} on' "$root/docs/autoscaling.md" | grep . || fail "docs/autoscaling.md has no block $1"; }

# reader BLOCK…: what somebody who follows the page has in a terminal.
reader() {
    local name commands="cd $out/page"
    for name in "$@"; do commands+=$'\n'"$(block "$name")"; done
    inside env PATH="$bin:$target/release:/usr/sbin:/usr/bin:/sbin:/bin" IMAGE="$images/corymb:1" CPU="${CORYMB_CLUSTER_POD_CPU:-100m}" \
        MODEL=pvc://models/flowers-sample INGRESS_HOST="$ingress" INGRESS_PORT=80 timeout 600 bash -euo pipefail -c "$commands"
}

# count: what is wanted, ready and there, every two seconds until the file `counting` is gone.
count() {
    local from=$SECONDS
    echo "seconds,wanted,ready,pods"
    while [ -e "$out/page/counting" ]; do
        # One for each revision; what is not known yet is -1.
        wanted="$(inside kubectl get podautoscalers.autoscaling.internal.knative.dev -o jsonpath='{.items[*].status.desiredScale}' || true)"
        pods="$(inside kubectl get pods -l serving.kserve.io/inferenceservice=flowers-sample --no-headers 2>/dev/null || true)"
        printf '%d,%d,%d,%d\n' $((SECONDS - from)) "$(tr ' ' '\n' <<<"$wanted" | awk '$1 > 0 {sum += $1} END {print sum + 0}')" "$(grep -c ' 2/2 *Running' <<<"$pods")" "$(grep -c . <<<"$pods")"
        sleep 2
    done
}

# From zero, as the page begins.
no_pods() { [ -z "$(inside kubectl get pods -l serving.kserve.io/inferenceservice=flowers-sample --no-headers 2>/dev/null)" ]; }

revision() { inside kubectl get inferenceservice flowers-sample -o jsonpath='{.status.components.predictor.latestReadyRevision}'; }

# change MANIFEST: the service as that block makes it; its revision takes the place of the last one.
change() {
    local before
    before="$(revision)"
    reader "$1" cluster-apply >>"$logs/page.log"
    is_another() { [ "$(revision)" != "$before" ]; }
    wait_for 300 "the next revision" is_another
}

# experiment NAME LOAD: the load of that block at the service as it stands; how many pods come of it, until none is left.
experiment() {
    local counter name="${1// /-}"
    wait_for 300 "no pod is left" no_pods
    touch "$out/page/counting"
    count >"$out/page/$name.csv" &
    counter=$!
    trap 'rm -f "$out/page/counting"; wait' EXIT
    reader cluster-host "$2" >"$out/page/$name.txt"
    say "hey has ended"
    wait_for 300 "no pod is left" no_pods
    rm -f "$out/page/counting"
    wait "$counter"
    {
        printf '\n## %s\n\n| second | wanted | ready | pods |\n|---:|---:|---:|---:|\n' "$(block "$2" | sed 's/ -m POST.*//'), $1"
        # The moments at which something became different.
        awk -F, 'NR > 1 {now = $2 FS $3 FS $4; if (now != before) printf "| %s | %s | %s | %s |\n", $1, $2, $3, $4; before = now}' "$out/page/$name.csv"
        printf '\n```\n%s\n```\n' "$(cat "$out/page/$name.txt")"
    } | tee -a "$out/page/report.md"
    # hey's histogram has numbers in brackets too.
    grep -qE '\[200\].*responses' "$out/page/$name.txt" || fail "hey had no answer 200"
    if grep -E '\[[0-9]{3}\].*responses' "$out/page/$name.txt" | grep -qv '\[200\]' || grep -q 'Error distribution' "$out/page/$name.txt"; then
        fail "hey had other answers than 200"
    fi
}

rm -rf "$out/page"
mkdir -p "$out/page"
ln -s "$root/deploy" "$out/page/deploy"
ingress="$(inside kubectl -n knative-serving get service ingress -o jsonpath='{.spec.clusterIP}')"
echo "# docs/autoscaling.md in a cluster, through its ingress" >"$out/page/report.md"
reader cluster-runtime request manifest cluster-apply >>"$logs/page.log"
say "the InferenceService"
reader cluster-host predict | tee "$out/page/answer.json"
say "an answer"
experiment "target 1" load-5
change manifest-100
experiment "target 1 at 100 %" load-5
change manifest-10
experiment "target 10" load-50
