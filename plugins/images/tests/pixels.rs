//! Pixels against what Pillow makes of the same files (`fixtures/make.py`).

mod fixtures;

use corymb_core::{DType, Tensor};
use corymb_images::{Color, Fit, Kernel, Layout, Limits, Plan, Region, Resize, Size, to_tensor};
use fixtures::{bytes_plan, file, golden, jpeg_with_orientation};

/// Largest and mean difference between two pictures.
fn difference(given: &[u8], expected: &[u8]) -> (u8, f64) {
    assert_eq!(given.len(), expected.len());
    let differences = || given.iter().zip(expected).map(|(given, expected)| given.abs_diff(*expected));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap_or_default(), sum / given.len() as f64)
}

fn pixels(name: &str, regions: &[Region], plan: &Plan) -> Vec<u8> {
    let tensor = to_tensor(&[file(name)], regions, plan, &Limits::default()).expect(name);
    tensor.as_slice::<u8>().expect("uint8").to_vec()
}

fn assert_close(given: &[u8], name: &str, most: u8) {
    let (largest, mean) = difference(given, &golden(name));
    assert!(largest <= most && mean < 0.6, "{name}: differs by up to {largest}, {mean:.2} in the mean");
}

fn with_kernel(plan: Plan, kernel: Kernel) -> Plan {
    Plan { resize: Resize { kernel, antialias: true }, ..plan }
}

#[test]
fn kernels_are_pillows() {
    // Kernels with negative weights clip between the two passes, which come in the other order here: a few pixels at the
    // edge differ by more.
    let kernels = [
        (Kernel::Nearest, "nearest", 0),
        (Kernel::Bilinear, "bilinear", 1),
        (Kernel::Bicubic, "bicubic", 4),
        (Kernel::Lanczos3, "lanczos3", 4),
    ];
    for (kernel, name, most) in kernels {
        let plan = with_kernel(bytes_plan(32, 24), kernel);
        assert_close(&pixels("scene.png", &[], &plan), &format!("golden-{name}-32x24.png"), most);
    }
    assert_close(&pixels("scene.png", &[], &bytes_plan(120, 90)), "golden-bilinear-120x90.png", 1);
}

#[test]
fn without_antialias_the_kernel_stays_small() {
    // Halving by a kernel of two pixels takes the mean of the middle two of four; with antialias all four count.
    let row: Vec<u8> = vec![0, 0, 255, 255, 0, 0, 0, 0];
    let png = fixtures::gray_png(8, 1, &row);
    let mut plan = Plan { color: Color::Gray, mean: vec![0.0], std: vec![1.0], ..bytes_plan(2, 1) };
    let run = |plan: &Plan| {
        let tensor = to_tensor(std::slice::from_ref(&png), &[], plan, &Limits::default()).expect("valid");
        tensor.as_slice::<u8>().expect("uint8").to_vec()
    };
    plan.resize.antialias = false;
    assert_eq!(run(&plan), [128, 0]);
    plan.resize.antialias = true;
    let smooth = run(&plan);
    assert!(smooth[0] > 100 && smooth[1] > 20, "{smooth:?}");
}

#[test]
fn jpeg_decoded_and_resized_is_within_two() {
    for name in ["scene.jpg", "scene-progressive.jpg"] {
        assert_close(&pixels(name, &[], &bytes_plan(32, 24)), "golden-jpeg-32x24.png", 2);
    }
    // Without chroma subsampling, close to the picture before compression.
    let (_, mean) = difference(&pixels("scene-444.jpg", &[], &bytes_plan(97, 61)), &golden("scene.png"));
    assert!(mean < 2.5, "{mean}");
}

#[test]
fn lossy_webp_is_close() {
    let (_, mean) = difference(&pixels("scene.webp", &[], &bytes_plan(97, 61)), &golden("scene.png"));
    assert!(mean < 4.0, "{mean}");
}

#[test]
fn a_centre_crop_is_resize_then_crop() {
    let fit = Fit::CenterCrop { shorter: 40, size: Size::new(32, 32) };
    let plan = Plan { fit, ..bytes_plan(1, 1) };
    assert_close(&pixels("scene.png", &[], &plan), "golden-crop-32x32.png", 1);
}

#[test]
fn a_letterbox_is_centred_and_padded() {
    for pixel in [vec![114], vec![114; 3]] {
        let plan = Plan { fit: Fit::Letterbox { size: Size::new(48, 48), pixel }, ..bytes_plan(1, 1) };
        assert_close(&pixels("scene.png", &[], &plan), "golden-letterbox-48x48.png", 1);
        let planes = pixels("scene.png", &[], &Plan { layout: Layout::Nchw, ..plan });
        assert_eq!(interleaved(&planes, 48 * 48)[..3], [114; 3]);
    }
}

#[test]
fn a_region_is_cut_before_it_is_resized() {
    let region = Region { element: 0, x: 10, y: 5, width: 50, height: 40 };
    assert_close(&pixels("scene.png", &[region], &bytes_plan(20, 16)), "golden-region-20x16.png", 1);
    // Regions are in the pixels of the turned picture.
    let region = Region { element: 0, x: 4, y: 10, width: 50, height: 70 };
    assert_close(&pixels("scene-turned.jpg", &[region], &bytes_plan(20, 28)), "golden-turned-20x28.png", 3);
}

#[test]
fn gray_is_pillows_luma() {
    let plan =
        |width, height| Plan { color: Color::Gray, mean: vec![0.0], std: vec![1.0], ..bytes_plan(width, height) };
    assert_close(&pixels("scene.png", &[], &plan(32, 24)), "golden-gray-32x24.png", 1);
    // JPEG's own luma, both where chroma is subsampled and where it is not.
    for name in ["scene.jpg", "scene-444.jpg", "scene-progressive.jpg"] {
        assert_close(&pixels(name, &[], &plan(32, 24)), "golden-gray-32x24.png", 3);
    }
    let gray = pixels("small-gray.png", &[], &plan(24, 15));
    assert_eq!(pixels("small.png", &[], &plan(24, 15)), gray);
    // RGB, CMYK and YCbCr JPEG have no luma plane, or one that is used as it is.
    for (name, most) in [("small-rgb.jpg", 6), ("small-cmyk.jpg", 8), ("small-gray.jpg", 6)] {
        let (largest, _) = difference(&pixels(name, &[], &plan(24, 15)), &gray);
        assert!(largest <= most, "{name}: {largest}");
    }
}

#[test]
fn every_kind_of_file_gives_the_same_picture() {
    let plan = bytes_plan(24, 15);
    let expected = golden("small.png");
    for name in ["small.png", "small-lossless.webp", "small-animated.webp"] {
        assert_eq!(pixels(name, &[], &plan), expected, "{name}");
    }
    // Alpha is dropped, not blended.
    for name in ["small-alpha.png", "small-alpha.webp"] {
        assert_eq!(pixels(name, &[], &plan), expected, "{name}");
    }
    for (name, most) in [("small-palette.png", 40), ("small-rgb.jpg", 6), ("small-cmyk.jpg", 8)] {
        let (largest, mean) = difference(&pixels(name, &[], &plan), &expected);
        assert!(largest <= most && mean < 3.0, "{name}: {largest}, {mean:.2}");
    }
    // Grey pictures have three equal channels; of 16 bits the upper 8 count.
    let gray = pixels("small-gray.png", &[], &plan);
    for name in ["small-gray-alpha.png", "small-gray16.png"] {
        assert_eq!(pixels(name, &[], &plan), gray, "{name}");
    }
    assert!(gray.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]));
    let bits = pixels("small-1bit.png", &[], &plan);
    assert!(bits.iter().zip(&gray).all(|(bit, gray)| *bit == if *gray > 127 { 255 } else { 0 }));
}

#[test]
fn all_exif_orientations() {
    // Where the pixel at (x, y) of the upright picture lies in the stored one, by the number of the tag.
    let stored = |number: u8, (x, y): (usize, usize), (width, height): (usize, usize)| match number {
        1 => (x, y),
        2 => (width - 1 - x, y),
        3 => (width - 1 - x, height - 1 - y),
        4 => (x, height - 1 - y),
        5 => (y, x),
        6 => (y, height - 1 - x),
        7 => (width - 1 - y, height - 1 - x),
        _ => (width - 1 - y, x),
    };
    let (width, height) = (97, 61);
    let plain = pixels("scene.jpg", &[], &bytes_plan(97, 61));
    for number in 1..=8 {
        let (turned_width, turned_height) = if number > 4 { (height, width) } else { (width, height) };
        let mut expected = Vec::with_capacity(plain.len());
        for y in 0..turned_height {
            for x in 0..turned_width {
                let (x, y) = stored(number, (x, y), (width, height));
                expected.extend_from_slice(&plain[(y * width + x) * 3..][..3]);
            }
        }
        let picture = jpeg_with_orientation(&file("scene.jpg"), number);
        let whole = bytes_plan(turned_width as u32, turned_height as u32);
        let run = |plan: &Plan| {
            let tensor = to_tensor(std::slice::from_ref(&picture), &[], plan, &Limits::default()).expect("valid");
            tensor.as_slice::<u8>().expect("uint8").to_vec()
        };
        assert_eq!(run(&whole), expected, "orientation {number}, NHWC");
        let planes = run(&Plan { layout: Layout::Nchw, ..whole });
        assert_eq!(interleaved(&planes, width * height), expected, "orientation {number}, NCHW");
        assert_eq!(run(&Plan { orient: false, ..bytes_plan(97, 61) }), plain, "orientation {number} ignored");
    }
}

#[test]
fn png_and_webp_have_orientations_too() {
    let plain = golden("small.png");
    let mut expected = Vec::new();
    for y in 0..24 {
        for x in 0..15 {
            expected.extend_from_slice(&plain[((14 - x) * 24 + y) * 3..][..3]);
        }
    }
    for name in ["small-exif6.png", "small-exif6.webp"] {
        assert_eq!(pixels(name, &[], &bytes_plan(15, 24)), expected, "{name}");
    }
}

#[test]
fn channels_layout_and_dtype_follow_the_plan() {
    let plain = golden("small.png");
    let at = |index: usize, channel: usize| f32::from(plain[index * 3 + channel]);
    let plan = Plan {
        layout: Layout::Nchw,
        color: Color::Bgr,
        dtype: DType::Fp32,
        scale: 1.0 / 255.0,
        mean: vec![0.1, 0.2, 0.3],
        std: vec![0.5, 0.25, 2.0],
        ..bytes_plan(24, 15)
    };
    let run = |plan: &Plan| to_tensor(&[file("small.png")], &[], plan, &Limits::default()).expect("valid");
    let tensor = run(&plan);
    assert_eq!(tensor.shape(), [1, 3, 15, 24]);
    assert_eq!(tensor.bytes().expect("fixed").as_ptr().align_offset(64), 0);
    let values = tensor.as_slice::<f32>().expect("fp32");
    for (index, value) in values.iter().enumerate() {
        let (channel, index) = (index / 360, index % 360);
        let expected = (at(index, 2 - channel) * plan.scale - plan.mean[channel]) / plan.std[channel];
        assert!((value - expected).abs() < 1e-6, "{value} instead of {expected}");
    }
    let halves = run(&Plan { dtype: DType::Fp16, ..plan.clone() });
    assert!(
        halves
            .as_slice::<half::f16>()
            .expect("fp16")
            .iter()
            .zip(values)
            .all(|(half, value)| { (half.to_f32() - value).abs() < 0.01 })
    );
    let signed = Plan { dtype: DType::Int8, color: Color::Rgb, layout: Layout::Nhwc, ..plan };
    let signed = run(&Plan { scale: 1.0, mean: vec![128.0; 3], std: vec![1.0; 3], ..signed });
    let expected: Vec<i8> = plain.iter().map(|&pixel| (i16::from(pixel) - 128) as i8).collect();
    assert_eq!(signed.as_slice::<i8>(), Some(&expected[..]));
}

#[test]
fn several_pictures_and_regions_make_one_batch_in_order() {
    let elements = [file("scene.png"), file("small.png")];
    let run = |elements, regions: &[Region]| {
        to_tensor(elements, regions, &bytes_plan(8, 8), &Limits::default()).expect("valid")
    };
    let both = run(&elements, &[]);
    assert_eq!(both.shape(), [2, 8, 8, 3]);
    let second: Tensor = run(&elements[1..], &[]);
    assert_eq!(both.slice_rows(1, 1), Some(second.clone()));

    let whole = Region { element: 1, x: 0, y: 0, width: 24, height: 15 };
    let part = Region { element: 0, x: 3, y: 4, width: 40, height: 30 };
    let rows = run(&elements, &[whole, part, whole]);
    assert_eq!(rows.shape(), [3, 8, 8, 3]);
    assert_eq!(rows.slice_rows(0, 1), Some(second.clone()));
    assert_eq!(rows.slice_rows(1, 1), Some(run(&elements, &[part])));
    assert_eq!(rows.slice_rows(2, 1), Some(second));

    let none = run(&[], &[]);
    assert_eq!(none.shape(), [0, 8, 8, 3]);
}

fn interleaved(planes: &[u8], plane: usize) -> Vec<u8> {
    (0..plane).flat_map(|index| (0..3).map(move |channel| planes[channel * plane + index])).collect()
}
