//! Archives that mean harm: each is refused by a line of its own, and leaves nothing.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;

use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

use super::{Place, entry, file, gzip, record, refusal, small_zip, tape, zipped};
use crate::archive::{Kind, Limits, Refusal};

fn refused(entries: &[Vec<u8>]) -> String {
    refusal(Kind::Tar, &tape(entries), &Limits::default())
}

fn refused_zip(archive: &[u8]) -> String {
    refusal(Kind::Zip, archive, &Limits::default())
}

/// A name from a header before the entry.
fn named(name: &[u8]) -> Vec<u8> {
    [entry(b"././@LongLink", b'L', b"", name), file("x")].concat()
}

#[test]
fn names_stay_in_the_folder() {
    let cases: [(&[u8], &str); 9] = [
        (b"/etc/passwd", "'/etc/passwd' in the archive is an absolute path"),
        (b"../x", "'../x' in the archive leads out of its folder by '..'"),
        (b"a/../../x", "'a/../../x' in the archive leads out of its folder by '..'"),
        (b"a/..", "'a/..' in the archive leads out of its folder by '..'"),
        (b"a\xff", "'a\u{fffd}' in the archive has a name that is not UTF-8"),
        (b"a\0b", "'a\\0b' in the archive has a name with a NUL byte in it"),
        (b"", "'' in the archive has a name of no letters"),
        (b".", "'.' in the archive is no file, but has content"),
        (b"a\x1b[2J\n'\xe2\x80\xae/..", "'a\\u{1b}[2J\\n'\\u{202e}/..' in the archive leads out of its folder by '..'"),
    ];
    for (name, line) in cases {
        assert_eq!(refused(&[file("before"), named(name)]), line);
    }
    let records = [record("path", "a"), record("path", "/x")].concat();
    assert_eq!(
        refused(&[entry(b"h", b'x', b"", records.as_bytes()), file("a")]),
        "'/x' in the archive is an absolute path"
    );
}

#[test]
fn names_are_not_too_long() {
    let deep = ["d"; 33].join("/");
    assert!(refused(&[named(deep.as_bytes())]).ends_with("lies more than 32 folders deep"));
    assert!(refused(&[named(&[b'p'; 256])]).ends_with("p…' in the archive has a part of more than 255 bytes"));
    let line = refused(&[named(&[b'p'; 4097])]);
    assert!(line.ends_with("has a name of more than 4096 bytes"), "{line}");
    assert_eq!(line.chars().filter(|letter| *letter == 'p').count(), 200);
    assert_eq!(refused(&[named(&[b'p'; 5000])]), "'././@LongLink' in the archive is a header of more than 4097 bytes");
}

#[test]
fn links_stay_in_the_folder() {
    let link = |name: &str, target: &str| entry(name.as_bytes(), b'2', target.as_bytes(), b"");
    let out = |name: &str, target: &str| format!("'{name}' in the archive is a link out of its folder, to '{target}'");
    for target in ["/etc/passwd", "..", "../beside", "a/../../beside", "./../into/x"] {
        assert_eq!(refused(&[file("x"), link("l", target)]), out("l", target));
    }
    // `..` behind a link is not where it seems to be.
    let (up, onward) = (link("s/up", ".."), link("s/l", "up/../beside"));
    assert_eq!(refused(&[file("x"), up.clone(), onward.clone()]), out("s/l", "up/../beside"));
    assert_eq!(refused(&[onward, file("x"), up]), out("s/l", "up/../beside"));
    let circle = [file("x"), link("a", "b"), link("b", "a")];
    assert!(refused(&circle).ends_with("is a link through more than 8 others, or in a circle"));
    assert_eq!(refused(&[link("l", "")]), "'l' in the archive is a link to a path of no letters");
}

#[test]
fn nothing_is_written_through_a_link() {
    let link = |target: &str| entry(b"a/l", b'2', target.as_bytes(), b"");
    for through in [file("a/l/x"), entry(b"a/l/x", b'5', b"", b""), entry(b"a/l/x", b'1', b"f", b"")] {
        let line = refused(&[file("f"), link("."), through]);
        assert_eq!(line, "'a/l/x' in the archive lies behind 'a/l', which is a link");
    }
    assert_eq!(refused(&[link("."), file("a/l")]), "'a/l' in the archive occurs twice");
    assert_eq!(refused(&[file("f"), file("f/x")]), "'f/x' in the archive lies behind 'f', which is a file");
}

#[test]
fn hard_links_are_to_files_before_them() {
    let link = |target: &str| entry(b"l", b'1', target.as_bytes(), b"");
    for (target, line) in [
        ("/etc/passwd", "'l' in the archive is a hard link to what is an absolute path: '/etc/passwd'"),
        ("../beside", "'l' in the archive is a hard link to what leads out of its folder by '..': '../beside'"),
        ("later", "'l' in the archive is a hard link, but no file before it is 'later'"),
        ("d", "'l' in the archive is a hard link, but no file before it is 'd'"),
        ("s/x", "'l' in the archive is a hard link, but no file before it is 's/x'"),
    ] {
        let (folder, inner) = (file("d/x"), entry(b"s", b'2', b"d", b""));
        assert_eq!(refused(&[folder, inner, link(target), file("later")]), line);
    }
}

#[test]
fn only_files_folders_and_links_are_made() {
    let cases = [
        (b'3', "a character device"),
        (b'4', "a block device"),
        (b'6', "a named pipe"),
        (b'V', "of the unknown type 'V'"),
        (0xf1, "of the unknown type '\\xf1'"),
        (b'S', "a sparse file, packed without its holes; expected a whole one"),
    ];
    for (kind, what) in cases {
        assert_eq!(refused(&[file("x"), entry(b"e", kind, b"", b"")]), format!("'e' in the archive is {what}"));
    }
    let sparse = record("GNU.sparse.major", "1");
    assert!(refused(&[entry(b"h", b'x', b"", sparse.as_bytes()), file("x")]).contains("is a sparse file"));
    for kind in [b'5', b'1', b'2'] {
        assert_eq!(refused(&[entry(b"e", kind, b"x", b"more")]), "'e' in the archive is no file, but has content");
    }
    let global = entry(b"g", b'g', b"", record("path", "x").as_bytes());
    assert_eq!(refused(&[global, file("y")]), "'g' in the archive is a global pax header that names a file");
}

/// What is said of anything but a folder with the name of the folder itself.
const ROOT: &str = "'.' in the archive names the folder itself, but is none";

#[test]
fn a_name_stands_for_one_thing() {
    let kinds = [b'0', b'1', b'2', b'5'].map(|kind| entry(b"a/x", kind, b"f", b""));
    for again in &kinds {
        assert_eq!(refused(&[file("f"), file("a/x"), again.clone()]), "'a/x' in the archive occurs twice");
    }
    for again in &kinds[..3] {
        let first = entry(b"a/x/", b'5', b"", b"");
        assert_eq!(refused(&[file("f"), first, again.clone()]), "'a/x' in the archive occurs twice");
    }
    assert_eq!(refused(&[file("f"), entry(b".", b'2', b"f", b"")]), ROOT);
    assert_eq!(refused(&[file("a/x"), file("./a//x")]), "'./a//x' in the archive occurs twice");
    assert_eq!(refused(&[file("a/x"), file("a")]), "'a' in the archive occurs twice");
    let twin = zipped(|zip| {
        for name in ["one", "two"] {
            zip.start_file(name, SimpleFileOptions::default()).expect("added");
        }
    });
    assert_eq!(refused_zip(&replaced(&twin, b"two", b"one")), "'one' in the archive occurs twice");
    assert_eq!(super::well(Kind::Tar, &tape(&[file("a"), file("A")])).0.files, 2);
}

#[test]
fn what_is_empty_is_refused() {
    let line = "the archive holds no files";
    assert_eq!(refused(&[]), line);
    assert_eq!(refused(&[entry(b"a/", b'5', b"", b""), file("__MACOSX/x")]), line);
    assert_eq!(refused_zip(&zipped(|_| {})), line);
    let limits = Limits::default();
    assert_eq!(refusal(Kind::Tar, b"", &limits), "the archive is empty; not even an end mark is in it");
    assert!(refusal(Kind::TarGz, b"", &limits).starts_with("the archive ends in the middle of"));
    assert_eq!(refusal(Kind::Zip, b"", &limits), "the archive is no zip archive");
}

#[test]
fn limits_hold_whatever_headers_say() {
    let small = Limits { content: 4096, entries: 4, free: 4096, ..Limits::default() };
    let zeros = [file("x"), entry(b"big", b'0', b"", &[0; 8192])];
    let more = "'big' in the archive makes its content more than 4096 bytes";
    assert_eq!(refusal(Kind::TarGz, &gzip(&tape(&zeros)), &small), more);
    let by_ratio = Limits { content: 1 << 40, free: 1 << 10, ..small };
    let bomb = gzip(&tape(&[file("x"), entry(b"big", b'0', b"", &[0; 1 << 20])]));
    assert_eq!(
        refusal(Kind::TarGz, &bomb, &by_ratio),
        "'big' in the archive makes its content more than 100 times its own size"
    );
    let after = gzip(&[tape(&[file("x")]), vec![0; 1 << 20]].concat());
    assert!(refusal(Kind::TarGz, &after, &by_ratio).starts_with("'(after the last entry)' in the archive makes"));
    let zip = zipped(|zip| {
        zip.start_file("big", SimpleFileOptions::default()).expect("added");
        zip.write_all(&[0; 1 << 20]).expect("written");
    });
    assert_eq!(
        refusal(Kind::Zip, &zip, &by_ratio),
        "'big' in the archive makes its content more than 100 times its own size"
    );
    // The stated size is a lie in either direction.
    let lie = replaced(&zip, &(1u32 << 20).to_le_bytes(), &7u32.to_le_bytes());
    assert_eq!(
        refused_zip(&lie),
        "the archive is damaged at 'big': File is larger than its declared uncompressed size"
    );
    let mut huge = file("x");
    huge[124..136].copy_from_slice(&[0xff; 12]);
    let sum: u32 = huge[..512]
        .iter()
        .enumerate()
        .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
        .sum();
    huge[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    assert!(refused(&[huge]).contains("makes its content more than"));
}

#[test]
fn there_are_not_too_many_entries() {
    let limits = Limits { entries: 4, ..Limits::default() };
    let many = "comes after the 4 entries and folders that are allowed";
    let files: Vec<_> = (0..5).map(|number| file(&number.to_string())).collect();
    assert_eq!(refusal(Kind::Tar, &tape(&files), &limits), format!("'4' in the archive {many}"));
    let deep = [file("a/b/c/d/e/f")];
    assert_eq!(refusal(Kind::Tar, &tape(&deep), &limits), format!("'a/b/c/d/e/f' in the archive {many}"));
    let comments = vec![entry(b"g", b'g', b"", record("comment", "x").as_bytes()); 5];
    assert_eq!(refusal(Kind::Tar, &tape(&comments), &limits), format!("'g' in the archive {many}"));
    let junk = vec![file("._x"); 5];
    assert_eq!(refusal(Kind::Tar, &tape(&junk), &limits), format!("'._x' in the archive {many}"));
    let line = "the archive has 6 entries; 4 are allowed";
    assert_eq!(refusal(Kind::Zip, &small_zip(), &limits), line);
}

/// The same with other bytes, in each place of them.
fn replaced(archive: &[u8], what: &[u8], by: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut found = 0;
    for at in 0..archive.len() - what.len() {
        if &archive[at..at + what.len()] == what {
            archive[at..at + what.len()].copy_from_slice(by);
            found += 1;
        }
    }
    assert!(found > 0);
    archive
}

/// A zip archive of one file, `name`, with a mode and other bytes where the directory has its header.
fn one(name: &str, mode: u32, change: impl Fn(&mut [u8])) -> Vec<u8> {
    let mut archive = zipped(|zip| {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file(name, options).expect("added");
        zip.write_all(b"/etc/passwd").expect("written");
    });
    let at = archive.windows(4).position(|bytes| bytes == b"PK\x01\x02").expect("a directory");
    let header = &mut archive[at..];
    // Made on Unix, and its attributes: APPNOTE 4.4.2 and 4.4.15.
    header[5] = 3;
    header[38..42].copy_from_slice(&(mode << 16).to_le_bytes());
    change(header);
    archive
}

#[test]
fn zip_archives_are_held_to_the_same() {
    let same = |_: &mut [u8]| {};
    let cases = [
        (one("/x", 0o100_644, same), "'/x' in the archive is an absolute path"),
        (one("../x", 0o100_644, same), "'../x' in the archive leads out of its folder by '..'"),
        (one("l", 0o120_777, same), "'l' in the archive is a link out of its folder, to '/etc/passwd'"),
        (one("e", 0o020_644, same), "'e' in the archive is a character device"),
        (one("e", 0o060_644, same), "'e' in the archive is a block device"),
        (one("e", 0o010_644, same), "'e' in the archive is a named pipe"),
        (one("e", 0o140_644, same), "'e' in the archive is a socket"),
        (one("e", 0o040_755, same), "'e' in the archive is no file, but has content"),
        (one("e", 0o100_644, |header| header[8] |= 1), "'e' in the archive is encrypted"),
        (
            one("e", 0o100_644, |header| header[10] = 12),
            "'e' in the archive is compressed by BZIP2; expected stored or deflate",
        ),
        (
            one("e", 0o100_644, |header| header[10] = 77),
            "'e' in the archive is compressed by method 77; expected stored or deflate",
        ),
        (one("e", 0o100_644, |header| header[46] = 0), "'\\0' in the archive has a name with a NUL byte in it"),
        (one("e", 0o100_644, |header| header[46] = 0xff), "'\u{fffd}' in the archive has a name that is not UTF-8"),
    ];
    for (archive, line) in cases {
        assert_eq!(refused_zip(&archive), line);
    }
}

#[test]
fn the_end_of_zip64_is_not_read_into_memory() {
    let size = 1u64 << 20;
    // APPNOTE 4.3.14 to 4.3.16: the record, where it is, and the end without either.
    let mut archive = [&b"PK\x06\x06"[..], &(44 + size).to_le_bytes(), &[0; 44]].concat();
    archive.extend(vec![0; usize::try_from(size).expect("small")]);
    archive
        .extend([&b"PK\x06\x07"[..], &[0; 12], &[1, 0, 0, 0], b"PK\x05\x06", &[0; 4], &[0xff; 12], &[0; 2]].concat());
    assert_eq!(
        refused_zip(&archive),
        "the archive is damaged at its central directory: the record at its end is too long"
    );
}

#[test]
fn an_archive_in_an_archive_does_not_stand_for_it() {
    let outer = zipped(|zip| {
        let stored = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        zip.start_file("inner.zip", stored).expect("added");
        zip.write_all(&small_zip()).expect("written");
    });
    let cut = &outer[..outer.windows(9).rposition(|bytes| bytes == b"inner.zip").expect("there") - 46];
    let line = refused_zip(cut);
    assert!(line.starts_with("the archive is damaged at its central directory"), "{line}");
}

#[test]
fn a_full_disk_is_the_machines_fault() {
    let place = Place::new();
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    assert!(
        matches!(Refusal::unreadable("x", full), Refusal::Io(error) if error.kind() == std::io::ErrorKind::StorageFull)
    );
    // What a caller hands in may be a link to the folder, and what is in it must not be followed when it is emptied.
    fs::create_dir(place.outer.path().join("other")).expect("made");
    let folder = place.outer.path().join("other");
    fs::write(folder.join("kept"), "").expect("written");
    symlink(&folder, place.into.join("l")).expect("made");
    drop(crate::archive::Emptied(Some(&place.into)));
    assert!(folder.join("kept").exists() && !place.into.join("l").exists());
    assert!(File::open(&place.into).is_ok());
}
