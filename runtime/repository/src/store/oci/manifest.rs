//! Manifests and indexes: which of several is taken, and which of the layers are files and which are tapes of files.
//!
//! <https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md>; names of files as ORAS, KitOps and CNCF's ModelPack
//! (<https://github.com/modelpack/model-spec>) annotate them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::archive::{Kind, Packing};
use crate::store::Object;
use crate::store::digests::{Algorithm, Digests};
use crate::uri::is_digest;

/// What may be answered.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// The most layers of a manifest.
const MAX_LAYERS: usize = 1_000;
/// The longest path of a file.
const MAX_PATH: usize = 4096;
/// The name of the file that a blob is.
const TITLES: [&str; 2] = ["org.opencontainers.image.title", "org.cncf.model.filepath"];
/// Whether ORAS packed a folder.
const UNPACK: &str = "io.deis.oras.content.unpack";
/// What layers of images begin with.
const IMAGES: [&str; 2] = ["application/vnd.oci.image.layer.", "application/vnd.docker.image.rootfs."];
/// Docker's own models.
const DOCKER_AI: &str = "application/vnd.docker.ai.";
/// What in a type of KitOps and ModelPack says that a layer is no part of the model.
const OTHERS: [&str; 6] = [".code.", ".dataset.", ".datasets.", ".doc.", ".docs.", ".prompt."];

/// A manifest, or an index of them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Document {
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    annotations: Option<BTreeMap<String, String>>,
    platform: Option<Platform>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Platform {
    architecture: String,
    os: String,
}

/// What a manifest names.
#[derive(Debug)]
pub(crate) struct Layers {
    /// The lowest comes first.
    pub(crate) layers: Vec<OciLayer>,
    /// Whether it is a container's file system.
    pub(crate) is_image: bool,
}

/// One layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum OciLayer {
    File(OciFile),
    /// Whose path is its digest.
    Tape(Packing, OciFile),
}

/// A blob, and what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OciFile {
    pub(crate) path: String,
    /// Its tag is its digest.
    pub(crate) object: Object,
}

impl Document {
    /// The digest of the manifest to go on to, where this is an index.
    pub(super) fn next(&self) -> Result<Option<String>, String> {
        let Some(manifests) = &self.manifests else { return Ok(None) };
        let chosen = chosen(manifests, architecture())?;
        if !is_digest(&chosen.digest) {
            return Err(format!("its index names a manifest by '{}'; expected sha256:…", shown(&chosen.digest)));
        }
        Ok(Some(chosen.digest.clone()))
    }
}

/// What images call this machine's architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The manifest for this machine, else the only one, else that of the usual machine: files are the same on all of them.
fn chosen<'a>(all: &'a [Descriptor], architecture: &str) -> Result<&'a Descriptor, String> {
    let is_of = |descriptor: &Descriptor, os: &str, architecture: &str| {
        descriptor.platform.as_ref().is_some_and(|own| own.os == os && own.architecture == architecture)
    };
    let is_attestation = |descriptor: &Descriptor| {
        let kind = descriptor.annotations.as_ref().and_then(|all| all.get("vnd.docker.reference.type"));
        kind.is_some_and(|kind| kind == "attestation-manifest") || is_of(descriptor, "unknown", "unknown")
    };
    let images: Vec<&Descriptor> = all.iter().filter(|descriptor| !is_attestation(descriptor)).collect();
    let of = |architecture: &str| images.iter().find(|image| is_of(image, "linux", architecture));
    let only = || images.first().filter(|_| images.len() == 1);
    if let Some(image) = of(architecture).or_else(only).or_else(|| of("amd64")) {
        return Ok(image);
    }
    let platforms: BTreeSet<String> = images
        .iter()
        .map(|image| match &image.platform {
            Some(platform) => format!("{}/{}", shown(&platform.os), shown(&platform.architecture)),
            None => "one without a platform".to_owned(),
        })
        .collect();
    let listed = platforms.into_iter().take(10).collect::<Vec<_>>().join(", ");
    if listed.is_empty() {
        return Err("its index names no image".to_owned());
    }
    Err(format!("its index has nothing for linux/{architecture} ({listed}); name one by @sha256:DIGEST"))
}

impl Layers {
    pub(super) fn of(document: Document) -> Result<Self, String> {
        let kind = document.media_type.unwrap_or_default();
        let Some(descriptors) = document.layers else {
            let kind = shown(&kind);
            return Err(format!(
                "its manifest ('{kind}') has no layers; expected an image manifest of OCI or of Docker"
            ));
        };
        if descriptors.len() > MAX_LAYERS {
            return Err(format!("it has {} layers; at most {MAX_LAYERS} are read", descriptors.len()));
        }
        let config = document.config.unwrap_or_default().media_type;
        let types = || descriptors.iter().map(|layer| layer.media_type.as_str()).chain([config.as_str()]);
        if let Some(kind) = types().find(|kind| kind.starts_with(DOCKER_AI)) {
            let kind = shown(kind);
            return Err(format!(
                "it is a model of Docker's ('{kind}'), in GGUF or safetensors; expected an ONNX model"
            ));
        }
        let is_image = descriptors.iter().any(Descriptor::is_image);
        let is_one = descriptors.len() == 1;
        let mut layers = Vec::new();
        let mut paths = BTreeSet::new();
        for descriptor in &descriptors {
            let Some(layer) = descriptor.layer(is_one)? else {
                tracing::debug!(kind = descriptor.media_type, digest = descriptor.digest, "a layer is left out");
                continue;
            };
            if let OciLayer::File(file) = &layer
                && !paths.insert(file.path.clone())
            {
                return Err(format!("two of its layers are called '{}'", shown(&file.path)));
            }
            layers.push(layer);
        }
        if layers.is_empty() {
            let kinds: BTreeSet<String> = types().filter(|kind| !kind.is_empty()).map(shown).collect();
            let kinds = kinds.into_iter().take(10).collect::<Vec<_>>().join(", ");
            return Err(format!(
                "it holds no files of a model ({kinds}); expected layers with the annotation {}, or an image",
                TITLES[0]
            ));
        }
        Ok(Self { layers, is_image })
    }
}

impl Descriptor {
    fn is_image(&self) -> bool {
        self.title().is_none() && IMAGES.iter().any(|kind| self.media_type.starts_with(kind))
    }

    fn annotation(&self, name: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn title(&self) -> Option<&str> {
        TITLES.iter().find_map(|name| self.annotation(name))
    }

    /// What it is; none where it is no part of a model. `is_one` where there is no other.
    fn layer(&self, is_one: bool) -> Result<Option<OciLayer>, String> {
        let kind = self.media_type.as_str();
        if OTHERS.iter().any(|other| kind.contains(other)) {
            return Ok(None);
        }
        let packing = packing(kind);
        let title = self.title();
        let is_packed = self.annotation(UNPACK) == Some("true") || (kind.contains(".cncf.model.") && packing.is_some());
        // An archive that was pushed as it was is what archives are elsewhere.
        let named = title.filter(|_| is_one).and_then(|title| match Kind::of(title) {
            Some(Kind::Tar) => Some(Packing::Plain),
            Some(Kind::TarGz) => Some(Packing::Gzip),
            Some(Kind::Zip) => None,
            None => title.ends_with(".tar.zst").then_some(Packing::Zstd),
        });
        let packing = match (title, is_packed) {
            (None, _) => packing,
            // ORAS packs so, whatever type it was told.
            (Some(_), true) => packing.or(Some(Packing::Gzip)),
            (Some(_), false) => named,
        };
        let layer = match (packing, title) {
            (Some(packing), _) => OciLayer::Tape(packing, self.file(self.digest.clone())?),
            (None, Some(title)) => {
                let path = path(title)
                    .ok_or_else(|| format!("a layer is called '{}', which is no path in a folder", shown(title)))?;
                OciLayer::File(self.file(path)?)
            }
            (None, None) if self.is_image() => {
                let kind = shown(kind);
                return Err(format!(
                    "a layer of it is '{kind}', which cannot be unpacked; expected tar, tar+gzip or tar+zstd"
                ));
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(layer))
    }

    fn file(&self, path: String) -> Result<OciFile, String> {
        if !is_digest(&self.digest) {
            return Err(format!(
                "a layer's digest is '{}'; expected sha256 and 64 hexadecimal digits",
                shown(&self.digest)
            ));
        }
        let hex = self.digest.rsplit(':').next().unwrap_or_default().to_owned();
        let digests = Digests(BTreeMap::from([(Algorithm::Sha256.into(), hex)]));
        let object = Object { size: self.size, tag: Some(self.digest.clone()), digests, composite: None };
        Ok(OciFile { path, object })
    }
}

/// How a layer of this type is packed, where it is a tape.
fn packing(kind: &str) -> Option<Packing> {
    const ENDINGS: [(&str, Packing); 7] = [
        (".tar", Packing::Plain),
        (".tar+gzip", Packing::Gzip),
        (".tar.gzip", Packing::Gzip),
        (".tar+gz", Packing::Gzip),
        (".tar.gz", Packing::Gzip),
        (".tar+zstd", Packing::Zstd),
        (".tar.zstd", Packing::Zstd),
    ];
    ENDINGS.into_iter().find(|(ending, _)| kind.ends_with(ending)).map(|(_, packing)| packing)
}

/// A title as a path of plain parts.
fn path(title: &str) -> Option<String> {
    let path = title.trim_start_matches("./");
    let is_plain = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= 255;
    let is_text = !path.contains('\0') && !path.contains('\\') && path.len() <= MAX_PATH;
    (is_text && path.split('/').all(is_plain)).then(|| path.to_owned())
}

/// What somebody else wrote, for messages.
fn shown(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).take(100).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Document, Layers, OciLayer, Packing, chosen};

    fn layers(layers: &Value) -> Result<Vec<String>, String> {
        let text =
            json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.empty.v1+json"}, "layers": layers});
        let document: Document = serde_json::from_value(text).expect("valid");
        let layers = Layers::of(document)?;
        let shown = layers.layers.iter().map(|layer| match layer {
            OciLayer::File(file) => file.path.clone(),
            OciLayer::Tape(packing, _) => format!("{packing:?}"),
        });
        Ok(shown.chain(layers.is_image.then(|| "image".to_owned())).collect())
    }

    fn layer(kind: &str, annotations: &Value) -> Value {
        json!({"mediaType": kind, "size": 3, "digest": format!("sha256:{}", "a".repeat(64)), "annotations": annotations})
    }

    #[test]
    fn layers_are_files_or_tapes() {
        let title = |name: &str| json!({"org.opencontainers.image.title": name});
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        let oci = "application/vnd.oci.image.layer.v1.tar";
        for (all, expected) in [
            (
                json!([layer("text/plain", &title("model.toml")), layer(oci, &title("./a/net.onnx"))]),
                &["model.toml", "a/net.onnx"][..],
            ),
            (json!([layer(docker, &Value::Null)]), &["Gzip", "image"]),
            (json!([layer(oci, &json!({})), layer(&format!("{oci}+gzip"), &Value::Null)]), &["Plain", "Gzip", "image"]),
            (json!([layer(&format!("{oci}+zstd"), &Value::Null)]), &["Zstd", "image"]),
            (
                json!([layer(
                    &format!("{oci}+gzip"),
                    &json!({"org.opencontainers.image.title": "net", "io.deis.oras.content.unpack": "true"})
                )]),
                &["Gzip"],
            ),
            (json!([layer("application/gzip", &title("net.tar.gz"))]), &["Gzip"]),
            (json!([layer("x", &title("net.tar.zst"))]), &["Zstd"]),
            (json!([layer("application/gzip", &title("net.tar.gz")), layer("x", &title("b"))]), &["net.tar.gz", "b"]),
            (
                json!([
                    layer("application/vnd.kitops.modelkit.model.v1.tar+gzip", &Value::Null),
                    layer("application/vnd.kitops.modelkit.code.v1.tar", &Value::Null),
                    layer("application/vnd.kitops.modelkit.datasets.v1.tar", &Value::Null),
                ]),
                &["Gzip"],
            ),
            (
                json!([
                    layer("application/vnd.cncf.model.weight.v1.raw", &json!({"org.cncf.model.filepath": "net.onnx"})),
                    layer("application/vnd.cncf.model.weight.config.v1.tar", &json!({"org.cncf.model.filepath": "c"})),
                    layer("application/vnd.cncf.model.doc.v1.raw", &json!({"org.cncf.model.filepath": "README.md"})),
                ]),
                &["net.onnx", "Plain"],
            ),
        ] {
            assert_eq!(layers(&all).expect("valid"), expected, "{all}");
        }
    }

    #[test]
    fn what_is_no_model_is_said() {
        let title = |name: &str| json!({"org.opencontainers.image.title": name});
        let said = |all: Value| layers(&all).expect_err("refused");
        let gguf = said(json!([layer("application/vnd.docker.ai.gguf.v3", &Value::Null)]));
        assert!(gguf.starts_with("it is a model of Docker's ('application/vnd.docker.ai.gguf.v3')"), "{gguf}");
        let odd = said(json!([layer("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", &Value::Null)]));
        assert!(odd.starts_with("a layer of it is 'application/vnd.oci.image.layer.v1.tar+gzip+encrypted'"), "{odd}");
        let none = said(json!([layer("application/vnd.dev.cosign.simplesigning.v1+json", &Value::Null)]));
        assert!(
            none.contains("(application/vnd.dev.cosign.simplesigning.v1+json, application/vnd.oci.empty"),
            "{none}"
        );
        for name in ["../x", "/etc/passwd", "a//b", "a\\b", ".."] {
            assert_eq!(
                said(json!([layer("x", &title(name))])),
                format!("a layer is called '{name}', which is no path in a folder")
            );
        }
        assert_eq!(
            said(json!([layer("x", &title("a")), layer("x", &title("./a"))])),
            "two of its layers are called 'a'"
        );
        let digest = said(json!([{"mediaType": "x", "digest": "md5:1", "annotations": title("a")}]));
        assert!(digest.starts_with("a layer's digest is 'md5:1'"), "{digest}");
        let many = said(Value::Array(vec![layer("x", &Value::Null); 1_001]));
        assert_eq!(many, "it has 1001 layers; at most 1000 are read");
        let old: Document = serde_json::from_value(json!({"schemaVersion": 1, "fsLayers": []})).expect("valid");
        assert!(Layers::of(old).expect_err("old").contains("has no layers"));
    }

    #[test]
    fn of_several_images_that_for_this_machine_is_taken() {
        let index = |platforms: &[&str]| -> Document {
            let entry = |platform: &&str| match platform.split_once('/') {
                Some((os, architecture)) => {
                    json!({"mediaType": platform, "platform": {"os": os, "architecture": architecture}})
                }
                None => json!({"mediaType": platform}),
            };
            let all: Vec<Value> = platforms.iter().map(entry).collect();
            serde_json::from_value(json!({"manifests": all})).expect("valid")
        };
        let taken = |platforms: &[&str]| {
            let index = index(platforms);
            let chosen = chosen(index.manifests.as_deref().unwrap_or_default(), "arm64");
            chosen.map(|chosen| chosen.media_type.clone())
        };
        for (platforms, expected) in [
            (&["linux/amd64", "linux/arm64", "unknown/unknown"][..], "linux/arm64"),
            (&["linux/amd64", "windows/arm64"], "linux/amd64"),
            (&["windows/amd64", "unknown/unknown"], "windows/amd64"),
            (&["artefact"], "artefact"),
        ] {
            assert_eq!(taken(platforms).as_deref(), Ok(expected), "{platforms:?}");
        }
        let said = taken(&["linux/s390x", "windows/amd64", "x"]).expect_err("none");
        let listed = "linux/s390x, one without a platform, windows/amd64";
        assert_eq!(said, format!("its index has nothing for linux/arm64 ({listed}); name one by @sha256:DIGEST"));
        assert_eq!(taken(&["unknown/unknown"]).expect_err("none"), "its index names no image");
        assert_eq!(super::packing("application/x.tar+zstd"), Some(Packing::Zstd));
    }
}
