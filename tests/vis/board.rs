//! Files of TensorBoard, read by hand: records, checksums, messages.

use super::*;

/// The field of a protobuf message, by the wire format: numbers as bits, the rest as bytes.
pub fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, Vec<u8>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (number, data) = match key & 7 {
            0 => (varint(&mut bytes), Vec::new()),
            wire => {
                let length = match wire {
                    1 => 8,
                    5 => 4,
                    _ => varint(&mut bytes) as usize,
                };
                let (data, rest) = bytes.split_at(length);
                bytes = rest;
                let mut bits = [0; 8];
                data.iter().take(8).enumerate().for_each(|(at, byte)| bits[at] = *byte);
                (u64::from_le_bytes(bits), data.to_vec())
            }
        };
        found.push((key >> 3, number, data));
    }
    found
}

/// CRC-32C bit by bit, masked as TFRecord does.
fn masked_crc(data: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in data {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    (!crc).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The values of a file of TensorBoard: tag, step, message; each checksum is looked at.
pub fn summaries(dir: &Path) -> Vec<(String, u64, Vec<(u64, u64, Vec<u8>)>)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let is_record = |path: &PathBuf| path.to_string_lossy().contains("tfevents");
    let files: Vec<_> = files.filter(is_record).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = fs::read(&files[0]).unwrap();
    let (mut rest, mut found, mut first) = (&bytes[..], Vec::new(), true);
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        let crc = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        assert_eq!(crc(8), masked_crc(&rest[..8]));
        let data = &rest[12..12 + length];
        assert_eq!(crc(12 + length), masked_crc(data));
        let event = fields(data);
        let of = |number: u64| event.iter().find(|(field, ..)| *field == number);
        assert_eq!(of(3).map(|(.., text)| &text[..]), first.then_some(&b"brain.Event:2"[..]));
        let step = of(2).map_or(0, |(_, step, _)| *step);
        for (.., summary) in event.iter().filter(|(field, ..)| *field == 5) {
            for (.., value) in fields(summary) {
                let value = fields(&value);
                let tag = value.iter().find(|(field, ..)| *field == 1).unwrap();
                found.push((String::from_utf8(tag.2.clone()).unwrap(), step, value.clone()));
            }
        }
        (rest, first) = (&rest[16 + length..], false);
    }
    found
}

/// Tags with the steps at which they have a number.
pub fn scalars_of_tensorboard(dir: &Path) -> BTreeMap<String, Vec<(u64, f32)>> {
    let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (tag, step, value) in summaries(dir) {
        if let Some((_, bits, _)) = value.iter().find(|(field, ..)| *field == 2) {
            found.entry(tag).or_default().push((step, f32::from_bits(*bits as u32)));
        }
    }
    found
}

/// Each scalar with its step and value, the config as a text, hyperparameters with the names of the metrics, and the
/// histograms of a hook.
#[test]
fn tensorboard_gets_what_the_log_tells() {
    let dir = tempfile::tempdir().unwrap();
    let histograms = Spec::<dyn Hook>::parse("{type: HistogramHook, interval: 5, bins: 4}").unwrap();
    let histograms = histograms.build(&mut BuildCx::new(0)).unwrap();
    let mut runner = every_step(dir.path(), false)
        .boxed_hook(histograms, "HistogramHook", HookConfig::default())
        .on(Point::AfterTrainEpoch, |cx, _| {
            // A PNG file as far as anybody looks at it: its head.
            let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
            png.extend([0, 0, 0, 7, 0, 0, 0, 5]);
            Ok(cx.vis.add_image("samples/first", &png, cx.progress.iter)?)
        })
        .build()
        .unwrap();
    runner.train().unwrap();
    let dir = vis_data(&runner);
    let told = events(&dir);
    let board = scalars_of_tensorboard(&dir);
    for event in told.iter().filter(|event| event.has_scalars()) {
        for (name, value) in event.scalars() {
            assert!(board[name].contains(&(event.step(), value as f32)), "{name} of step {}", event.step());
        }
    }
    let all = summaries(&dir);
    let plugin = |tag: &str| {
        let (.., value) = all.iter().find(|(own, ..)| own == tag).unwrap_or_else(|| panic!("{tag}"));
        let metadata = &value.iter().find(|(field, ..)| *field == 9).unwrap().2;
        let data = fields(&fields(metadata)[0].2);
        (String::from_utf8(data[0].2.clone()).unwrap(), data.get(1).map_or(Vec::new(), |d| d.2.clone()))
    };
    assert_eq!(plugin("config").0, "text");
    let (name, start) = plugin("_hparams_/session_start_info");
    assert_eq!(name, "hparams");
    assert!(String::from_utf8_lossy(&start).contains("randomness.seed"));
    let (_, experiment) = plugin("_hparams_/experiment");
    assert!(String::from_utf8_lossy(&experiment).contains("accuracy/top1"));
    // Status 1: the session ended well.
    let (_, end) = plugin("_hparams_/session_end_info");
    assert_eq!(fields(&fields(&end)[0].2)[0].1, 1);
    let of =
        |prefix: &str| all.iter().filter(|(tag, ..)| tag.starts_with(prefix)).cloned().collect::<Vec<_>>();
    for prefix in ["weights/", "gradients/"] {
        let told = of(prefix);
        assert!(!told.is_empty());
        for (tag, step, value) in told {
            assert!([5, 10].contains(&step), "{tag} at {step}");
            let histogram = fields(&value.iter().find(|(field, ..)| *field == 5).unwrap().2);
            let number = |field: u64| {
                histogram.iter().find(|(f, ..)| *f == field).map_or(0.0, |f| f64::from_bits(f.1))
            };
            let list = |field: u64| -> Vec<f64> {
                let packed = &histogram.iter().find(|(f, ..)| *f == field).unwrap().2;
                packed.chunks(8).map(|eight| f64::from_le_bytes(eight.try_into().unwrap())).collect()
            };
            assert_eq!((list(6).len(), list(7).iter().sum::<f64>()), (4, number(3)), "{tag}");
            assert!(list(6).last().is_some_and(|last| *last >= number(2)));
        }
    }
    let pictures = of("samples/first");
    assert_eq!(pictures.iter().map(|(_, step, _)| *step).collect::<Vec<_>>(), [4, 8, 12]);
    let image = fields(&pictures[0].2.iter().find(|(field, ..)| *field == 4).unwrap().2);
    assert_eq!((image[0].1, image[1].1), (5, 7), "height and width");
}
