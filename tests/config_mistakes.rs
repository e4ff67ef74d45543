//! Realistic mistakes, one a file in `config_mistakes/`, each with the text that a person sees (`SNAPSHOTS=overwrite`
//! renews).
//!
//! The file itself says what the right answer is: a line with a mistake ends in `#!` and the suggestion, if there is
//! one to make. Where such a comment would disturb, a first line `# at: LINE suggestion` says it; `# at: cli
//! suggestion` is for overrides, which stand in `# args: …`.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use shanty::base::Error;
use shanty::config::{self, Diag, Diags, Node};

const DIR: &str = "tests/config_mistakes";

/// What a file says about itself: places (`file:line` or `cli`) with suggestions.
#[derive(Default)]
struct Truth {
    args: Vec<String>,
    places: BTreeSet<(String, Option<String>)>,
}

impl Truth {
    fn add(&mut self, place: String, suggestion: &str) {
        self.places.insert((place, Some(suggestion.trim().to_owned()).filter(|s| !s.is_empty())));
    }

    /// Marks of a file, and of the files of the same collection that it is laid over.
    fn read(&mut self, file: &Path) {
        let text = std::fs::read_to_string(file).unwrap();
        for (i, line) in text.lines().enumerate() {
            let number = i + 1;
            if let Some(arg) = line.strip_prefix("# args: ") {
                self.args.push(arg.to_owned());
            } else if let Some(at) = line.strip_prefix("# at: ") {
                let (place, suggestion) = at.split_once(' ').unwrap_or((at, ""));
                let place =
                    if place == "cli" { place.to_owned() } else { format!("{}:{place}", file.display()) };
                self.add(place, suggestion);
            } else if let Some((_, suggestion)) = line.split_once("#!") {
                self.add(format!("{}:{number}", file.display()), suggestion);
            }
            if line.contains("base/") && !file.parent().unwrap().ends_with("base") {
                for name in ["cosine", "wrong", "circle", "linear"].iter().filter(|name| line.contains(*name))
                {
                    self.read(&Path::new(DIR).join(format!("base/{name}.yaml")));
                }
            }
        }
    }
}

fn check(node: &Node) -> Result<(), Diags> {
    match shanty::run::check(node, None) {
        Ok(_) => Ok(()),
        Err(Error::Config(source)) => Err(*source.downcast().unwrap()),
        Err(other) => panic!("{other}"),
    }
}

fn place(diag: &Diag) -> String {
    match diag.at.as_ref() {
        None => "nowhere".to_owned(),
        Some(at) if at.source().name == "command line" => "cli".to_owned(),
        Some(at) => format!("{}:{}", at.source().name, at.line_column().0),
    }
}

/// Lists that grow with the library are no matter of these tests.
fn without_lists(text: &str) -> String {
    let lists = regex_lite::Regex::new("(known [a-z_ ]+: ).*").unwrap();
    lists.replace_all(text, "${1}…").into_owned()
}

fn mistakes() -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(DIR)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_mistake_is_found_in_its_line_and_has_its_suggestion() {
    let mut wrong = Vec::new();
    for file in mistakes() {
        let mut truth = Truth::default();
        truth.read(&file);
        let refused = config::load(&file, &truth.args).and_then(|node| check(&node));
        let Err(diags) = refused else {
            wrong.push(format!("{}: accepted", file.display()));
            continue;
        };
        let found: BTreeSet<_> = diags
            .0
            .iter()
            .map(|d| (place(d), d.to_json()["suggestion"].as_str().map(str::to_owned)))
            .collect();
        if found != truth.places {
            wrong.push(format!(
                "{}:\n  wanted {:?}\n  found  {found:?}\n{diags}",
                file.display(),
                truth.places
            ));
        }
        let shown = format!("{}\n{}", without_lists(&diags.render(false)), json(&diags));
        let snapshot = snapbox::Data::read_from(&file.with_extension("txt"), None);
        let assert = snapbox::Assert::new().action_env("SNAPSHOTS");
        if let Err(difference) = assert.try_eq(Some(&file.display()), shown.into(), snapshot.raw()) {
            wrong.push(difference.to_string());
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(mistakes().len() >= 60);
}

/// As for editors, one complaint a line.
fn json(diags: &Diags) -> String {
    diags.to_json().as_array().unwrap().iter().map(|d| format!("{d}\n")).collect()
}
