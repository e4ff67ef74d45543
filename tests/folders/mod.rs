//! Folders of small pictures, and runs over them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flate2::{Compression, Crc, write::ZlibEncoder};
use shanty::base::Result;
use shanty::config::parse;
use shanty::data::{DataLoader, DataLoaderConfig, Shard};
use shanty::registry::BuildCx;

/// An 8 × 8 picture of one grey.
pub fn png(gray: u8) -> Vec<u8> {
    let chunk = |name: &[u8], data: &[u8]| {
        let mut crc = Crc::new();
        crc.update(name);
        crc.update(data);
        [&(data.len() as u32).to_be_bytes(), name, data, &crc.sum().to_be_bytes()].concat()
    };
    let header = [&8u32.to_be_bytes()[..], &8u32.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    let mut rows = ZlibEncoder::new(Vec::new(), Compression::fast());
    for _ in 0..8 {
        rows.write_all(&[0, gray, gray, gray, gray, gray, gray, gray, gray]).unwrap();
    }
    let rows = rows.finish().unwrap();
    [&b"\x89PNG\r\n\x1a\n"[..], &chunk(b"IHDR", &header), &chunk(b"IDAT", &rows), &chunk(b"IEND", &[])]
        .concat()
}

pub fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// `n` pictures in each of these folders: `0.png`, `1.png`, …
pub fn classes(root: &Path, names: &[&str], n: u8) {
    for (class, name) in (0u8..).zip(names) {
        (0..n).for_each(|i| write(root.join(name).join(format!("{i}.png")), png(40 * class + i)));
    }
}

pub fn loader(dataset: &str) -> Result<DataLoader> {
    let yaml =
        format!("{{batch_size: 100, sampler: {{type: DefaultSampler, shuffle: false}}, dataset: {dataset}}}");
    let config: DataLoaderConfig = parse("c.yaml", &yaml).unwrap().read_checked().unwrap();
    config.build(7, Shard::SOLO, &mut BuildCx::new(7))
}

pub fn folder(root: &Path, more: &str) -> Result<DataLoader> {
    loader(&format!("{{type: ImageFolder, data_root: '{}', {more}}}", root.display()))
}

pub fn labels(loader: &DataLoader) -> Vec<i64> {
    loader.batches(0, Some(1)).next().unwrap().unwrap().labels().unwrap().to_vec()
}

pub fn refusal(loader: Result<DataLoader>) -> String {
    loader.err().expect("a refusal").to_string()
}

pub fn shanty(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

pub fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A run over the folders `d/train` and `d/val` of the current folder.
pub fn config(dir: &Path, num_classes: usize, more: &str) -> PathBuf {
    let text = format!(
        "
model:
  type: ImageClassifier
  backbone: {{type: Sequential, layers: [{{type: Flatten}}, {{type: Linear, in_features: 192, out_features: {num_classes}}}]}}
  head: {{type: ClsHead, loss: {{type: CrossEntropyLoss}}}}
train_dataloader:
  batch_size: 2
  dataset: {{type: ImageFolder, data_root: d, data_prefix: train}}
  sampler: {{type: DefaultSampler, shuffle: true}}
val_dataloader:
  batch_size: 2
  dataset: {{type: ImageFolder, data_root: d, data_prefix: val}}
  sampler: {{type: DefaultSampler, shuffle: false}}
val_cfg: {{}}
val_evaluator: {{type: Accuracy}}
optim_wrapper: {{optimizer: {{type: SGD, lr: 0.0001}}}}
train_cfg: {{by_epoch: true, max_epochs: 2}}
randomness: {{seed: 5}}
work_dir: w
{more}
"
    );
    let path = dir.join("c.yaml");
    write(&path, text);
    path
}
