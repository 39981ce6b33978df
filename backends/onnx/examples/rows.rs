//! Prints what is known of the rows of ONNX files.
use corymb_core::{FileSource, ModelFiles};
use corymb_onnx::{OnnxFile, analyse_rows, declared};
use std::time::Instant;
fn main() {
    for path in std::env::args().skip(1) {
        let begin = Instant::now();
        let file = match OnnxFile::read(&ModelFiles { model: FileSource::Path(path.clone().into()) }) {
            Ok(file) => file,
            Err(error) => {
                println!("{path}\tERROR\t{error}");
                continue;
            }
        };
        let read = begin.elapsed();
        let begin = Instant::now();
        let declared = declared(&file.model);
        let found = analyse_rows(&file.model, &declared.signature);
        let took = begin.elapsed();
        let word = match &found.independence {
            corymb_core::Independence::Proved => "proved".to_owned(),
            corymb_core::Independence::Mixes(c) => format!("mixes\t{c}"),
            corymb_core::Independence::Unknown(c) => format!("unknown\t{c}"),
        };
        println!("{path}\t{word}\t{:?}\t{} nodes read {read:?} took {took:?}", found.axes, file.graph().node.len());
    }
}
