//! Backends that a config names, and views that the command line makes of a log.

use super::*;

fn config(more: &str) -> String {
    let data = "{batch_size: 4, num_workers: 0, dataset: {type: Synthetic, n: 8, shape: [1, 8, 8], classes: 4, \
                pipeline: [{type: PackInputs}]}}";
    format!(
        "model: {{type: ImageClassifier, backbone: {{type: Sequential, layers: [{{type: Flatten}}, {{type: Linear, \
         in_features: 64, out_features: 4}}]}}, head: {{type: ClsHead, loss: {{type: CrossEntropyLoss}}}}}}\n\
         train_dataloader: {data}\ntrain_cfg: {{by_epoch: true, max_epochs: 1}}\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\nrandomness: {{seed: 1}}\n{more}\n"
    )
}

/// What `vis_backends` and `visualizer` say is what is written; the visualizer's list comes first, as in MMEngine.
#[test]
fn a_config_names_its_backends() {
    let written = |more: &str| {
        let dir = tempfile::tempdir().unwrap();
        let work_dir = format!("work_dir: '{}'\n", dir.path().join("run").display());
        let node = parse("c.yaml", &config(&format!("{work_dir}{more}"))).unwrap();
        let mut runner = Runner::from_config(&node, Some("c.yaml")).unwrap();
        runner.train().unwrap();
        let names = fs::read_dir(vis_data(&runner)).unwrap();
        let mut names: Vec<_> =
            names.map(|name| name.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !["config.yaml", "places.json"].contains(&&**name));
        names.iter_mut().filter(|name| name.contains("tfevents")).for_each(|name| *name = "tfevents".into());
        names.sort();
        names.join(" ")
    };
    assert_eq!(written(""), "events.jsonl scalars.json");
    assert_eq!(
        written("vis_backends: [{type: LocalVisBackend, scalar_save_file: own.json}]"),
        "events.jsonl own.json"
    );
    assert_eq!(written("vis_backends: {type: TensorboardVisBackend}"), "events.jsonl tfevents");
    let both = "vis_backends: [{type: CsvVisBackend}]\nvisualizer: {type: UniversalVisualizer, vis_backends: \
                [{type: LocalVisBackend}, {type: TensorboardVisBackend}]}";
    assert_eq!(written(both), "events.jsonl scalars.json tfevents");
    assert_eq!(
        written("vis_backends: [{type: WandbVisBackend, init_kwargs: {project: x}}]"),
        "events.jsonl scalars.json"
    );
    // A folder of one's own, which runs share.
    let shared = tempfile::tempdir().unwrap();
    let named = format!(
        "vis_backends: [{{type: TensorboardVisBackend, save_dir: '{}'}}]",
        shared.path().join("tb").display()
    );
    assert_eq!(written(&named), "events.jsonl");
    assert_eq!(fs::read_dir(shared.path().join("tb")).unwrap().count(), 1);
}

/// Runs that begin in one second under one name have a file each in a folder that they share; one that goes on has the
/// same again.
#[test]
fn runs_that_share_a_folder_have_a_file_each() {
    let (one, two, shared) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let yaml = format!("{{type: TensorboardVisBackend, name: tb, save_dir: '{}'}}", shared.path().display());
    let files = || {
        let names = fs::read_dir(shared.path()).unwrap();
        names.map(|name| name.unwrap().file_name()).collect::<std::collections::BTreeSet<_>>()
    };
    let run = |dir: &Path, resume: bool| with(every_step(dir, resume), &[&yaml]);
    let kill = |cx: &mut Ctx<'_>, _: &mut Event<'_>| match cx.progress.iter {
        10 => Err("killed".into()),
        _ => Ok(()),
    };
    run(one.path(), false).on(Point::BeforeTrainIter, kill).build().unwrap().train().unwrap_err();
    let first = files();
    run(two.path(), false).build().unwrap().train().unwrap();
    let both = files();
    assert_eq!((first.len(), both.len()), (1, 2));
    assert!(both.is_superset(&first));
    run(one.path(), true).build().unwrap().train().unwrap();
    assert_eq!(files(), both);
}

/// `check` and `train` refuse the same, at its place.
#[test]
fn backends_that_cannot_be_are_refused_by_check_and_train() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let in_file =
        format!("[{{type: TensorboardVisBackend, save_dir: '{}'}}]", file.path().join("x").display());
    for (backends, why) in [
        ("[{type: LocalVisBackend, scalar_save_file: ../up.json}]", "`../up.json` is not"),
        ("[{type: LocalVisBackend, scalar_save_file: events.jsonl}]", "`events.jsonl` is not"),
        ("[{type: LocalVisBackend, scalar_save_file: places.json}]", "`places.json` is not"),
        ("[{type: LocalVisBackend, scalar_save_file: tables.json}]", "`tables.json` is not"),
        ("[{type: LocalVisBackend, scalar_save_file: train.csv}]", "`train.csv` is not"),
        (
            "[{type: TensorboardVisBackend}, {type: TensorboardVisBackend, name: b}]",
            "writes a file of TensorBoard in `vis_data` too",
        ),
        (
            "[{type: TensorboardVisBackend, save_dir: x}, \
             {type: TensorboardVisBackend, name: b, save_dir: ./x}]",
            "writes a file of TensorBoard in `",
        ),
        ("[{type: LocalVisBackend, save_dir: x}]", "unknown key `save_dir`"),
        ("[{type: LocalVisBackend}, {type: LocalVisBackend}]", "two backends are called `LocalVisBackend`"),
        ("[{type: LocalVisBackend}, {type: LocalVisBackend, name: b}]", "writes `scalars.json` too"),
        ("[{type: CsvVisBackend, on_error: abort}]", "`abort`"),
        ("[{type: CvsVisBackend}]", "unknown vis_backend `CvsVisBackend`"),
        ("[{type: PrometheusVisBackend, addr: here}]", "`addr: here` is no address with a port"),
        (&in_file, "is a file"),
    ] {
        for key in ["vis_backends: ", "visualizer: {vis_backends: "] {
            let end = if key.contains('{') { "}" } else { "" };
            let text = config(&format!("work_dir: /nowhere/at/all\n{key}{backends}{end}"));
            let node = parse("c.yaml", &text).unwrap();
            let said = check(&node, Some("c.yaml")).map(drop).unwrap_err().to_string();
            assert!(said.contains(why) && said.contains("c.yaml:"), "{backends}: {said}");
            let trained = Runner::from_config(&node, Some("c.yaml")).map(drop).unwrap_err().to_string();
            assert!(trained.contains(why), "{backends}: {trained}");
        }
    }
}

fn export(arguments: &[&str]) -> (bool, String) {
    let done =
        std::process::Command::new(env!("CARGO_BIN_EXE_shanty")).arg("export-logs").args(arguments).output();
    let done = done.unwrap();
    (done.status.success(), String::from_utf8_lossy(&done.stderr).into_owned())
}

/// What the log becomes is what the backends wrote, byte for byte; nothing is replaced unasked.
#[test]
fn every_view_is_made_again_of_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = every_step(dir.path(), false).build().unwrap();
    runner.train().unwrap();
    let (work, own) = (dir.path().to_str().unwrap(), vis_data(&runner));
    let files = |dir: &Path| -> BTreeMap<String, Vec<u8>> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        names.map(|path| (name(&path), fs::read(&path).unwrap())).collect()
    };
    let (mut written, mut made) = (files(&own), BTreeMap::new());
    for to in ["csv", "tensorboard", "scalars"] {
        let (done, said) = export(&[work, "--to", to]);
        assert!(done, "{said}");
        made.extend(files(&dir.path().join(to)));
        let (done, said) = export(&[work, "--to", to]);
        assert!(!done && said.contains("--overwrite"), "{said}");
        assert!(export(&[work, "--to", to, "--overwrite"]).0);
    }
    written.retain(|name, _| name != "events.jsonl" && name != "config.yaml");
    assert_eq!(written.keys().collect::<Vec<_>>(), made.keys().collect::<Vec<_>>());
    assert!(written == made);
    let (done, said) = export(&[work, "--to", "csv", "--out", own.to_str().unwrap(), "--overwrite"]);
    assert!(!done && said.contains("a run's own files"), "{said}");
    let (done, said) = export(&[own.to_str().unwrap(), "--to", "csv"]);
    assert!(!done && said.contains("name the work_dir of a run"), "{said}");
}

/// What an earlier export left goes first, links are not followed, and what nobody exported stays. A log without a
/// training is passed over, and a line that cannot be read is said.
#[test]
fn an_export_replaces_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = every_step(dir.path(), false).build().unwrap();
    runner.train().unwrap();
    let (work, out) = (dir.path().to_str().unwrap(), dir.path().join("csv"));
    let later = dir.path().join("29991231_000000/vis_data");
    fs::create_dir_all(&later).unwrap();
    fs::write(later.join("events.jsonl"), "{\"event\":\"run\"}\n").unwrap();
    fs::create_dir(&out).unwrap();
    for name in ["test.csv", "notes.txt", "outside"] {
        fs::write(out.join(name), "old").unwrap();
    }
    #[cfg(unix)]
    std::os::unix::fs::symlink(out.join("outside"), out.join("train.csv")).unwrap();
    let log = vis_data(&runner).join("events.jsonl");
    let whole = fs::read_to_string(&log).unwrap();
    fs::write(&log, format!("{whole}{{\"event\":")).unwrap();
    let (done, said) = export(&[work, "--to", "csv", "--overwrite"]);
    assert!(done && said.contains("1 line could not be read"), "{said}");
    assert!(!out.join("test.csv").exists());
    assert_eq!(fs::read_to_string(out.join("notes.txt")).unwrap(), "old");
    assert_eq!(fs::read_to_string(out.join("outside")).unwrap(), "old");
    assert_eq!(rows(&out.join("train.csv")).len(), 13);
}

/// The columns of the Parquet files are those of the CSV files, as numbers; a build without them says how to get one.
#[test]
fn a_log_becomes_parquet_where_that_is_built() {
    let dir = tempfile::tempdir().unwrap();
    let mut runner = every_step(dir.path(), false).build().unwrap();
    runner.train().unwrap();
    let work = dir.path().to_str().unwrap();
    let (done, said) = export(&[work, "--to", "parquet"]);
    #[cfg(not(feature = "parquet"))]
    assert!(!done && said.contains("--features parquet") && !dir.path().join("parquet").exists(), "{said}");
    #[cfg(feature = "parquet")]
    {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        use parquet::record::Field;
        assert!(done, "{said}");
        assert!(export(&[work, "--to", "csv"]).0);
        for kind in ["train", "val"] {
            let file = fs::File::open(dir.path().join(format!("parquet/{kind}.parquet"))).unwrap();
            let reader = SerializedFileReader::new(file).unwrap();
            let table = rows(&dir.path().join(format!("csv/{kind}.csv")));
            let found: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
            assert_eq!(found.len(), table.len() - 1);
            for (row, line) in found.iter().zip(&table[1..]) {
                for ((name, value), (title, text)) in row.get_column_iter().zip(table[0].iter().zip(line)) {
                    match value {
                        Field::TimestampMicros(micros) => {
                            assert_eq!(*micros, 1_764_000_000_250_000, "{title} {text}")
                        }
                        Field::Long(value) => assert_eq!((name, value.to_string()), (title, text.clone())),
                        Field::Double(value) => assert_eq!((name, value.to_string()), (title, text.clone())),
                        Field::Null => assert_eq!(text, "", "{title}"),
                        other => panic!("{name}: {other:?}"),
                    }
                }
            }
        }
    }
}
