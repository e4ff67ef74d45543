//! What was read is not written over, what cannot be meant is refused, and nothing is deleted for a run that cannot begin.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;
use std::process::Command;

const TABLE: &str = "id,size,kind,price\n1,2.5,a,7.5\n2,1.5,b,4.5\n3,3.5,a,10.5\n4,1.0,b,3.0\n";

fn config(dataset: &str, loss: &str) -> String {
    let set = format!("{{type: Csv, file: t.csv, target: price, {dataset}}}");
    format!(
        "model: {{type: Supervised, network: [{{type: Linear, in_features: 3, out_features: 1}}], loss: {{type: {loss}}}}}\n\
         train_dataloader: {{batch_size: 2, dataset: {set}}}\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.01}}}}\n\
         train_cfg: {{by_epoch: true, max_epochs: 2}}\nwork_dir: w\nrandomness: {{seed: 0}}\n"
    )
}

/// The exit code and all that was said.
fn shanty(dir: &Path, line: &str) -> (i32, String) {
    let out =
        Command::new(env!("CARGO_BIN_EXE_shanty")).args(line.split(' ')).current_dir(dir).output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.code().unwrap(), said)
}

fn with(table: &str, text: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("t.csv"), table).unwrap();
    fs::write(dir.path().join("c.yaml"), text).unwrap();
    dir
}

/// Predictions replaced the table that they were made of, a drawing the config.
#[test]
fn an_output_does_not_replace_what_was_read() {
    let text = config("ignore: [id]", "MSELoss");
    let dir = with(TABLE, &text);
    assert_eq!(shanty(dir.path(), "train c.yaml").0, 0);
    fs::copy(dir.path().join("t.csv"), dir.path().join("in.csv")).unwrap();
    fs::write(dir.path().join("more.yaml"), "_base_: c.yaml\n").unwrap();
    for (line, kept) in [
        ("predict c.yaml w/epoch_2 --out t.csv", "t.csv"),
        ("predict c.yaml w/epoch_2 --out ./w/../t.csv", "t.csv"),
        ("predict c.yaml w/epoch_2 --input in.csv --out in.csv", "in.csv"),
        ("plan c.yaml --svg c.yaml", "c.yaml"),
        ("plan more.yaml --svg c.yaml", "c.yaml"),
        ("plan c.yaml --svg t.csv", "t.csv"),
        ("ckpt convert w/epoch_2 t.csv", "t.csv"),
    ] {
        let before = fs::read(dir.path().join(kept)).unwrap();
        let (code, said) = shanty(dir.path(), line);
        assert_eq!(code, 2, "{line}: {said}");
        assert_eq!(fs::read(dir.path().join(kept)).unwrap(), before, "{line}");
    }
    assert_eq!(shanty(dir.path(), "predict c.yaml w/epoch_2 --input in.csv --out out.csv").0, 0);
    assert_eq!(
        shanty(dir.path(), "predict c.yaml w/epoch_2 --input in.csv --out out.csv").0,
        0,
        "its own again"
    );
}

/// Numbers with a decimal comma became classes, which a loss of distances learnt; a softmax over one score learnt nothing.
#[test]
fn losses_refuse_targets_that_they_do_not_fit() {
    let comma = TABLE.replace(',', ";").replace('.', ",");
    let number =
        config("ignore: [id], delimiter: ';'", "MSELoss").replace("in_features: 3", "in_features: 6");
    for (table, text, says) in [
        (&*comma, number, "`price`): \"7,5\" is a number for people"),
        (TABLE, config("ignore: [id]", "CrossEntropyLoss"), "is always 0"),
        (TABLE, config("features: [size, price]", "MSELoss"), "is what is to be predicted"),
        (TABLE, config("ignore: [ID]", "MSELoss"), "did you mean `id`?"),
        (&*TABLE.replace(',', ";"), config("ignore: [id]", "MSELoss"), "give `delimiter: ';'`"),
    ] {
        let dir = with(table, &text);
        for command in ["check", "train"] {
            let (code, said) = shanty(dir.path(), &format!("{command} c.yaml"));
            assert!(code == 2 && said.contains(says), "{command}: {code} {said}");
        }
    }
}

/// The old checkpoints were gone when the first batch showed that the new run cannot be.
#[test]
fn overwrite_deletes_nothing_for_a_run_that_cannot_begin() {
    let dir = with(TABLE, &config("ignore: [id]", "MSELoss"));
    assert_eq!(shanty(dir.path(), "train c.yaml").0, 0);
    let collate = "train_dataloader.collate_fn.type=list_collate";
    let (code, said) = shanty(dir.path(), &format!("train c.yaml --overwrite {collate}"));
    assert!(code != 0, "{said}");
    assert!(dir.path().join("w/epoch_2/manifest.json").exists(), "{said}");
    let (code, said) = shanty(dir.path(), "train c.yaml --overwrite");
    assert_eq!(code, 0, "{said}");
}

/// A loss that is no number from the first epoch on ended in "finished", with no word: it is said once, and once more
/// at the end.
#[test]
fn a_loss_that_is_no_number_is_warned_of() {
    let dir = with(TABLE, &config("ignore: [id]", "MSELoss").replace("lr: 0.01", "lr: 1.0e+30"));
    let (_, said) = shanty(dir.path(), "train c.yaml train_cfg.max_epochs=9");
    assert_eq!(said.matches("CheckInvalidLossHook would end the run").count(), 2, "{said}");
}
