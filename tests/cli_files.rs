//! Files that the command line reads and writes: by what they are, not by what they are called.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(all(unix, feature = "cli"))]

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

fn shanty(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

type Tensor<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

fn file(path: &Path, tensors: &[Tensor<'_>]) {
    let views = tensors.iter().map(|(n, d, s, b)| (*n, TensorView::new(*d, s.clone(), b).unwrap()));
    let about = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    fs::write(path, safetensors::serialize(views, Some(about)).unwrap()).unwrap();
}

fn bytes<T: bytemuck::NoUninit>(values: &[T]) -> Vec<u8> {
    bytemuck::cast_slice(values).to_vec()
}

/// 1e300 became infinite, 2^53 + 1 another number, and other types could not be converted at all.
#[test]
fn a_conversion_keeps_every_number_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let tensors: Vec<Tensor<'_>> = vec![
        ("bf16", Dtype::BF16, vec![2], bytes(&[0x3f80u16, 0x7fc1])),
        ("bool", Dtype::BOOL, vec![3], vec![1, 0, 1]),
        ("f16", Dtype::F16, vec![1], bytes(&[0x0001u16])),
        ("f32", Dtype::F32, vec![2], bytes(&[f32::from_bits(0x7fc0_1234), -0.0])),
        ("f64", Dtype::F64, vec![3], bytes(&[1e300, f64::MIN_POSITIVE / 8.0, 0.1])),
        ("i32", Dtype::I32, vec![1], bytes(&[i32::MIN])),
        ("i64", Dtype::I64, vec![2], bytes(&[(1i64 << 53) + 1, i64::MIN])),
        ("n", Dtype::I64, vec![], bytes(&[(1i64 << 24) + 1])),
        ("none", Dtype::F32, vec![0, 3], vec![]),
        ("u8", Dtype::U8, vec![2], vec![0, 255]),
    ];
    file(&dir.path().join("in.safetensors"), &tensors);
    let out = shanty(dir.path(), &["ckpt", "convert", "in.safetensors", "out.safetensors"]);
    assert!(out.status.success(), "{}", said(&out));
    let whole = fs::read(dir.path().join("out.safetensors")).unwrap();
    let back = SafeTensors::deserialize(&whole).unwrap();
    assert_eq!(back.len(), tensors.len());
    for (name, dtype, shape, bytes) in &tensors {
        let view = back.tensor(name).unwrap();
        assert_eq!((view.dtype(), view.shape(), view.data()), (*dtype, &shape[..], &bytes[..]), "{name}");
    }
    let listed = said(&shanty(dir.path(), &["ckpt", "inspect", "in.safetensors"]));
    for dtype in ["BOOL", "BF16", "I32", "U8", "F64"] {
        assert!(listed.contains(dtype), "{listed}");
    }
    assert!(listed.contains("10 tensors, 17 numbers"), "{listed}");
    // Where numbers become those of a model, one that cannot is an error.
    for (name, says) in [("f64", "holds 1e300"), ("i64", "holds 9007199254740993")] {
        file(&dir.path().join("one.safetensors"), &[tensors.iter().find(|t| t.0 == name).unwrap().clone()]);
        let error =
            shanty::checkpoint::read_tensors(&dir.path().join("one.safetensors")).unwrap_err().to_string();
        assert!(error.contains(says) || size_of::<shanty::base::Elem>() == 8, "{error}");
    }
}

/// Tensors that the last file lacked were dropped, and whole numbers averaged.
#[test]
fn an_average_is_of_the_same_tensors_only() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let f32s = |v: &[f32]| ("w", Dtype::F32, vec![v.len()], bytes(v));
    let f64s = |v: f64| ("x", Dtype::F64, vec![1], bytes(&[v]));
    let index = |v: i64| ("index", Dtype::I64, vec![2], bytes(&[v, (1 << 53) + v]));
    let half = |v: u16| ("h", Dtype::F16, vec![1], bytes(&[v]));
    file(&at("a.safetensors"), &[f32s(&[1.0, 3e38]), f64s(f64::MAX), index(1), half(0x3c00)]);
    file(&at("b.safetensors"), &[f32s(&[2.0, 3e38]), f64s(f64::MAX), index(2), half(0x4000)]);
    let out =
        shanty(dir.path(), &["ckpt", "average", "a.safetensors", "b.safetensors", "--out", "m.safetensors"]);
    assert!(out.status.success(), "{}", said(&out));
    let whole = fs::read(at("m.safetensors")).unwrap();
    let mean = SafeTensors::deserialize(&whole).unwrap();
    assert_eq!(mean.tensor("w").unwrap().data(), bytes(&[1.5f32, 3e38]));
    assert_eq!(mean.tensor("x").unwrap().data(), bytes(&[f64::MAX]), "the sum is infinite, the mean is not");
    assert_eq!(mean.tensor("index").unwrap().data(), index(2).3, "whole numbers are those of the last");
    assert_eq!(mean.tensor("h").unwrap().data(), bytes(&[1.5f32]), "1 and 2 in half precision");
    file(&at("c.safetensors"), &[f32s(&[1.0, 1.0]), f64s(0.0), index(0)]);
    for (one, two) in [("a", "c"), ("c", "a")] {
        let (one, two) = (format!("{one}.safetensors"), format!("{two}.safetensors"));
        let out = shanty(dir.path(), &["ckpt", "average", &one, &two, "--out", "n.safetensors"]);
        assert_eq!(out.status.code(), Some(1));
        assert!(
            said(&out).contains("checkpoint c.safetensors: it lacks h that a.safetensors has"),
            "{}",
            said(&out)
        );
    }
    file(&at("d.safetensors"), &[f32s(&[1.0]), f64s(0.0), index(0), half(0)]);
    let out =
        shanty(dir.path(), &["ckpt", "average", "a.safetensors", "d.safetensors", "--out", "n.safetensors"]);
    assert!(said(&out).contains("its `w` is F32 [2], that of d.safetensors is F32 [1]"), "{}", said(&out));
    assert!(!at("n.safetensors").exists());
}

/// A link was replaced, and `/dev/stdout` could not be written; for devices see `cli_devices`.
#[test]
fn what_is_no_regular_file_is_written_into() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    file(&at("a.safetensors"), &[("w", Dtype::F32, vec![1], bytes(&[1.0f32]))]);
    let wanted = fs::read(at("a.safetensors")).unwrap();
    let convert = |to: &str| shanty(dir.path(), &["ckpt", "convert", "a.safetensors", to]);
    // Stdout: a pipe here, and a file that it is appended to. Nothing else is said there.
    assert_eq!(convert("/dev/stdout").stdout, wanted);
    fs::write(at("log"), "before\n").unwrap();
    let log = fs::File::options().append(true).open(at("log")).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_shanty"))
        .args(["ckpt", "convert", "a.safetensors", "/dev/stdout"])
        .current_dir(dir.path())
        .stdout(Stdio::from(log))
        .stderr(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read(at("log")).unwrap(), [b"before\n", &wanted[..]].concat());
    // What a shell has opened already: a pipe to another program, and a file behind stderr.
    let script = "\"$0\" ckpt convert a.safetensors /dev/fd/5 5>&1 | cat > through; \"$0\" ckpt convert a.safetensors /dev/stderr 2> err";
    let status = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_shanty")])
        .current_dir(dir.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read(at("through")).unwrap(), wanted);
    assert!(fs::read(at("err")).unwrap().starts_with(&wanted));
    // A link to a file, one to a file that is not there yet, and one to a link.
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/old"), "old").unwrap();
    for (link, target) in [("one", "other/old"), ("two", "other/new"), ("three", "one")] {
        symlink(target, at(link)).unwrap();
        let out = convert(link);
        assert!(out.status.success(), "{}", said(&out));
        assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        assert_eq!(fs::read(at(link)).unwrap(), wanted, "{link}");
    }
    symlink("round", at("round")).unwrap();
    assert!(said(&convert("round")).contains("circle"));
    assert!(said(&convert("other")).contains("is a folder"));
}

/// A PyTorch file that is called `model.ckpt` was read as a safetensors file of 578712552184433488 bytes.
#[test]
fn files_are_what_they_begin_with() {
    let dir = tempfile::tempdir().unwrap();
    let pth = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pth");
    for (from, name) in
        [("plain.pth", "model.ckpt"), ("legacy.pth", "model.safetensors"), ("plain.pth", "model")]
    {
        fs::copy(pth.join(from), dir.path().join(name)).unwrap();
        let out = said(&shanty(dir.path(), &["ckpt", "inspect", name]));
        let read = if cfg!(feature = "torch") {
            out.contains("bn.num_batches_tracked")
        } else {
            out.contains("without the feature `torch`")
        };
        assert!(read, "{name}: {out}");
    }
    file(&dir.path().join("weights.pth"), &[("w", Dtype::F32, vec![1], bytes(&[1.0f32]))]);
    let out = shanty(dir.path(), &["ckpt", "inspect", "weights.pth"]);
    assert!(out.status.success(), "{}", said(&out));
    for (bytes, says) in [
        (&b""[..], "it is empty"),
        (b"\x1f\x8b\x08\0rest of it", "gunzip"),
        (b"\x93NUMPY\x01\0v\0{'descr'", "NumPy"),
        (b"{\"weight_map\": {}}", "JSON"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"model:\n  type: ResNet\n", "unknown type"),
    ] {
        fs::write(dir.path().join("weights.pth"), bytes).unwrap();
        for command in ["inspect", "digest"] {
            let out = shanty(dir.path(), &["ckpt", command, "weights.pth"]);
            assert!(out.status.code() == Some(1) && said(&out).contains(says), "{says}: {}", said(&out));
        }
    }
}

/// Names in files moved the cursor of whoever looked at them.
#[test]
fn no_name_out_of_a_file_reaches_the_terminal_raw() {
    let dir = tempfile::tempdir().unwrap();
    let name = "w\u{1b}[2J\u{7}\u{9b}31m\nz\u{202e}";
    file(&dir.path().join("a.safetensors"), &[(name, Dtype::F32, vec![1], bytes(&[1.0f32]))]);
    file(&dir.path().join("b.safetensors"), &[("w", Dtype::F32, vec![1], bytes(&[1.0f32]))]);
    fs::write(
        dir.path().join("c.yaml"),
        "\"mod\\e[2Jel\": {type: \"Foo\\e[31m\"}\n\"work_dir\": [\"\\e[1m\\x07\"]\n",
    )
    .unwrap();
    fs::write(dir.path().join("raw\u{1b}[2J.yaml"), "a: [\n").unwrap();
    fs::write(dir.path().join("d.yaml"), "a: \u{9b}31m {\n\u{1b}[2J: 1\n").unwrap();
    fs::write(dir.path().join("e.yaml"), "model: {\u{9b}31m: 1}\n").unwrap();
    for args in [
        vec!["ckpt", "inspect", "a.safetensors"],
        vec!["ckpt", "digest", "a.safetensors", "--parts"],
        vec!["ckpt", "diff", "a.safetensors", "b.safetensors"],
        vec!["ckpt", "average", "a.safetensors", "b.safetensors", "--out", "m.safetensors"],
        vec!["check", "c.yaml"],
        vec!["check", "d.yaml"],
        vec!["check", "e.yaml"],
        vec!["check", "raw\u{1b}[2J.yaml"],
        vec!["config", "c.yaml"],
        vec!["check", "no\u{1b}[2J.yaml"],
        vec!["describe", "Foo\u{1b}[2J"],
    ] {
        let out = said(&shanty(dir.path(), &args));
        assert!(!out.is_empty() && !out.chars().any(|c| c.is_control() && c != '\n'), "{args:?}: {out:?}");
    }
    let listed = said(&shanty(dir.path(), &["ckpt", "inspect", "a.safetensors"]));
    assert!(listed.contains(r"w\u001b[2J\u0007\u009b31m\u000az\u202e"), "{listed}");
    let json = shanty(dir.path(), &["check", "c.yaml", "--format", "json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert!(json.to_string().contains("Foo") || json.as_array().is_some_and(|all| !all.is_empty()), "{json}");
}

/// 224 names stood on one line.
#[test]
fn a_file_in_which_no_name_fits_is_told_in_a_few_words() {
    let dir = tempfile::tempdir().unwrap();
    let layers: Vec<_> = (0..30).map(|_| "{type: Linear, in_features: 12, out_features: 12}").collect();
    let config = format!(
        "model:\n  type: ImageClassifier\n  backbone: {{type: Sequential, layers: [{{type: Flatten}}, {}]}}\n  head: {{type: ClsHead}}\n\
         train_dataloader: {{batch_size: 4, dataset: {{type: Synthetic, n: 8, shape: [3, 2, 2], classes: 12}}}}\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\ntrain_cfg: {{by_epoch: true, max_epochs: 1}}\nwork_dir: w\n",
        layers.join(", ")
    );
    fs::write(dir.path().join("c.yaml"), config).unwrap();
    let weights = |before: &str| {
        let names: Vec<_> =
            (1..31).flat_map(|i| [format!("{before}{i}.weight"), format!("{before}{i}.bias")]).collect();
        let tensors: Vec<Tensor<'_>> = names
            .iter()
            .map(|name| {
                let shape = if name.ends_with("bias") { vec![12] } else { vec![12, 12] };
                (name.as_str(), Dtype::F32, shape.clone(), bytes(&vec![0.5f32; shape.iter().product()]))
            })
            .collect();
        file(&dir.path().join("w.safetensors"), &tensors);
    };
    let train = |more: &[&str]| {
        shanty(dir.path(), &[&["train", "c.yaml", "--overwrite", "load_from=w.safetensors"], more].concat())
    };
    for (before, says) in [
        (
            "",
            "the model's names have `backbone.` before them: `load_options: {revise_keys: [['^', 'backbone.']]}`",
        ),
        (
            "net.backbone.",
            r"its names have `net.` before them: `load_options: {revise_keys: [['^net\.', '']]}`",
        ),
        ("layers.", "rename its tensors with `load_options.revise_keys`"),
    ] {
        weights(before);
        let out = train(&[]);
        let said = said(&out);
        let error = said.lines().find(|line| line.starts_with("error:")).unwrap();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(
            error.contains("60 missing (") && error.contains(" and 56 more)") && error.contains(says),
            "{error}"
        );
        assert!(error.len() < 700, "{} bytes: {error}", error.len());
        // What it advises is what helps.
        if let Some(keys) = error.split("revise_keys: ").nth(1).and_then(|rest| rest.split("}`").next()) {
            let out = train(&[&format!("load_options.revise_keys={keys}")]);
            assert!(out.status.success(), "{}", self::said(&out));
        }
    }
    // What fits is taken on demand, and the log file names everything.
    weights("net.backbone.");
    let out = train(&[
        "load_options.revise_keys=[['^net\\.backbone\\.([1-9]\\.)', 'backbone.$1']]",
        "load_options.strict=false",
    ]);
    assert!(out.status.success() && said(&out).contains("18 loaded, 42 missing"), "{}", said(&out));
    let logs = fs::read_dir(dir.path().join("w"))
        .unwrap()
        .flatten()
        .map(|e| e.path().join(e.file_name()).with_extension("log"));
    let text: String = logs.filter_map(|log| fs::read_to_string(log).ok()).collect();
    assert!(text.contains("net.backbone.30.weight") && !said(&out).contains("net.backbone.30.weight"));
}

/// `report -o notes.md` replaced whatever was there; only without `-o` it looked.
#[test]
fn a_report_takes_the_place_of_reports_alone() {
    let dir = tempfile::tempdir().unwrap();
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/digits_lenet.yaml");
    let quick = ["train_dataloader.num_batch_per_epoch=1", "train_cfg.max_epochs=1"];
    let train =
        [&["-q", "train", configs.to_str().unwrap(), "--no-sanity", "--work-dir", "w"], &quick[..]].concat();
    let out = shanty(dir.path(), &train);
    assert!(out.status.success(), "{}", said(&out));
    let at = |name: &str| dir.path().join(name);
    // Of others a page of HTML, a picture, text, an empty file, and what links lead to.
    for (name, bytes) in [
        ("report.html", &b"<!doctype html>\n<html>mine</html>"[..]),
        ("notes.md", b"# notes"),
        ("empty", b""),
        ("sheet.html", b"<!doctype html>\n<!-- a sheet of samples, by shanty -->\n"),
    ] {
        fs::write(at(name), bytes).unwrap();
        let ask = if name == "report.html" { vec!["report", "w"] } else { vec!["report", "w", "-o", name] };
        let refused = shanty(dir.path(), &ask);
        assert_eq!(refused.status.code(), Some(2), "{name}");
        let words = format!(
            "{name} is there already and is no report of shanty's: name another file, or give `--overwrite`"
        );
        assert!(said(&refused).contains(&words), "{}", said(&refused));
        assert_eq!(fs::read(at(name)).unwrap(), bytes, "{name}");
    }
    symlink("notes.md", at("link")).unwrap();
    assert_eq!(shanty(dir.path(), &["report", "w", "-o", "link"]).status.code(), Some(2));
    assert!(shanty(dir.path(), &["report", "w", "-o", "notes.md", "--overwrite"]).status.success());
    let report = fs::read(at("notes.md")).unwrap();
    assert!(report.starts_with(b"<!doctype html>\n<!-- a report of shanty -->"));
    // An older report makes way for a newer one, whatever it is called, and a pipe is written into.
    assert!(shanty(dir.path(), &["report", "w", "-o", "notes.md"]).status.success());
    let piped = shanty(dir.path(), &["report", "w", "-o", "/dev/stdout"]);
    assert!(piped.stdout.starts_with(b"<!doctype html>\n<!-- a report of shanty -->"), "{}", said(&piped));
}

/// With `-v` the tables of the log file had a row for what only the terminal was told. The file goes by `log_level`.
#[test]
fn the_log_file_goes_by_the_level_of_the_config_alone() {
    let dir = tempfile::tempdir().unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/digits_lenet.yaml");
    // What the lines say, without times and other numbers.
    let told = |filter: Option<&str>, flags: &[&str]| {
        let quick = ["train_dataloader.num_batch_per_epoch=1", "train_cfg.max_epochs=1"];
        let train = ["train", config.to_str().unwrap(), "--overwrite", "--no-sanity", "--work-dir", "w"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_shanty"));
        command.args([&train[..], flags, &quick[..]].concat()).current_dir(dir.path()).env_remove("RUST_LOG");
        let out = command.envs(filter.map(|filter| ("RUST_LOG", filter))).output().unwrap();
        assert!(out.status.success(), "{}", said(&out));
        let logs = fs::read_dir(dir.path().join("w")).unwrap().map(|entry| entry.unwrap().path());
        let log = logs.filter(|path| path.join("vis_data").exists()).max().unwrap();
        let file = log.join(format!("{}.log", log.file_name().unwrap().to_str().unwrap()));
        let plain = |line: &str| {
            let words = line.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit()));
            words.filter(|word| !["ms", "µs", "s"].contains(word)).collect::<Vec<_>>().join(" ")
        };
        let mut lines: Vec<String> = fs::read_to_string(file).unwrap().lines().map(plain).collect();
        // Which hooks took long enough for a line of their own differs.
        lines.retain(|line| {
            ![" after_", " before_"].iter().any(|point| line.contains(point)) && line != "and more"
        });
        lines
    };
    let plain = told(None, &[]);
    assert!(plain.iter().any(|line| line.contains("time of hooks, from samples:")), "{plain:?}");
    for (filter, flags) in [(None, &["-v"][..]), (None, &["-q"]), (Some("debug"), &[]), (Some("off"), &[])] {
        assert_eq!(told(filter, flags), plain, "{filter:?} {flags:?}");
    }
    for (level, few) in [("WARNING", "- shanty - WARNING -"), ("ERROR", "- shanty - ERROR -")] {
        let lines = told(None, &["-v", "--set", &format!("log_level={level}"), "default_scope=mmpretrain"]);
        // A warning about the config goes on with the lines of the file.
        let mut heads = lines.iter().filter(|line| line.starts_with("- shanty -"));
        assert!(heads.all(|line| line.contains(few)), "{level}: {lines:?}");
        assert_eq!(lines.is_empty(), level == "ERROR", "{level}: {lines:?}");
    }
}
