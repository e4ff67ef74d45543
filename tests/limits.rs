//! Small files that promise much: each is refused within a second, in less than 300 MB. All are made here.
#![cfg(all(feature = "images", feature = "torch"))]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // helpers of tests

mod counted;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use counted::{ALONE, HELD, MOST, most_held};
use flate2::{Compression, Crc, write::DeflateEncoder, write::GzEncoder};
use shanty::checkpoint::read_tensors;
use shanty::config::parse;
use shanty::data::{Mnist, MnistSplit, PictureFile, Sample};

/// Reads `file`, which must be refused with `reason`, soon and in little memory.
#[track_caller]
fn refused(what: &str, reason: &str, read: impl FnOnce() -> Result<(), String>) {
    let _alone = ALONE.lock().unwrap_or_else(|poison| poison.into_inner());
    let before = HELD.load(Relaxed);
    MOST.store(before, Relaxed);
    let began = Instant::now();
    let error = read().expect_err(what);
    let (took, most) = (began.elapsed(), MOST.load(Relaxed) - before);
    println!("{what}: {} ms, {} kB: {:.150}", took.as_millis(), most / 1000, error);
    assert!(error.contains(reason), "{what}: {error}");
    assert!(most < 300_000_000, "{what}: {most} bytes");
    // Debug builds of the readers are several times slower, and tests run beside others.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });
    assert!(took < most, "{what}: {took:?}");
}

/// Writes the bytes, reads them by `read`.
#[track_caller]
fn refused_file(
    name: &str,
    bytes: &[u8],
    reason: &str,
    read: impl FnOnce(&Path) -> shanty::base::Result<()>,
) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let text = format!("{name} of {} bytes", bytes.len());
    refused(&text, reason, || read(&path).map_err(|e| e.to_string()));
}

fn decode(path: &Path) -> shanty::base::Result<()> {
    Sample::of_file(PictureFile::new(path), 0).picture()?.bytes().map(|_| ())
}

/// A fixture whose frame header promises another size.
fn jpeg(name: &str, height: u16, width: u16) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut bytes = std::fs::read(folder.join(name)).unwrap();
    let frame = bytes.windows(2).position(|two| matches!(two, [0xff, 0xc0 | 0xc2])).unwrap();
    bytes[frame + 5..frame + 7].copy_from_slice(&height.to_be_bytes());
    bytes[frame + 7..frame + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// 10.7 s and 3.8 GB it took: a JPEG of some hundred bytes that says 10,000 × 10,000.
#[test]
fn a_jpeg_that_promises_more_than_it_can_hold() {
    for name in ["images/gray.jpg", "images/420.jpg", "images/progressive.jpg", "pictures/ycck_420.jpg"] {
        for (height, width) in [(10_000, 10_000), (65_535, 65_535), (65_535, 64), (8, 65_535), (9_000, 9_000)]
        {
            let bytes = jpeg(name, height, width);
            if usize::from(height) * usize::from(width) > 512 * bytes.len() {
                refused_file("x.jpg", &bytes, "cannot be decoded", decode);
            }
        }
    }
    // Long enough to hold the pixels, which are too many.
    let mut bytes = jpeg("images/gray.jpg", 10_000, 10_000);
    bytes.resize(400_000, 0);
    bytes.extend([0xff, 0xd9]);
    refused_file("long.jpg", &bytes, "100000000", |path| {
        decode(path).map_err(|e| {
            assert!(e.to_string().contains("`max_pixels`"), "{e}");
            shanty::base::Error::invalid("100000000")
        })
    });
}

fn png_chunk(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let mut crc = Crc::new();
    crc.update(kind);
    crc.update(body);
    [&(body.len() as u32).to_be_bytes()[..], kind, body, &crc.sum().to_be_bytes()].concat()
}

fn zlib(n: usize) -> Vec<u8> {
    let mut out = flate2::write::ZlibEncoder::new(Vec::new(), Compression::best());
    let piece = [0; 1 << 16];
    (0..n.div_ceil(piece.len())).for_each(|_| out.write_all(&piece).unwrap());
    out.finish().unwrap()
}

fn png(width: u32, height: u32, depth: u8, color: u8, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, color, 0, 0, 0]].concat();
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    out.extend(png_chunk(b"IHDR", &header));
    chunks.iter().for_each(|chunk| out.extend(chunk));
    out.extend(png_chunk(b"IEND", &[]));
    out
}

#[test]
fn a_png_that_promises_more_than_it_can_hold_or_than_is_wanted() {
    let small = png_chunk(b"IDAT", &zlib(100));
    for (width, height, depth, color) in [
        (100_000, 100_000, 8, 2),
        (u32::MAX >> 1, u32::MAX >> 1, 16, 6),
        (13_000, 13_000, 1, 0),
        (9_000, 9_000, 8, 6),
        (1, 80_000_000, 8, 0),
        (80_000_000, 1, 16, 6),
    ] {
        let bytes = png(width, height, depth, color, std::slice::from_ref(&small));
        refused_file("x.png", &bytes, "cannot be decoded", decode);
    }
    // One that really grows to that: 4 GB of zeros.
    let bytes = png(30_000, 30_000, 8, 6, &[png_chunk(b"IDAT", &vec![0; 4_000_000])]);
    refused_file("bomb.png", &bytes, "`max_pixels`", decode);
    // What is not pixels is not even inflated.
    let text = [b"a\0\0".to_vec(), zlib(1 << 30)].concat();
    let profile = [b"a\0\0".to_vec(), zlib(1 << 30)].concat();
    let bytes =
        png(8, 8, 8, 0, &[png_chunk(b"iCCP", &profile), png_chunk(b"zTXt", &text), small[..20].to_vec()]);
    refused_file("text.png", &bytes, "cannot be decoded", decode);
}

/// Rows, the whole of them and a copy were held at once: 891 MB for 81 million pixels in colour.
#[test]
fn a_large_png_is_held_but_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.png");
    std::fs::write(&path, png(9_000, 9_000, 8, 2, &[png_chunk(b"IDAT", &zlib(9_000 * 27_001))])).unwrap();
    let most = most_held(|| decode(&path).unwrap());
    assert!(most < 4 * 81_000_000 + 10_000_000, "{most} bytes");
}

/// The limit is a key, and the error names it.
#[test]
fn the_limit_of_pixels_can_be_set() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images/scene.png");
    let read = |max_pixels| {
        Sample::of_file(PictureFile { max_pixels, ..PictureFile::new(&path) }, 0)
            .picture()
            .unwrap()
            .bytes()
            .map(|_| ())
    };
    read(52 * 70).unwrap();
    let error = read(52 * 70 - 1).unwrap_err().to_string();
    assert!(
        error.contains("promises 70 × 52 pixels, more than `max_pixels` 3639: if that is meant, raise it at LoadImageFromFile"),
        "{error}"
    );
    let error = decode(Path::new("/dev/zero")).unwrap_err().to_string();
    assert_eq!(error, "/dev/zero: not a file");
}

fn gz(header: &[u8], zeros: usize) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(header).unwrap();
    let piece = vec![0; 1 << 20];
    (0..zeros.div_ceil(piece.len())).for_each(|_| out.write_all(&piece).unwrap());
    out.finish().unwrap()
}

/// The images of MNIST, whatever `images` holds; its labels are one.
fn mnist(path: &Path) -> shanty::base::Result<()> {
    let folder = path.parent().unwrap();
    std::fs::write(folder.join("t10k-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 1, 7]).unwrap();
    Mnist::load(folder, MnistSplit::Test).map(|_| ())
}

#[test]
fn an_idx_file_that_promises_more_than_it_holds_or_grows_without_end() {
    let header = |n: u32, side: u32| {
        [&[0, 0, 8, 3][..], &n.to_be_bytes(), &side.to_be_bytes(), &side.to_be_bytes()].concat()
    };
    let name = "t10k-images-idx3-ubyte";
    refused_file(name, &header(u32::MAX, 28), "header promises", mnist);
    refused_file(name, &header(u32::MAX, u32::MAX), "header promises", mnist);
    refused_file(name, &gz(&header(1 << 20, 1 << 10), 0), "header promises", mnist);
    // Some 2 MB that grow to 2 GB, with a header that knows it, one that does not, and none.
    let (knows, lies) = (gz(&header(2048, 1024), 2 << 30), gz(&header(60_000, 28), 1 << 30));
    refused_file(name, &knows, "unpack it with gunzip", mnist);
    refused_file(name, &lies, "holds more values", mnist);
    refused_file(name, &gz(&[], 1 << 30), "not an IDX file", mnist);
}

fn safetensors(header: &str, bytes: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; bytes]].concat()
}

fn weights(path: &Path) -> shanty::base::Result<()> {
    read_tensors(path).map(|_| ())
}

#[test]
fn a_safetensors_file_that_promises_more_than_it_holds() {
    let one = |dtype: &str, shape: &str, end: &str| {
        format!(r#"{{"w":{{"dtype":"{dtype}","shape":[{shape}],"data_offsets":[0,{end}]}}}}"#)
    };
    let cases = [
        one("F32", "1099511627776", "4398046511104"),
        one("F32", "1048576,1048576", "4398046511104"),
        one("F32", "1099511627776", "4"),
        one("F16", "4294967296,4294967296,4294967296", "4"),
        one("F32", "18446744073709551615", "4"),
        one("F32", "0,1099511627776,1099511627776", "0"),
        one("I64", "1", "18446744073709551615"),
    ];
    for header in cases {
        refused_file("x.safetensors", &safetensors(&header, 4), "not a whole safetensors file", weights);
    }
    for long in [u64::MAX, 1 << 40, 100_000_000] {
        let bytes = [&long.to_le_bytes()[..], b"{}"].concat();
        refused_file("x.safetensors", &bytes, "not a whole safetensors file", weights);
    }
    // Deeper than any header.
    let deep = safetensors(&r#"{"a":"#.repeat(200_000), 0);
    refused_file("x.safetensors", &deep, "not a whole safetensors file", weights);
    let many: Vec<String> = (0..150_000)
        .map(|i| format!(r#""t{i}":{{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#))
        .collect();
    let many = safetensors(&format!("{{{}}}", many.join(",")), 4);
    refused_file("x.safetensors", &many, "not a whole safetensors file", weights);
}

/// A zip archive of one deflated file.
fn zip(name: &str, deflated: &[u8], crc: u32, len: u32) -> Vec<u8> {
    let common = [
        &20u16.to_le_bytes()[..],
        &0u16.to_le_bytes(),
        &8u16.to_le_bytes(),
        &[0; 4],
        &crc.to_le_bytes(),
        &(deflated.len() as u32).to_le_bytes(),
        &len.to_le_bytes(),
        &(name.len() as u16).to_le_bytes(),
        &0u16.to_le_bytes(),
    ]
    .concat();
    let local = [b"PK\x03\x04", &common[..], name.as_bytes(), deflated].concat();
    let central = [b"PK\x01\x02\x14\0", &common[..], &[0; 14][..], name.as_bytes()].concat();
    let end = [
        b"PK\x05\x06\0\0\0\0\x01\0\x01\0",
        &(central.len() as u32).to_le_bytes()[..],
        &(local.len() as u32).to_le_bytes(),
        &[0, 0],
    ]
    .concat();
    [local, central, end].concat()
}

#[test]
fn a_file_of_pytorch_that_promises_more_than_it_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pth");
    let expanded = std::fs::read(folder.join("expanded.pth")).unwrap();
    refused_file("expanded.pth", &expanded, "not a readable PyTorch file", weights);
    let mut pickle = DeflateEncoder::new(Vec::new(), Compression::best());
    let (piece, mut crc) = (vec![b'('; 1 << 20], Crc::new());
    for _ in 0..1024 {
        pickle.write_all(&piece).unwrap();
        crc.update(&piece);
    }
    let bomb = zip("archive/data.pkl", &pickle.finish().unwrap(), crc.sum(), 1 << 30);
    refused_file("bomb.pth", &bomb, "not a readable PyTorch file", weights);
    // A text of 2^60 bytes, a list of lists without end, a number of 2^31 bytes.
    for pickle in [
        [&b"\x80\x04\x8d"[..], &(1u64 << 60).to_le_bytes()].concat(),
        [&b"\x80\x02"[..], &b"]".repeat(1_000_000), b"."].concat(),
        [&b"\x80\x02\x8b"[..], &i32::MAX.to_le_bytes()].concat(),
    ] {
        refused_file("x.pth", &pickle, "not a readable PyTorch file", weights);
    }
}

/// A megabyte of each.
#[test]
fn a_config_that_is_nothing_but_an_attack() {
    let aliases: String =
        (1..30).map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{}, ", i - 1).repeat(30))).collect();
    let cases = [
        ("[".repeat(1 << 20), ""),
        ("{a: ".repeat(1 << 18), ""),
        ("- ".repeat(1 << 19), ""),
        ("? ".repeat(1 << 19), ""),
        (format!("a: '{}", "x".repeat(1 << 20)), ""),
        (format!("a: [{}]", "1, ".repeat(350_000)), ""),
        (format!("a0: &a0 [x]\n{aliases}"), ""),
        ((0..60_000).map(|i| format!("k{i}: {{type: X}}\n")).collect(), ""),
        ((0..100_000).map(|i| format!("- &x{i} 0\n")).collect(), ""),
        ("&a ".repeat(1 << 18), ""),
        ("!!binary ".repeat(1 << 16), ""),
        ("a: |\n".to_owned() + &" x\n".repeat(1 << 18), ""),
    ];
    for (text, reason) in cases {
        let begin: String = text.chars().take(12).collect();
        refused(&format!("{} bytes of {begin:?}", text.len()), reason, || {
            let node = parse("c.yaml", &text).map_err(|e| e.to_string())?;
            node.read_checked::<shanty::run::RunConfig>().map(|_| ()).map_err(|e| e.to_string())
        });
    }
}

/// Sizes of transforms are multiplied with care: an error with its key instead of all memory.
#[test]
fn a_transform_that_would_take_all_memory() {
    use shanty::base::keyed;
    use shanty::data::Transform;
    use shanty::registry::{BuildCx, Spec};

    let huge = usize::MAX;
    let cases = [
        "{type: Resize, scale: 100000}".to_owned(),
        format!("{{type: Resize, scale: [{huge}, 2]}}"),
        format!("{{type: Resize, scale: [{huge}, 1], keep_ratio: true}}"),
        format!("{{type: ResizeEdge, scale: {huge}}}"),
        "{type: ResizeEdge, scale: 100000}".to_owned(),
        "{type: RandomResizedCrop, scale: 100000}".to_owned(),
        format!("{{type: RandomCrop, crop_size: 8, padding: {huge}}}"),
        "{type: Pad, size: 1000000}".to_owned(),
        format!("{{type: Pad, padding: [{huge}, 1, {huge}, 1]}}"),
    ];
    for yaml in cases {
        // One side of a Resize has a range, which is told with its place.
        let reason = if yaml.starts_with("{type: Resize,") { "16384" } else { "too large" };
        refused(&yaml, reason, || {
            let node = parse("c.yaml", &yaml).map_err(|e| e.to_string())?;
            let spec: Spec<dyn Transform> = node.read_checked().map_err(|e| e.to_string())?;
            let transform = spec.build(&mut BuildCx::new(0)).map_err(|e| e.to_string())?;
            let mut sample = Sample::image(ndarray::Array3::zeros((8, 8, 1)), 0);
            transform.apply(&mut sample, &mut keyed(0, "", 0, 0)).map_err(|e| e.to_string())
        });
    }
}

/// Of a table each column took 9 kB: what was fitted on it stood in memory several times, as a tree of JSON.
#[test]
fn a_wide_table_takes_little_of_a_column() {
    use shanty::run::{RunnerBuilder, check};

    const COLUMNS: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let mut table: String = (0..COLUMNS).map(|n| format!("column_{n},")).collect::<String>() + "y\n";
    for row in 0..10 {
        table.extend((0..COLUMNS).map(|n| format!("{}.{row},", n % 7)));
        table += &format!("{}\n", row % 2);
    }
    std::fs::write(dir.path().join("t.csv"), table).unwrap();
    let config = format!(
        "model: {{type: Supervised, network: {{type: Linear, in_features: {COLUMNS}, out_features: 1}}, loss: {{type: MSELoss}}}}\n\
         train_dataloader: {{batch_size: 4, dataset: &t {{type: Csv, file: {0}/t.csv, target: y, split: {{val: 0.2}}, part: train}}}}\n\
         val_dataloader: {{batch_size: 4, dataset: {{<<: *t, part: val}}}}\n\
         val_cfg: {{}}\nval_evaluator: {{type: MAE}}\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.000001}}}}\n\
         randomness: {{seed: 1}}\nwork_dir: {0}/w\n",
        dir.path().display()
    );
    for (what, train, run) in [
        ("check", "{by_epoch: true, max_epochs: 1}", false),
        ("train", "{by_epoch: true, max_epochs: 1}", true),
        ("resume", "{by_epoch: true, max_epochs: 2}\nresume: true", true),
    ] {
        let node = parse("c.yaml", &format!("{config}train_cfg: {train}\n")).unwrap();
        let most = most_held(|| match run {
            true => {
                RunnerBuilder::from_config(&node, None).unwrap().build().unwrap().train().unwrap();
            }
            false => drop(check(&node, None).unwrap()),
        });
        println!("{what}: {} bytes a column", most / COLUMNS);
        assert!(most < 300_000_000, "{what}: {most} bytes");
    }
}
