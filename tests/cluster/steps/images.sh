#!/usr/bin/env bash
# Images of nothing but a program and the libraries that it is linked with, brought to containerd without a registry.
. "$(dirname "${BASH_SOURCE[0]}")/../settings.sh"

# image NAME PROGRAM [ARGUMENT…]: an archive as `docker save` writes it.
image() {
    local name="$1" program="$2" folder layer config
    shift 2
    [ -x "$program" ] || fail "$program is not there; steps/build.sh makes it"
    folder="$out/images/$name"
    rm -rf "$folder"
    mkdir -p "$folder/root/tmp"
    chmod 1777 "$folder/root/tmp"
    install -m 755 "$program" "$folder/root/$name"
    for library in $(ldd "$program" 2>/dev/null | grep -o '/[^ ]*'); do
        install -D "$library" "$folder/root$library"
    done
    tar --create --file "$folder/layer.tar" --directory "$folder/root" --sort=name --owner=0 --group=0 --mtime=@0 .
    layer="$(sha256sum "$folder/layer.tar" | cut -d' ' -f1)"
    config="$(printf '{"architecture":"amd64","os":"linux","config":{"Entrypoint":["/%s"],"User":"65532"},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' "$name" "$layer")"
    printf '%s' "$config" >"$folder/config.json"
    printf '[{"Config":"config.json","RepoTags":["%s/%s:1"],"Layers":["layer.tar"]}]' "$images" "$name" >"$folder/manifest.json"
    tar --create --file "$out/images/$name.tar" --directory "$folder" manifest.json config.json layer.tar
    rm -rf "$folder"
    inside ctr --namespace k8s.io images import "$out/images/$name.tar" >/dev/null
    rm "$out/images/$name.tar"
    say "image $name"
}

for name in pause dns activator autoscaler controller webhook queue manager ingress; do image "$name" "$bin/$name"; done
# As the tests find it.
image corymb "${CORYMB_BINARY:-$target/release/corymb}"
