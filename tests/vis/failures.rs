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
}
