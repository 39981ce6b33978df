//! Weights in files of their own. ONNX Runtime would map them into memory, where they change with the file, and end the process
//! when it becomes shorter; so it is given what was read.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corymb_core::files;
use corymb_onnx::FileStamp;
use ort::session::builder::SessionBuilder;

/// The largest content that the library takes in memory: it makes a message of protobuf of each tensor.
const MOST: u64 = i32::MAX as u64;

/// The files of a model's weights.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weights {
    /// In which they lie; none for a model that has none.
    folder: Option<PathBuf>,
    files: Vec<(String, FileStamp)>,
}

impl Weights {
    /// Those of the files in `folder` that a model names, as they are now.
    pub(crate) fn of(folder: Option<&Path>, files: &[String]) -> io::Result<Self> {
        let Some(folder) = folder else { return Ok(Self::default()) };
        let stamped = |file: &String| Ok((file.clone(), FileStamp::of(&folder.join(file).metadata()?)));
        Ok(Self { folder: Some(folder.to_owned()), files: files.iter().map(stamped).collect::<io::Result<_>>()? })
    }

    /// Gives a session that is made from memory what the files hold.
    pub(crate) fn give(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let Some(folder) = &self.folder else { return Ok(builder) };
        let text = folder.to_str().ok_or_else(|| ort::Error::new("the folder's name is not UTF-8"))?;
        // Of what is not given, it is still mapped.
        builder = builder.with_config_entry("session.model_external_initializers_file_folder_path", text)?;
        for (file, expected) in &self.files {
            let content = read(&folder.join(file), expected);
            let content = content.map_err(|error| ort::Error::new(format!("the weights in '{file}': {error}")))?;
            if let Some(content) = content {
                builder = builder.with_external_initializer_file_in_memory(file, content)?;
            }
        }
        Ok(builder)
    }
}

/// The content of a file that is what it was; none where it is too large for the library.
fn read(path: &Path, expected: &FileStamp) -> io::Result<Option<Arc<[u8]>>> {
    let mut file = files::open(path)?;
    let is_as_expected = |file: &File| Ok::<_, io::Error>(FileStamp::of(&file.metadata()?) == *expected);
    let changed = || io::Error::other("they have changed since the model was looked at; load it again");
    let size = file.metadata()?.len();
    if size > MOST {
        return if is_as_expected(&file)? { Ok(None) } else { Err(changed()) };
    }
    // In one piece from the start: there is no room for two.
    let mut content: Arc<[u8]> = std::iter::repeat_n(0, usize::try_from(size).unwrap_or(usize::MAX)).collect();
    if let Some(content) = Arc::get_mut(&mut content) {
        file.read_exact(content)?;
    }
    if is_as_expected(&file)? { Ok(Some(content)) } else { Err(changed()) }
}
