//! Archives that are cut short or changed: never a panic, and nothing left where it is refused.

use std::time::{Duration, Instant};

use super::{Place, entry, file, gzip, record, refusal, small_zip, tape};
use crate::archive::{Kind, Limits};

fn small_tape() -> Vec<u8> {
    tape(&[
        entry(b"a/", b'5', b"", b""),
        file("a/x"),
        entry(b"h", b'x', b"", record("path", "a/long").as_bytes()),
        entry(b"y", b'0', b"", &[b'w'; 3000]),
        entry(b"././@LongLink", b'L', b"", &[b'n'; 120]),
        file("z"),
        entry(b"a/l", b'2', b"x", b""),
        entry(b"a/h", b'1', b"a/x", b""),
    ])
}

#[test]
fn what_is_cut_short_is_refused() {
    let tape = small_tape();
    for (kind, archive, whole) in [
        (Kind::Tar, tape.clone(), tape.len() - 1024 + 512),
        (Kind::TarGz, gzip(&tape), gzip(&tape).len()),
        (Kind::Zip, small_zip(), small_zip().len()),
    ] {
        for length in (0..whole).step_by(97).chain([whole - 1]) {
            let line = refusal(kind, &archive[..length], &Limits::default());
            if length >= 4 {
                assert!(line.starts_with("the archive ends in the middle of "), "{kind:?} {length}: {line}");
            }
        }
    }
    let place = |length: usize| refusal(Kind::Tar, &small_tape()[..length], &Limits::default());
    assert_eq!(place(100), "the archive ends in the middle of its first header; it is cut short");
    assert_eq!(place(512 + 512 + 1), "the archive ends in the middle of 'a/x'; it is cut short");
}

#[test]
fn checksums_are_compared() {
    let tape = small_tape();
    let limits = Limits::default();
    let mut packed = gzip(&tape);
    let end = packed.len();
    packed[end - 8] ^= 1;
    let line = "the archive is damaged at what comes after the last entry: \
                corrupt gzip stream does not have a matching checksum";
    assert_eq!(refusal(Kind::TarGz, &packed, &limits), line);
    let mut packed = small_zip();
    let content = packed.windows(8).position(|bytes| bytes == b"as it is").expect("there");
    packed[content] ^= 1;
    assert_eq!(refusal(Kind::Zip, &packed, &limits), "the archive is damaged at 'a/stored': Invalid checksum");
    let mut changed = tape.clone();
    changed[512] ^= 1;
    assert_eq!(
        refusal(Kind::Tar, &changed, &limits),
        "the archive is damaged at the header after 'a/': its checksum is wrong"
    );
    let line = "the archive is no tar archive: the checksum of its first header is wrong";
    assert_eq!(refusal(Kind::Tar, &small_zip()[..600], &limits), line);
    assert!(refusal(Kind::TarGz, &tape, &limits).contains("invalid gzip header"));
    assert_eq!(refusal(Kind::Zip, &tape, &limits), "the archive is no zip archive");
    for records in ["x", "8 path=a\n", "999 path=a\n", "10 path=ab", "9 size=x\n", "6 abc\n", "0 path=a\n"] {
        let line = refusal(Kind::Tar, &super::tape(&[entry(b"h", b'x', b"", records.as_bytes()), file("x")]), &limits);
        assert_eq!(line, "'h' in the archive is a pax header that is damaged", "{records}");
    }
}

/// Numbers that are always the same: Marsaglia's xorshift64.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("below")
    }
}

/// Sets the checksum of each header right, so that what is behind it is reached.
fn vouch(tape: &mut [u8]) {
    for block in tape.chunks_exact_mut(512).filter(|block| block.iter().any(|byte| *byte != 0)) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn nothing_that_was_changed_does_harm() {
    const WORDS: [&[u8]; 8] =
        [b"../", b"/", b"\0", b"\xff\xff\xff\xff", b"7777777", b"PK\x01\x02", b"a/l", b"19 path=../../x\n"];
    let sources = [(Kind::Tar, small_tape()), (Kind::TarGz, gzip(&small_tape())), (Kind::Zip, small_zip())];
    // Low, so that no size that comes of it fills the disk.
    let limits = Limits { content: 1 << 20, ..Limits::default() };
    let (mut numbers, start) = (Numbers(0x5eed_cafe_f00d_1234), Instant::now());
    let (mut made, mut refused) = (0, 0);
    for _ in 0..6000 {
        if start.elapsed() > Duration::from_secs(2) {
            break;
        }
        let (kind, mut archive) = sources[numbers.below(sources.len())].clone();
        for _ in 0..=numbers.below(4) {
            let at = numbers.below(archive.len());
            match numbers.below(4) {
                0 => archive[at] ^= 1 << numbers.below(8),
                1 => archive[at] = u8::try_from(numbers.below(256)).expect("a byte"),
                2 => {
                    let word = WORDS[numbers.below(WORDS.len())];
                    let end = archive.len().min(at + word.len());
                    archive[at..end].copy_from_slice(&word[..end - at]);
                }
                // Types of entries and what they are called, where headers are.
                _ => {
                    let at = at / 512 * 512 + [0, 100, 124, 156, 157][numbers.below(5)];
                    let byte = b"0123456LKxgS./"[numbers.below(14)];
                    if let Some(place) = archive.get_mut(at) {
                        *place = byte;
                    }
                }
            }
        }
        if kind == Kind::Tar && numbers.below(4) > 0 {
            vouch(&mut archive);
        }
        match Place::new().unpack(kind, &archive, &limits) {
            Ok(_) => made += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(made > 0 && refused > 0, "{made} made, {refused} refused");
}
