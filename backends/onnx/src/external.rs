//! External data: weights in files of their own, which may not leave the model's folder.

use std::path::{Component, Path, PathBuf};

use corymb_core::BackendError;

use crate::file::subgraphs;
use crate::proto::tensor_proto::DataLocation;
use crate::proto::{GraphProto, ModelProto, TensorProto};

const EXTERNAL: i32 = DataLocation::External as i32;

/// Checks that every external tensor lies in a file inside `folder`, whole; none means that there is no folder.
/// Answers these files, each once, with the bytes that they hold.
///
/// # Errors
/// [`BackendError::InvalidModel`] with the name of the tensor and of its file.
pub fn check_external(model: &ModelProto, folder: Option<&Path>) -> Result<Vec<(String, u64)>, BackendError> {
    let mut files: Vec<(String, u64)> = Vec::new();
    if let Some(graph) = &model.graph {
        graph_tensors(graph, folder, &mut files)?;
    }
    for node in model.functions.iter().flat_map(|function| &function.node) {
        subgraphs(node).try_for_each(|graph| graph_tensors(graph, folder, &mut files))?;
        node.attribute.iter().flat_map(|attribute| &attribute.t).try_for_each(|t| tensor(t, folder, &mut files))?;
    }
    Ok(files)
}

fn graph_tensors(
    graph: &GraphProto,
    folder: Option<&Path>,
    files: &mut Vec<(String, u64)>,
) -> Result<(), BackendError> {
    let sparse = graph.sparse_initializer.iter().flat_map(|sparse| sparse.values.iter().chain(&sparse.indices));
    graph.initializer.iter().chain(sparse).try_for_each(|t| tensor(t, folder, files))?;
    for node in &graph.node {
        node.attribute
            .iter()
            .flat_map(|attribute| attribute.t.iter().chain(&attribute.tensors))
            .try_for_each(|t| tensor(t, folder, files))?;
        subgraphs(node).try_for_each(|graph| graph_tensors(graph, folder, files))?;
    }
    Ok(())
}

fn tensor(tensor: &TensorProto, folder: Option<&Path>, files: &mut Vec<(String, u64)>) -> Result<(), BackendError> {
    if tensor.data_location != Some(EXTERNAL) {
        return Ok(());
    }
    let name = &tensor.name;
    let invalid = |reason: String| BackendError::InvalidModel(format!("the weights '{name}' {reason}"));
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &*entry.value);
    let number = |key: &str| {
        let text = entry(key).unwrap_or("0");
        text.parse::<u64>().map_err(|_| invalid(format!("have the {key} '{text}'; expected a number")))
    };
    let location = entry("location").unwrap_or_default();
    let Some(folder) = folder else {
        return Err(BackendError::Unsupported(format!(
            "the weights '{name}' are in '{location}', and a model in memory has no folder to look in"
        )));
    };
    let size = match files.iter().find(|(known, _)| known == location) {
        Some((_, size)) => *size,
        None => {
            let wrong = |reason| invalid(format!("are in '{location}', {reason}"));
            let (real, _) = external_file(folder, location).map_err(wrong)?;
            let length = real.metadata().map_err(|error| wrong(format!("which cannot be read: {error}")))?.len();
            files.push((location.to_owned(), length));
            length
        }
    };
    let end = number("offset")?.checked_add(number("length")?);
    if end.is_none_or(|end| end > size) {
        return Err(invalid(format!("end beyond '{location}', which has {size} bytes")));
    }
    Ok(())
}

/// The file in which weights lie, behind all links, and whether these lead out of the model's folder. They may only where its owner
/// put the whole model behind links, side by side.
///
/// # Errors
/// What is there instead, as the end of a line that names the location.
pub fn external_file(folder: &Path, location: &str) -> Result<(PathBuf, bool), String> {
    let inside = Path::new(location).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || !inside {
        return Err("which is outside the model's folder".to_owned());
    }
    // Of a model that is named without a folder.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let path = folder.join(location);
    let unreadable = |error: std::io::Error| format!("which cannot be read: {error}");
    let real = path.canonicalize().map_err(unreadable)?;
    let leads_out = !real.starts_with(folder.canonicalize().map_err(unreadable)?);
    if leads_out && !is_beside(&path, folder, &real) {
        return Err("a link out of the model's folder".to_owned());
    }
    if !real.metadata().map_err(unreadable)?.is_file() {
        return Err("which is not a file".to_owned());
    }
    Ok((real, leads_out))
}

/// Whether a linked file is one of a store that all files of the folder link to, as a mounted Kubernetes volume
/// (`..data/`) or a cache of downloads (`blobs/`) makes them: a model of the folder links to the same place.
fn is_beside(path: &Path, folder: &Path, real: &Path) -> bool {
    let Some(store) = real.parent() else { return false };
    let Ok(entries) = folder.read_dir() else { return false };
    let others = entries.flatten().map(|entry| entry.path());
    let others = others.filter(|other| other != path && other.extension().is_some_and(|ending| ending == "onnx"));
    others.filter_map(|other| other.canonicalize().ok()).any(|other| other.parent() == Some(store))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::StringStringEntryProto;

    fn model(location: &str, length: &str) -> ModelProto {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.to_owned(), value: value.to_owned() };
        let weights = TensorProto {
            name: "w".to_owned(),
            data_location: Some(EXTERNAL),
            external_data: vec![entry("location", location), entry("length", length)],
            ..TensorProto::default()
        };
        let graph = GraphProto { initializer: vec![weights], ..GraphProto::default() };
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    #[test]
    fn external_data_stays_in_its_folder() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let check = |location: &str, length: &str| {
            let files = check_external(&model(location, length), Some(&folder)).map_err(|error| error.to_string())?;
            Ok::<u64, String>(files.iter().map(|(_, size)| size).sum())
        };
        assert_eq!(check("lib.rs", "8"), Ok(folder.join("lib.rs").metadata().expect("this crate").len()));
        for (location, length, says) in [
            ("../Cargo.toml", "1", "outside the model's folder"),
            ("/etc/hostname", "1", "outside the model's folder"),
            ("", "1", "outside the model's folder"),
            ("absent.bin", "1", "'absent.bin', which cannot be read: No such file"),
            (".", "1", "not a file"),
            ("lib.rs", "99999999", "end beyond 'lib.rs'"),
            ("lib.rs", "-1", "length '-1'"),
        ] {
            let error = check(location, length).expect_err(location);
            assert!(error.starts_with("the weights 'w' ") && error.contains(says), "{location}: {error}");
        }
        assert!(check_external(&model("lib.rs", "1"), None).is_err());
    }

    #[test]
    fn links_lead_out_only_beside_those_of_the_model() {
        let place = tempfile::tempdir().expect("made");
        let (store, folder) = (place.path().join("blobs"), place.path().join("model"));
        for made in [&store, &folder, &place.path().join("other")] {
            std::fs::create_dir(made).expect("made");
        }
        let put = |path: &str| std::fs::write(place.path().join(path), "12345678").expect("written");
        ["blobs/a", "blobs/b", "other/c", "other/d"].into_iter().for_each(put);
        let link = |from: &str, to: &str| {
            std::os::unix::fs::symlink(place.path().join(to), folder.join(from)).expect("linked");
        };
        link("w.bin", "blobs/b");
        link("notes.txt", "blobs/a");
        let refused = external_file(&folder, "w.bin");
        assert!(refused.is_err_and(|reason| reason == "a link out of the model's folder"), "another link is no model");
        link("model.onnx", "blobs/a");
        assert_eq!(external_file(&folder, "w.bin"), Ok((store.canonicalize().expect("made").join("b"), true)));
        link("other.bin", "other/c");
        link("beside.bin", "other/d");
        assert!(external_file(&folder, "other.bin").is_err());
        for outside in ["../blobs/b", "/etc/hostname", "x/../../blobs/b"] {
            assert!(external_file(&folder, outside).is_err_and(|reason| reason.contains("outside")), "{outside}");
        }
    }
}
