//! Devices and pipes as outputs: they are written into, and never replaced by a file. The devices are made for the
//! test, so that a mistake costs the machine nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]
#![cfg(all(target_os = "linux", feature = "cli"))]

use std::fs;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::Path;
use std::process::{Command, Output};

use shanty::base::durable;

fn shanty(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_shanty")).args(args).current_dir(dir).output().unwrap()
}

fn said(out: &Output) -> String {
    String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr)
}

/// A folder with a file of weights, and with devices like `/dev/null` and `/dev/full` if that is allowed here.
fn folder() -> (tempfile::TempDir, bool) {
    let dir = tempfile::tempdir().unwrap();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &[0; 4]).unwrap();
    fs::write(dir.path().join("a.safetensors"), safetensors::serialize([("w", view)], None).unwrap())
        .unwrap();
    let made = |name: &str, minor: &str| {
        let path = dir.path().join(name);
        let status = Command::new("mknod").arg(&path).args(["c", "1", minor]).output();
        status.is_ok_and(|out| out.status.success()) && fs::File::options().append(true).open(&path).is_ok()
    };
    let allowed = made("null", "3") && made("full", "7");
    if !allowed {
        eprintln!("no right to make devices: the pipes stand in for them");
    }
    (dir, allowed)
}

/// As root, a file that is written aside and renamed would have taken the place of `/dev/full` for the whole machine.
#[test]
fn an_output_never_replaces_a_device_or_a_pipe() {
    let (dir, devices) = folder();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/digits_lenet.yaml");
    let config = config.to_str().unwrap();
    let writes = |to: &str| {
        [
            shanty(dir.path(), &["ckpt", "convert", "a.safetensors", to]),
            shanty(dir.path(), &["ckpt", "average", "a.safetensors", "--out", to]),
            shanty(dir.path(), &["plan", config, "--svg", to]),
        ]
    };
    if devices {
        for (name, code) in [("null", 0), ("full", 1)] {
            symlink(name, dir.path().join(format!("to_{name}"))).unwrap();
            for to in [name.to_owned(), format!("to_{name}")] {
                for out in writes(&to) {
                    assert_eq!(out.status.code(), Some(code), "{to}: {}", said(&out));
                }
                let kind = fs::metadata(dir.path().join(&to)).unwrap().file_type();
                assert!(kind.is_char_device(), "{to} is a device still");
            }
        }
    }
    let out = shanty(dir.path(), &["ckpt", "convert", "a.safetensors", "plain.safetensors"]);
    assert!(out.status.success(), "{}", said(&out));
    let wanted = fs::read(dir.path().join("plain.safetensors")).unwrap();
    let script = "mkfifo p && { cat p > through & \"$0\" ckpt convert a.safetensors p; wait; }";
    let status = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_shanty")])
        .current_dir(dir.path())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read(dir.path().join("through")).unwrap(), wanted);
    assert!(fs::metadata(dir.path().join("p")).unwrap().file_type().is_fifo());
}

/// A machine without this device got a plain file of its name, on which others then waited in vain.
#[test]
fn no_file_is_made_among_the_devices() {
    let (dir, _) = folder();
    symlink("/dev/shanty-no-such-device", dir.path().join("link")).unwrap();
    for to in ["/dev/shanty-no-such-device", "link"] {
        let out = shanty(dir.path(), &["ckpt", "convert", "a.safetensors", to]);
        assert_eq!(out.status.code(), Some(2), "{}", said(&out));
        assert!(said(&out).contains("no such device"), "{}", said(&out));
        assert!(!Path::new("/dev/shanty-no-such-device").exists());
    }
}

/// What writes aside and renames refuses by itself what is no plain file.
#[test]
fn nothing_but_a_plain_file_is_renamed_over() {
    let (dir, devices) = folder();
    assert!(Command::new("mkfifo").arg(dir.path().join("p")).status().unwrap().success());
    for name in ["p", "null", "full"].into_iter().filter(|name| devices || *name == "p") {
        let path = dir.path().join(name);
        let before = fs::metadata(&path).unwrap().file_type();
        assert!(durable::write(&path, b"text").unwrap_err().to_string().contains("no plain file"), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().file_type(), before, "{name}");
    }
}

/// A pipe that nobody reads was waited for without end, after all the work.
#[test]
fn a_pipe_that_nobody_reads_is_told_at_once() {
    let (dir, _) = folder();
    assert!(Command::new("mkfifo").arg(dir.path().join("p.csv")).status().unwrap().success());
    symlink("p.csv", dir.path().join("to.csv")).unwrap();
    symlink("p.csv", dir.path().join("to")).unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/digits_lenet.yaml");
    let config = config.to_str().unwrap();
    let weights = "a.safetensors";
    for args in [
        &["predict", config, weights, "--out", "p.csv"][..],
        &["predict", config, weights, "--out", "to.csv"],
        &["val", config, weights, "--out", "to"],
        &["test", config, weights, "--out", "to"],
        &["plan", config, "--svg", "to"],
        &["ckpt", "convert", weights, "to"],
        &["ckpt", "average", weights, "--out", "to"],
    ] {
        // Longer than any machine needs to begin.
        let all = [&["60", env!("CARGO_BIN_EXE_shanty")][..], args].concat();
        let out = Command::new("timeout").args(all).current_dir(dir.path()).output().unwrap();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", said(&out));
        assert!(
            said(&out).contains("nobody reads this pipe: start its reader first"),
            "{args:?}: {}",
            said(&out)
        );
    }
}

/// The error named a temporary file, which nobody had given; and came after all the work.
#[test]
fn an_output_that_cannot_be_written_is_named_as_it_was_given() {
    let (dir, _) = folder();
    fs::write(dir.path().join("file"), "").unwrap();
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/digits_lenet.yaml");
    let config = config.to_str().unwrap();
    let long = format!("{}.csv", "x".repeat(300));
    for (to, says) in [
        ("nodir/x.csv", "no folder nodir: make it first"),
        ("file/x.csv", "file/x.csv"),
        (&*long, "xxx.csv"),
        ("/proc/x.csv", "/proc/x.csv"),
    ] {
        for args in [
            &["predict", config, "no such weights", "--out", to][..],
            &["val", config, "no such weights", "--out", to],
            &["plan", config, "--svg", to],
            &["ckpt", "average", "a.safetensors", "--out", to.trim_end_matches(".csv")],
        ] {
            let out = shanty(dir.path(), args);
            let says = if args[0] == "ckpt" { says.trim_end_matches(".csv") } else { says };
            assert!(!out.status.success() && said(&out).contains(says), "{args:?}: {}", said(&out));
            assert!(
                !said(&out).contains(".tmp-") && !said(&out).contains("no such weights"),
                "{}",
                said(&out)
            );
        }
    }
}
