//! Files, bases, references and overrides.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::{Path, PathBuf};

use shanty::config::{self, Diags, Node};

struct Dir(tempfile::TempDir);

impl Dir {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(dir)
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn load(&self, name: &str) -> Result<Node, Diags> {
        config::load(&self.path(name), &[])
    }
    /// Messages with places, without the folder.
    fn refused(&self, name: &str) -> Vec<String> {
        self.load(name).map(|n| n.to_yaml()).unwrap_err().0.iter().map(|d| self.line(d)).collect()
    }
    fn line(&self, d: &config::Diag) -> String {
        let at = d.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
        format!("{at}{}", d.message).replace(&format!("{}/", self.0.path().display()), "")
    }
}

fn json(node: &Node) -> serde_json::Value {
    serde_json::to_value(node).unwrap()
}

fn tree(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn scalars_follow_the_core_schema() {
    let node = config::parse(
        "c.yaml",
        "a: 1e-3\nb: 1E-3\nc: 1e3\nd: 1.e-3\ne: .5e-3\nf: 5e+2\ng: \"1e-3\"\npolicy: no\nflip: on\ny: 1\nh: nan\ni: inf\nk: 007\nl: 0o7\nm: 0x1F\nn: &a \"\"\no: 12:30\np: ~\nq: 1_000\nr: 18446744073709551615\ns: -1\n",
    )
    .unwrap();
    assert_eq!(
        json(&node),
        tree(
            r#"{"a": 0.001, "b": 0.001, "c": 1000.0, "d": 0.001, "e": 0.0005, "f": 500.0, "g": "1e-3", "policy": "no",
                "flip": "on", "y": 1, "h": "nan", "i": "inf", "k": "007", "l": 7, "m": 31, "n": "", "o": "12:30", "p": null,
                "q": "1_000", "r": 18446744073709551615, "s": -1}"#
        )
    );
    let node = config::parse("c.yaml", "[.nan, .inf, -.inf]").unwrap();
    assert_eq!(node.read::<Vec<f64>>().unwrap()[1..], [f64::INFINITY, f64::NEG_INFINITY]);
    assert!(node.read::<Vec<f64>>().unwrap()[0].is_nan());
}

#[test]
fn too_large_numbers_are_refused() {
    for (text, message) in [
        ("a: 18446744073709551616", "the integer 18446744073709551616 does not fit into 64 bits"),
        ("a: 1e999", "the number 1e999 is too large"),
    ] {
        let diags = config::parse("c.yaml", text).unwrap_err();
        assert_eq!(diags.0[0].message, message);
        assert_eq!(diags.0[0].at.as_ref().unwrap().to_string(), "c.yaml:1:4");
    }
}

#[test]
fn every_duplicate_key_is_reported_with_both_places() {
    let diags = config::parse("c.yaml", "a: 1\nb: {x: 1, x: 2}\nc:\n  - {y: 1, y: 2}\na: 2\n").unwrap_err();
    let found: Vec<_> = diags
        .0
        .iter()
        .map(|d| format!("{} {} {}", d.at.as_ref().unwrap(), d.message, d.places[0].0))
        .collect();
    assert_eq!(
        found,
        [
            "c.yaml:2:11 the key `x` stands twice in this mapping c.yaml:2:5",
            "c.yaml:4:12 the key `y` stands twice in this mapping c.yaml:4:6",
            "c.yaml:5:1 the key `a` stands twice in this mapping c.yaml:1:1",
        ]
    );
}

#[test]
fn children_merge_over_their_bases() {
    let dir = Dir::new(&[
        ("base/a.yaml", "m: {x: 1, y: [1, 2], z: {k: 1}}\nkept: yes\n"),
        ("base/b.yaml", "other: {p: 1, q: 2}\n"),
        (
            "c.yaml",
            "_base_: [base/a.yaml, base/b.yaml]\nm: {y: [3], z: {_delete_: true, n: 2}, w: {_delete_: true, v: 1}}\nother: {p: null}\n__hidden: 1\n",
        ),
    ]);
    assert_eq!(
        json(&dir.load("c.yaml").unwrap()),
        tree(
            r#"{"m": {"x": 1, "y": [3], "z": {"n": 2}, "w": {"v": 1}}, "kept": "yes", "other": {"p": null, "q": 2}}"#
        )
    );
}

#[test]
fn a_mapping_over_a_scalar_needs_delete() {
    let dir = Dir::new(&[
        ("a.yaml", "m: {x: 1, n: null}\n"),
        ("c.yaml", "_base_: a.yaml\nm: {x: {y: 1}, n: {z: 1}}\n"),
    ]);
    assert_eq!(
        dir.refused("c.yaml"),
        [
            "c.yaml:2:5: `x` is a mapping here and an integer in the base",
            "c.yaml:2:16: `n` is a mapping here and null in the base"
        ]
    );
}

#[test]
fn two_bases_must_not_set_one_key() {
    let dir = Dir::new(&[
        ("a.yaml", "m: {x: 1, y: 1}\n"),
        ("b.yaml", "m: {x: 2}\n"),
        ("c.yaml", "_base_: [a.yaml, b.yaml]\n"),
        ("d.yaml", "_base_: [a.yaml, b.yaml]\n_override_: true\n"),
    ]);
    assert_eq!(dir.refused("c.yaml"), ["b.yaml:1:1: two base files set the key `m`"]);
    assert_eq!(json(&dir.load("d.yaml").unwrap()), tree(r#"{"m": {"x": 2, "y": 1}}"#));
}

#[test]
fn a_diamond_loads_its_parent_once() {
    let files = [
        ("top.yaml", "m: {x: 1, y: 1}\n"),
        ("left.yaml", "_base_: top.yaml\nl: 1\n"),
        ("right.yaml", "_base_: top.yaml\nm: {x: 2}\n"),
        ("c.yaml", "_base_: [left.yaml, right.yaml]\n"),
        ("d.yaml", "_base_: [right.yaml, left.yaml]\n"),
    ];
    let dir = Dir::new(&files);
    for name in ["c.yaml", "d.yaml"] {
        assert_eq!(json(&dir.load(name).unwrap())["m"], tree(r#"{"x": 2, "y": 1}"#), "{name}");
    }
    let loaded = config::load_all(&[&dir.path("c.yaml")], &[]).unwrap();
    assert_eq!(loaded.files.len(), 4);
}

#[test]
fn circles_are_reported_as_a_chain() {
    let dir = Dir::new(&[
        ("a.yaml", "_base_: b.yaml\n"),
        ("b.yaml", "_base_: a.yaml\n"),
        ("s.yaml", "x: 1\n_base_: s.yaml\n"),
    ]);
    assert_eq!(dir.refused("a.yaml"), ["b.yaml:1:9: base files go in a circle: a.yaml -> b.yaml -> a.yaml"]);
    assert_eq!(dir.refused("s.yaml"), ["s.yaml:2:9: base files go in a circle: s.yaml -> s.yaml"]);
}

#[test]
fn a_missing_base_is_pointed_at_and_guessed() {
    let dir = Dir::new(&[("base.yaml", ""), ("c.yaml", "_base_: [bsae.yaml]\n")]);
    let diags = dir.load("c.yaml").unwrap_err();
    assert!(dir.line(&diags.0[0]).starts_with("c.yaml:1:10: cannot read bsae.yaml: "), "{diags}");
    assert_eq!(diags.0[0].suggestion.as_deref(), Some("base.yaml"));
}

#[test]
fn references_are_filled_in() {
    let dir = Dir::new(&[
        ("a.yaml", "n: {lr: 0.1, list: [1, {k: v}]}\nname: net\n"),
        (
            "c.yaml",
            "_base_: a.yaml\nwhole: {{_base_.n}}\nquoted: '{{ _base_.n.lr }}'\nitem: [{{_base_.n.list.1.k}}]\nwords: \"{{_base_.name}}_{{ fileBasenameNoExtension }}{{fileExtname}}\"\nplain: {{fileBasename}}\nenv: {{$SHANTY_NOT_SET:80}}\nenv_text: \"{{$SHANTY_NOT_SET:80}}\"\nstyle: {{'$SHANTY_NOT_SET:[1, 2]'}}\n# {{_base_.nothing}} in a comment\n{{_base_.name}}_key: lr_{{$SHANTY_NOT_SET:8}}\njinja: '{{ whatever }}'\nblock: |\n  on {{_base_.name}}\n",
        ),
    ]);
    let mut node = json(&dir.load("c.yaml").unwrap());
    node.as_object_mut().unwrap().retain(|k, _| k != "n" && k != "name");
    assert_eq!(
        node,
        tree(
            r#"{"whole": {"lr": 0.1, "list": [1, {"k": "v"}]}, "quoted": 0.1, "item": ["v"], "words": "net_c.yaml",
                "plain": "c.yaml", "env": 80, "env_text": "80", "style": [1, 2], "net_key": "lr_8", "jinja": "{{ whatever }}",
                "block": "on net\n"}"#
        )
    );
    let dirname = dir.load("c.yaml");
    assert!(dirname.is_ok());
}

#[test]
fn bad_references_are_pointed_at() {
    let dir = Dir::new(&[
        ("a.yaml", "model: {width: 3}\n"),
        (
            "c.yaml",
            "_base_: a.yaml\nx: {{_base_.model.widht}}\ny: '{{$SHANTY_NOT_SET}}'\nz: 'a {{_base_.model}}'\n",
        ),
        ("d.yaml", "x: '{{fileBaseName}}'\n"),
        ("e.yaml", "x: {{_base_.a}}\n"),
        ("f.yaml", "x: {{ foo }}\n"),
    ]);
    assert_eq!(
        dir.refused("c.yaml"),
        [
            "c.yaml:2:4: the base files have no `widht` under `model`: there are `width`",
            "c.yaml:3:5: the environment variable SHANTY_NOT_SET is not set",
            "c.yaml:4:7: a mapping cannot stand inside of text",
        ]
    );
    assert_eq!(dir.load("c.yaml").unwrap_err().0[0].suggestion.as_deref(), Some("{{_base_.model.width}}"));
    let diags = dir.load("d.yaml").unwrap_err();
    assert_eq!(diags.0[0].suggestion.as_deref(), Some("{{fileBasename}}"));
    assert_eq!(dir.refused("e.yaml"), ["e.yaml:1:4: this file has no `_base_` to refer to"]);
    assert!(dir.load("f.yaml").unwrap_err().to_string().contains("quote the text"));
}

#[test]
fn overrides_set_append_and_remove() {
    let dir = Dir::new(&[(
        "c.yaml",
        "p: [{prob: 1, s: x}, {prob: 2}]\nm: {a: 1, \"b.c\": 2}\nn: null\nscalar: 3\n",
    )]);
    let with = |args: &[&str]| {
        let args: Vec<String> = args.iter().map(|a| a.to_string()).collect();
        config::load(&dir.path("c.yaml"), &args)
    };
    let get = |args: &[&str], path: &str| json(&with(args).unwrap()).pointer(path).cloned();
    let value = |arg: &str| get(&[&format!("m.a={arg}")], "/m/a").unwrap();
    assert_eq!(get(&["p.1.prob=0.0"], "/p/1/prob"), Some(tree("0.0")));
    assert_eq!(value("[1, 2]"), tree("[1, 2]"));
    assert_eq!(value("[(train,1),(val,1)]"), tree(r#"[["train", 1], ["val", 1]]"#));
    assert_eq!(value("a,b"), tree(r#"["a", "b"]"#));
    assert_eq!(value("'a,b'"), tree(r#""a,b""#));
    assert_eq!(value("null"), tree("null"));
    assert_eq!(value("None"), tree("null"));
    assert_eq!(value("1e-3"), tree("0.001"));
    assert_eq!(value("b=c"), tree(r#""b=c""#));
    assert_eq!(value("True"), tree("true"));
    assert_eq!(value("on"), tree(r#""on""#));
    assert_eq!(value("run #1"), tree(r#""run #1""#));
    assert_eq!(value("{type: Adam, lr: 1}"), tree(r#"{"type": "Adam", "lr": 1}"#));
    assert_eq!(value(""), tree("null"));
    assert_eq!(value("(1, 2)"), tree("[1, 2]"));
    assert_eq!(get(&["p+={prob: 3}"], "/p/2/prob"), Some(tree("3")));
    assert_eq!(get(&["q+=1", "q+=[2, 3]"], "/q"), Some(tree("[1, 2, 3]")));
    assert_eq!(get(&["scalar+=4"], "/scalar"), Some(tree("[3, 4]")));
    assert_eq!(get(&["~m.a"], "/m"), Some(tree(r#"{"b.c": 2}"#)));
    assert_eq!(get(&["~p.0"], "/p"), Some(tree(r#"[{"prob": 2}]"#)));
    assert_eq!(get(&["m.\"b.c\"=5"], "/m/b.c"), Some(tree("5")));
    assert_eq!(get(&["n.x.y=1"], "/n/x/y"), Some(tree("1")));
    let refused = |arg: &str| {
        let diags = with(&[arg]).unwrap_err();
        format!("{} [{}]", diags.0[0].message, diags.0[0].at.as_ref().unwrap().text())
    };
    assert_eq!(refused("p.9.x=1"), "there is no item 9 in a list of 2 (counted from 0) [9]");
    assert_eq!(refused("p.x=1"), "this is a list of 2: `x` is no index [x]");
    assert_eq!(refused("scalar.y=1"), "`y` cannot be set inside of 3 [y]");
    assert_eq!(refused("~m.z"), "there is no `z` to remove [z]");
    assert_eq!(
        refused("nothing"),
        "an override is `key.path=value`, `key.path+=value` or `~key.path` [nothing]"
    );
    assert_eq!(refused("a..b=1"), "a part of the path is empty [a..b]");
    assert!(refused("m.a=[1, 2").contains("["), "{}", refused("m.a=[1, 2"));
}

#[test]
fn a_dump_reads_back_equal() {
    let strings = [
        "123", "1e3", "no", "null", "", "0x10", "1_000", "12:30", "~", " a ", "007", "true", "on", "- a",
        "a: b", "# x", "a #b", "{{x}}", "*a", "&a", "!t", "é", "a\nb", "'", "\"", "\\", "\t", ".5", "+1",
        "1.", "=", "<<", "%", "@",
    ];
    let text = serde_json::to_string(&strings[..]).unwrap();
    let node = config::parse("c.json", &text).unwrap();
    assert_eq!(node.read::<Vec<String>>().unwrap(), strings);
    assert_eq!(config::parse("dump.yaml", &node.to_yaml()).unwrap(), node, "{}", node.to_yaml());
    let node = config::parse(
        "c.yaml",
        "{a: 1e-05, b: [], c: {}, d: .nan, e: 18446744073709551615, f: [[], [{}]], g: -.inf, h: 1e21}",
    )
    .unwrap();
    assert_eq!(config::parse("dump.yaml", &node.to_yaml()).unwrap(), node, "{}", node.to_yaml());
}

#[test]
fn several_files_are_laid_over_each_other() {
    let dir = Dir::new(&[("a.yaml", "m: {x: 1, y: 2}\n"), ("b.json", "{\"m\": {\"x\": 3}}\n")]);
    let (a, b) = (dir.path("a.yaml"), dir.path("b.json"));
    let paths: [&Path; 2] = [&a, &b];
    assert_eq!(json(&config::load_all(&paths, &[]).unwrap().node), tree(r#"{"m": {"x": 3, "y": 2}}"#));
}

#[test]
fn what_mmengine_dumps_is_read() {
    let text = "\
val_evaluator: &id001
  topk: !!python/tuple
  - 1
  - 5
  type: Accuracy
  _scope_: mmpretrain
test_evaluator: *id001
betas: !!python/tuple [0.9, 0.999]
lr: 1.0e-05
word: 'no'
said: a !!python/tuple in text
";
    let node = config::parse("dump.yaml", text).unwrap();
    assert_eq!(
        json(&node),
        tree(
            r#"{"val_evaluator": {"topk": [1, 5], "type": "Accuracy", "_scope_": "mmpretrain"},
                "test_evaluator": {"topk": [1, 5], "type": "Accuracy", "_scope_": "mmpretrain"},
                "betas": [0.9, 0.999], "lr": 0.00001, "word": "no", "said": "a !!python/tuple in text"}"#
        )
    );
    let five = node.at_path("val_evaluator.topk.1").unwrap();
    assert_eq!(five.at.line_column(), (4, 5));
}
