//! Small texts that stand for large trees, and command lines that nest without end: an error, never an overflow or a
//! hang.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use shanty::config::{self, Diags, Node};

/// A dump of what was read, or the first message.
fn told(result: Result<Node, Diags>) -> Result<Node, String> {
    result.map_err(|diags| {
        assert!(diags.to_string().len() < 50_000);
        diags.0[0].message.clone()
    })
}

fn set(arguments: &[String]) -> Result<Node, String> {
    told(config::overridden(
        &config::parse("c.yaml", "a: 1\nlist: [1, 2]\nh: {type: A, x: 1}\n").unwrap(),
        arguments,
    ))
}

fn quickly<T>(what: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = what();
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    result
}

/// 150,000 numbers were refused with a message about aliases.
#[test]
fn a_long_plain_list_is_no_bomb() {
    for n in [150_000, 400_000] {
        let text = format!("exclude_samples: [{}]\n", vec!["7"; n].join(", "));
        let node = quickly(|| config::parse("c.yaml", &text)).unwrap();
        assert_eq!(node.get("exclude_samples").unwrap().items().len(), n);
        assert_eq!(config::parse("again.yaml", &node.to_yaml()).unwrap(), node);
    }
    let block: String = (0..100_000).map(|i| format!("k{i}: {i}\n")).collect();
    assert_eq!(quickly(|| config::parse("c.yaml", &block)).unwrap().entries().len(), 100_000);
    let set: Vec<String> = vec![format!("list=[{}]", vec!["7"; 150_000].join(", "))];
    assert_eq!(quickly(|| self::set(&set)).unwrap().get("list").unwrap().items().len(), 150_000);
    let many = told(config::parse("c.yaml", &"- 1\n".repeat(1_100_000))).unwrap_err();
    assert_eq!(many, "more than 1000000 keys and values: this is no config");
}

/// Two large files that are merged are gone through once, not once a key.
#[test]
fn a_hundred_thousand_keys_merge() {
    let dir = tempfile::tempdir().unwrap();
    let keys = |from: usize| (from..from + 100_000).map(|i| format!("k{i}: {i}\n")).collect::<String>();
    fs::write(dir.path().join("base.yaml"), keys(0)).unwrap();
    fs::write(dir.path().join("top.yaml"), format!("_base_: base.yaml\n{}", keys(50_000))).unwrap();
    let node = quickly(|| config::load(&dir.path().join("top.yaml"), &[])).unwrap();
    assert_eq!(node.entries().len(), 150_000);
}

fn chain(dir: &Path, first: &str, next: &str, files: usize) -> Result<Node, String> {
    fs::write(dir.join("0.yaml"), first).unwrap();
    for i in 1..files {
        fs::write(dir.join(format!("{i}.yaml")), format!("_base_: {}.yaml\n{next}", i - 1)).unwrap();
    }
    quickly(|| told(config::load(&dir.join(format!("{}.yaml", files - 1)), &[])))
}

/// Only values were counted: text that doubles with each reference was not.
#[test]
fn references_that_double_a_text_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let tenfold = format!("s: \"{}\"\n", "{{_base_.s}}".repeat(10));
    let long = chain(dir.path(), "s: xxxxxxxxxx\n", &tenfold, 5).unwrap();
    assert_eq!(long.get("s").unwrap().as_str().unwrap().len(), 100_000);
    let message = chain(dir.path(), "s: xxxxxxxxxx\n", &tenfold, 12).unwrap_err();
    assert!(message.contains("more than 16 MiB of text"), "{message}");
    let message = chain(
        dir.path(),
        "s: xxxxxxxxxx\n",
        &format!("\"k{}\": 1\ns: \"{}\"\n", "{{_base_.s}}".repeat(10), "{{_base_.s}}".repeat(10)),
        12,
    )
    .unwrap_err();
    assert!(message.contains("16 MiB"), "{message}");
    // Whole values: lists of lists, mappings beside each other.
    let lists = format!("s: [{}]\n", ["{{_base_.s}}"; 10].join(", "));
    let message = chain(dir.path(), "s: [1]\n", &lists, 12).unwrap_err();
    assert!(message.contains("more than 1000000 keys and values"), "{message}");
    let texts = format!("s: [{}]\n", ["\"{{_base_.s.0}}{{_base_.s.0}}\""; 2].join(", "));
    let message = chain(dir.path(), "s: [xxxxxxxxxx]\n", &texts, 31).unwrap_err();
    assert!(message.contains("16 MiB"), "{message}");
    let deep = chain(dir.path(), "s: [1]\n", "s: [[[[{{_base_.s}}]]]]\n", 31).unwrap_err();
    assert!(deep.contains("nesting of more than 64 levels"), "{deep}");
}

/// `--set 'work_dir=((((…'` ended the process.
#[test]
fn overrides_do_not_nest_without_end() {
    for (open, close) in [("(", ")"), ("[(", ")]"), ("[", "]"), ("{a: ", "}"), ("(1,(", "))"), ("[1,(", ")]")]
    {
        for depth in [100, 10_000] {
            let argument = format!("a={}1{}", open.repeat(depth), close.repeat(depth));
            let message = quickly(|| set(&[argument])).unwrap_err();
            assert!(message.contains("deep") || message.contains("nest"), "{open}: {message}");
            let _ = quickly(|| set(&[format!("a={}", open.repeat(depth))]));
            let _ = quickly(|| set(&[format!("list+={}1{}", open.repeat(depth), close.repeat(depth))]));
        }
    }
    let shallow = set(&["a=((1, 2), [(3, 4)])".into()]).unwrap();
    assert_eq!(serde_json::to_string(shallow.get("a").unwrap()).unwrap(), "[[1,2],[[3,4]]]");
    for path in [
        "a.".repeat(30_000) + "a=1",
        "h.".to_owned() + &"b.".repeat(100) + "b=1",
        "~".to_owned() + &"a.".repeat(10_000) + "a",
    ] {
        let message = quickly(|| set(&[path])).unwrap_err();
        assert!(message.contains("more than 64 keys"), "{message}");
    }
    // Each allowed by itself, too deep together.
    let paths: Vec<String> =
        (1..5).map(|i| format!("{}b=[]", "h.".to_owned() + &"b.".repeat(i * 15))).collect();
    let _ = quickly(|| set(&paths));
    // A value keeps what it replaced, but not a hundred thousand of them.
    let many: Vec<String> = (0..100_000).map(|i| format!("a={i}")).collect();
    assert_eq!(quickly(|| set(&many)).unwrap().get("a").unwrap().summary(), "99999");
}

#[test]
fn braces_and_aliases_do_not_nest_without_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let load = |text: String| {
        fs::write(&path, text).unwrap();
        quickly(|| told(config::load(&path, &[])))
    };
    for text in [
        format!("a: \"{}\"\n", "{".repeat(4 << 20)),
        format!("a: \"{}\"\n", "{{".repeat(500_000) + &"}}".repeat(500_000)),
        format!("a: \"{{{{{}}}}}\"\n", "x".repeat(4 << 20)),
        format!("{}: 1\n", "x".repeat(1 << 20)),
        format!("a: \"{}\"\n", "{{fileDirnam}} ".repeat(1000)),
        format!("a: \"{}\"\n", "{{$NONE:{{$NONE:1}}}}".repeat(10_000)),
    ] {
        let _ = load(text);
    }
    // JSON is YAML.
    assert!(load("[".repeat(100_000)).is_err());
    assert!(load(format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000))).is_err());
    // Aliases in aliases, and merge keys in merge keys: one level more with each.
    for line in ["[*a{0}]", "{x: *a{0}}", "{<<: *a{0}, y{0}: 1}", "[*a{0}, *a{0}]"] {
        let mut text = "a0: &a0 {k: 1}\n".to_owned();
        for i in 1..3000 {
            let _ = writeln!(text, "a{i}: &a{i} {}", line.replace("{0}", &(i - 1).to_string()));
        }
        let _ = load(text);
    }
    let overlays: Vec<_> = std::iter::repeat_n(path.as_path(), 500).collect();
    fs::write(&path, "a: {b: {c: 1}}\n").unwrap();
    assert!(quickly(|| config::load_all(&overlays, &[])).is_ok());
}

/// `--set h._delete_=true` left the key in the result.
#[test]
fn delete_in_an_override_acts_as_in_a_file() {
    let json = |arguments: &[&str]| {
        let all: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        set(&all).map(|node| serde_json::to_string(&node).unwrap())
    };
    let h = |inner: &str| Ok(format!(r#"{{"a":1,"list":[1,2],"h":{inner}}}"#));
    assert_eq!(json(&["h._delete_=true", "h.type=B"]), h(r#"{"type":"B"}"#));
    assert_eq!(json(&["h.type=B", "h._delete_=true"]), h(r#"{"type":"B"}"#), "in whatever order");
    assert_eq!(json(&["h._delete_=true"]), h("{}"));
    assert_eq!(json(&["h._delete_=True", "h.y=2"]), h(r#"{"y":2}"#));
    assert_eq!(json(&["h._delete_=false", "h.y=2"]), h(r#"{"type":"A","x":1,"y":2}"#));
    assert_eq!(json(&["h={_delete_: true, z: 1}"]), h(r#"{"z":1}"#));
    assert_eq!(
        json(&["new._delete_=true", "new.x=1"]),
        Ok(r#"{"a":1,"list":[1,2],"h":{"type":"A","x":1},"new":{"x":1}}"#.into())
    );
    assert_eq!(
        json(&["a._delete_=true", "a.b=1"]),
        Ok(r#"{"a":{"b":1},"list":[1,2],"h":{"type":"A","x":1}}"#.into())
    );
    assert_eq!(json(&["h._delete_=1"]), Err("`_delete_` is true or false".into()));
    assert_eq!(json(&["h._delete_+=true"]), Err("`_delete_` is true or false".into()));
}

/// A variable set to nothing was an error that advised what was there already.
#[test]
fn a_variable_that_is_set_to_nothing_has_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    let text = "a: {{$EMPTY:none}}\nb: \"{{$EMPTY:none}}\"\nc: \"x{{$EMPTY}}y\"\nd: \"{{$EMPTY}}\"\ne: \"{{$NOWHERE:}}\"\nf: {{$EMPTY}}\ng: x{{$EMPTY:4}}\nh: {{$EMPTY:4}}\ni: {{$FULL:none}}\n";
    fs::write(&path, text).unwrap();
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_shanty"))
        .args(["config", "c.yaml"])
        .current_dir(dir.path())
        .env("EMPTY", "")
        .env("FULL", "8")
        .env_remove("NOWHERE")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
    let node = config::parse("out.yaml", &said).unwrap_or_else(|e| panic!("{said}\n{e}"));
    let json = serde_json::to_string(&node).unwrap();
    assert_eq!(json, r#"{"a":"none","b":"none","c":"xy","d":"","e":"","f":null,"g":"x4","h":4,"i":8}"#);
    fs::write(&path, "a: {{$NOWHERE}}\n").unwrap();
    let said = told(config::load(&path, &[])).unwrap_err();
    assert_eq!(said, "the environment variable NOWHERE is not set");
}
