//! Archives that are well, and what the tests of the others are written in.

mod damaged;
mod hostile;
mod tools;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{EntryType, Header};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::archive::{Kind, Limits, Refusal, Unpacked, unpack};

/// What lies in a folder: of each path `/` for a folder, `-> target` for a link, or the content of a file.
type Listing = BTreeMap<String, String>;

/// Memory where it may be had: the files are small and very many.
fn room() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if tempfile::tempfile_in(&memory).is_ok() { memory } else { std::env::temp_dir() }
}

/// A folder to unpack into, in a folder of its own with a file beside it.
struct Place {
    outer: tempfile::TempDir,
    into: PathBuf,
}

impl Place {
    fn new() -> Self {
        let outer = tempfile::tempdir_in(room()).expect("a folder");
        let into = outer.path().join("into");
        fs::create_dir(&into).expect("made");
        fs::write(outer.path().join("beside"), "untouched").expect("written");
        Self { outer, into }
    }

    fn unpack(&self, kind: Kind, archive: &[u8], limits: &Limits) -> Result<Unpacked, Refusal> {
        let mut file = tempfile::tempfile_in(room()).expect("a file");
        file.write_all(archive).expect("written");
        self.unpack_file(kind, &file, limits)
    }

    /// Whatever comes of it, nothing beside the folder has changed; if nothing, the folder is empty.
    fn unpack_file(&self, kind: Kind, archive: &File, limits: &Limits) -> Result<Unpacked, Refusal> {
        let unpacked = unpack(archive, kind, &self.into, limits);
        let beside = fs::read_dir(self.outer.path()).expect("read").count();
        let content = fs::read_to_string(self.outer.path().join("beside")).expect("read");
        assert_eq!((beside, content.as_str()), (2, "untouched"));
        if unpacked.is_err() {
            assert_eq!(self.listing(), Listing::new());
        }
        unpacked
    }

    fn listing(&self) -> Listing {
        let mut listing = Listing::new();
        list(&self.into, "", &mut listing);
        listing
    }
}

fn list(folder: &Path, prefix: &str, listing: &mut Listing) {
    for entry in fs::read_dir(folder).expect("read").map(|entry| entry.expect("read")) {
        let path = format!("{prefix}{}", entry.file_name().to_str().expect("UTF-8"));
        let (at, meta) = (entry.path(), entry.path().symlink_metadata().expect("there"));
        let mode = meta.permissions().mode() & 0o7777;
        if meta.is_symlink() {
            listing.insert(path, format!("-> {}", fs::read_link(at).expect("read").display()));
        } else if meta.is_dir() {
            assert_eq!(mode, 0o755, "{path}");
            list(&at, &format!("{path}/"), listing);
            listing.insert(path, "/".to_owned());
        } else {
            assert_eq!(mode, 0o644, "{path}");
            listing.insert(path, brief(&String::from_utf8_lossy(&fs::read(at).expect("read"))));
        }
    }
}

fn listing(entries: &[(&str, &str)]) -> Listing {
    entries.iter().map(|(path, what)| ((*path).to_owned(), brief(what))).collect()
}

/// Of what is long only its length and checksum, for the sake of who reads that two listings differ.
fn brief(content: &str) -> String {
    let mut checksum = flate2::Crc::new();
    checksum.update(content.as_bytes());
    if content.len() < 500 { content.to_owned() } else { format!("{} bytes, {:08x}", content.len(), checksum.sum()) }
}

/// Unpacks what should be well.
fn well(kind: Kind, archive: &[u8]) -> (Unpacked, Listing) {
    let place = Place::new();
    let unpacked = place.unpack(kind, archive, &Limits::default());
    (unpacked.expect("unpacked"), place.listing())
}

/// Why an archive is refused, in one line.
fn refusal(kind: Kind, archive: &[u8], limits: &Limits) -> String {
    let refusal = Place::new().unpack(kind, archive, limits).expect_err("refused");
    assert!(!matches!(refusal, Refusal::Io(_)), "{refusal}");
    let line = refusal.to_string();
    assert!(line.len() < 1200 && line.chars().all(|letter| !letter.is_control()), "{line}");
    line
}

/// An entry of a tape, as GNU's header has it; only what is asked of it is right.
fn entry(name: &[u8], kind: u8, link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o7777);
    header.set_size(content.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A file that holds `x`.
fn file(name: &str) -> Vec<u8> {
    entry(name.as_bytes(), b'0', b"", b"x")
}

fn tape(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.extend([0; 1024]);
    bytes
}

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content).expect("written");
    encoder.finish().expect("finished")
}

fn record(key: &str, value: &str) -> String {
    let rest = key.len() + value.len() + 3;
    let length = (1..5).map(|digits| rest + digits).find(|length| rest + length.to_string().len() == *length);
    format!("{} {key}={value}\n", length.expect("a length"))
}

fn zipped(fill: impl FnOnce(&mut ZipWriter<Cursor<Vec<u8>>>)) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    fill(&mut writer);
    writer.finish().expect("finished").into_inner()
}

fn small_zip() -> Vec<u8> {
    zipped(|zip| {
        let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        let deflated = stored.compression_method(zip::CompressionMethod::Deflated).unix_permissions(0o4755);
        zip.add_directory("a", stored).expect("added");
        zip.start_file("a/stored", stored).expect("added");
        zip.write_all(b"as it is").expect("written");
        zip.start_file("b/deflated", deflated).expect("added");
        zip.write_all(&[b'y'; 2000]).expect("written");
        zip.start_file("large", deflated.large_file(true)).expect("added");
        zip.start_file("__MACOSX/a/._stored", deflated).expect("added");
        zip.add_symlink("a/link", "../b/deflated", stored).expect("added");
    })
}

#[test]
fn names_tell_the_kind() {
    let kinds = ["m.tar.gz", "M.TGZ", "m.Tar", "a/m.zip", "m.gz", "zip", "m.tar.gz.onnx"].map(Kind::of);
    let (gz, tar, zip) = (Some(Kind::TarGz), Some(Kind::Tar), Some(Kind::Zip));
    assert_eq!(kinds, [gz, gz, tar, zip, None, None, None]);
}

#[test]
fn a_tape_is_unpacked_whatever_its_compression() {
    let tape = tape(&[
        entry(b"./", b'5', b"", b""),
        entry(b"./m/", b'5', b"", b""),
        entry(b"./m/config.pbtxt", b'0', b"", b"name: \"m\""),
        entry(b"old/", 0, b"", b""),
        entry(b"m/1/model.onnx", b'7', b"", &[b'w'; 1025]),
        entry(b"m/._config.pbtxt", b'0', b"", b"fork"),
        entry(b"PaxHeader/x", b'0', b"", b"11 mtime=1\n"),
        entry(b".DS_Store", b'0', b"", b""),
        entry(b"m/latest", b'2', b"./1//model.onnx", b""),
        entry(b"m/same", b'1', b"./m/1/model.onnx", b""),
        entry(b"m", b'5', b"", b""),
    ]);
    let expected = listing(&[
        ("m", "/"),
        ("m/1", "/"),
        ("m/1/model.onnx", &"w".repeat(1025)),
        ("m/config.pbtxt", "name: \"m\""),
        ("m/latest", "-> ./1//model.onnx"),
        ("m/same", &"w".repeat(1025)),
        ("old", "/"),
    ]);
    let unpacked = Unpacked { files: 4, bytes: 9 + 1025, skipped: 3 };
    assert_eq!(well(Kind::Tar, &tape), (unpacked, expected.clone()));
    let mut packed = gzip(&tape[..700]);
    packed.extend(gzip(&tape[700..]));
    packed.extend(b"\0\0\0 rubbish");
    assert_eq!(well(Kind::TarGz, &packed), (unpacked, expected.clone()));
    packed.extend(b"\x1f rubbish, too");
    assert_eq!(well(Kind::TarGz, &packed), (unpacked, expected));
}

#[test]
fn hard_links_are_further_names() {
    let place = Place::new();
    let tape = tape(&[file("a/b"), entry(b"c", b'1', b"a/b", b"")]);
    place.unpack(Kind::Tar, &tape, &Limits::default()).expect("unpacked");
    let inode = |path: &str| fs::metadata(place.into.join(path)).expect("there").ino();
    assert_eq!(inode("a/b"), inode("c"));
}

#[test]
fn long_names_are_read_from_headers_before() {
    let (long, target) = (format!("{}/é.onnx", "d".repeat(200)), "t/".repeat(60) + "t");
    let link = "l".repeat(150);
    let records = format!("{}{}{}", record("path", "not/this"), record("path", "pax\nname"), record("size", "3"));
    let archive = tape(&[
        entry(b"pax_global_header", b'g', b"", record("comment", "0123abc").as_bytes()),
        entry(b"././@LongLink", b'L', b"", &[long.as_bytes(), b"\0"].concat()),
        entry(&long.as_bytes()[..100], b'0', b"", b"x"),
        entry(b"././@LongLink", b'K', b"", &[target.as_bytes(), b"\0"].concat()),
        entry(b"././@LongLink", b'L', b"", link.as_bytes()),
        entry(b"l", b'2', b"t", b""),
        entry(b"PaxHeaders/x", b'x', b"", records.as_bytes()),
        // Of the two sizes the header's is not the one that counts.
        entry(b"x", b'0', b"", b""),
        [&b"abc"[..], &[0; 509]].concat(),
    ]);
    let limits = Limits { depth: 64, ..Limits::default() };
    let place = Place::new();
    place.unpack(Kind::Tar, &archive, &limits).expect("unpacked");
    let arrow = format!("-> {target}");
    let expected = [(&long[..200], "/"), (long.as_str(), "x"), (link.as_str(), arrow.as_str()), ("pax\nname", "abc")];
    assert_eq!(place.listing(), listing(&expected));
}

#[test]
fn a_zip_archive_is_unpacked() {
    let expected = listing(&[
        ("a", "/"),
        ("a/link", "-> ../b/deflated"),
        ("a/stored", "as it is"),
        ("b", "/"),
        ("b/deflated", &"y".repeat(2000)),
        ("large", ""),
    ]);
    assert_eq!(well(Kind::Zip, &small_zip()), (Unpacked { files: 4, bytes: 2008, skipped: 1 }, expected));
}

#[test]
fn what_is_in_the_folder_already_is_left_alone() {
    let place = Place::new();
    fs::write(place.into.join("mine"), "").expect("written");
    let archive = tempfile::tempfile().expect("a file");
    let refusal = unpack(&archive, Kind::Tar, &place.into, &Limits::default()).expect_err("refused");
    assert!(matches!(&refusal, Refusal::Io(error) if error.kind() == std::io::ErrorKind::DirectoryNotEmpty));
    assert!(place.into.join("mine").exists());
}
