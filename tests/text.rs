//! Text files as tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;

use shanty::base::keyed;
use shanty::config::parse;
use shanty::data::{
    Dataset, Encoding, Fingerprint, Fitted, Level, Part, Sample, Split, TextConfig, TextLines, Unknown,
};
use shanty::registry::{BuildCx, Spec};

fn file(dir: &Path, bytes: &[u8], length: usize) -> TextConfig {
    let file = dir.join("text.txt");
    std::fs::write(&file, bytes).unwrap();
    TextConfig::new(file, length)
}

fn lines(dir: &Path, text: &str) -> TextConfig {
    TextConfig { label_column: Some(1), length: None, ..file(dir, text.as_bytes(), 1) }
}

fn get(set: &dyn Dataset, index: usize) -> Sample {
    set.get(index, &mut keyed(0, "", 0, 0)).unwrap()
}

fn ints(set: &dyn Dataset, index: usize, field: &str) -> Vec<i64> {
    get(set, index).int(field).unwrap().iter().copied().collect()
}

fn refused(config: TextConfig) -> String {
    TextLines::load(config).err().unwrap().to_string()
}

/// Eight words are a b a c a b a d: a is 2, b 3, c 4, d 5.
#[test]
fn windows_and_the_token_behind_each() {
    let dir = tempfile::tempdir().unwrap();
    let config =
        TextConfig { level: Level::Word, lowercase: true, ..file(dir.path(), b"A b a c\nA b a d\n", 3) };
    let set = TextLines::load(config.clone()).unwrap();
    assert_eq!(set.tokens(), ["a", "b", "c", "d"]);
    assert_eq!(set.len(), 2);
    assert_eq!([ints(&set, 0, "inputs"), ints(&set, 0, "target")], [[2, 3, 2], [3, 2, 4]]);
    assert_eq!([ints(&set, 1, "inputs"), ints(&set, 1, "target")], [[4, 2, 3], [2, 3, 2]]);
    let dense = TextLines::load(TextConfig { stride: Some(1), ..config.clone() }).unwrap();
    assert_eq!((dense.len(), ints(&dense, 4, "target")), (5, vec![3, 2, 5]));
    let text = refused(TextConfig { length: Some(8), ..config });
    assert!(text.contains("text.txt: 8 tokens are no window of 8 and one behind it"), "{text}");
}

/// A file need not end with a line end: of one that does not, none was read, and none is to be learnt.
#[test]
fn a_line_end_that_is_not_there_is_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let tokens = |text: &[u8]| {
        let set = TextLines::load(file(dir.path(), text, 1)).unwrap();
        let last = set.len() - 1;
        (set.len(), set.tokens().to_vec(), ints(&set, last, "target"))
    };
    let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert_eq!(tokens(b"abab"), (3, all(&["a", "b"]), vec![3]));
    assert_eq!(tokens(b"abab\n"), (4, all(&["a", "b", "\n"]), vec![4]));
    assert_eq!(tokens(b"a\na\na"), (4, all(&["a", "\n"]), vec![2]));
}

#[test]
fn lines_with_a_class_are_filled_up_cut_or_left() {
    let dir = tempfile::tempdir().unwrap();
    let config = lines(dir.path(), "abb\tx\n\nb\ty\nabbbb\tx\n");
    let set = TextLines::load(config.clone()).unwrap();
    assert_eq!(set.fields().unwrap().get("inputs").unwrap().to_string(), "integers of shape [?]");
    assert_eq!(
        (set.len(), set.tokens(), set.classes().unwrap()),
        (3, &["b", "a"].map(String::from)[..], &["x", "y"].map(String::from)[..])
    );
    assert_eq!((ints(&set, 1, "inputs"), get(&set, 1).label()), (vec![2], Some(1)));
    let set = TextLines::load(TextConfig { length: Some(4), ..config.clone() }).unwrap();
    assert_eq!([ints(&set, 1, "inputs"), ints(&set, 2, "inputs")], [[2, 0, 0, 0], [3, 2, 2, 2]]);
    let one_hot = TextConfig { length: Some(2), encoding: Encoding::OneHot, ..config };
    let set = TextLines::load(one_hot).unwrap();
    assert_eq!(set.fields().unwrap().get("inputs").unwrap().to_string(), "floats of shape [2, 4]");
    let rows: Vec<f32> = get(&set, 1).float("inputs").unwrap().iter().copied().collect();
    assert_eq!(rows, [0., 0., 1., 0., 0., 0., 0., 0.]);
}

/// Only the training part counts: what the others have beside is not known.
#[test]
fn the_vocabulary_is_that_of_the_training_part() {
    let dir = tempfile::tempdir().unwrap();
    let all: String = (0..8).map(|n| format!("{}\tx\n", char::from(b'a' + n))).collect();
    let split = Some(Split { val: 0.25, seed: 1, ..Split::default() });
    let config = TextConfig { split, part: Some(Part::Train), ..lines(dir.path(), &all) };
    let train = TextLines::load(config.clone()).unwrap();
    let val = train.part(Part::Val).unwrap();
    assert_eq!((train.len(), train.tokens().len(), val.len()), (6, 6, 2));
    assert_eq!(val.tokens(), train.tokens());
    assert_eq!([ints(&val, 0, "inputs"), ints(&val, 1, "inputs")], [[1], [1]]);
    assert_ne!(Fingerprint::of(&train), Fingerprint::of(&val));

    // As a config builds them, and by what a checkpoint keeps.
    let of = |part: &str, fitted: Option<Fitted>| {
        let file = serde_json::to_string(&config.file).unwrap();
        let text = format!(
            "{{type: TextLines, file: {file}, label_column: 1, split: {{val: 0.25, seed: 1}}, part: {part}, unknown: error}}"
        );
        let spec: Spec<dyn Dataset> = parse("c.yaml", &text).unwrap().read().unwrap();
        let mut cx = BuildCx::new(0);
        fitted.into_iter().for_each(|fitted| cx.provide(fitted));
        spec.build(&mut cx)
    };
    assert_eq!(Fitted::of(&*of("train", None).unwrap()), Fitted::of(&train));
    let text = of("val", Some(Fitted::of(&train))).err().unwrap().to_string();
    assert!(text.contains("the training part has no \"") && text.contains("`unknown: ignore`"), "{text}");
    let other = TextConfig { level: Level::Word, split: None, part: None, ..config.clone() };
    let words = TextLines::load(other).unwrap();
    let text = of("val", Some(Fitted::of(&words))).err().unwrap().to_string();
    assert!(text.contains("`level` or `lowercase` is another"), "{text}");
}

/// Two thirds of the lines are of one class: two thirds of each part are.
#[test]
fn every_part_has_its_share_of_every_class() {
    let dir = tempfile::tempdir().unwrap();
    let text: String = (0..24).map(|i| format!("{i}\t{}\n", if i % 3 == 0 { "b" } else { "a" })).collect();
    for seed in 0..5 {
        let split = Some(Split { val: 0.25, seed, stratify: true, ..Split::default() });
        let train =
            TextLines::load(TextConfig { split, part: Some(Part::Train), ..lines(dir.path(), &text) })
                .unwrap();
        for (set, n) in [(train.part(Part::Val).unwrap(), 2), (train, 6)] {
            let b = (0..set.len()).filter(|index| get(&set, *index).label() == Some(1)).count();
            assert_eq!((set.len(), b), (3 * n, n), "seed {seed}");
        }
    }
}

#[test]
fn rare_tokens_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let config = lines(dir.path(), "aaabbc\tx\n");
    let of = |min_count, max_tokens| TextConfig { min_count, max_tokens, ..config.clone() };
    assert_eq!(TextLines::load(of(2, None)).unwrap().tokens(), ["a", "b"]);
    let set = TextLines::load(of(1, Some(1))).unwrap();
    assert_eq!((set.tokens().len(), ints(&set, 0, "inputs")), (1, vec![2, 2, 2, 1, 1, 1]));
}

/// What a loader says of the vocabulary had no effect beside that of the training data; a bound that nothing reaches
/// made one token of all.
#[test]
fn bounds_of_the_vocabulary_are_those_of_the_training_data() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lines.tsv");
    std::fs::write(&file, "aaab\tx\nabbc\ty\n").unwrap();
    let built = |train: &str, other: &str| {
        use shanty::data::Dataset;
        use shanty::registry::{BuildCx, Spec};
        let mut cx = BuildCx::new(0);
        let mut build = |more: &str| {
            let text =
                format!("{{type: TextLines, file: '{}', label_column: 1, length: 4{more}}}", file.display());
            Spec::<dyn Dataset>::parse(&text).unwrap().build(&mut cx).map(drop).map_err(|e| e.to_string())
        };
        build(train).and_then(|()| build(other))
    };
    assert_eq!(built(", min_count: 2", ", min_count: 2"), Ok(()));
    for (train, other, says) in [
        (", min_count: 2", "", "`min_count` is 1, but 2 for the training data, or the checkpoint"),
        ("", ", min_count: 3", "`min_count` is 3, but 1 for the training data"),
        (", max_tokens: 2", "", "`max_tokens` is not given, but 2 for the training data"),
        (", max_tokens: 2", ", max_tokens: 3", "`max_tokens` is 3, but 2 for the training data"),
        ("", ", lowercase: true", "`level` or `lowercase` is another"),
        (", min_count: 5", "", "`min_count` 5 leaves no token: \"a\", the most frequent one, comes 4 times"),
    ] {
        let text = built(train, other).unwrap_err();
        assert!(text.contains(says), "{train} {other}: {text}");
    }
    let windows = TextConfig { text_column: 1, ..TextConfig::new(&file, 2) };
    assert!(refused(windows).contains("`text_column` is for lines with a `label_column`"));
}

#[test]
fn a_file_to_predict_needs_no_classes() {
    let dir = tempfile::tempdir().unwrap();
    let set = TextLines::load(lines(dir.path(), "ab\tx\nba\ty\n")).unwrap();
    let new = dir.path().join("new.txt");
    std::fs::write(&new, "abz\n").unwrap();
    let other = set.of_files(std::slice::from_ref(&new)).unwrap();
    assert_eq!((ints(&*other, 0, "inputs"), get(&*other, 0).label()), (vec![2, 3, 1], None));
    std::fs::write(&new, "ab\tx\nba\n").unwrap();
    let other = set.of_files(&[new]).unwrap();
    assert_eq!(
        (other.len(), get(&*other, 0).label()),
        (2, None),
        "classes of what is predicted do not count"
    );
}

#[test]
fn every_slip_in_a_file_has_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let text = refused(file(dir.path(), b"fine\ncaf\xe9\n", 2));
    assert!(text.ends_with("text.txt: line 2 is not UTF-8: save the file as UTF-8"), "{text}");
    let text = refused(lines(dir.path(), "a\tx\n\nb\n"));
    assert!(
        text.contains("text.txt:3: the class should stand in column 1, counted from 0, but there are 1"),
        "{text}"
    );
    let classes = Some(vec!["x".to_owned()]);
    let text = refused(TextConfig { classes, ..lines(dir.path(), "a\tx\nb\ty\n") });
    assert!(text.contains("text.txt:2: the class \"y\" is none of [x]"), "{text}");
    assert!(refused(lines(dir.path(), "\n \n")).contains("text.txt: there is no line in it"));
}

#[test]
fn keys_that_mean_nothing_together_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let windows = file(dir.path(), b"abcdef\n", 2);
    let with_class = lines(dir.path(), "a\tx\n");
    for (config, expected) in [
        (TextConfig { length: None, ..windows.clone() }, "windows of a text need a `length`"),
        (
            TextConfig { split: Some(Split::default()), ..windows.clone() },
            "for windows take a file for each part",
        ),
        (
            TextConfig { classes: Some(Vec::new()), ..windows.clone() },
            "`classes` are those of a `label_column`",
        ),
        (TextConfig { stride: Some(1), ..with_class.clone() }, "`stride` is for windows"),
        (TextConfig { text_column: 1, ..with_class.clone() }, "`label_column` and `text_column` are one"),
        (
            TextConfig { part: Some(Part::Val), ..with_class.clone() },
            "there is no `split` that says which samples",
        ),
        (
            TextConfig { unknown: Unknown::Error, file: dir.path().to_owned(), ..with_class },
            "a folder, not a regular file",
        ),
    ] {
        let text = refused(config);
        assert!(text.contains(expected), "{text}");
    }
}
