#!/usr/bin/env bash
# The model, in a claim that KServe mounts: a SavedModel that convert.py has turned into a folder of Corymb's, or with
# `embedded` the flowers model of this repository.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

flowers="$root/deploy/models/flowers"
folder="$out/model/flowers-sample"
case "${1:-converted}" in
embedded)
    rm -rf "$folder"
    mkdir -p "$folder"
    cp -r "$flowers"/{model.onnx,model.toml,flowers.wasm,labels.txt,warmup} "$folder"
    ;;
converted)
    if ! grep -qs plugin "$folder/model.toml" || [ -e "$folder/labels.txt" ]; then
        python="$out/python/bin/python"
        [ -x "$python" ] || python3 -m venv "$out/python"
        "$python" -m pip install --quiet --disable-pip-version-check --requirement "$flowers/convert-requirements.txt"
        say "TensorFlow"
        rm -rf "$out/model" "$out/savedmodel"
        mkdir -p "$out/model"
        "$python" "$cluster/savedmodel.py" "$out/savedmodel" 2>>"$logs/model.log"
        say "a SavedModel"
        "$python" "$flowers/convert.py" "$out/savedmodel" "$folder" --input StatefulPartitionedCall/mul:0 --output scores \
            --plugin "$flowers/flowers.wasm" 2>>"$logs/model.log"
    fi
    ;;
*) fail "a model is 'converted' or 'embedded', not '$1'" ;;
esac
# Pods read it as somebody else.
chmod -R a+rX "$out/model"
sed "s|FOLDER|$out/model|" "$cluster/manifests/model.yaml" | inside kubectl apply -f - >/dev/null
wait_for 60 "the claim" inside kubectl wait --for=jsonpath='{.status.phase}'=Bound --timeout=2s persistentvolumeclaim/models
