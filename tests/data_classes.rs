//! Folders of pictures through runs: classes by name, what changed since a checkpoint, what cannot be read.
#![cfg(feature = "images")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod folders;

use std::fs;
use std::path::Path;

use folders::{classes, config, folder, labels, png, refusal, said, shanty, write};

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

/// One folder for both loaders, a link to it, or a copy of it: what is validated was trained on.
#[test]
fn pictures_that_are_trained_on_and_validated_are_told_of() {
    let shared = |make: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        classes(&dir.path().join("d/train"), &["cat", "dog"], 2);
        config(dir.path(), 2, "");
        make(dir.path());
        let out = shanty(&["check", "c.yaml"], dir.path());
        assert!(out.status.success(), "{}", said(&out));
        let text = said(&out);
        let words =
            text.lines().find(|line| line.contains("are in `train_dataloader` too")).map(str::to_owned);
        words.map(|line| line.split(" samples").next().unwrap().to_owned())
    };
    let to_train = |dir: &Path| {
        let text = fs::read_to_string(dir.join("c.yaml")).unwrap();
        fs::write(dir.join("c.yaml"), text.replace("data_prefix: val", "data_prefix: train")).unwrap();
    };
    let all = Some("warning: all 4".to_owned());
    assert_eq!(shared(&to_train), all);
    assert_eq!(shared(&|dir| classes(&dir.join("d/val"), &["cat", "dog"], 2)), all, "a copy");
    #[cfg(unix)]
    assert_eq!(shared(&|dir| std::os::unix::fs::symlink("train", dir.join("d/val")).unwrap()), all);
    #[cfg(unix)]
    let linked = |dir: &Path| {
        write(dir.join("d/val/dog/0.png"), png(99));
        std::os::unix::fs::symlink("../train/cat", dir.join("d/val/cat")).unwrap();
    };
    #[cfg(unix)]
    assert_eq!(shared(&linked), Some("warning: 2 of the 3".to_owned()));
    let others = |dir: &Path| (0..2).for_each(|i| write(dir.join(format!("d/val/cat/{i}.png")), png(70 + i)));
    assert_eq!(shared(&others), None);
}
