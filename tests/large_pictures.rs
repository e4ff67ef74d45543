//! What a large picture takes of memory on its way from a file into a batch.
#![cfg(feature = "images")]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests

mod counted;

use counted::most_held;
use shanty::data::{DataLoader, ImageFolder, PictureFile, Sample};

/// A grey JPEG of so many pixels in three components, the first with these factors: blocks of two bits, of which
/// neither is anything but a zero.
fn gray_jpeg(height: u16, width: u16, (h, v): (u8, u8), progressive: bool) -> Vec<u8> {
    let segment = |marker: u8, body: &[u8]| {
        [&[0xff, marker][..], &(body.len() as u16 + 2).to_be_bytes(), body].concat()
    };
    let table = |class: u8| [&[class, 1][..], &[0; 15], &[0]].concat();
    let [h1, h0, w1, w0] = [height.to_be_bytes(), width.to_be_bytes()].concat()[..] else { unreachable!() };
    let frame = [8, h1, h0, w1, w0, 3, 1, h << 4 | v, 0, 2, 0x11, 0, 3, 0x11, 0];
    let side = |n: u16, factor: u8| usize::from(n).div_ceil(8 * usize::from(factor));
    let blocks = side(height, v) * side(width, h) * (usize::from(h * v) + 2);
    let (marker, most, bits) = if progressive { (0xc2, 0, 1) } else { (0xc0, 63, 2) };
    let start = segment(0xda, &[3, 1, 0, 2, 0, 3, 0, 0, most, 0]);
    let parts = [
        vec![0xff, 0xd8],
        segment(0xdb, &[&[0][..], &[1; 64]].concat()),
        segment(marker, &frame),
        segment(0xc4, &table(0)),
        segment(0xc4, &table(0x10)),
        start,
        vec![0; (blocks * bits).div_ceil(8)],
        vec![0xff, 0xd9],
    ];
    parts.concat()
}

/// The colours of all pixels were held beside them: 7 bytes a pixel.
#[test]
fn a_large_jpeg_is_held_but_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.jpg");
    // A progressive file has its values wave by wave: two bytes for each, twice while a scan is read.
    for (factors, progressive, bytes) in
        [((2, 2), false, 4), ((2, 1), false, 4), ((1, 1), false, 4), ((2, 2), true, 7), ((1, 1), true, 12)]
    {
        std::fs::write(&path, gray_jpeg(4_000, 5_000, factors, progressive)).unwrap();
        let most = most_held(|| {
            Sample::of_file(PictureFile::new(&path), 0).picture().unwrap().bytes().map(|_| ()).unwrap()
        });
        println!("{factors:?}, progressive {progressive}: {most} bytes");
        assert!(most < bytes * 20_000_000 + 5_000_000, "{factors:?} {progressive}: {most} bytes");
    }
}

/// As values a picture takes three floats a pixel beside its bytes, and as many again while a batch is made of them.
#[test]
fn a_large_picture_as_values_takes_16_bytes_a_pixel_and_24_in_a_batch() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/large.jpg");
    std::fs::create_dir(dir.path().join("a")).unwrap();
    std::fs::write(&path, gray_jpeg(4_000, 5_000, (2, 2), false)).unwrap();
    let most_a_pixel = |work: &dyn Fn()| most_held(work) as f64 / 20e6;
    let values = most_a_pixel(&|| {
        Sample::of_file(PictureFile::new(&path), 0).picture().unwrap().values().unwrap();
    });
    let batch = most_a_pixel(&|| {
        let set = ImageFolder::load(dir.path()).unwrap();
        let batch = DataLoader::new(set).batches(0, Some(1)).next().unwrap().unwrap();
        assert_eq!(batch.inputs().unwrap().shape(), [1, 3, 4_000, 5_000]);
    });
    println!("{values:.2} bytes a pixel as values, {batch:.2} in a batch");
    assert!(values < 16.5 && batch < 24.5, "{values} {batch}");
}
