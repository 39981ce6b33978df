//! Whether the weights of a file are as large as it says, and where it says: in itself or in files beside it.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use corymb_core::files;
use corymb_onnx::external_file;
use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::{GraphProto, TensorProto};

use crate::proto::{subgraphs, subgraphs_mut};

/// What lies in files beside the model's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Outside {
    pub(crate) bytes: u64,
    /// Whether links lead out of the model's folder.
    pub(crate) leads_out: bool,
}

/// Where a tensor lies.
struct Place {
    /// Behind all links.
    file: PathBuf,
    offset: u64,
    bytes: u64,
    /// Whether links lead there out of the model's folder.
    leads_out: bool,
}

impl Outside {
    fn and(self, other: Self) -> Self {
        let bytes = self.bytes.saturating_add(other.bytes);
        Self { bytes, leads_out: self.leads_out || other.leads_out }
    }
}

/// Checks the initializers of a graph and of all graphs within; answers what lies in files of `folder`. A model without a folder has
/// no such files; tract says so.
pub(crate) fn check(graph: &GraphProto, folder: Option<&Path>) -> Result<Outside, String> {
    let mut outside = Outside::default();
    for tensor in &graph.initializer {
        let size = size(tensor)?;
        if tensor.data_location == Some(DataLocation::External as i32) {
            if let Some(folder) = folder {
                let Place { bytes, leads_out, .. } = external(tensor, size, folder)?;
                outside = outside.and(Outside { bytes, leads_out });
            }
        } else if let (false, Some(size)) = (tensor.raw_data.is_empty(), size)
            && size != tensor.raw_data.len() as u64
        {
            let (name, given) = (&tensor.name, tensor.raw_data.len());
            return Err(format!("holds {given} bytes for the initializer '{name}', whose shape takes {size}"));
        }
    }
    for graph in graph.node.iter().flat_map(subgraphs) {
        outside = outside.and(check(graph, folder)?);
    }
    Ok(outside)
}

/// Puts weights that links lead out of the model's folder to into the graph itself: tract takes nothing of another folder. They were
/// [checked](check).
pub(crate) fn take_in(graph: &mut GraphProto, folder: &Path) -> Result<(), String> {
    for tensor in &mut graph.initializer {
        if tensor.data_location != Some(DataLocation::External as i32) {
            continue;
        }
        let size = size(tensor)?;
        let place = external(tensor, size, folder)?;
        if !place.leads_out {
            continue;
        }
        let wrong = |error: std::io::Error| format!("keeps the initializer '{}' elsewhere: {error}", tensor.name);
        let mut content = vec![0; usize::try_from(place.bytes).map_err(|_| "is too large".to_owned())?];
        let mut file = files::open(&place.file).map_err(wrong)?;
        file.seek(SeekFrom::Start(place.offset)).and_then(|_| file.read_exact(&mut content)).map_err(wrong)?;
        tensor.raw_data = content;
        tensor.external_data.clear();
        tensor.data_location = None;
    }
    graph.node.iter_mut().flat_map(subgraphs_mut).try_for_each(|graph| take_in(graph, folder))
}

/// Bytes by dtype and shape; none where elements are not whole bytes.
fn size(tensor: &TensorProto) -> Result<Option<u64>, String> {
    let element: u64 = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Bool | DataType::Int8 | DataType::Uint8) => 1,
        Ok(DataType::Int16 | DataType::Uint16 | DataType::Float16 | DataType::Bfloat16) => 2,
        Ok(DataType::Int32 | DataType::Uint32 | DataType::Float) => 4,
        Ok(DataType::Int64 | DataType::Uint64 | DataType::Double) => 8,
        _ => return Ok(None),
    };
    let dims = tensor.dims.iter().map(|&dim| u64::try_from(dim).ok());
    let bytes = dims.into_iter().try_fold(element, |bytes, dim| bytes.checked_mul(dim?));
    let bytes = bytes.ok_or_else(|| format!("has the initializer '{}' of shape {:?}", tensor.name, tensor.dims))?;
    Ok(Some(bytes))
}

/// Bytes that `tensor` takes of a file in `folder`, which must be there and long enough.
fn external(tensor: &TensorProto, size: Option<u64>, folder: &Path) -> Result<Place, String> {
    let name = &tensor.name;
    let entry = |key: &str| tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| &entry.value);
    let location = entry("location").ok_or_else(|| format!("says not where the initializer '{name}' is stored"))?;
    let number = |key: &str| match entry(key).map(|text| text.parse::<u64>()) {
        None => Ok(None),
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(format!("gives the initializer '{name}' a {key} that is no number")),
    };
    let wrong = |reason: String| format!("keeps the initializer '{name}' in '{location}', {reason}");
    let (file, leads_out) = external_file(folder, location).map_err(wrong)?;
    let metadata = file.metadata().map_err(|error| wrong(format!("which cannot be read: {error}")))?;
    let (offset, length) = (number("offset")?.unwrap_or(0), number("length")?.or(size).unwrap_or(0));
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > metadata.len()) {
        let have = metadata.len();
        return Err(format!(
            "keeps the initializer '{name}' in '{location}', which has {have} bytes; {length} from {offset} on are needed"
        ));
    }
    match size {
        Some(size) if size != length => {
            Err(format!("keeps {length} bytes for the initializer '{name}' in '{location}'; its shape takes {size}"))
        }
        _ => Ok(Place { file, offset, bytes: length, leads_out }),
    }
}

#[cfg(test)]
mod tests {
    use tract_onnx::pb::{AttributeProto, NodeProto, StringStringEntryProto};

    use super::*;

    fn elsewhere(name: &str, location: &str) -> TensorProto {
        let location = StringStringEntryProto { key: "location".to_owned(), value: location.to_owned() };
        TensorProto {
            name: name.to_owned(),
            data_type: DataType::Uint8 as i32,
            dims: vec![4],
            data_location: Some(DataLocation::External as i32),
            external_data: vec![location],
            ..TensorProto::default()
        }
    }

    /// As a cache of downloads has them.
    #[test]
    fn what_links_lead_out_to_is_taken_in_and_nothing_else() {
        let place = tempfile::tempdir().expect("made");
        for (folder, file) in [("blobs", "a"), ("blobs", "b"), ("model", "own.bin")] {
            std::fs::create_dir_all(place.path().join(folder)).expect("made");
            std::fs::write(place.path().join(folder).join(file), &file.repeat(4)[..4]).expect("written");
        }
        let folder = place.path().join("model");
        for (link, to) in [("model.onnx", "a"), ("w.bin", "b")] {
            std::os::unix::fs::symlink(place.path().join("blobs").join(to), folder.join(link)).expect("linked");
        }
        // What tract itself finds, or refuses, by its own name.
        let given = AttributeProto { t: Some(elsewhere("t", "../blobs/b")), ..AttributeProto::default() };
        let mut graph = GraphProto {
            initializer: vec![elsewhere("w", "w.bin"), elsewhere("own", "own.bin")],
            node: vec![NodeProto { attribute: vec![given], ..NodeProto::default() }],
            ..GraphProto::default()
        };
        let outside = check(&graph, Some(&folder)).expect("all are there");
        assert_eq!((outside.bytes, outside.leads_out), (8, true));
        let before = graph.clone();
        take_in(&mut graph, &folder).expect("they can be read");
        assert_eq!((&graph.initializer[0].raw_data[..], graph.initializer[0].data_location), (&b"bbbb"[..], None));
        assert_eq!((&graph.initializer[1], &graph.node), (&before.initializer[1], &before.node));
        graph.initializer.push(elsewhere("far", "../blobs/b"));
        let refused = check(&graph, Some(&folder)).map(|outside| outside.bytes);
        assert!(refused.is_err_and(|reason| reason.contains("'far' in '../blobs/b', which is outside")));
    }
}
