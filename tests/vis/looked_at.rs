//! What the command line makes of samples to be looked at: the worst ones in a report, and sheets of training samples.

use std::os::unix::fs::symlink;
use std::process::{Command, Output};

use shanty::data::Colors;
use shanty::run::browse;
use shanty::vis::Drawing;

use super::*;

fn shanty(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

fn shipped(name: &str) -> String {
    format!("{}/configs/{name}.yaml", env!("CARGO_MANIFEST_DIR"))
}

/// Trains a shipped config for two epochs, with the hook that keeps the worst samples.
fn trained(dir: &Path, name: &str, work: &str) {
    let set = [
        "custom_hooks=[{type: WorstSamplesHook}]",
        "train_dataloader.num_batch_per_epoch=2",
        "train_cfg.max_epochs=2",
        "train_cfg.val_interval=1",
    ];
    let config = shipped(name);
    let args = [&["train", &*config, "-q", "--overwrite", "--work-dir", work], &set[..]].concat();
    let out = shanty(dir, &args);
    assert!(out.status.success(), "{}", said(&out));
}

/// The data of a page, and how long the page is.
fn data(dir: &Path, file: &str, id: &str) -> (Value, usize) {
    let page = fs::read_to_string(dir.join(file)).unwrap();
    let data = page.split_once(&format!("id=\"{id}\">")).unwrap().1.split_once("</script>").unwrap().0;
    (serde_json::from_str(data).unwrap(), page.len())
}

fn report(dir: &Path, work: &str) -> (Value, usize) {
    let out = shanty(dir, &["report", work, "-o", "r.html"]);
    assert!(out.status.success(), "{}", said(&out));
    data(dir, "r.html", "report")
}

fn kept(dir: &Path, work: &str) -> PathBuf {
    let logs = fs::read_dir(dir.join(work)).unwrap().map(|entry| entry.unwrap().path().join("vis_data"));
    let mut logs: Vec<_> = logs.filter(|dir| dir.is_dir()).collect();
    logs.sort();
    logs.pop().unwrap().join("worst_samples.json")
}

#[test]
fn a_report_shows_the_worst_samples_as_pictures() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path(), "digits_lenet", "w");
    let (told, bytes) = report(dir.path(), "w");
    assert!(bytes < 300_000, "{bytes}");
    let run = &told["samples"][0];
    let samples = run["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 12);
    for sample in samples {
        assert!(sample["png"].as_str().unwrap().starts_with("iVBORw0KGgo"), "a PNG file in base64");
        assert!(
            sample["truth"].is_string() && sample["prediction"].is_string() && sample["right"].is_boolean()
        );
    }
    let note = run["note"].as_str().unwrap();
    assert!(note.starts_with("Of the last validation, after epoch 2: the largest losses of "), "{note}");
    // What is no letter of base64 is no picture, and pictures end where a report would grow too long.
    let file = kept(dir.path(), "w");
    let mut own: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let long = "A".repeat(140_000);
    let pictures = [json!("\" onerror=\"alert(1)"), json!(long), json!(long), json!(long), json!("AAAA")];
    for (at, png) in pictures.into_iter().enumerate() {
        own["samples"][at]["png"] = png;
    }
    own["samples"][0]["name"] = json!("</script><script>alert(1)</script>");
    fs::write(&file, own.to_string()).unwrap();
    let (told, bytes) = report(dir.path(), "w");
    let has = |at: usize| told["samples"][0]["samples"][at]["png"].is_string();
    assert_eq!([0, 1, 2, 3, 4].map(has), [false, true, true, false, true]);
    assert!(bytes < 700_000, "{bytes}");
    assert_eq!(told["samples"][0]["samples"][0]["name"], "</script><script>alert(1)</script>");
    // What an earlier run of the folder kept is no part of this one, and what is no such file is passed over.
    let old = dir.path().join("w/20200101_000000/vis_data");
    fs::create_dir_all(&old).unwrap();
    fs::rename(&file, old.join("worst_samples.json")).unwrap();
    assert_eq!(report(dir.path(), "w").0["samples"], json!([]));
    fs::write(&file, "no json").unwrap();
    assert_eq!(report(dir.path(), "w").0["samples"], json!([]));
}

/// Of an error the best is the smallest, though its name has no word that says so.
#[test]
fn a_report_shows_residuals_and_the_smallest_error() {
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path(), "houses_mlp", "w");
    let (told, _) = report(dir.path(), "w");
    let residuals = &told["samples"][0]["residuals"][0];
    let lens = ["x", "y"].map(|key| residuals[key].as_array().unwrap().len());
    assert_eq!(residuals["of"], lens[0]);
    assert!(lens[0] == lens[1] && lens[0] > 20, "{lens:?}");
    let all = events(kept(dir.path(), "w").parent().unwrap());
    assert_eq!(
        all[0].get("directions"),
        Some(&json!({"mae": "less", "r2": "greater", "test_loss": "less", "val_loss": "less"}))
    );
    let maes =
        all.iter().filter(|event| event.kind() == "val").filter_map(|event| event.get("mae")?.as_f64());
    let least = maes.fold(f64::INFINITY, f64::min);
    let best = &told["runs"][0]["best"];
    assert_eq!(best["name"], "mae");
    assert!((best["value"].as_f64().unwrap() - least).abs() < 1e-3 * least, "{best}: {least}");
    let runs: Value = serde_json::from_slice(&shanty(dir.path(), &["runs", ".", "--json"]).stdout).unwrap();
    assert_eq!(runs[0]["best"]["name"], "mae");
}

#[test]
fn a_sheet_is_a_picture_too_and_replaces_nothing_but_a_sheet() {
    let dir = tempfile::tempdir().unwrap();
    let config = shipped("digits_lenet");
    let browse =
        |more: &[&str]| shanty(dir.path(), &[&["browse", &*config, "--samples", "3"], more].concat());
    assert!(browse(&["-o", "sheet.png"]).status.success());
    let sheet = fs::read(dir.path().join("sheet.png")).unwrap();
    assert!(Drawing::is_own(&sheet));
    let reader = png::Decoder::new(io::Cursor::new(&sheet)).read_info().unwrap();
    // States of 8 and of 32 pixels are 160 wide; below each a caption, below all a label and an origin.
    let (wide, high) = (reader.info().width, reader.info().height);
    assert_eq!((wide, high % 4), (2 * (160 + 3 * 164) + 20, 0), "two samples in a row");
    for name in ["sheet.png", "sheet.html", "sheet.html"] {
        let out = browse(&["-o", name]);
        assert!(out.status.success(), "{name}: {}", said(&out));
    }
    assert_eq!(fs::read(dir.path().join("sheet.png")).unwrap(), sheet, "the same each time");
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/420_pillow.png");
    fs::copy(picture, dir.path().join("photo.png")).unwrap();
    fs::write(dir.path().join("mine.html"), "<!doctype html>\n<p>mine").unwrap();
    symlink("photo.png", dir.path().join("link.png")).unwrap();
    for name in ["photo.png", "mine.html", "link.png"] {
        let before = fs::read(dir.path().join(name)).unwrap();
        let out = browse(&["-o", name]);
        assert_eq!(out.status.code(), Some(2), "{}", said(&out));
        assert!(
            said(&out).contains("is no sheet of samples of shanty's") && said(&out).contains("--overwrite")
        );
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), before, "{name}");
    }
    assert!(browse(&["-o", "photo.png", "--overwrite"]).status.success());
    assert!(Drawing::is_own(&fs::read(dir.path().join("photo.png")).unwrap()));
    let piped = browse(&["-o", "/dev/stdout"]);
    assert!(said(&piped).starts_with("<!doctype html>"));
    let large = shanty(dir.path(), &["browse", &config, "-o", "x.png", "--samples", "1000", "--passes", "5"]);
    assert_eq!(large.status.code(), Some(2));
    assert!(said(&large).contains("too large to be looked at"), "{}", said(&large));
}

const MODEL: &str =
    "model: {type: ImageClassifier, backbone: {type: LeNet5, num_classes: 2}, head: {type: ClsHead}}\n";
const TRAINED: &str =
    "train_cfg: {by_epoch: true, max_epochs: 1}\noptim_wrapper: {optimizer: {type: SGD, lr: 0.1}}\n";

/// Where the data are not here that was hidden: it is said what was looked for, and where the config names it.
#[test]
fn a_sheet_without_data_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let data =
        "train_dataloader: {batch_size: 1, dataset: {type: ImageFolder, data_root: no/such/pictures}}\n";
    fs::write(dir.path().join("absent.yaml"), format!("{MODEL}{data}{TRAINED}")).unwrap();
    fs::write(dir.path().join("none.yaml"), MODEL).unwrap();
    let absent = shanty(dir.path(), &["browse", "absent.yaml", "-o", "a.html"]);
    assert_eq!(absent.status.code(), Some(2));
    assert!(
        said(&absent).contains("no/such/pictures") && said(&absent).contains("absent.yaml:2:"),
        "{}",
        said(&absent)
    );
    let none = shanty(dir.path(), &["browse", "none.yaml", "-o", "a.html"]);
    assert!(said(&none).contains("the config has no `train_dataloader`"), "{}", said(&none));
    assert!(!dir.path().join("a.html").exists());
}

/// Files are read with blue first, and Normalize turns that round: what it gives was drawn with blue for red.
#[test]
fn a_sheet_knows_where_the_red_channel_is() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("pics/red")).unwrap();
    fs::write(dir.path().join("pics/red/1.png"), Drawing::blank(8, 8, [200, 30, 10]).png().unwrap()).unwrap();
    let looked = |transforms: &str| {
        let text = format!(
            "{MODEL}train_dataloader: {{batch_size: 1, dataset: {{type: ImageFolder, data_root: '{}', pipeline: \
             [{{type: LoadImageFromFile}}, {transforms}{{type: PackInputs}}]}}}}\n{TRAINED}",
            dir.path().join("pics").display()
        );
        fs::write(dir.path().join("turned.yaml"), &text).unwrap();
        browse(&parse("c.yaml", &text).unwrap(), None, 1, 1).unwrap()
    };
    let plain = looked("");
    assert_eq!((plain.read, plain.colors), (Colors::Bgr, Colors::Bgr));
    let first = |sample: &shanty::data::Sample| -> Vec<f32> {
        let inputs = sample.float("inputs").unwrap();
        [0, 1, 2].map(|channel| inputs[[channel, 0, 0]]).to_vec()
    };
    let sample = |looked: &shanty::run::Browsed| looked.samples[0].clone();
    assert_eq!(first(&sample(&plain).before.unwrap()), [10.0, 30.0, 200.0]);
    assert_eq!(first(&sample(&plain).after[0]), [10.0, 30.0, 200.0]);
    let turned = looked("{type: Normalize, mean: [0.0], std: [1.0]}, ");
    assert_eq!((turned.read, turned.colors), (Colors::Bgr, Colors::Rgb));
    assert_eq!(first(&sample(&turned).before.unwrap()), [10.0, 30.0, 200.0]);
    assert_eq!(first(&sample(&turned).after[0]), [200.0, 30.0, 10.0]);
    // On the sheet both are red.
    let out = shanty(dir.path(), &["browse", "turned.yaml", "-o", "sheet.png", "--passes", "1"]);
    assert!(out.status.success(), "{}", said(&out));
    let sheet = fs::read(dir.path().join("sheet.png")).unwrap();
    let mut reader = png::Decoder::new(io::Cursor::new(&sheet)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    let width = reader.info().width as usize;
    let pixel = |x: usize, y: usize| bytes[(y * width + x) * 3..][..3].to_vec();
    assert_eq!([pixel(10, 10), pixel(174, 10)], [[200, 30, 10], [200, 30, 10]].map(Vec::from));
}

/// A log folder of which these are the lines, and a text log of one.
fn logged(dir: &Path, lines: &[Value]) -> PathBuf {
    let log = dir.join("w/20260101_000000/vis_data");
    fs::create_dir_all(&log).unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    fs::write(log.join("events.jsonl"), text).unwrap();
    log
}

fn train(iter: u64, more: Value) -> Value {
    let mut line = json!({"event": "train", "epoch": 1, "iter": iter, "step": iter});
    more.as_object().unwrap().iter().for_each(|(key, value)| line[key] = value.clone());
    line
}

/// Whoever made a log: its names move no cursor, turn no text round, and end no page.
#[test]
fn names_of_a_strangers_run_are_only_names() {
    const NAME: &str = "\u{1b}]0;own\u{7}\u{1b}[2J</script><script>alert(1)</script>\u{202e}\u{2066}x";
    let dir = tempfile::tempdir().unwrap();
    let mut lines = vec![json!({"event": "run", "data": {}, "directions": {NAME: "greater"}})];
    lines.extend((1..5).map(|iter| train(iter, json!({NAME: iter, "loss": 1}))));
    lines.push(json!({"event": "val", "iter": 4, "step": 1, NAME: 3}));
    lines.push(json!({"event": "table", "name": NAME, "mode": "val", "axes": [NAME, NAME], "rows": [NAME],
                      "columns": [NAME], "values": [[1]], "step": 1}));
    lines.push(json!({"event": "warning", "text": NAME}));
    lines.push(json!({"event": "end", "reason": "finished"}));
    let log = logged(dir.path(), &lines);
    let text = format!("2026/01/01 00:00:00 - shanty - INFO - Epoch(train) [1][4/4]  eta: {NAME}\n");
    fs::write(log.parent().unwrap().join("20260101_000000.log"), text).unwrap();
    let is_unseen = |c: char| c.is_control() && c != '\n' || ('\u{202a}'..='\u{2069}').contains(&c);
    for args in [&["watch", "w", "--once"][..], &["runs", "."], &["report", "w", "-o", "r.html"]] {
        let out = shanty(dir.path(), args);
        assert!(out.status.success() && !said(&out).contains(is_unseen), "{args:?}: {}", said(&out));
    }
    let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert!(!page.contains(is_unseen) && !page.contains("</script><script>alert"));
    assert!(!page.contains("\\u001b") || page.contains("\\\\u001b"), "what is seen stands for it");
    data(dir.path(), "r.html", "report");
}

/// Numbers of a damaged log are not all: that is said wherever they are shown.
#[test]
fn a_damaged_log_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let log = logged(dir.path(), &[json!({"event": "run", "data": {}}), train(1, json!({"loss": 1}))]);
    let file = log.join("events.jsonl");
    let whole = fs::read_to_string(&file).unwrap();
    // A last line without its end is under way.
    for (text, lines) in [
        (whole.clone() + "{\"event\":\"tr", 0),
        (whole.clone() + "\0\0\0\n{\"event\":7}\n", 2),
        (whole.replace("train", "tr\u{0}in") + "half\n", 2),
    ] {
        fs::write(&file, text).unwrap();
        for args in [&["watch", "w", "--once"][..], &["runs", "."]] {
            let told = said(&shanty(dir.path(), args));
            assert_eq!(told.contains("could not be read"), lines > 0, "{told}");
            assert!(lines == 0 || told.contains(&format!("{lines} lines could not be read")), "{told}");
        }
        let (told, _) = report(dir.path(), "w");
        assert_eq!(told["runs"][0]["warnings"].as_array().unwrap().len(), usize::from(lines > 0), "{told}");
    }
    fs::write(&file, "half\n").unwrap();
    let out = shanty(dir.path(), &["export-logs", "w", "--to", "csv"]);
    assert!(
        !out.status.success() && said(&out).contains("no event can be read in its 1 line"),
        "{}",
        said(&out)
    );
    assert!(!dir.path().join("w/csv").exists());
}

/// A thousand classes are no thousand charts, and a loss that falls to a hundredth is seen to the end.
#[test]
fn charts_are_as_many_as_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = vec![json!({"event": "run", "data": {}, "max_iters": 40})];
    lines.extend((1..11).map(|iter| train(iter, json!({"loss": 10f64.powi(-(iter as i32)), "lr": 0.1}))));
    let mut val = json!({"event": "val", "iter": 10, "step": 1, "accuracy/top1": 3});
    (0..1000).for_each(|class| val[format!("single-label/recall_classwise/{class}")] = json!(class));
    (0..90).for_each(|i| val[format!("metric_{i}")] = json!(i));
    lines.push(val);
    logged(dir.path(), &lines);
    let (told, bytes) = report(dir.path(), "w");
    let charts = told["charts"].as_array().unwrap();
    assert_eq!(charts.len(), 60);
    assert!(bytes < 300_000, "{bytes}");
    assert_eq!(charts[59]["note"], "And 34 more charts: the event log has them.");
    let of = |title: &str| charts.iter().find(|chart| chart["title"] == title).unwrap();
    assert_eq!((&of("Loss")["log"], &of("accuracy/top1")["log"]), (&json!(true), &json!(false)));
    let classes = of("single-label/recall_classwise");
    assert_eq!(classes["series"].as_array().unwrap().len(), 40);
    assert_eq!(classes["note"], "The first 40 of 1000 curves.");
    // What `watch` shows of it, without a text log that says how far it is.
    let told = said(&shanty(dir.path(), &["watch", "w", "--once"]));
    for part in [
        "w: died, epoch 1\n",
        "25 %",
        "train  loss 1.0000e-10  lr 0.1\n",
        "loss (log scale)",
        "val    accuracy/top1 3",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
