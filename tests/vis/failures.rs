//! What cannot be written ends no run.

use super::*;

/// A backend of one's own, as a plug-in would register it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct Clumsy {
    /// Whether it panics, or says that it cannot.
    panics: bool,
}

impl VisBackend for Clumsy {
    fn add(&mut self, event: &VisEvent, _: &VisCx<'_>) -> Result<()> {
        assert!(!self.panics, "clumsy");
        if event.kind() == "val" { Err(Error::config("no room")) } else { Ok(()) }
    }

    fn restart(&mut self) -> Result<()> {
        Ok(())
    }
}

register! {
    /// Fails in the ways that a backend can.
    dyn VisBackend, "Clumsy" => Clumsy
}

/// Files that the disk refuses, a backend that panics, one that says no: the run is the same, each failure is said, ten
/// in a row are enough, and the end says what was lost.
#[test]
fn no_backend_ends_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| ["tfevents", ".csv"].iter().any(|part| path.to_string_lossy().contains(part));
    let disk = JudgedDisk::new(move |op, path, _| match op == Op::Append && refused(path) {
        true => Verdict::Fail(io::Error::other("disk full")),
        false => Verdict::Go,
    });
    let builder = every_step(dir.path(), false).file_system(disk);
    let own = ["{type: Clumsy, panics: true, name: first}", "{type: Clumsy, name: second, on_error: quiet}"];
    let mut runner = with(builder, &own).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let told = events(&vis_data(&runner));
    assert_eq!(steps(&told, "train"), (1..=12).collect::<Vec<_>>());
    let log = text_log(&runner);
    for part in [
        "first: the event `run` was not written: panicked: clumsy",
        "; no more are tried in this run",
        "CsvVisBackend: the scalars of step 1 were not written",
        "TensorboardVisBackend lacks ",
        "CsvVisBackend lacks ",
        "second lacks 3 events of this run; first the scalars of step 1 were not: no room",
    ] {
        assert!(log.contains(part), "{part}\n{log}");
    }
    assert!(!log.contains("second: "), "{log}");
    // Ten failures in nine lines: those of the training and of the validation at step 4 read the same.
    assert_eq!(log.matches("first: ").count(), 9, "{log}");
}

/// The event log itself may be lost in parts: the run goes on, and what a resume takes up is whole lines.
#[test]
fn a_disk_without_room_for_the_event_log_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let appended = std::sync::atomic::AtomicU64::new(0);
    let disk = JudgedDisk::new(move |op, path, _| {
        let is_log = op == Op::Append && path.ends_with("events.jsonl");
        // The first two are the lines of a run that is gone on with, and that it begins.
        let n = if is_log { appended.fetch_add(1, std::sync::atomic::Ordering::Relaxed) } else { 0 };
        match (4..8).contains(&n) {
            true => Verdict::Torn(10, io::Error::other("disk full")),
            false => Verdict::Go,
        }
    });
    let mut runner = every_step(dir.path(), false).file_system(disk).build().unwrap();
    assert_eq!(runner.train().unwrap(), Outcome::Finished);
    let text = fs::read_to_string(vis_data(&runner).join("events.jsonl")).unwrap();
    assert!(text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{text}");
    assert_eq!(events(&vis_data(&runner)).last().unwrap().kind(), "end");
    assert!(text.contains("events.jsonl lacks 4 events of this run"), "{text}");
    assert!(text.contains("events.jsonl is written again, without 4 events"), "{text}");
    // An outage is one line when it begins.
    assert_eq!(text_log(&runner).matches("each further event is tried").count(), 1);
}

/// What a resume cannot take over of the older log stands in the new one.
#[test]
fn lines_that_a_resume_cannot_read_are_told() {
    let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let text = "{\"event\":\"run\"}\n{\"event\":\"tra\n";
    fs::write(old.path().join("events.jsonl"), text).unwrap();
    let mut vis = Visualizer::new(Arc::new(Disk), new.path(), new.path(), WallClock::default(), Vec::new());
    vis.continue_from(&Disk, old.path(), text.len() as u64 + 5).unwrap();
    vis.begin(VisEvent::new).unwrap();
    let told = events(new.path());
    assert_eq!(kinds(&told), ["run", "resume", "warning"]);
    let said = told[2].text("text");
    assert!(said.contains("1 line could not be read") && said.contains("5 bytes are not there"), "{said}");
}

/// However long the disk was full, the log goes on when it has room again; and no half line is left meanwhile.
#[test]
fn the_event_log_never_gives_up() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let is_full = Arc::clone(&full);
    let disk = JudgedDisk::new(move |op, path, _| {
        match op == Op::Append && path.ends_with("events.jsonl") && is_full.load(Ordering::Relaxed) {
            true => Verdict::Torn(10, io::Error::other("disk full")),
            false => Verdict::Go,
        }
    });
    let mut vis = Visualizer::new(Arc::new(disk), dir.path(), dir.path(), WallClock::default(), Vec::new());
    vis.begin(VisEvent::new).unwrap();
    vis.add_scalars(&[("loss", 1.0)], 1);
    full.store(true, Ordering::Relaxed);
    (2..=40).for_each(|step| vis.add_scalars(&[("loss", 1.0)], step));
    assert!(fs::read_to_string(dir.path().join("events.jsonl")).unwrap().ends_with("}\n"));
    full.store(false, Ordering::Relaxed);
    vis.add_scalars(&[("loss", 1.0)], 41);
    assert_eq!(steps(&events(dir.path()), "scalars"), [1, 41]);
    let views = shanty::vis::read_scalars(&dir.path().join("scalars.json")).unwrap();
    assert_eq!(views.len(), 41);
}

/// A scalar that comes later is a further column: all rows are written anew, and stay where there is no room for that.
#[test]
fn rows_of_csv_outlive_a_disk_without_room_for_a_further_column() {
    let dir = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicBool::new(false));
    let is_full = Arc::clone(&full);
    let disk = JudgedDisk::new(move |op, path, _| {
        let is_table = path.to_string_lossy().contains("scalars.csv");
        match is_table && matches!(op, Op::Append | Op::Write) && is_full.load(Ordering::Relaxed) {
            true => Verdict::Fail(io::Error::other("disk full")),
            false => Verdict::Go,
        }
    });
    let csv = vec![backend("{type: CsvVisBackend}")];
    let mut vis = Visualizer::new(Arc::new(disk), dir.path(), dir.path(), WallClock::default(), csv);
    vis.begin(VisEvent::new).unwrap();
    (1..=3).for_each(|step| vis.add_scalars(&[("a", 1.0)], step));
    full.store(true, Ordering::Relaxed);
    vis.add_scalars(&[("a", 1.0), ("b", 2.0)], 4);
    let steps = || rows(&dir.path().join("scalars.csv")).iter().map(|row| row[0].clone()).collect::<Vec<_>>();
    assert_eq!(steps(), ["step", "1", "2", "3"]);
    full.store(false, Ordering::Relaxed);
    vis.add_scalars(&[("a", 1.0), ("b", 2.0)], 5);
    assert_eq!(steps(), ["step", "1", "2", "3", "5"]);
    let table = rows(&dir.path().join("scalars.csv"));
    assert!(table[0].ends_with(&["a".into(), "b".into()]), "{table:?}");
    assert!(table.iter().all(|row| row.len() == table[0].len()), "{table:?}");
}

/// What a log says of files is not believed: pictures of the run alone are read, and one that is gone costs itself.
#[cfg(feature = "tensorboard")]
#[test]
fn a_log_names_no_other_files_than_pictures_of_its_run() {
    let dir = tempfile::tempdir().unwrap();
    let work = dir.path().join("w");
    let log = work.join("20260101_000000/vis_data");
    fs::create_dir_all(&log).unwrap();
    fs::write(dir.path().join("secret"), "\u{89}PNG no").unwrap();
    fs::write(work.join("text"), "a secret").unwrap();
    let png = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/420_pillow.png")).unwrap();
    fs::write(work.join("own.png"), &png).unwrap();
    let mut text = String::from("{\"event\":\"run\"}\n");
    let outside = dir.path().join("secret").display().to_string();
    for path in ["../secret", &outside, "text", "gone.png", "own.png", "20260101_000000/../text"] {
        text += &format!("{{\"event\":\"image\",\"name\":\"p\",\"step\":1,\"path\":\"{path}\"}}\n");
    }
    text += "{\"event\":\"train\",\"step\":1,\"iter\":1,\"loss\":2}\n";
    fs::write(log.join("events.jsonl"), text).unwrap();
    let args = ["export-logs", "w", "--to", "tensorboard"];
    let out =
        std::process::Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir.path()).output();
    let out = out.unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success() && said.contains("5 pictures left out, first "), "{said}");
    let tags: Vec<_> = board::summaries(&work.join("tensorboard")).into_iter().map(|(tag, ..)| tag).collect();
    assert_eq!(tags.iter().filter(|tag| *tag == "p").count(), 1, "{tags:?}");
    assert!(tags.contains(&"loss".to_owned()), "{tags:?}");
}
