//! The command line as scripts see it: exit codes, places, files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shanty(args: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(root).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_shipped_config_is_fine() {
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yaml") && !path.to_string_lossy().contains("mnist") {
            let out = shanty(&["check", &path.to_string_lossy()]);
            assert!(out.status.success(), "{}", text(&out.stderr));
        }
    }
}

#[test]
fn a_misspelt_key_in_a_base_file_is_shown_where_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = dir.path().join("base.yaml");
    fs::write(&base, "default_hooks:\n  checkpoint: {type: CheckpointHook, intreval: 2}\n").unwrap();
    let child = dir.path().join("child.yaml");
    let digits = root.join("configs/digits_lenet.yaml");
    fs::write(&child, format!("_base_: {}\n", digits.display())).unwrap();
    assert!(shanty(&["check", &child.to_string_lossy()]).status.success());
    fs::write(&child, "_base_: base.yaml\nmodel: {type: ImageClassifier, backbone: {type: LeNet5, num_classes: 10}, head: {type: ClsHead}}\n").unwrap();
    let out = shanty(&["check", &child.to_string_lossy()]);
    assert_eq!(out.status.code(), Some(2));
    let said = text(&out.stderr);
    assert!(said.contains("base.yaml:2:38"), "{said}");
    assert!(said.contains("intreval") && said.contains("interval"), "{said}");
}

#[test]
fn usage_errors_and_failures_have_their_codes() {
    assert_eq!(shanty(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(shanty(&["check", "no/such.yaml"]).status.code(), Some(2));
    let missing = shanty(&["val", "configs/digits_lenet.yaml", "no/such/checkpoint"]);
    assert_eq!(missing.status.code(), Some(1), "{}", text(&missing.stderr));
}

#[test]
fn train_then_resume_then_validate() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_string_lossy().into_owned();
    let config = "configs/digits_mlp_sequential.yaml";
    let short = |iters: &str, more: &[&str]| {
        let iters = format!("train_cfg.max_iters={iters}");
        let mut args = vec![
            "train",
            config,
            "--work-dir",
            &work,
            "--set",
            &iters,
            "--set",
            "default_hooks.checkpoint.interval=10",
        ];
        args.extend(more);
        shanty(&args)
    };
    let out = short("20", &[]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let said = text(&out.stdout);
    assert!(said.starts_with("finished after 0 epochs, 20 iterations"), "{said}");
    assert!(said.contains("accuracy/top1"), "{said}");
    let log = text(&out.stderr);
    assert!(!log.contains(['\r', '\u{1b}']), "no control characters off a terminal");
    assert!(dir.path().join("iter_20/model.safetensors").exists());
    assert!(dir.path().join("digits_mlp_sequential.yaml").exists());
    let out = short("30", &["--resume"]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stderr).contains("resumed"), "{}", text(&out.stderr));
    assert!(dir.path().join("iter_30").exists());
    let checkpoint = dir.path().join("iter_30").to_string_lossy().into_owned();
    let out = shanty(&["val", config, &checkpoint, "--set", &format!("work_dir={work}")]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(text(&out.stdout).starts_with("accuracy/top1: "), "{}", text(&out.stdout));
}

#[test]
fn the_list_knows_what_the_readme_names() {
    let out = shanty(&["list"]);
    let said = text(&out.stdout);
    for name in [
        "LeNet5",
        "Conv2d",
        "CheckpointHook",
        "Kaiming",
        "SGD",
        "CosineAnnealingLR",
        "MNIST",
        "Accuracy",
        "CrossEntropyLoss",
    ] {
        assert!(said.contains(name), "`{name}` is not listed:\n{said}");
    }
    let hooks = text(&shanty(&["list", "hook"]).stdout);
    assert!(hooks.contains("LoggerHook") && !hooks.contains("Conv2d"));
    assert_eq!(shanty(&["list", "hok"]).status.code(), Some(2));
}

#[test]
fn the_resolved_config_reads_back() {
    let dir = tempfile::tempdir().unwrap();
    let out = shanty(&["config", "configs/digits_lenet.yaml", "train_cfg.max_epochs=3"]);
    let set = shanty(&["config", "configs/digits_lenet.yaml", "--cfg-options", "train_cfg.max_epochs=3"]);
    assert_eq!(text(&set.stdout), text(&out.stdout), "with and without MMEngine's switch");
    let copy = dir.path().join("copy.yaml");
    fs::write(&copy, &out.stdout).unwrap();
    let again = shanty(&["config", &copy.to_string_lossy()]);
    assert_eq!(text(&again.stdout), text(&out.stdout));
    assert!(text(&out.stdout).contains("max_epochs: 3"));
}

/// A short training in `work`, with a table of confusions.
fn trained(work: &Path, more: &[&str]) {
    let base =
        ["train", "configs/digits_lenet.yaml", "--overwrite", "-q", "--work-dir", &work.to_string_lossy()]
            .map(str::to_owned);
    let quick = [
        "train_cfg.max_epochs=2",
        "train_dataloader.num_batch_per_epoch=2",
        "val_dataloader.num_batch_per_epoch=1",
        "val_evaluator=[{type: Accuracy}, {type: ConfusionMatrix}]",
        "default_hooks.logger.interval=1",
    ];
    let args: Vec<&str> = base.iter().map(String::as_str).chain(quick).chain(more.iter().copied()).collect();
    let out = shanty(&args);
    assert!(out.status.success(), "{}", text(&out.stderr));
}

/// `vis_data` of the first training in a work_dir.
fn vis_data(work: &Path) -> PathBuf {
    let mut all: Vec<PathBuf> =
        fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path().join("vis_data")).collect();
    all.retain(|dir| dir.is_dir());
    all.sort();
    all.swap_remove(0)
}

/// The numbers in a report, and its text.
fn reported(args: &[&str]) -> (serde_json::Value, String) {
    let out = shanty(args);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let file = args.last().unwrap();
    let page = fs::read_to_string(file).unwrap();
    let data = page.split_once("id=\"report\">").unwrap().1.split_once("</script>").unwrap().0;
    (serde_json::from_str(data).unwrap(), page)
}

#[test]
fn a_report_tells_of_a_run_in_one_file_and_compares_several() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let (a, b, out) = (place("a"), place("<script>alert(1)"), place("r.html"));
    trained(&a, &["default_scope=mmpretrain"]);
    trained(&b, &["optim_wrapper.optimizer.lr=0.01"]);
    let [a, b, out] = [&a, &b, &out].map(|path| path.to_str().unwrap());
    let (report, page) = reported(&["report", a, "-o", out]);
    // One file: nothing is fetched, and no text ends the data.
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("src="), "it asks nobody");
    let run = &report["runs"][0];
    assert_eq!((run["name"].as_str(), run["state"].as_str()), (Some("a"), Some("finished")));
    assert!(run["end"].as_str().unwrap().starts_with("finished after 2 epochs, 4 iterations"), "{run}");
    assert!(run["warnings"][0].as_str().unwrap().starts_with("`default_scope` is accepted without"), "{run}");
    let config = run["config"].as_array().unwrap();
    let row = |path: &str| config.iter().find(|row| row[0] == path).unwrap();
    assert_eq!(row("optim_wrapper.optimizer.lr")[1], "0.05");
    assert_eq!(row("optim_wrapper.optimizer.lr")[2], "configs/digits_lenet.yaml:14:30");
    assert!(row("train_cfg.max_epochs")[2].as_str().unwrap().contains("`train_cfg.max_epochs=2`"), "{run}");
    let charts = report["charts"].as_array().unwrap();
    let titles: Vec<_> = charts.iter().map(|chart| chart["title"].as_str().unwrap()).collect();
    assert_eq!(titles[..2], ["Loss", "accuracy/top1"], "{titles:?}");
    assert!(titles.contains(&"Throughput") && titles.contains(&"Gradient norm"), "{titles:?}");
    // The curves are those of the scalar file.
    let loss = &charts[0]["series"][0];
    assert_eq!((loss["name"].as_str(), &loss["x"]), (Some("loss"), &serde_json::json!([1, 2, 3, 4])));
    assert_eq!(
        charts[0]["series"][1]["x"],
        serde_json::json!([2, 4]),
        "validations stand where they were made"
    );
    let log =
        fs::read_dir(a).unwrap().map(|e| e.unwrap().path()).find(|p| p.join("vis_data").exists()).unwrap();
    let first = fs::read_to_string(log.join("vis_data/scalars.json")).unwrap();
    let first: serde_json::Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    let off = (loss["y"][0].as_f64().unwrap() - first["loss"].as_f64().unwrap()).abs();
    assert!(off < 5e-5 * first["loss"].as_f64().unwrap(), "{loss} {first}");
    let table = &report["tables"][0];
    assert_eq!(table["axes"], serde_json::json!(["truth", "prediction"]));
    let sum: f64 = table["values"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .filter_map(serde_json::Value::as_f64)
        .sum();
    assert_eq!(sum, 64.0, "each sample once");

    let (both, page) = reported(&["report", a, b, "-o", out]);
    assert_eq!(both["runs"].as_array().unwrap().len(), 2);
    assert_eq!(both["charts"][0]["series"].as_array().unwrap().len(), 4);
    assert!(!page.contains("<script>alert"), "texts stay texts");

    // A run's own files are not written over, a folder without a run is named.
    let refused = shanty(&["report", a, "-o", &format!("{a}/last_checkpoint")]);
    assert_eq!(refused.status.code(), Some(2));
    let refused = shanty(&["report", dir.path().to_str().unwrap(), "-o", out]);
    assert!(text(&refused.stderr).contains("no run has logged in it; name the work_dir of a run"));
}

#[test]
fn all_runs_stand_in_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_str().unwrap();
    trained(&dir.path().join("deep/a"), &["train_cfg.max_epochs=1"]);
    trained(&dir.path().join("b"), &[]);
    let out = shanty(&["runs", root, "--json", "--sort", "epoch"]);
    let all: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let of = |i: usize, key: &str| all[i][key].clone();
    assert_eq!([of(0, "epoch"), of(1, "epoch"), of(1, "max_epochs")], [2, 1, 1].map(serde_json::Value::from));
    assert!(of(1, "work_dir").as_str().unwrap().ends_with("deep/a"));
    assert_eq!(of(0, "state"), "finished");
    assert_eq!(of(0, "best")["name"], "accuracy/top1");
    let once = text(&shanty(&["watch", dir.path().join("b").to_str().unwrap()]).stdout);
    assert!(once.starts_with("b: finished, epoch 2/2") && once.contains(" 100 %\n"), "{once}");
    assert!(
        once.contains("best   accuracy/top1 ")
            && once.contains('\u{2800}')
            && once.contains("Epoch(val) [2]"),
        "{once}"
    );
    assert!(once.lines().count() < 24 && once.lines().all(|line| line.chars().count() <= 80), "{once}");
    // What the files tell of one that was killed: nothing of an end, and nobody holds it.
    let log = fs::read_dir(dir.path().join("b"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.join("vis_data").exists());
    let log = log.unwrap();
    // Older runs have no event log: their end stands in the text alone.
    fs::remove_file(log.join("vis_data/events.jsonl")).unwrap();
    let file = log.join(log.file_name().unwrap()).with_extension("log");
    let whole = fs::read_to_string(&file).unwrap();
    let ends = [
        ("finished after 2", "interrupted (SIGTERM; `--resume` goes on) after 2", "interrupted"),
        ("finished after 2", "failed: the loss is NaN after 2", "failed"),
        ("finished after 2", "stopped by EarlyStoppingHook (no better) after 2", "stopped"),
    ];
    for (from, to, state) in ends {
        fs::write(&file, whole.replace(from, to)).unwrap();
        let text = text(&shanty(&["runs", root]).stdout);
        assert!(text.lines().any(|line| line.contains("/b ") && line.contains(state)), "{state}: {text}");
    }
    let config = log.join("vis_data/config.yaml");
    fs::write(&config, fs::read_to_string(&config).unwrap().replace("max_epochs: 2", "max_epochs: 5"))
        .unwrap();
    fs::write(&file, whole.replace("finished after", "said nothing of its end after")).unwrap();
    let died = text(&shanty(&["runs", root]).stdout);
    assert!(died.contains("died") && died.contains("2/5"), "{died}");
    // A run that is under way holds its folder.
    let lock = fs::File::create(dir.path().join("b/.shanty-lock")).unwrap();
    lock.lock().unwrap();
    fs::write(dir.path().join("b/.shanty-lock"), std::process::id().to_string()).unwrap();
    assert!(text(&shanty(&["runs", root]).stdout).contains("running"));
    assert_eq!(shanty(&["runs", &format!("{root}/nothing")]).status.code(), Some(1));
}

/// What is said of an end is the event log's: neither the last epoch nor the text log makes a run finished.
#[test]
fn a_run_that_was_killed_in_its_last_epoch_has_died() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("k");
    trained(&work, &[]);
    let [root, work_dir] = [dir.path(), work.as_path()].map(|path| path.to_str().unwrap());
    let events = vis_data(&work).join("events.jsonl");
    let whole = fs::read_to_string(&events).unwrap();
    let state = || {
        let all: serde_json::Value =
            serde_json::from_slice(&shanty(&["runs", root, "--json"]).stdout).unwrap();
        (all[0]["state"].as_str().unwrap().to_owned(), all[0]["epoch"].clone())
    };
    let is = |state: &str| (state.to_owned(), serde_json::Value::from(2));
    let until: String =
        whole.split_inclusive('\n').filter(|line| !line.starts_with("{\"event\":\"end\"")).collect();
    assert_ne!(until, whole);
    fs::write(&events, &until).unwrap();
    assert_eq!(state(), is("died"));
    let once = text(&shanty(&["watch", work_dir, "--once"]).stdout);
    assert!(once.starts_with("k: died, epoch 2/2\n"), "nobody can press a key: {once}");
    // Behind the end there may be warnings, and a run that goes on.
    let warned = format!("{whole}{{\"event\":\"warning\",\"text\":\"it came late\"}}\n");
    fs::write(&events, &warned).unwrap();
    assert_eq!(state(), is("finished"));
    let out = dir.path().join("r.html");
    let (report, _) = reported(&["report", work_dir, "-o", out.to_str().unwrap()]);
    let warnings = report["runs"][0]["warnings"].as_array().unwrap();
    assert!(warnings.iter().any(|warning| warning == "it came late"), "{warnings:?}");
    fs::write(&events, format!("{warned}{{\"event\":\"resume\"}}\n")).unwrap();
    assert_eq!(state(), is("died"));
}

/// Views are for others: the numbers are those of the event log.
#[test]
fn a_run_without_a_scalar_file_shows_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("c");
    trained(&work, &["vis_backends=[{type: CsvVisBackend}]"]);
    let scalars = vis_data(&work).join("scalars.json");
    assert!(!scalars.exists());
    let [root, work_dir] = [dir.path(), work.as_path()].map(|path| path.to_str().unwrap());
    let all = text(&shanty(&["runs", root]).stdout);
    assert!(all.contains("finished") && all.contains("accuracy/top1 ") && all.contains("2/2"), "{all}");
    let once = text(&shanty(&["watch", work_dir]).stdout);
    assert!(once.contains("  loss ") && once.contains("best   accuracy/top1 "), "{once}");
    // What else has the name of a view is in nobody's way.
    fs::create_dir(&scalars).unwrap();
    let out = dir.path().join("r.html");
    let (report, _) = reported(&["report", work_dir, "-o", out.to_str().unwrap()]);
    let charts = report["charts"].as_array().unwrap();
    let chart = charts.iter().find(|chart| chart["title"] == "accuracy/top1").unwrap();
    assert_eq!(chart["series"][0]["x"], serde_json::json!([2, 4]), "where the validations were made");
    assert!(!report["tables"].as_array().unwrap().is_empty(), "{report}");
    // A test has a folder of logs of its own, and is shown with the training before it.
    let checkpoint = format!("{work_dir}/epoch_2");
    let set = format!("work_dir={work_dir}");
    let tested = shanty(&["test", "configs/digits_lenet.yaml", &checkpoint, "--set", &set]);
    assert!(tested.status.success(), "{}", text(&tested.stderr));
    let once = text(&shanty(&["watch", work_dir]).stdout);
    assert!(once.starts_with("c: finished, epoch 2/2\n"), "{once}");
    assert!(once.contains("\ntest   accuracy/top1 "), "{once}");
}

#[test]
fn a_sheet_shows_samples_as_they_are_and_as_they_are_trained() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("sheet.html");
    let run = |config: &str, more: &[&str]| {
        let args = [&["browse", config, "-o", out.to_str().unwrap()], more].concat();
        let said = shanty(&args);
        assert!(said.status.success(), "{}", text(&said.stderr));
        let page = fs::read_to_string(&out).unwrap();
        let data = page.split_once("id=\"samples\">").unwrap().1.split_once("</script>").unwrap().0;
        serde_json::from_str::<serde_json::Value>(data).unwrap()
    };
    let sheet = run("configs/digits_lenet.yaml", &["--samples", "5", "--passes", "2"]);
    let samples = sheet["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 5);
    for sample in samples {
        let parts = sample["parts"].as_array().unwrap();
        let sizes: Vec<_> = parts.iter().map(|part| part["width"].as_u64().unwrap()).collect();
        assert_eq!(sizes, [8, 32, 32], "as it is read, and in two passes");
        assert!(parts[1]["png"].as_str().unwrap().starts_with("iVBORw0KGgo"), "a PNG file in base64");
        assert_ne!(parts[1]["png"], parts[2]["png"], "another crop in each pass");
        assert!(
            sample["label"].as_str().unwrap().parse::<u8>().is_ok_and(|digit| digit < 10),
            "{}",
            sample["label"]
        );
    }
    assert_eq!(
        run("configs/digits_lenet.yaml", &["--samples", "5", "--passes", "2"]),
        sheet,
        "the same each time"
    );
    let table = run("configs/houses_mlp.yaml", &["--samples", "2", "--passes", "1"]);
    assert!(table["samples"][0]["parts"][0]["text"].as_str().unwrap().contains(", "), "{table}");
    let words = run("configs/words_lstm.yaml", &["--samples", "1"]);
    assert_eq!(words["samples"].as_array().unwrap().len(), 1);
}

#[test]
fn a_profile_tells_the_parts_of_the_run_its_layers_and_its_hooks() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().to_str().unwrap();
    let quick = ["train_dataloader.num_batch_per_epoch=2", "train_cfg.max_epochs=2", "--no-sanity"];
    let out = shanty(
        &[&["train", "configs/digits_lenet.yaml", "--profile", "-q", "--work-dir", work], &quick[..]]
            .concat(),
    );
    let table = text(&out.stdout);
    let row = |name: &str| table.lines().find(|line| line.starts_with(&format!("{name} ")));
    for part in
        ["data", "forward", "backward", "rest of the step", "optimizer", "hooks", "val", "save", "all else"]
    {
        assert!(row(part).is_some_and(|row| row.contains(" %")), "{part}: {table}");
    }
    // A convolution multiplies both ways, and a share of what this machine does is said of each.
    let conv = row("backbone.features.0").unwrap_or_else(|| panic!("{table}"));
    assert_eq!((conv.matches(" s ").count(), conv.matches(" %").count()), (2, 2), "{conv}");
    assert!(
        row("the machine:").is_some() && row("ProfilerHook").is_some() && row("and").is_some(),
        "{table}"
    );
    let log = fs::read_dir(work).unwrap().map(|entry| entry.unwrap().path());
    assert!(log.into_iter().any(|folder| folder.join("trace.json").is_file()));
}
