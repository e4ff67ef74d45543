//! What the command line says to what a person gets wrong: what the thing is, and what to give instead.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
#![cfg(feature = "cli")]

use std::fs;
use std::path::Path;
use std::process::Command;

const CONFIG: &str = "\
model:
  type: ImageClassifier
  backbone: {type: Sequential, layers: [{type: Flatten}, {type: Linear, in_features: 12, out_features: 3}]}
  head: {type: ClsHead, loss: {type: CrossEntropyLoss}}
train_dataloader: &data
  batch_size: 4
  dataset: {type: Synthetic, n: 16, shape: [3, 2, 2], classes: 3}
  sampler: {type: DefaultSampler, shuffle: true}
val_dataloader: *data
val_evaluator: {type: Accuracy}
val_cfg: {}
optim_wrapper: {optimizer: {type: SGD, lr: 0.1, momentum: 0.9}}
train_cfg: {by_epoch: true, max_epochs: 3}
randomness: {seed: 1}
";

/// The exit code and all that was said.
fn shanty(dir: &Path, line: &str) -> (i32, String) {
    let arguments = line.split(' ').filter(|word| !word.is_empty());
    let out = Command::new(env!("CARGO_BIN_EXE_shanty")).args(arguments).current_dir(dir).output().unwrap();
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
    (out.status.code().unwrap(), said)
}

/// A line is refused with these words, and without those that begin with `!`.
fn refused(dir: &Path, line: &str, code: i32, words: &[&str]) {
    let (found, said) = shanty(dir, line);
    assert_eq!(found, code, "{line}: {said}");
    for word in words {
        match word.strip_prefix('!') {
            Some(word) => assert!(!said.contains(word), "{line}: {said}"),
            None => assert!(said.contains(word), "{line}: no `{word}` in {said}"),
        }
    }
}

/// A finished run of three epochs in `w`.
fn trained() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    let (code, said) = shanty(dir.path(), "train c.yaml --work-dir w");
    assert_eq!(code, 0, "{said}");
    dir
}

/// Whatever file stood behind `--resume`, it was called a file of weights.
#[test]
fn a_file_to_resume_from_is_called_what_it_is() {
    let dir = trained();
    let resume = |file: &str, words: &[&str]| {
        refused(dir.path(), &format!("train c.yaml --work-dir w --resume={file}"), 2, words);
    };
    fs::write(dir.path().join("notes.txt"), "what I did").unwrap();
    fs::copy(dir.path().join("w/epoch_3/model.safetensors"), dir.path().join("m.safetensors")).unwrap();
    resume("c.yaml", &["is a config", "!file of weights"]);
    for part in ["manifest.json", "state.json", "optimizer.safetensors"] {
        let words = ["a part of a checkpoint", "resume the directory `w/epoch_3`", "!file of weights"];
        resume(&format!("w/epoch_3/{part}"), &words);
    }
    resume(
        "w/epoch_3/model.safetensors",
        &["a file of weights", "resume the directory `w/epoch_3`", "load_from"],
    );
    resume("m.safetensors", &["a file of weights", "load_from", "!resume the directory"]);
    resume("notes.txt", &["is no checkpoint", "shanty reads its own checkpoints", "!file of weights, and"]);
    // A name that is not there: the ones that are.
    for missing in ["epoch_9", "nope", "w/epoch_9"] {
        refused(
            dir.path(),
            &format!("train c.yaml --work-dir w --resume={missing}"),
            1,
            &["there is no such checkpoint", "w holds epoch_1, epoch_2, epoch_3"],
        );
    }
    refused(dir.path(), "train c.yaml --work-dir v --resume=epoch_1", 1, &["none at all in "]);
}

/// What a resume refuses of a changed config was told by it alone: a check looked for no checkpoint.
#[test]
fn a_check_of_a_resume_compares_with_the_checkpoint() {
    let dir = trained();
    let more = "resume=true train_cfg.max_epochs=4";
    let (code, said) = shanty(dir.path(), &format!("check c.yaml --work-dir w {more}"));
    assert_eq!(code, 0, "{said}");
    for (change, word) in [
        ("train_dataloader.dataset.n=12", "are not those of the checkpoint"),
        ("optim_wrapper.optimizer.momentum=0", "SGD"),
        ("model.backbone.layers.1.out_features=4", "[4, 12]"),
    ] {
        let line = |command: &str| format!("{command} c.yaml --work-dir w {more} {change}");
        let (trained, told) = shanty(dir.path(), &line("train"));
        let (checked, said) = shanty(dir.path(), &line("check"));
        assert_eq!(trained == 0, checked == 0, "{change}: {told} … {said}");
        assert!(trained == 0 || (told.contains(word) && said.contains(word)), "{change}: {told} … {said}");
    }
}

/// The words led nowhere where checkpoints have a folder of their own; a damaged newest one was passed over in silence;
/// a dump kept `overwrite`, with which a training by it would delete the run.
#[test]
fn words_find_what_is_saved_elsewhere_and_name_what_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("c.yaml"), CONFIG).unwrap();
    let hook =
        "default_hooks={checkpoint: {type: CheckpointHook, interval: 1, by_epoch: true, out_dir: outs}}";
    let args = ["train", "c.yaml", "--work-dir", "w", "--overwrite", hook];
    let out = Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir.path()).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let dump = fs::read_to_string(at("w/c.yaml")).unwrap();
    assert!(!dump.contains("overwrite"), "{dump}");
    let digest = |name: &str| {
        let (code, said) = shanty(dir.path(), &format!("ckpt digest {name}"));
        assert_eq!(code, 0, "{name}: {said}");
        said
    };
    let newest = digest("outs/w/epoch_3");
    assert_eq!((digest("w/latest"), digest("w")), (newest.clone(), newest));
    let (code, said) = shanty(dir.path(), "val c.yaml epoch_2 --work-dir w");
    assert_eq!(code, 0, "{said}");
    let weights = at("outs/w/epoch_3/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&weights, bytes).unwrap();
    let (code, said) = shanty(dir.path(), "val c.yaml latest --work-dir w");
    assert!(code == 0 && said.contains("epoch_3") && said.contains("outs/w/epoch_2 is taken"), "{said}");
}

/// The file that names the newest checkpoint was taken for weights, and the words that people use for checkpoints were
/// unknown: `latest`, `best`, the work_dir. They lead to one wherever a command takes one.
#[test]
fn a_checkpoint_is_found_by_the_words_for_it() {
    let dir = trained();
    let said = |line: &str| {
        let (code, said) = shanty(dir.path(), line);
        assert_eq!(code, 0, "{line}: {said}");
        said
    };
    let digest = |name: &str| said(&format!("ckpt digest w/{name}"));
    let newest = digest("epoch_3");
    assert_ne!(newest, digest("epoch_2"));
    for word in ["last_checkpoint", "latest", "", "../w"] {
        assert_eq!(digest(word), newest, "{word}");
    }
    let metrics = |name: &str| {
        let said = said(&format!("val c.yaml {name} --work-dir w"));
        said.lines().filter(|line| line.starts_with("accuracy")).collect::<String>()
    };
    let last = metrics("epoch_3");
    assert!(!last.is_empty());
    for word in ["last_checkpoint", "latest", "w", "w/latest", "w/last_checkpoint"] {
        assert_eq!(metrics(word), last, "{word}");
    }
    // The pointer decides, also when it is told to lead back.
    fs::write(dir.path().join("w/last_checkpoint"), "epoch_2").unwrap();
    assert_eq!((digest("latest"), digest("last_checkpoint")), (digest("epoch_2"), digest("epoch_2")));
    fs::remove_file(dir.path().join("w/last_checkpoint")).unwrap();
    assert_eq!((digest("latest"), digest("last_checkpoint")), (newest.clone(), newest.clone()));
    // A name of one's own comes before the word.
    let copy = |to: &str| {
        fs::create_dir(dir.path().join(to)).unwrap();
        for file in fs::read_dir(dir.path().join("w/epoch_1")).unwrap() {
            let file = file.unwrap().path();
            fs::copy(&file, dir.path().join(to).join(file.file_name().unwrap())).unwrap();
        }
    };
    copy("w/latest");
    assert_eq!(digest("latest"), digest("epoch_1"));
    let best = |words: &[&str]| refused(dir.path(), "ckpt digest w/best", 1, words);
    best(&["no best checkpoint is kept", "save_best", "w holds latest, epoch_1, epoch_2, epoch_3"]);
    copy("w/best_a_epoch_1");
    assert_eq!((digest("best"), metrics("best")), (digest("epoch_1"), metrics("epoch_1")));
    copy("w/best_b_epoch_1");
    best(&["each of best_a_epoch_1, best_b_epoch_1 is best by its metric: name one"]);
    refused(dir.path(), "ckpt digest w/epoch_22", 1, &["did you mean `epoch_2`?", "w holds"]);
    for word in ["latest", "best"] {
        let words = ["there is no such checkpoint, and none at all in elsewhere"];
        refused(dir.path(), &format!("val c.yaml {word} --work-dir elsewhere"), 1, &words);
    }
    refused(dir.path(), "val c.yaml last --work-dir w", 1, &["there is no such checkpoint", "w holds"]);

    let resumed = said("train c.yaml --work-dir w --resume w/best_a_epoch_1 train_cfg.max_epochs=3");
    assert!(resumed.contains("resumed w/best_a_epoch_1"), "{resumed}");
    let resumed = said("train c.yaml --work-dir w --resume last_checkpoint train_cfg.max_epochs=4");
    assert!(resumed.contains("epoch 3, iteration"), "{resumed}");
    refused(dir.path(), "verify-resume c.yaml --work-dir w", 2, &["leave out `--work-dir`"]);
}

/// `val CHECKPOINT CONFIG` suggested the very name that was given.
#[test]
fn swapped_arguments_are_called_swapped() {
    let dir = trained();
    for first in ["w/epoch_2", "w", "epoch_2", "w/epoch_2/model.safetensors"] {
        for command in ["val", "test", "predict --out o.csv"] {
            let bare = command.split(' ').next().unwrap_or_default();
            let words = ["are swapped", &format!("`shanty {bare} c.yaml {first}`")];
            refused(dir.path(), &format!("{command} {first} c.yaml"), 2, &words);
        }
    }
    let (code, said) = shanty(dir.path(), "val c.yaml w/epoch_2");
    assert_eq!(code, 0, "{said}");
}

/// The mean of F8 tensors was the last file's, and a `.pth` file was no PyTorch file.
#[test]
fn weights_are_averaged_and_named_for_what_they_are() {
    let dir = trained();
    for name in ["b.pth", "b.PT", "b.bin", "b.npz", "b.onnx"] {
        for line in ["convert w/epoch_3", "average w/epoch_2 w/epoch_3 --out"] {
            let words = ["shanty writes .safetensors only", "name it `b.safetensors`"];
            refused(dir.path(), &format!("ckpt {line} {name}"), 2, &words);
            assert!(!dir.path().join(name).exists());
        }
    }
    for name in ["b.safetensors", "b", "b.weights"] {
        let (code, said) = shanty(dir.path(), &format!("ckpt convert w/epoch_3 {name}"));
        assert_eq!(code, 0, "{said}");
    }
    let file = |name: &str, dtype: &str, size: usize, byte: u8| {
        let header = format!(r#"{{"w":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,{}]}}}}"#, 2 * size);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.bytes());
        bytes.extend(vec![byte; 2 * size]);
        fs::write(dir.path().join(name), bytes).unwrap();
    };
    for (dtype, size) in [("F8_E4M3", 1), ("F8_E5M2", 1), ("C64", 8)] {
        file("x.safetensors", dtype, size, 1);
        file("y.safetensors", dtype, size, 2);
        let line = "ckpt average x.safetensors y.safetensors --out mean.safetensors";
        refused(dir.path(), line, 1, &["`w`", dtype, "cannot be averaged"]);
        assert!(!dir.path().join("mean.safetensors").exists());
    }
}

/// `epoch_10` stood before `epoch_2`; a finished run that was resumed said nothing.
#[test]
fn a_finished_run_says_what_to_do_and_names_are_in_order() {
    let dir = trained();
    refused(
        dir.path(),
        "train c.yaml --work-dir w --resume",
        0,
        &["the run is finished: all 3 epochs are done", "raise `train_cfg.max_epochs`"],
    );
    refused(dir.path(), "train c.yaml --work-dir w --resume train_cfg.max_epochs=10", 0, &["!is finished"]);
    refused(
        dir.path(),
        "val c.yaml w/nope work_dir=w",
        1,
        &["holds epoch_1, epoch_2, epoch_3, epoch_4", "epoch_9, epoch_10"],
    );
}

/// The logs of all its runs, some thousand lines, stood around its three.
#[test]
fn verify_resume_says_a_line_for_each_cut() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    let (code, said) = shanty(dir.path(), "verify-resume c.yaml --cuts 2");
    assert_eq!(code, 0, "{said}");
    let lines: Vec<_> = said.lines().collect();
    assert!(
        lines.len() == 2 && lines.iter().all(|l| l.starts_with("cut after ") && l.ends_with(" of 12: equal")),
        "{said}"
    );
    let (_, said) = shanty(dir.path(), "verify-resume c.yaml --cuts 2 -v");
    assert!(said.contains("Epoch(train) [1][4/4]") && said.lines().count() > 50, "{said}");
}

/// A crate of such a name could not be compiled.
#[test]
fn a_hook_gets_a_name_that_compiles() {
    let dir = tempfile::tempdir().unwrap();
    for (name, why) in [
        ("fn", "a word of Rust"),
        ("async", "a word of Rust"),
        ("hook", "hide a type"),
        ("state", "hide a type"),
        ("serde", "a crate"),
        ("test", "a crate"),
        ("checkpoint_hook", "the name of a type of shanty"),
        ("Nope", "snake_case"),
    ] {
        refused(dir.path(), &format!("new hook {name}"), 2, &[why, "write it like `grad_noise`"]);
        assert!(!dir.path().join(name).exists());
    }
}

/// `list loop` was empty; unknown names ended in the middle of a sentence.
#[test]
fn what_can_be_named_is_listed_and_described() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["EpochBasedTrainLoop", "IterBasedTrainLoop"] {
        let (code, said) = shanty(dir.path(), "list loop");
        assert!(code == 0 && said.contains(name), "{said}");
        let (code, said) = shanty(dir.path(), &format!("describe {name}"));
        assert!(code == 0 && said.contains("val_interval"), "{said}");
    }
    let section =
        ["there is no type `AmpOptimWrapper`; it is the `type` of a section", "explain CONFIG optim_wrapper"];
    refused(dir.path(), "describe AmpOptimWrapper", 2, &section);
    refused(dir.path(), "describe Qqqqq", 2, &["there is no type `Qqqqq`: `shanty list` shows all"]);
    refused(dir.path(), "describe Acuracy", 2, &["did you mean `Accuracy`? `shanty list` shows all"]);
    refused(dir.path(), "describe crop", 2, &["did you mean `", "Crop`"]);
    refused(dir.path(), "list qqqqq", 2, &["there is no kind `qqqqq`: known are "]);
    refused(dir.path(), "list hooks", 2, &["did you mean `hook`? known are "]);
}

/// Keys at the value that they have anyway were refused.
#[test]
fn defaults_of_pytorch_and_mmengine_pass() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    let adam = "optim_wrapper.optimizer={type: Adam, lr: 0.001, maximize: ";
    let check = |change: &str| {
        let arguments = ["check", "c.yaml", "--set", change];
        let out = Command::new(env!("CARGO_BIN_EXE_shanty"))
            .args(arguments)
            .current_dir(dir.path())
            .output()
            .unwrap();
        (out.status.code().unwrap(), String::from_utf8(out.stderr).unwrap())
    };
    for key in ["log_processor", "default_hooks", "randomness", "load_options", "exclude_samples"] {
        let (code, said) = check(&format!("{key}=null"));
        assert_eq!(code, 0, "{key}: {said}");
    }
    for change in [
        format!("{adam}false}}"),
        "param_scheduler={type: StepLR, step_size: 1, last_step: -1, verbose: false}".to_owned(),
        "model.backbone.layers.1={type: Linear, in_features: 12, out_features: 3, device: null, dtype: null}"
            .to_owned(),
    ] {
        let (code, said) = check(&change);
        assert_eq!(code, 0, "{change}: {said}");
    }
    let (code, said) = check(&format!("{adam}true}}"));
    assert!(code == 2 && said.contains("`maximize` may only be false"), "{said}");
}

/// A missing bundle was a missing file.
#[test]
fn what_is_no_replay_bundle_is_told() {
    let dir = trained();
    for path in ["nope", "w", "w/epoch_1"] {
        let words = [path, "it is no replay bundle", "step.json", "CheckInvalidLossHook"];
        refused(dir.path(), &format!("replay {path}"), 1, &words);
    }
}

/// `Pretrained` and `load_from` took what a resume refuses.
#[test]
fn pretrained_weights_are_verified() {
    let dir = trained();
    let file = dir.path().join("w/epoch_3/model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let config = CONFIG.replace(
        "type: ImageClassifier",
        "type: ImageClassifier\n  init_cfg: {type: Pretrained, checkpoint: CKPT}",
    );
    for checkpoint in ["w/epoch_3", "w/epoch_3/model.safetensors"] {
        fs::write(dir.path().join("p.yaml"), config.replace("CKPT", checkpoint)).unwrap();
        for command in ["check p.yaml", "train p.yaml --work-dir v"] {
            let (code, said) = shanty(dir.path(), command);
            assert!(code != 0 && said.contains("is damaged"), "{command} {checkpoint}: {said}");
        }
    }
    // A manifest that cannot be read vouches for nothing.
    fs::write(dir.path().join("w/epoch_2/manifest.json"), "{").unwrap();
    refused(dir.path(), "val c.yaml w/epoch_2/model.safetensors", 1, &["manifest.json"]);
}

/// A file of 20 GB under the name of the config's dump was read whole.
#[test]
fn a_huge_file_in_the_place_of_the_dump_is_only_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("c.yaml"), CONFIG).unwrap();
    fs::create_dir(dir.path().join("w")).unwrap();
    let huge = fs::File::create(dir.path().join("w/c.yaml")).unwrap();
    huge.set_len(20_000_000_000).unwrap();
    let (code, said) = shanty(dir.path(), "train c.yaml --work-dir w");
    assert_eq!(code, 0, "{said}");
    assert_eq!(huge.metadata().unwrap().len(), 20_000_000_000);
    assert!(said.contains("is no dump of shanty's"), "{said}");
}

/// A mapping of `--set` without its `type` was told at the line of the file whose key it replaces.
#[test]
fn a_mapping_of_the_command_line_is_told_where_it_stands() {
    let dir = trained();
    for (set, caret) in [
        ("optim_wrapper.optimizer={lr: 0.1}", "                        ^"),
        ("optim_wrapper={optimizer: {lr: 0.1}}", "               ^^^^^^^^^"),
        ("optim_wrapper.optimizer={type: SGD, lrr: 0.1}", "                                    ^^^"),
        ("optim_wrapper.optimizer=  {type: SDG}", "                                 ^^^"),
        ("custom_hooks=[{interval: 1}]", "              ^"),
    ] {
        let mut check = Command::new(env!("CARGO_BIN_EXE_shanty"));
        let out = check.args(["check", "c.yaml", "--set", set]).current_dir(dir.path()).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("1 | {set}\n  | {caret}")), "{set}: {said}");
    }
}
