//! The simulated disk against what POSIX promises, and against the real one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use rand::RngExt;

use super::*;
use crate::base::fs::{Disk, FileKind, FileSystem};
use crate::base::{Rng, keyed};

const A: &str = "/dir/a";
const B: &str = "/dir/b";

/// A machine with a durable `/dir/a` that holds "old".
fn machine(seed: u64) -> (Machine, Life) {
    let machine = Machine::new(seed);
    let life = machine.boot(Faults::default());
    life.create_dir(Path::new("/dir")).unwrap();
    life.write(Path::new(A), b"old").unwrap();
    machine.settle();
    (machine, life)
}

/// What 500 power failures leave of `/dir` after the same story, each kind once.
fn left_after(story: fn(&Life)) -> BTreeSet<Vec<(String, String)>> {
    let one = |seed| {
        let (machine, life) = machine(seed);
        story(&life);
        machine.crash(Crash::Power);
        let all = machine.contents(Path::new("/dir"));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', "0");
        let file =
            |(path, bytes): (PathBuf, Option<Vec<u8>>)| Some((path.display().to_string(), text(bytes?)));
        all.into_iter().filter_map(file).collect()
    };
    (0..500).map(one).collect()
}

fn state(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn what_was_synced_stays() {
    let left = left_after(|life| {
        life.write(Path::new(B), b"new").unwrap();
        life.sync(Path::new(B)).unwrap();
        life.sync(Path::new("/dir")).unwrap();
        life.remove(Path::new(A)).unwrap();
        life.sync(Path::new("/dir")).unwrap();
    });
    assert_eq!(left, BTreeSet::from([state(&[(B, "new")])]));
}

#[test]
fn a_files_bytes_and_its_name_are_two_things() {
    let name_only = left_after(|life| {
        life.write(Path::new(B), b"new").unwrap();
        life.sync(Path::new("/dir")).unwrap();
    });
    let whole = |b| state(&[(A, "old"), (B, b)]);
    assert_eq!(name_only, ["", "n", "ne", "new", "000"].map(whole).into());
    let bytes_only = left_after(|life| {
        life.write(Path::new(B), b"new").unwrap();
        life.sync(Path::new(B)).unwrap();
    });
    assert_eq!(bytes_only, [state(&[(A, "old")]), whole("new")].into());
}

#[test]
fn a_rename_is_whole_and_may_be_lost() {
    let left = left_after(|life| {
        life.write(Path::new(B), b"new").unwrap();
        life.sync(Path::new(B)).unwrap();
        life.rename(Path::new(B), Path::new(A)).unwrap();
    });
    assert_eq!(left, [state(&[(A, "old")]), state(&[(A, "old"), (B, "new")]), state(&[(A, "new")])].into());
}

#[test]
fn a_file_that_is_written_over_may_keep_its_old_bytes_or_lose_both() {
    let left = left_after(|life| life.write(Path::new(A), b"newer").unwrap());
    assert!(left.contains(&state(&[(A, "old")])) && left.contains(&state(&[(A, "newer")])), "{left:?}");
    assert!(left.contains(&state(&[(A, "")])), "{left:?}");
}

#[test]
fn changes_of_different_names_do_not_wait_for_each_other_and_those_of_one_name_do() {
    let left = left_after(|life| {
        for name in ["x", "y"] {
            life.create_dir(&Path::new("/dir").join(name)).unwrap();
            life.write(&Path::new("/dir").join(name).join("f"), b"").unwrap();
            life.sync(&Path::new("/dir").join(name).join("f")).unwrap();
            life.sync(&Path::new("/dir").join(name)).unwrap();
        }
        life.rename(Path::new("/dir/y"), Path::new("/dir/z")).unwrap();
    });
    let has = |files: &[&str]| {
        left.iter().any(|s| s.iter().skip(1).map(|(p, _)| p.as_str()).eq(files.iter().copied()))
    };
    assert!(has(&[]) && has(&["/dir/x/f"]) && has(&["/dir/y/f"]) && has(&["/dir/z/f"]), "{left:?}");
    assert!(has(&["/dir/x/f", "/dir/z/f"]) && !has(&["/dir/y/f", "/dir/z/f"]), "{left:?}");
}

#[test]
fn a_log_loses_of_its_tail_only_what_was_not_synced() {
    let left = left_after(|life| {
        let mut log = life.append(Path::new(A)).unwrap();
        log.append(b" 1").unwrap();
        life.sync(Path::new(A)).unwrap();
        log.append(b" 2").unwrap();
    });
    assert!(left.iter().all(|s| s[0].1.starts_with("old 1")), "{left:?}");
    for tail in ["", " 2", " ", "00"] {
        assert!(left.contains(&state(&[(A, &format!("old 1{tail}"))])), "{tail}: {left:?}");
    }
}

#[test]
fn large_files_tear_by_sectors() {
    let mut kinds = BTreeSet::new();
    for seed in 0..200 {
        let (machine, life) = machine(seed);
        life.write(Path::new(B), &[1; 2048]).unwrap();
        life.sync(Path::new("/dir")).unwrap();
        machine.crash(Crash::Power);
        let all = machine.contents(Path::new(B));
        let bytes = all[Path::new(B)].clone().unwrap();
        let sectors: Vec<_> = bytes.chunks(512).map(|s| (s[0], s.iter().all(|b| *b == s[0]))).collect();
        assert!(sectors.iter().all(|(_, even)| *even), "{sectors:?}");
        kinds.insert(sectors);
    }
    assert!(kinds.len() > 12, "{}", kinds.len());
}

#[test]
fn a_kill_loses_nothing_but_the_locks() {
    let (machine, life) = machine(0);
    life.write(Path::new(B), b"new").unwrap();
    let held = life.lock(Path::new("/dir/lock"), "1").unwrap().ok().unwrap();
    let other = machine.boot(Faults::default());
    assert_eq!(other.lock(Path::new("/dir/lock"), "2").unwrap().err().unwrap(), "1");
    let before = machine.contents(Path::new("/"));
    machine.crash(Crash::Kill);
    assert_eq!(machine.contents(Path::new("/")), before);
    assert!(life.write(Path::new(A), b"x").is_err());
    let next = machine.boot(Faults::default());
    let _mine = next.lock(Path::new("/dir/lock"), "3").unwrap().ok().unwrap();
    drop(held);
    assert!(machine.boot(Faults::default()).lock(Path::new("/dir/lock"), "4").unwrap().is_err());
}

/// After an fsync that failed, the pages count as clean: a second one says yes and writes nothing.
#[test]
fn a_sync_that_fails_forgets() {
    let machine = Machine::new(0);
    let refusal = Refusal { from: 1, act: Some(Act::Sync), errno: 5, times: 1 };
    let life = machine.boot(Faults { refusals: vec![refusal], ..Faults::default() });
    life.write(Path::new(B.trim_start_matches("/dir")), b"new").unwrap();
    assert_eq!(life.sync(Path::new("/b")).unwrap_err().raw_os_error(), Some(5));
    life.sync(Path::new("/b")).unwrap();
    life.sync(Path::new("/")).unwrap();
    assert_eq!(machine.contents(Path::new("/b"))[Path::new("/b")], Some(b"new".to_vec()));
    machine.crash(Crash::Power);
    assert_eq!(machine.contents(Path::new("/b"))[Path::new("/b")], Some(Vec::new()));
}

#[test]
fn a_full_disk_takes_what_fits() {
    let machine = Machine::new(0);
    let life = machine.boot(Faults { room: Some(64 + 10), ..Faults::default() });
    let error = life.write(Path::new("/a"), &[7; 20]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(28));
    assert_eq!(machine.contents(Path::new("/a"))[Path::new("/a")], Some(vec![7; 10]));
    life.remove(Path::new("/a")).unwrap();
    life.write(Path::new("/a"), &[7; 10]).unwrap();
    assert_eq!(machine.tally().full, 1);
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| {
        let machine = Machine::new(seed).with_journal();
        let faults = Faults { crash: Some((40, Crash::Power)), slow: Some(5), ..Faults::default() };
        let life = machine.boot(faults);
        let mut rng = keyed(seed, "story", 0, 0);
        for _ in 0..50 {
            let _ = random_step(&life, Path::new("/"), &mut rng);
        }
        (machine.journal(), machine.contents(Path::new("/")))
    };
    assert_eq!(story(3), story(3));
    assert_ne!(story(3), story(4));
}

/// One operation on a few names; what it answered.
fn random_step(fs: &dyn FileSystem, root: &Path, rng: &mut Rng) -> String {
    let names = ["a", "b", "c", "a/b", "a/c", "b/a", "a/b/c", "b/c/a"];
    let mut path = || root.join(names[rng.random_range(0..names.len())]);
    let (one, two) = (path(), path());
    let kind = |e: std::io::Error| format!("{:?} {:?}", e.kind(), e.raw_os_error());
    let tell = |done: std::io::Result<String>| done.unwrap_or_else(kind);
    match rng.random_range(0..13) {
        0 | 1 => tell(fs.create_dir(&one).map(|()| "made".into())),
        2 | 3 => {
            let bytes = vec![rng.random(); rng.random_range(0..2000)];
            tell(fs.write(&one, &bytes).map(|()| "written".into()))
        }
        4 => tell(fs.append(&one).and_then(|mut log| {
            log.append(b"some")?;
            log.truncate(rng.random_range(0..9))?;
            log.append(b"more")?;
            Ok("logged".into())
        })),
        5 | 6 => tell(fs.rename(&one, &two).map(|()| "renamed".into())),
        7 => tell(fs.remove(&one).map(|()| "removed".into())),
        8 => tell(fs.sync(&one).map(|()| "synced".into())),
        9 => tell(fs.list(&one).map(|names| format!("{names:?}"))),
        10 => tell(fs.entry(&one).map(|entry| format!("{entry:?}"))),
        11 => tell(fs.open(&one).and_then(|mut file| {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(format!("{bytes:?}"))
        })),
        _ => match fs.lock(&one, "me") {
            Ok(Ok(_)) => "locked".into(),
            Ok(Err(holder)) => holder,
            Err(e) => kind(e),
        },
    }
}

fn tree_of(fs: &dyn FileSystem, root: &Path, at: &Path, all: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
    for name in fs.list(at).unwrap() {
        let path = at.join(name);
        let inner = path.strip_prefix(root).unwrap().to_owned();
        if fs.entry(&path).unwrap().unwrap().kind == FileKind::Dir {
            all.insert(inner, None);
            tree_of(fs, root, &path, all);
        } else {
            let mut bytes = Vec::new();
            fs.open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            all.insert(inner, Some(bytes));
        }
    }
}

/// Without faults, the simulated disk answers as the real one, and holds the same.
#[test]
fn the_simulated_disk_does_what_the_real_one_does() {
    let mut seen = BTreeMap::<String, u64>::new();
    for seed in 0..25 {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let machine = Machine::new(seed);
        let life = machine.boot(Faults::default());
        life.create_dir(&root).unwrap();
        let (mut here, mut there) = (keyed(seed, "both", 0, 0), keyed(seed, "both", 0, 0));
        for step in 0..200 {
            let (real, simulated) =
                (random_step(&Disk, &root, &mut here), random_step(&life, &root, &mut there));
            assert_eq!(real, simulated, "seed {seed}, step {step}");
            *seen.entry(real.split([' ', '(', '[']).next().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let (mut real, mut simulated) = (BTreeMap::new(), BTreeMap::new());
        tree_of(&Disk, &root, &root, &mut real);
        tree_of(&life, &root, &root, &mut simulated);
        assert_eq!(real, simulated, "seed {seed}");
    }
    for answer in
        ["written", "renamed", "removed", "logged", "made", "NotADirectory", "IsADirectory", "NotFound"]
    {
        assert!(seen.get(answer).is_some_and(|n| *n > 8), "{answer}: {seen:?}");
    }
}
