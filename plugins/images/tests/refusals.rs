//! What is refused, before memory is taken, and in which words.

mod fixtures;

use bytes::Bytes;
use corymb_core::{Code, DType};
use corymb_images::{Fit, ImageError, Limits, Plan, Region, Size, probe, to_tensor};
use fixtures::{bytes_plan, file};

fn refused(elements: &[Bytes]) -> ImageError {
    to_tensor(elements, &[], &bytes_plan(8, 8), &Limits::default()).expect_err("refused")
}

/// The refusal of one picture behind a good one.
fn second(bytes: impl Into<Bytes>) -> (String, Code) {
    let error = refused(&[file("small.png"), bytes.into()]);
    (error.to_string(), error.code())
}

#[test]
fn the_element_and_the_fault_are_named() {
    assert_eq!(
        second(&b"hello"[..]),
        ("element 1 is not a JPEG, PNG or WebP picture".to_owned(), Code::InvalidArgument)
    );
    assert_eq!(
        second(Bytes::new()),
        ("element 1 is empty; a JPEG, PNG or WebP picture is expected".to_owned(), Code::InvalidArgument)
    );
    assert_eq!(
        second(file("small.gif")),
        ("element 1 is a GIF picture; only JPEG, PNG and WebP are read".to_owned(), Code::UnsupportedMediaType)
    );
}

#[test]
fn pictures_that_are_cut_short_are_errors_wherever_they_end() {
    let files = [
        ("scene.jpg", "JPEG"),
        ("scene-progressive.jpg", "JPEG"),
        ("scene.png", "PNG"),
        ("scene.webp", "WebP"),
        ("small-lossless.webp", "WebP"),
    ];
    for (name, format) in files {
        let whole = file(name);
        for part in [12, 30, whole.len() / 4, whole.len() / 2, whole.len() * 3 / 4, whole.len() - 40] {
            let (message, code) = second(whole.slice(..part));
            assert_eq!(message, format!("element 1 is a {format} picture that is cut short"), "{name} to {part}");
            assert_eq!(code, Code::InvalidArgument);
        }
    }
}

#[test]
fn any_damage_is_an_error_or_a_picture_but_no_panic() {
    for name in ["scene.jpg", "scene-progressive.jpg", "small-cmyk.jpg", "small.png", "scene.webp", "small-alpha.webp"]
    {
        let whole = file(name);
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..400 {
            let mut bytes = whole.to_vec();
            for _ in 0..3 {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let at = random as usize % bytes.len();
                bytes[at] = (random >> 32) as u8;
            }
            match to_tensor(&[bytes.into()], &[], &bytes_plan(8, 8), &Limits::default()) {
                Ok(tensor) => assert_eq!(tensor.shape(), [1, 8, 8, 3]),
                Err(error) => assert_ne!(error.code(), Code::Internal, "{name}: {error}"),
            }
        }
    }
}

#[test]
fn a_header_may_not_declare_more_than_is_allowed() {
    let big = |width: u16, height: u16| {
        let mut jpeg = file("scene.jpg").to_vec();
        let frame = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).expect("baseline");
        jpeg[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
        jpeg[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
        jpeg
    };
    let bomb = big(60_000, 60_000);
    assert_eq!(probe(&bomb), Ok(Size::new(60_000, 60_000)));
    assert_eq!(
        second(bomb),
        ("element 1 has 60000x60000 pixels; at most 67108864 are allowed".to_owned(), Code::TooLarge)
    );
    assert_eq!(second(big(97, 0)).1, Code::InvalidArgument);

    let mut png = file("small.png").to_vec();
    png[16..24].copy_from_slice(&[0, 1, 0x86, 0xa0, 0, 1, 0x86, 0xa0]);
    assert_eq!(second(png).0, "element 1 has 100000x100000 pixels; at most 67108864 are allowed");

    // A lossy WebP frame larger than its canvas.
    let mut webp = file("scene.webp").to_vec();
    let frame = webp.windows(3).position(|start| start == [0x9d, 0x01, 0x2a]).expect("key frame");
    webp[frame + 3..frame + 7].copy_from_slice(&[0xff, 0x3f, 0xff, 0x3f]);
    assert_eq!(second(webp).1, Code::TooLarge);
}

#[test]
fn a_call_is_bounded_as_a_whole() {
    let elements = vec![file("scene.jpg"); 4];
    let limits = Limits { max_pixels_total: 3 * 97 * 61, ..Limits::default() };
    let error = to_tensor(&elements, &[], &bytes_plan(8, 8), &limits).expect_err("too many pixels");
    assert_eq!(
        error.to_string(),
        "the pictures and regions up to element 3 have 23668 pixels together; at most 17751 are allowed"
    );
    assert_eq!(error.code(), Code::TooLarge);
    let whole = Region { element: 0, x: 0, y: 0, width: 97, height: 61 };
    assert!(to_tensor(&elements[..1], &[whole; 2], &bytes_plan(8, 8), &limits).is_ok());
    let error = to_tensor(&elements[..1], &[whole; 3], &bytes_plan(8, 8), &limits).expect_err("too many regions");
    assert_eq!(error.code(), Code::TooLarge);

    let limits = Limits { max_bytes_out: 3 * 8 * 8 * 3, ..Limits::default() };
    let error = to_tensor(&elements, &[], &bytes_plan(8, 8), &limits).expect_err("too many bytes");
    assert_eq!(error.to_string(), "4 pictures of 192 bytes make a tensor of more than 576 bytes");

    let error = to_tensor(&elements, &[], &bytes_plan(u32::MAX, u32::MAX), &Limits::default()).expect_err("too large");
    assert_eq!(error.code(), Code::TooLarge);

    // 97 columns by 1,000,000 rows lie between a picture and its 1x1000000 tensor.
    let error = to_tensor(&elements[..1], &[], &bytes_plan(1, 1_000_000), &Limits::default()).expect_err("too large");
    assert_eq!(error.to_string(), "element 0 of 97x61 pixels becomes too large while it is resized");
}

#[test]
fn regions_lie_within_their_picture() {
    let run = |region: Region| {
        let error = to_tensor(&[file("small.png")], &[region], &bytes_plan(8, 8), &Limits::default());
        let error = error.expect_err("refused");
        assert_eq!(error.code(), Code::InvalidArgument);
        error.to_string()
    };
    let whole = Region { element: 0, x: 0, y: 0, width: 24, height: 15 };
    assert_eq!(run(Region { element: 1, ..whole }), "region 0 names element 1; there are 1 elements");
    let text = "region 0 (1,0 24x15) does not lie within element 0, which is 24x15";
    assert_eq!(run(Region { x: 1, ..whole }), text);
    for region in [
        Region { width: 0, ..whole },
        Region { height: 16, ..whole },
        Region { x: u32::MAX, ..whole },
        Region { y: 1, height: u32::MAX, ..whole },
    ] {
        assert!(run(region).contains("does not lie within"));
    }
}

#[test]
fn plans_must_make_sense() {
    let plan = bytes_plan(8, 8);
    let size = Size::new(8, 8);
    let wrong = [
        (Plan { dtype: DType::Int64, ..plan.clone() }, "datatype INT64 is not made of pictures"),
        (Plan { mean: vec![0.0], ..plan.clone() }, "mean has 1 values; rgb takes 3"),
        (Plan { std: vec![1.0, 0.0, 1.0], ..plan.clone() }, "std holds 0"),
        (Plan { std: vec![1.0, f32::NAN, 1.0], ..plan.clone() }, "std holds NaN"),
        (Plan { scale: f32::INFINITY, ..plan.clone() }, "must be finite"),
        (bytes_plan(0, 8), "size is 0x8"),
        (Plan { fit: Fit::CenterCrop { shorter: 7, size }, ..plan.clone() }, "centre crop of 8x8 exceeds"),
        (Plan { fit: Fit::Letterbox { size, pixel: vec![] }, ..plan }, "letterbox pixel has 0 values"),
    ];
    for (plan, text) in wrong {
        let error = to_tensor(&[], &[], &plan, &Limits::default()).expect_err(text);
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.code(), Code::Internal);
    }
}

#[test]
fn probing_reads_headers_only() {
    for (name, size) in [
        ("scene.jpg", Size::new(97, 61)),
        ("scene-turned.jpg", Size::new(97, 61)),
        ("small.png", Size::new(24, 15)),
        ("scene.webp", Size::new(97, 61)),
    ] {
        assert_eq!(probe(&file(name)), Ok(size), "{name}");
    }
    let half = file("scene.jpg");
    assert_eq!(probe(&half[..half.len() / 2]), Ok(Size::new(97, 61)));
    let error = probe(b"").expect_err("empty").in_element(7);
    assert_eq!(error.to_string(), "element 7 is empty; a JPEG, PNG or WebP picture is expected");
}

#[test]
fn a_large_png_needs_no_more_than_its_pixels() {
    let row: Vec<u8> = (0..4000).map(|x| x as u8).collect();
    let png = fixtures::gray_png(4000, 3000, &row.repeat(3000));
    let tensor = to_tensor(&[png], &[], &bytes_plan(8, 8), &Limits::default()).expect("12 Mpixel are fine");
    assert_eq!(tensor.shape(), [1, 8, 8, 3]);
}
