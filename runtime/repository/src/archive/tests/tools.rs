//! Archives as others make them: GNU tar and Python, where they are here.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use super::{Listing, Place, listing};
use crate::archive::{Kind, Limits, Unpacked};

/// False, with a reason in the output, if the tool is not here or does not know how.
fn run(command: &mut Command) -> bool {
    match command.output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            println!("skipped: {command:?}: {}", String::from_utf8_lossy(&output.stderr));
            false
        }
        Err(error) => {
            println!("skipped: {command:?}: {error}");
            false
        }
    }
}

/// A model with what is hard to pack. Names of more than 100 bytes are left out for the oldest format.
fn model(with_long: bool) -> (tempfile::TempDir, Listing) {
    let outer = tempfile::tempdir().expect("a folder");
    let at = |path: &str| outer.path().join("model").join(path);
    let long = format!("{}/{}é.onnx", "p".repeat(90), "n".repeat(180));
    fs::create_dir_all(at("1")).expect("made");
    fs::write(at("1/model.onnx"), "w".repeat(100_000)).expect("written");
    fs::write(at("empty"), "").expect("written");
    fs::hard_link(at("1/model.onnx"), at("2.onnx")).expect("linked");
    symlink("1/model.onnx", at("latest")).expect("linked");
    let weights = "w".repeat(100_000);
    let mut expected = listing(&[
        ("model", "/"),
        ("model/1", "/"),
        ("model/1/model.onnx", &weights),
        ("model/2.onnx", &weights),
        ("model/empty", ""),
        ("model/latest", "-> 1/model.onnx"),
    ]);
    if with_long {
        fs::create_dir_all(at(&long).parent().expect("a folder")).expect("made");
        fs::write(at(&long), "long").expect("written");
        expected.insert(format!("model/{}", "p".repeat(90)), "/".to_owned());
        expected.insert(format!("model/{long}"), "long".to_owned());
    }
    (outer, expected)
}

fn unpacked(path: &Path) -> (Unpacked, Listing) {
    let place = Place::new();
    let kind = Kind::of(path.to_str().expect("UTF-8")).expect("an archive");
    let archive = File::open(path).expect("opened");
    let unpacked = place.unpack_file(kind, &archive, &Limits::default());
    (unpacked.unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display())), place.listing())
}

#[test]
fn gnu_tar_is_understood() {
    for (format, options, with_long) in [
        ("gnu.tar", &["--format=gnu", "model"][..], true),
        ("gnu.tar.gz", &["--format=gnu", "-z", "model"], true),
        ("pax.tgz", &["--format=pax", "-z", "model"], true),
        ("ustar.tar", &["--format=ustar", "model"], false),
        ("v7.tar", &["--format=v7", "model"], false),
        ("dots.tar", &["--hard-dereference", "./model"], true),
    ] {
        let (folder, expected) = model(with_long);
        let archive = folder.path().join(format);
        let mut tar = Command::new("tar");
        tar.arg("-cf").arg(&archive).arg("-C").arg(folder.path()).args(options);
        if run(&mut tar) {
            let (unpacked, listing) = unpacked(&archive);
            assert_eq!((unpacked.files, listing), (4 + u64::from(with_long), expected), "{format}");
        }
    }
}

#[test]
fn sparse_files_are_refused() {
    for format in ["--format=gnu", "--format=pax"] {
        let (folder, _) = model(false);
        let holes = File::create(folder.path().join("model/holes")).expect("made");
        holes.set_len(10 << 20).expect("grown");
        let archive = folder.path().join("m.tar");
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(folder.path()).args(["--sparse", format, "-cf"]).arg(&archive).arg("model");
        if run(&mut tar) {
            let file = File::open(&archive).expect("opened");
            let refusal = Place::new().unpack_file(Kind::Tar, &file, &Limits::default()).expect_err("refused");
            assert!(refusal.to_string().contains("holes' in the archive is a sparse file"), "{refusal}");
        }
    }
}

#[test]
fn python_is_understood() {
    const SCRIPT: &str = r#"
import os, shutil, sys, tarfile, zipfile
os.chdir(sys.argv[1])
for name, mode, form in [("pax.tar", "w", tarfile.PAX_FORMAT), ("gnu.tgz", "w:gz", tarfile.GNU_FORMAT)]:
    with tarfile.open(name, mode, format=form) as tar:
        tar.add("model")
shutil.make_archive("made", "zip", ".", "model")
class Pipe:
    def __init__(self, file): self.file = file
    def write(self, data): return self.file.write(data)
    def flush(self): self.file.flush()
with open("piped.zip", "wb") as file, zipfile.ZipFile(Pipe(file), "w", zipfile.ZIP_DEFLATED) as zip:
    zip.write("model/1/model.onnx")
    with zip.open("model/large", "w", force_zip64=True) as entry: entry.write(b"64")
with zipfile.ZipFile("bz.zip", "w", zipfile.ZIP_BZIP2) as zip:
    zip.write("model/1/model.onnx")
"#;
    let python = std::env::var("CORYMB_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let (folder, expected) = model(true);
    if !run(Command::new(python).args(["-c", SCRIPT]).arg(folder.path())) {
        return;
    }
    for name in ["pax.tar", "gnu.tgz"] {
        assert_eq!(unpacked(&folder.path().join(name)).1, expected, "{name}");
    }
    // Python packs what a link leads to.
    let mut followed = expected.clone();
    followed.insert("model/latest".to_owned(), expected["model/1/model.onnx"].clone());
    assert_eq!(unpacked(&folder.path().join("made.zip")).1, followed);
    let (piped, listing) = unpacked(&folder.path().join("piped.zip"));
    assert_eq!((piped.files, piped.bytes, listing["model/large"].as_str()), (2, 100_002, "64"));
    let file = File::open(folder.path().join("bz.zip")).expect("opened");
    let refusal = Place::new().unpack_file(Kind::Zip, &file, &Limits::default()).expect_err("refused");
    let line = "'model/1/model.onnx' in the archive is compressed by BZIP2; expected stored or deflate";
    assert_eq!(refusal.to_string(), line);
}

#[test]
fn info_zip_is_understood() {
    let (folder, mut expected) = model(true);
    let mut zip = Command::new("zip");
    zip.current_dir(folder.path()).args(["-q", "-y", "-r", "m.zip", "model"]);
    if run(&mut zip) {
        let listing = unpacked(&folder.path().join("m.zip")).1;
        assert_eq!(listing.len(), expected.len());
        expected.retain(|path, _| listing.contains_key(path));
        assert_eq!(listing, expected);
    }
}
