//! Folders and lists of pictures as they are found in the wild: what is walked, what is compared by name, what cannot be read.
#![cfg(feature = "images")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

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
fn png(gray: u8) -> Vec<u8> {
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

fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// `n` pictures in each of these folders: `0.png`, `1.png`, …
fn classes(root: &Path, names: &[&str], n: u8) {
    for (class, name) in (0u8..).zip(names) {
        (0..n).for_each(|i| write(root.join(name).join(format!("{i}.png")), png(40 * class + i)));
    }
}

fn loader(dataset: &str) -> Result<DataLoader> {
    let yaml =
        format!("{{batch_size: 100, sampler: {{type: DefaultSampler, shuffle: false}}, dataset: {dataset}}}");
    let config: DataLoaderConfig = parse("c.yaml", &yaml).unwrap().read_checked().unwrap();
    config.build(7, Shard::SOLO, &mut BuildCx::new(7))
}

fn folder(root: &Path, more: &str) -> Result<DataLoader> {
    loader(&format!("{{type: ImageFolder, data_root: '{}', {more}}}", root.display()))
}

fn labels(loader: &DataLoader) -> Vec<i64> {
    loader.batches(0, Some(1)).next().unwrap().unwrap().labels
}

fn refusal(loader: Result<DataLoader>) -> String {
    loader.err().expect("a refusal").to_string()
}

fn shanty(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

/// A run over the folders `d/train` and `d/val` of the current folder.
fn config(dir: &Path, num_classes: usize, more: &str) -> PathBuf {
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

/// What editors and operating systems leave behind is no class and no picture: labels would shift by one.
#[test]
fn hidden_names_are_neither_classes_nor_pictures() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 2);
    for hidden in
        [".ipynb_checkpoints/0.png", ".git/x.png", "cat/.cache/1.png", "cat/._0.png", "dog/.hidden.png"]
    {
        write(dir.path().join(hidden), png(1));
    }
    let set = folder(dir.path(), "").unwrap();
    assert_eq!(set.classes().unwrap(), ["cat", "dog"]);
    assert_eq!(labels(&set), [0, 0, 1, 1]);
    assert_eq!(folder(dir.path(), "with_label: false").unwrap().dataset().len(), 4);
}

/// A link back to a folder above gave hundreds of iterations where there are six.
#[test]
#[cfg(unix)]
fn a_link_in_a_circle_is_not_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("train");
    classes(&root, &["cat", "dog"], 2);
    for (to, link) in [
        ("..", "train/cat/loop"),
        ("../..", "train/dog/up"),
        (".", "train/cat/self"),
        ("../..", "train/cat/further"),
        (".", "train/again"),
        ("..", "train/above"),
        ("/", "train/everything"),
        ("knot", "train/dog/knot"),
    ] {
        symlink(to, dir.path().join(link)).unwrap();
    }
    let set = folder(&root, "").unwrap();
    assert_eq!(set.classes().unwrap(), ["cat", "dog"], "a link to where the classes stand is no class");
    assert_eq!(labels(&set), [0, 0, 1, 1]);
    assert_eq!(folder(&root, "with_label: false").unwrap().dataset().len(), 4);
}

/// Folders are entered once within a class; a class of its own may be a link to another one.
#[test]
#[cfg(unix)]
fn a_linked_class_is_a_class() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 2);
    std::os::unix::fs::symlink("cat", dir.path().join("kitty")).unwrap();
    classes(&dir.path().join("dog"), &["a"], 1);
    std::os::unix::fs::symlink("a", dir.path().join("dog/b")).unwrap();
    let set = folder(dir.path(), "").unwrap();
    assert_eq!(set.classes().unwrap(), ["cat", "dog", "kitty"]);
    assert_eq!(labels(&set), [0, 0, 1, 1, 1, 2, 2], "dog/a is not taken again as dog/b");
}

/// Whoever opens a pipe waits for its writer for ever.
#[test]
#[cfg(unix)]
fn pipes_sockets_and_devices_are_refused_and_never_opened() {
    let made = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        classes(dir.path(), &["cat"], 1);
        let path = dir.path().join("cat").join(name);
        (dir, path)
    };
    let (dir, path) = made("p.png");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let text = refusal(folder(dir.path(), ""));
    assert!(text.contains("p.png: a pipe (FIFO), not a picture"), "{text}");
    write(dir.path().join("list.txt"), "cat/p.png 0\n");
    let error =
        folder(dir.path(), "ann_file: list.txt").unwrap().batches(0, Some(1)).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("p.png: a pipe (FIFO), not a regular file"), "{error}");
    fs::rename(&path, dir.path().join("list.txt")).unwrap();
    let text = refusal(folder(dir.path(), "ann_file: list.txt"));
    assert!(text.contains("list.txt: a pipe (FIFO), not a regular file"), "{text}");

    let (dir, path) = made("s.jpg");
    let _socket = std::os::unix::net::UnixListener::bind(path).unwrap();
    assert!(refusal(folder(dir.path(), "")).contains("s.jpg: a socket, not a picture"));

    let (dir, path) = made("n.jpeg");
    std::os::unix::fs::symlink("/dev/null", path).unwrap();
    assert!(refusal(folder(dir.path(), "")).contains("n.jpeg: a device, not a picture"));

    // What no ending makes a picture does not matter.
    let (dir, path) = made("agent.sock");
    let _socket = std::os::unix::net::UnixListener::bind(path).unwrap();
    assert_eq!(folder(dir.path(), "").unwrap().dataset().len(), 1);
}

#[test]
fn a_bottomless_folder_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat"], 1);
    fs::create_dir_all(dir.path().join("cat").join("x/".repeat(70))).unwrap();
    assert!(refusal(folder(dir.path(), "")).contains("more than 64 folders deep"));
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat"], 1);
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.png");
    write(dir.path().join("cat").join(name), png(3));
    assert_eq!(labels(&folder(dir.path(), "").unwrap()), [0, 0], "a picture may be called anything");
    write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")).join("0.png"), png(3));
    assert!(refusal(folder(dir.path(), "")).contains("the name of a class must be UTF-8: rename the folder"));
}

/// Lists and classes that were written on Windows, and what UTF-8 is not.
#[test]
fn text_files_from_windows() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 1);
    let list = dir.path().join("list.txt");
    let read = || folder(dir.path(), "ann_file: list.txt");
    for text in [
        "\u{feff}cat/0.png 0\ndog/0.png 1\n",
        "cat/0.png 0\r\ndog/0.png 1\r\n",
        "\u{feff}cat/0.png 0\r\n\r\ndog/0.png 1",
    ] {
        write(&list, text);
        assert_eq!(labels(&read().unwrap()), [0, 1], "{text:?}");
    }
    for text in ["cat/0.png 0\ncat\\0.png 1\n", "cat/0.png 0\r\ncat\\0.png\t1\r\n"] {
        write(&list, text);
        let text = refusal(read());
        assert!(
            text.contains("list.txt:2: \"cat\\\\0.png\" is written as on Windows: folders are parted by `/`"),
            "{text}"
        );
    }
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        write(&list, "\u{feff}cat/0.png 0\n".encode_utf16().flat_map(order).collect::<Vec<u8>>());
        assert!(refusal(read()).contains("this is UTF-16 or UTF-32: save it as UTF-8"));
    }
    write(&list, b"cat/0.png 0\ndog/\xe9.png 1\n");
    assert!(refusal(read()).contains("line 2 is not UTF-8"));

    let names = dir.path().join("classes.txt");
    write(&names, "\u{feff}cat\r\ndog\r\n");
    let set = folder(dir.path(), &format!("classes: '{}'", names.display())).unwrap();
    assert_eq!(
        (set.classes().unwrap(), labels(&set)),
        (&["cat".to_owned(), "dog".to_owned()][..], vec![0, 1])
    );
}

#[test]
fn configs_from_windows() {
    let dir = tempfile::tempdir().unwrap();
    for names in ["train", "val"] {
        classes(&dir.path().join("d").join(names), &["cat", "dog"], 1);
    }
    let path = config(dir.path(), 2, "");
    let text = fs::read_to_string(&path).unwrap();
    for windows in [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{}", text.replace('\n', "\r\n")),
    ] {
        write(&path, windows);
        let out = shanty(&["check", "c.yaml"], dir.path());
        assert!(out.status.success(), "{}", said(&out));
    }
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        write(&path, format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>());
        let out = shanty(&["check", "c.yaml"], dir.path());
        assert_eq!(out.status.code(), Some(2));
        assert!(said(&out).contains("c.yaml: this is UTF-16: save it as UTF-8"), "{}", said(&out));
    }
}

/// Names of folders in `classes` give the folders their numbers, whatever the alphabet says.
#[test]
fn given_classes_are_matched_by_name() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog", "elk"], 1);
    let of = |names: &str| folder(dir.path(), &format!("classes: {names}"));
    assert_eq!(labels(&of("[elk, dog, cat]").unwrap()), [2, 1, 0]);
    assert_eq!(labels(&of("[ant, cat, dog, elk]").unwrap()), [1, 2, 3]);
    let renamed = of("[Katze, Hund, Elch]").unwrap();
    assert_eq!((labels(&renamed), renamed.classes().unwrap()[1].as_str()), (vec![0, 1, 2], "Hund"));
    let text = refusal(of("[cat, dog]"));
    assert!(text.contains("the class \"elk\" of [cat, dog, elk] is not among [cat, dog]"), "{text}");
    assert!(refusal(of("[cat, dog, dog]")).contains("`classes` names \"dog\" twice"));
    assert!(refusal(of("[a, b]")).contains("3 folders, but `classes` names 2"));
}

/// A validation folder that lacks a class shifted its labels, with accuracy 0 and exit code 0.
#[test]
fn a_class_that_validation_lacks_does_not_shift_its_labels() {
    let dir = tempfile::tempdir().unwrap();
    let (train, val) = (dir.path().join("d/train"), dir.path().join("d/val"));
    classes(&train, &["cat", "dog", "elk"], 4);
    (0..4).for_each(|i| write(val.join("elk").join(format!("{i}.png")), png(80 + i)));
    write(val.join("cat/0.png"), png(0));
    let names = ["cat", "dog", "elk"].map(String::from);
    assert_eq!(labels(&folder(&val, "").unwrap().with_classes(&names).unwrap()), [0, 2, 2, 2, 2]);
    config(dir.path(), 3, "");
    let out = shanty(&["train", "c.yaml"], dir.path());
    assert!(out.status.success(), "{}", said(&out));
    let text = said(&out);
    assert!(text.contains("the classes of val_dataloader are not those of train_dataloader"), "{text}");

    write(val.join("fox/0.png"), png(9));
    let out = shanty(&["train", "c.yaml"], dir.path());
    assert_eq!(out.status.code(), Some(2));
    let text = said(&out);
    assert!(text.contains("the class \"fox\" of [cat, elk, fox] is not among [cat, dog, elk]"), "{text}");
}

/// `val` numbers the classes as the checkpoint's training did, though the training folder has changed since.
#[test]
fn a_checkpoint_keeps_the_numbers_of_its_classes() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        classes(&dir.path().join("d").join(part), &["cat", "dog"], 2);
    }
    config(dir.path(), 2, "");
    assert!(shanty(&["train", "c.yaml"], dir.path()).status.success());
    let score = |dir: &Path| said(&shanty(&["val", "c.yaml", "w/epoch_2", "--out", "m.json"], dir));
    score(dir.path());
    let before = fs::read_to_string(dir.path().join("m.json")).unwrap();

    for part in ["train", "val"] {
        fs::rename(
            dir.path().join("d").join(part).join("cat"),
            dir.path().join("d").join(part).join("Zebra"),
        )
        .unwrap();
    }
    let text = score(dir.path());
    assert!(
        text.contains(
            "the class \"Zebra\" of [Zebra, dog] is not among [cat, dog], the classes of the checkpoint"
        ),
        "{text}"
    );
    for part in ["train", "val"] {
        let root = dir.path().join("d").join(part);
        fs::rename(root.join("Zebra"), root.join("cat")).unwrap();
    }
    // As a list with another order: the labels are other numbers for the same names.
    let text = fs::read_to_string(dir.path().join("c.yaml")).unwrap();
    write(dir.path().join("c.yaml"), text.replace("data_root: d,", "data_root: d, classes: [dog, cat],"));
    let text = score(dir.path());
    assert!(
        text.contains("are not those of the checkpoint: its labels are numbered by their names there"),
        "{text}"
    );
    assert_eq!(fs::read_to_string(dir.path().join("m.json")).unwrap(), before);
}

/// Other files at resume: the run went on silently with other iterations, or gave advice about the batch size.
#[test]
fn a_folder_that_changed_since_the_checkpoint_is_named() {
    let changed = |change: &dyn Fn(&Path), more: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        for part in ["train", "val"] {
            classes(&dir.path().join("d").join(part), &["cat", "dog"], 4);
        }
        config(dir.path(), 2, "");
        let out = shanty(&["train", "c.yaml", "train_cfg.max_epochs=1"], dir.path());
        assert!(out.status.success(), "{}", said(&out));
        change(dir.path());
        let out = shanty(&[&["train", "c.yaml", "--resume", "--set"], more].concat(), dir.path());
        (out.status.code(), said(&out))
    };
    let longer = |dir: &Path| write(dir.join("d/train/cat/9.png"), png(9));
    let (code, text) = changed(&longer, &["log_level=INFO"]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("the training data are not those of the checkpoint: 8 samples then, 9 now"),
        "{text}"
    );
    assert!(text.contains("`allow_data_changes: true`") && !text.contains("batch_size"), "{text}");
    let (code, text) = changed(&longer, &["allow_data_changes=true"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("8 samples then, 9 now"), "{text}");

    let cases: [(&dyn Fn(&Path), &str); 4] = [
        (
            &|d| fs::rename(d.join("d/train/cat/0.png"), d.join("d/train/cat/9.png")).unwrap(),
            "or another order",
        ),
        (
            &|d| fs::rename(d.join("d/train/cat/0.png"), d.join("d/train/dog/9.png")).unwrap(),
            "other names or classes",
        ),
        (&|d| write(d.join("d/train/cat/0.png"), png(200)), "other contents of samples"),
        (
            &|d| fs::rename(d.join("d/train/cat"), d.join("d/train/lynx")).unwrap(),
            "classes [cat, dog] then, [dog, lynx] now",
        ),
    ];
    for (change, says) in cases {
        let both = |dir: &Path| {
            change(dir);
            let val = dir.join("d/val/cat");
            if dir.join("d/train/lynx").exists() {
                fs::rename(val, dir.join("d/val/lynx")).unwrap();
            }
        };
        let (code, text) = changed(&both, &["log_level=INFO"]);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(says), "{says}: {text}");
    }
    let (code, text) = changed(&|d| write(d.join("d/val/cat/9.png"), png(9)), &["log_level=INFO"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("the validation data are not those of the checkpoint: 8 samples then, 9 now"),
        "{text}"
    );
}

/// An excluded sample was read all the same; a torn file ended the run without its place.
#[test]
fn a_torn_file_is_named_excluded_or_left_out() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        classes(&dir.path().join("d").join(part), &["cat", "dog"], 4);
    }
    write(dir.path().join("d/train/dog/1.png"), &png(1)[..40]);
    config(dir.path(), 2, "");
    let out = shanty(&["train", "c.yaml"], dir.path());
    let text = said(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for says in [
        "the data in train_dataloader, epoch 0, iteration",
        "sample 5: ",
        "dog/1.png",
        "`max_bad_samples: N`",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let out = shanty(&["train", "c.yaml", "--overwrite", "exclude_samples=[5]"], dir.path());
    assert!(out.status.success(), "{}", said(&out));
    let out = shanty(&["train", "c.yaml", "--overwrite", "train_dataloader.max_bad_samples=1"], dir.path());
    assert!(out.status.success(), "{}", said(&out));
    let text = said(&out);
    assert!(
        text.contains("train_dataloader: sample 5 cannot be read and is left out (1 of at most 1)"),
        "{text}"
    );
    assert!(
        text.contains("unreadable samples of the training data that were left out: 1")
            && text.contains("unreadable samples left out: 1")
    );
}

#[test]
fn check_data_lists_every_sample_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    for part in ["train", "val"] {
        classes(&dir.path().join("d").join(part), &["cat", "dog"], 4);
    }
    config(dir.path(), 2, "");
    let out = shanty(&["check", "--data", "c.yaml"], dir.path());
    assert!(out.status.success(), "{}", said(&out));
    assert!(said(&out).contains("train_dataloader: 8 samples, all can be read"), "{}", said(&out));
    write(dir.path().join("d/train/dog/1.png"), &png(1)[..40]);
    write(dir.path().join("d/train/cat/0.png"), "no picture at all");
    write(dir.path().join("d/val/dog/3.png"), "");
    let out = shanty(&["check", "c.yaml", "--data"], dir.path());
    let text = said(&out);
    assert_eq!(out.status.code(), Some(1), "{text}");
    for says in [
        "train_dataloader: 8 samples, 2 cannot be read",
        "  sample 0: ",
        "cat/0.png",
        "  sample 5: ",
        "dog/1.png",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    assert!(
        text.contains("val_dataloader: 8 samples, 1 cannot be read") && text.contains("  sample 7: "),
        "{text}"
    );
    let out =
        shanty(&["check", "c.yaml", "--data", "exclude_samples=[0, 5]", "--format", "json"], dir.path());
    let found: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((out.status.code(), found.as_array().unwrap().len()), (Some(1), 1), "{found}");
    assert!(found[0]["message"].as_str().unwrap().starts_with("val_dataloader: sample 7: "), "{found}");
}
