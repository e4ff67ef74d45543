//! Hostile and damaged input: an error with a place, and never a panic, a hang or runaway memory.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use shanty::config::{self, Diags, Node};

fn refused(text: &str) -> Diags {
    let started = Instant::now();
    let diags = config::parse("c.yaml", text).map(|node| node.summary()).unwrap_err();
    let shown = diags.to_string();
    assert!(shown.len() < 20_000, "{} bytes of complaint", shown.len());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    diags
}

fn message(text: &str) -> String {
    refused(text).0[0].message.clone()
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.yaml");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn load(bytes: &[u8]) -> Result<Node, Diags> {
    let (_dir, path) = file(bytes);
    config::load(&path, &[])
}

#[test]
fn alias_bombs_are_bounded() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let _ = writeln!(text, "a{i}: &a{i} [{}]", vec![format!("*a{}", i - 1); 10].join(", "));
    }
    let said = message(&text);
    assert!(said.contains("values"), "{said}");
    // The same through mappings that merge.
    let mut text = String::from("a0: &a0 {k: 1}\n");
    for i in 1..40 {
        let _ = writeln!(text, "a{i}: &a{i} {{<<: [*a{0}, *a{0}], x{i}: *a{0}, y{i}: *a{0}}}", i - 1);
    }
    refused(&text);
}

#[test]
fn what_aliases_expand_to_can_be_written_out() {
    let hundred = vec!["x"; 100].join(", ");
    for uses in [10, 900, 1_100, 1_900, 2_100] {
        let text = format!("a: &a [{hundred}]\nb: [{}]\n", vec!["*a"; uses].join(", "));
        match config::parse("c.yaml", &text) {
            Ok(node) => assert_eq!(config::parse("again.yaml", &node.to_yaml()).unwrap(), node),
            Err(diags) => assert!(uses > 900, "{uses} {diags}"),
        }
    }
}

#[test]
fn aliases_in_moderation_are_fine() {
    let mut text = String::from("base: &b {k: [1, 2, 3]}\n");
    for i in 0..200 {
        let _ = writeln!(text, "u{i}: *b");
    }
    assert_eq!(config::parse("c.yaml", &text).unwrap().entries().len(), 201);
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        let text = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        let said = message(&text);
        assert!(said.contains("deep") || said.contains("nest"), "{said}");
        refused(&open.repeat(100_000));
    }
    let mut block = String::new();
    for depth in 0..2_000 {
        let _ = writeln!(block, "{}k:", " ".repeat(depth));
    }
    let said = message(&block);
    assert!(said.contains("deep"), "{said}");
    refused(&"- ".repeat(100_000));
    refused(&"? ".repeat(100_000));
    refused(&"&a ".repeat(10_000));
}

#[test]
fn sixty_levels_are_fine() {
    // And whatever depth is accepted, its dump is accepted too.
    for levels in 55..70 {
        for (open, close) in [("[", "]"), ("{a: ", "}"), ("[{a: ", "}]")] {
            let text = format!("{}1{}", open.repeat(levels), close.repeat(levels));
            match config::parse("c.yaml", &text) {
                Ok(node) => assert_eq!(config::parse("again.yaml", &node.to_yaml()).unwrap(), node),
                Err(diags) => assert!(levels > 60 || open.len() == 5, "{levels} {diags}"),
            }
        }
    }
}

#[test]
fn large_files_are_refused_quickly() {
    let started = Instant::now();
    let diags = load(&vec![b'x'; 50 << 20]).unwrap_err();
    assert!(diags.to_string().contains("larger than 16 MiB"), "{diags}");
    assert!(started.elapsed() < Duration::from_secs(5));
    // Below the limit of bytes, above that of values.
    let many = "- 1\n".repeat(1 << 20);
    assert!(message(&many).contains("values"), "{}", message(&many));
    // One long line, with a mistake at its end.
    let keys: String = (0..50_000).map(|i| format!("k{i}: 1, ")).collect();
    let line = format!("{{{keys}z: 1, z: 2}}");
    refused(&line);
    let long = format!("a: \"{}\"\nb: [", "x".repeat(4 << 20));
    refused(&long);
    let long = format!("[{} *nothing]", "1, ".repeat(50_000));
    let shown = refused(&long).to_string();
    assert!(shown.contains("has no anchor"), "{shown}");
}

#[test]
fn an_endless_file_is_not_read() {
    if std::path::Path::new("/dev/zero").exists() {
        let diags = config::load("/dev/zero".as_ref(), &[]).unwrap_err();
        assert!(diags.to_string().contains("not a regular file"), "{diags}");
    }
}

#[test]
fn bytes_that_are_no_text_are_pointed_at() {
    let diags = load(b"a: 1\nb: \xff\n").unwrap_err();
    assert_eq!(diags.0[0].message, "this byte is not UTF-8");
    assert_eq!(diags.0[0].at.as_ref().unwrap().line_column(), (2, 4));
    let diags = load(b"a: 1\nb: \0\n").unwrap_err();
    assert!(diags.0[0].message.contains("NUL"), "{diags}");
    assert_eq!(diags.0[0].at.as_ref().unwrap().line_column(), (2, 4));
    // UTF-16.
    assert!(load(b"\xff\xfea\0:\0 \x001\0").is_err());
    refused("a: \u{1b}[31m");
}

#[test]
fn a_bom_and_carriage_returns_are_no_news() {
    let plain = config::parse("c.yaml", "a: 1\nb:\n  - x\n").unwrap();
    assert_eq!(config::parse("c.yaml", "\u{feff}a: 1\r\nb:\r\n  - x\r\n").unwrap(), plain);
    let diags = refused("\u{feff}é: 1\r\nb: [1,\r\nc: *x\r\n");
    assert_eq!(diags.0[0].at.as_ref().unwrap().line_column().0, 3, "{diags}");
    let diags = refused("\u{feff}a: 1\r\na: 2\r\n");
    assert_eq!(diags.0[0].at.as_ref().unwrap().line_column(), (2, 1));
    assert_eq!(diags.0[0].places[0].0.line_column(), (1, 1));
}

#[test]
fn tabs_are_pointed_at() {
    let diags = refused("a:\n\tb: 1\n");
    assert_eq!(diags.0[0].at.as_ref().unwrap().line_column().0, 2);
    assert!(diags.0[0].message.contains("tab"), "{diags}");
    // JSON may be indented with tabs.
    let node = config::parse("c.json", "{\n\t\"a\": [\n\t\t1,\n\t\t2\n\t]\n}\n").unwrap();
    assert_eq!(node.get("a").unwrap().items().len(), 2);
}

#[test]
fn json_is_read_as_it_is() {
    let text = r#"{"a": "\u00e9\ud83d\ude00\/\"\\\n", "b": [1, 2.5, -3e-2, true, null], "c": {}, "d": "", "e\tf": "no"}"#;
    let node = config::parse("c.json", text).unwrap();
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&node).unwrap(), json);
}

#[test]
fn references_cannot_grow_a_tree_without_bounds() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("0.yaml"), "a: [1, 2, 3, 4]\n").unwrap();
    for i in 1..31 {
        let text = format!("_base_: {}.yaml\na: [{{{{_base_.a}}}}, {{{{_base_.a}}}}]\n", i - 1);
        std::fs::write(dir.path().join(format!("{i}.yaml")), text).unwrap();
    }
    let started = Instant::now();
    let diags = config::load(&dir.path().join("30.yaml"), &[]).map(|n| n.summary()).unwrap_err();
    assert!(diags.to_string().contains("more than 1000000 keys and values"), "{diags}");
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn long_chains_of_bases_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for i in 0..200 {
        std::fs::write(dir.path().join(format!("{i}.yaml")), format!("_base_: {}.yaml\n", i + 1)).unwrap();
    }
    let diags = config::load(&dir.path().join("0.yaml"), &[]).map(|n| n.summary()).unwrap_err();
    assert!(diags.to_string().contains("a chain of more than"), "{diags}");
}

#[test]
fn odd_yaml_is_an_error_or_text_but_never_a_panic() {
    let odd = [
        "",
        " ",
        "\n",
        "---\n",
        "...\n",
        "--- a\n--- b\n",
        "%YAML 1.1\n---\na: no\n",
        "%FOO\n",
        "!!binary aGk=",
        "!foo a",
        "!!str 1",
        "? [1, 2]\n: 3\n",
        "? {a: b}\n: 3\n",
        "null: 1",
        "~: 1",
        ": 1",
        "- : 1",
        "{}: 1",
        "[]: 1",
        "a: *a",
        "a: &a [*a]",
        "&a a: *a",
        "a: &x &y 1",
        "<<: 1",
        "<<: [1]",
        "<<: {a: 1}\n<<: {b: 2}\n",
        "a: |\n",
        "a: >-\n  x\n",
        "a: |3\n   x\n",
        "'",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\ud800\"",
        "a: 'b",
        "[",
        "]",
        "{",
        "}",
        "[}",
        "{]",
        ",",
        "[,]",
        "{,}",
        "@a",
        "`a",
        "a: @b",
        "%",
        "#",
        "a: b: c",
        "-",
        "- -",
        "?",
        ":",
        "{{",
        "}}",
        "{{}}",
        "{{ }}",
        "{{$}}",
        "{{$A",
        "a: {{$A}",
        "a: '{{_base_.}}'",
        "a: {{_base_.x",
        "{{_base_.a}}: 1",
        "{{fileDirname}}",
        "a: \"{{$HOME:\"",
        "\u{378}",
        "a: \u{378}0\u{378} {{$X:1}}",
        "\u{85}",
        "\u{2028}",
        "a:\u{a0}b",
        "1e400",
        "-1e400",
        "- 99999999999999999999",
        "- -99999999999999999999",
        "0x",
        "0xFFFFFFFFFFFFFFFFFF",
        "0o8",
        "0b2",
        "+.inf",
        ".nan",
        "._",
        "-",
        "1__0",
        "=",
        "- !!float x",
        "- !!int 1.5",
        "_base_: x",
        "_base_: [",
        "__a: 1",
        "_delete_: true",
        "a: {_delete_: 3}",
    ];
    for text in odd {
        match config::parse("c.yaml", text) {
            Ok(node) => {
                let again = config::parse("again.yaml", &node.to_yaml());
                assert_eq!(again.as_ref().ok(), Some(&node), "{text:?} -> {:?} -> {again:?}", node.to_yaml());
            }
            Err(diags) => assert!(!diags.render(true).is_empty() && !diags.0.is_empty(), "{text:?}"),
        }
    }
}

#[test]
fn odd_overrides_are_errors_or_values_but_never_a_panic() {
    let root = config::parse("c.yaml", "a: {b: [1, 2], c: x}\nd: null\n").unwrap();
    let (_dir, path) = file(root.to_yaml().as_bytes());
    let odd = [
        "",
        "=",
        "a=",
        "=a",
        "a.=1",
        ".a=1",
        "a..b=1",
        "~",
        "~~",
        "~.",
        "+=1",
        "a+=1",
        "a.b+=",
        "a.b.+=1",
        "a.b.-1=1",
        "a.b.01=1",
        "a.b.99999999999999999999=1",
        "\"=1",
        "\"\"=1",
        "\"a\"b=1",
        "a=[",
        "a=(",
        "a=)",
        "a=((",
        "a=(1",
        "a=[(1]",
        "a='",
        "a=\"",
        "a={",
        "a=*x",
        "a=&x",
        "a=&x 1",
        "a=!t",
        "a=|",
        "a=,",
        "a=,,",
        "a=1,",
        "a=\u{378}",
        "é.ü=ö",
        "a=é,ü",
        "a={{$X}}",
        "a=- 1",
        "a=? 1",
        "a=%",
        "a=a: b: c",
        "a=\n",
        "a=\t1",
        "a=#",
        "d.e.f=1",
        "d+=1",
        "~d",
        "~a.b.0",
        "~a.c.x",
        "a.c.x=1",
        "a={_delete_: true}",
        "a=99999999999999999999",
        "a=1e999",
        "a=(1,(2,(3,)))",
        "a=[a,(b,c)]",
        "a=\"x,y\"",
        "a=x=y",
        "a= 1 ",
        " a =1",
    ];
    for argument in odd {
        match config::load(&path, &[argument.to_owned()]) {
            Ok(node) => {
                assert_eq!(config::parse("again.yaml", &node.to_yaml()).unwrap(), node, "{argument:?}")
            }
            Err(diags) => assert!(!diags.render(true).is_empty() && !diags.0.is_empty(), "{argument:?}"),
        }
    }
}
