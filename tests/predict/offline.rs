//! Metrics computed again from what was predicted.

use super::*;

/// Scores that are NaN gave the first class. They give none, and it is said how many samples are so.
#[test]
fn predictions_that_are_no_numbers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let set = "{type: Csv, file: PART.csv, target: y, features: [a, b, c, d], standardize: false}";
    let config = on_tables(dir.path(), "CrossEntropyLoss", 2, set);
    for file in ["train.csv", "val.csv"] {
        fs::write(dir.path().join(file), "a,b,c,d,y\n1,2,3,4,no\n2,3,4,5,yes\n").unwrap();
    }
    trained(dir.path(), &config);
    // Four times this is no number of 32 bits.
    fs::write(dir.path().join("new.csv"), "a,b,c,d\n1,2,3,4\n3e38,3e38,3e38,3e38\n").unwrap();
    let out =
        shanty(dir.path(), &["predict", &config, "work/iter_2", "--input", "new.csv", "--out", "o.csv"]);
    let text = String::from_utf8(out.stderr).unwrap();
    assert!(text.starts_with("warning: the predictions of 1 of 2 samples are NaN or infinite"), "{text}");
    let csv = fs::read_to_string(dir.path().join("o.csv")).unwrap();
    let cells: Vec<&str> = csv.lines().nth(2).unwrap().split(',').collect();
    assert_eq!(
        (columns(&csv), &cells[..3]),
        (vec!["id", "class", "class_id", "no", "yes"], &["1", "", ""][..])
    );
}

/// What `predict` and DumpResults write is enough to compute the metrics again, without a model and without data.
#[test]
fn metrics_are_computed_again_from_what_was_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("digits_two_heads");
    trained(dir.path(), &config);
    let run = |args: &[&str]| {
        let said = shanty(dir.path(), args);
        assert!(said.status.success(), "{args:?} {said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let metrics = |file: &str| -> serde_json::Map<String, Value> {
        let all: serde_json::Map<String, Value> =
            serde_json::from_slice(&fs::read(dir.path().join(file)).unwrap()).unwrap();
        all.into_iter().filter(|(name, _)| name != "test_loss").collect()
    };
    let more = "test_evaluator+={type: ConfusionMatrix, output: digit}";
    let auc = "test_evaluator+={type: ROCAUC, output: odd, target: parity}";
    let dump =
        "test_evaluator+={type: DumpResults, out_file_path: dumped/all.jsonl, fields: [target, parity]}";
    let set = ["--set", more, auc, dump];
    run(&[&["test", &config, "work/iter_2", "--out", "online.json"], &set[..]].concat());
    run(&["predict", &config, "work/iter_2", "--out", "predicted.jsonl"]);
    let online = metrics("online.json");
    assert!(online.len() >= 6 && online.contains_key("confusion_matrix/result"), "{online:?}");
    for file in ["predicted.jsonl", "dumped/all.jsonl"] {
        let said = run(&["eval-offline", &config, file, "--out", "offline.json", "--set", more, auc]);
        assert!(said.contains("accuracy/top1: ") && said.contains("truth \\ prediction"), "{said}");
        assert_eq!(metrics("offline.json"), online, "{file}");
    }
    let lines = rows(&fs::read_to_string(dir.path().join("dumped/all.jsonl")).unwrap());
    assert_eq!(lines.len(), 299);
    assert!(lines.iter().enumerate().all(|(at, line)| line["id"] == at), "in the order of the data");
    // Nobody knows the truth of files that are given.
    let shops = self::config("shops_mlp");
    let dir = tempfile::tempdir().unwrap();
    trained(dir.path(), &shops);
    let table = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/data/shops.csv");
    assert!(
        rows(&predicted(dir.path(), &shops, "o.jsonl", &[]))
            .iter()
            .all(|row| row["targets"]["target"].is_u64())
    );
    assert!(
        rows(&predicted(dir.path(), &shops, "o.jsonl", &[table]))
            .iter()
            .all(|row| row.get("targets").is_none())
    );
    let said = shanty(dir.path(), &["eval-offline", &shops, "o.jsonl"]);
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(text.contains("o.jsonl:1: there are no `targets` to compare with"), "{text}");
    // Features have targets too, and were counted as scores.
    let args = ["predict", &shops, "work/iter_2", "--features", "network.0", "--out", "f.jsonl"];
    let said = shanty(dir.path(), &args);
    assert!(said.status.success(), "{said:?}");
    let said = shanty(dir.path(), &["eval-offline", &shops, "f.jsonl"]);
    let text = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && text.contains("f.jsonl:1: `network.0` is no prediction"), "{text}");
}

/// Each mistake in a file of predictions has its line.
#[test]
fn a_broken_file_of_predictions_is_told_by_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("shops_mlp");
    let line =
        |scores: &str, target: &str| format!("{{\"id\": ID, \"scores\": {scores}, \"targets\": {target}}}\n");
    let good = line("[0.5, 0.25, 0.25]", "{\"target\": 0}");
    let said = |file: &str, text: &str| {
        let numbered = text.lines().enumerate().map(|(at, line)| line.replace("ID", &at.to_string()) + "\n");
        fs::write(dir.path().join(file), numbered.collect::<String>()).unwrap();
        let out = shanty(dir.path(), &["eval-offline", &config, file]);
        (out.status.code(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    assert_eq!(said("p.jsonl", &good.repeat(600)).0, Some(0));
    let nan = line("[null, null, null]", "{\"target\": 0}");
    let text = said("p.jsonl", &(good.clone() + &nan)).1;
    assert!(text.contains("accuracy/top1: 50.0"), "NaN is null, and no hit: {text}");
    assert!(text.contains("the predictions of 1 samples have a null, which stands for NaN"), "{text}");
    for (bad, words) in [
        ("nonsense".to_owned(), "p.jsonl:3: this is no JSON object"),
        ("[1]".to_owned(), "p.jsonl:3: this is no JSON object"),
        (
            line("[0.5, 0.5]", "{\"target\": 0}"),
            "p.jsonl:3: `scores` has the shape [2], and [3] in the lines above",
        ),
        (line("[0.5, [0.5], 1]", "{\"target\": 0}"), "p.jsonl:3: `scores` has lists of unequal lengths"),
        (line("\"a\"", "{\"target\": 0}"), "p.jsonl:3: `scores` is \"a\", and a number is wanted"),
        (
            line("[0.5, 0.25, 0.25]", "{\"target\": 7}"),
            "sample 3 has label 7, but the scores are for 3 classes",
        ),
        (line("[0.5, 0.25, 0.25]", "{\"other\": 0}"), "p.jsonl:3: `other` is not in the lines above"),
        (line("[0.5, 0.25, 0.25]", "{}"), "p.jsonl:3: there are other predictions or targets"),
    ] {
        let (code, text) = said("p.jsonl", &(good.repeat(2) + &bad));
        assert!(code != Some(0) && text.contains(words), "{bad} {text}");
    }
    let four = line("[0.4, 0.3, 0.2, 0.1]", "{\"target\": 0}");
    let null = line("[0.5, 0.25, 0.25]", "{\"target\": null}");
    let bare = "{\"id\": ID, \"targets\": {\"target\": 0}}\n".to_owned();
    for (text, words) in [
        (four.clone(), "p.jsonl:1: `scores` has 4 numbers, and the config's model has 3 classes"),
        (good.repeat(300) + &four, "p.jsonl:301: `scores` has the shape [4], and [3] in the lines above"),
        (good.replace("ID", "7").repeat(2), "p.jsonl:2: `id: 7` stands in line 1 too"),
        (good.replace("ID", "null"), "p.jsonl:1: there is no `id`"),
        (good.clone() + &null, "p.jsonl:2: `target` of `targets` is null"),
        (bare + &good, "p.jsonl:1: there is no prediction: `scores` or `prediction` is wanted"),
    ] {
        let (code, said) = said("p.jsonl", &text);
        assert!(code != Some(0) && said.contains(words), "{words} {said}");
    }
    // Names may stand twice, as those of customers, and not unseen.
    let (code, text) = said("p.jsonl", &good.replace("ID", "\"a\"").repeat(2));
    assert!(code == Some(0) && text.contains("lines 1 and 2 have one `id`"), "{text}");
    assert!(said("p.jsonl", "").1.contains("p.jsonl: there was no sample"));
    assert!(said("p.csv", "id,class\n").1.contains("predictions with their targets are JSON lines"));
    let out = shanty(dir.path(), &["eval-offline", &config, "nowhere.jsonl"]);
    assert!(String::from_utf8(out.stderr).unwrap().contains("nowhere.jsonl"));
    fs::write(dir.path().join("p.jsonl"), &good).unwrap();
    let out = shanty(dir.path(), &["eval-offline", &config, "p.jsonl", "--out", "p.jsonl"]);
    assert!(String::from_utf8(out.stderr).unwrap().contains("p.jsonl was read, and is not written over"));
}

/// A dump takes no file of somebody else, nothing is pickled, and a check writes none.
#[test]
fn a_dump_takes_no_file_of_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let config = config("shops_mlp");
    fs::write(dir.path().join("mine.jsonl"), "{\"name\": 1}\n").unwrap();
    fs::create_dir(dir.path().join("folder.jsonl")).unwrap();
    let with = |command: &str, file: &str| {
        let set = format!("val_evaluator=[{{type: Accuracy}}, {{type: DumpResults, out_file_path: {file}}}]");
        let out = shanty(dir.path(), &[command, &config, "--work-dir", "work", "--set", &set]);
        (out.status.code(), String::from_utf8([out.stdout, out.stderr].concat()).unwrap())
    };
    for (file, words) in [
        ("results.pkl", "name a file that ends in .jsonl"),
        ("results", "name a file that ends in .jsonl"),
        ("mine.jsonl", "is there already and is no file of predictions of shanty's"),
        ("folder.jsonl", "is a folder: name a file in it"),
        ("mine.jsonl/x.jsonl", "cannot be written"),
        ("work/epoch_2/x.jsonl", "is the name of a checkpoint or of another file of this run"),
        ("work/last_checkpoint/x.jsonl", "is the name of a checkpoint or of another file of this run"),
    ] {
        let (code, text) = with("check", file);
        assert!(code == Some(2) && text.contains(words), "{file} {text}");
    }
    let (code, text) = with("check", "made/fine.jsonl");
    assert!(code == Some(0) && !dir.path().join("made").exists(), "{text}");
    assert_eq!(fs::read_to_string(dir.path().join("mine.jsonl")).unwrap(), "{\"name\": 1}\n");
}
