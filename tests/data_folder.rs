//! Folders and lists of pictures as they are found in the wild: what is walked, and text files from elsewhere.
#![cfg(feature = "images")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod folders;

use std::fs;
use std::process::Command;

use folders::{classes, config, folder, labels, png, refusal, said, shanty, write};

/// What editors and operating systems leave behind is no class and no picture: labels would shift by one.
#[test]
fn hidden_names_are_neither_classes_nor_pictures() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 2);
    for hidden in
        [".ipynb_checkpoints/0.png", ".git/x.png", "cat/.cache/1.png", "cat/._0.png", "dog/.hidden.png"]
    {
        write(dir.path().join(hidden), png(1));
    }
    let set = folder(dir.path(), "").unwrap();
    assert_eq!(set.classes().unwrap(), ["cat", "dog"]);
    assert_eq!(labels(&set), [0, 0, 1, 1]);
    assert_eq!(folder(dir.path(), "with_label: false").unwrap().dataset().len(), 4);
}

/// A link back to a folder above gave hundreds of iterations where there are six.
#[test]
#[cfg(unix)]
fn a_link_in_a_circle_is_not_followed() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("train");
    classes(&root, &["cat", "dog"], 2);
    for (to, link) in [
        ("..", "train/cat/loop"),
        ("../..", "train/dog/up"),
        (".", "train/cat/self"),
        ("../..", "train/cat/further"),
        (".", "train/again"),
        ("..", "train/above"),
        ("/", "train/everything"),
        ("knot", "train/dog/knot"),
    ] {
        symlink(to, dir.path().join(link)).unwrap();
    }
    let set = folder(&root, "").unwrap();
    assert_eq!(set.classes().unwrap(), ["cat", "dog"], "a link to where the classes stand is no class");
    assert_eq!(labels(&set), [0, 0, 1, 1]);
    assert_eq!(folder(&root, "with_label: false").unwrap().dataset().len(), 4);
}

/// Folders are entered once within a class; a class of its own may be a link to another one.
#[test]
#[cfg(unix)]
fn a_linked_class_is_a_class() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 2);
    std::os::unix::fs::symlink("cat", dir.path().join("kitty")).unwrap();
    classes(&dir.path().join("dog"), &["a"], 1);
    std::os::unix::fs::symlink("a", dir.path().join("dog/b")).unwrap();
    let set = folder(dir.path(), "").unwrap();
    assert_eq!(set.classes().unwrap(), ["cat", "dog", "kitty"]);
    assert_eq!(labels(&set), [0, 0, 1, 1, 1, 2, 2], "dog/a is not taken again as dog/b");
}

/// Whoever opens a pipe waits for its writer for ever.
#[test]
#[cfg(unix)]
fn pipes_sockets_and_devices_are_refused_and_never_opened() {
    let made = |name: &str| {
        let dir = tempfile::tempdir().unwrap();
        classes(dir.path(), &["cat"], 1);
        let path = dir.path().join("cat").join(name);
        (dir, path)
    };
    let (dir, path) = made("p.png");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let text = refusal(folder(dir.path(), ""));
    assert!(text.contains("p.png: a pipe (FIFO), not a picture"), "{text}");
    write(dir.path().join("list.txt"), "cat/p.png 0\n");
    let error =
        folder(dir.path(), "ann_file: list.txt").unwrap().batches(0, Some(1)).next().unwrap().unwrap_err();
    assert!(error.to_string().contains("p.png: a pipe (FIFO), not a regular file"), "{error}");
    fs::rename(&path, dir.path().join("list.txt")).unwrap();
    let text = refusal(folder(dir.path(), "ann_file: list.txt"));
    assert!(text.contains("list.txt: a pipe (FIFO), not a regular file"), "{text}");

    let (dir, path) = made("s.jpg");
    let _socket = std::os::unix::net::UnixListener::bind(path).unwrap();
    assert!(refusal(folder(dir.path(), "")).contains("s.jpg: a socket, not a picture"));

    let (dir, path) = made("n.jpeg");
    std::os::unix::fs::symlink("/dev/null", path).unwrap();
    assert!(refusal(folder(dir.path(), "")).contains("n.jpeg: a device, not a picture"));

    // What no ending makes a picture does not matter.
    let (dir, path) = made("agent.sock");
    let _socket = std::os::unix::net::UnixListener::bind(path).unwrap();
    assert_eq!(folder(dir.path(), "").unwrap().dataset().len(), 1);
}

#[test]
fn a_bottomless_folder_ends_with_an_error() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat"], 1);
    fs::create_dir_all(dir.path().join("cat").join("x/".repeat(70))).unwrap();
    assert!(refusal(folder(dir.path(), "")).contains("more than 64 folders deep"));
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_no_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat"], 1);
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.png");
    write(dir.path().join("cat").join(name), png(3));
    assert_eq!(labels(&folder(dir.path(), "").unwrap()), [0, 0], "a picture may be called anything");
    write(dir.path().join(std::ffi::OsStr::from_bytes(b"caf\xe9")).join("0.png"), png(3));
    assert!(refusal(folder(dir.path(), "")).contains("the name of a class must be UTF-8: rename the folder"));
}

/// Lists and classes that were written on Windows, and what UTF-8 is not.
#[test]
fn text_files_from_windows() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 1);
    let list = dir.path().join("list.txt");
    let read = || folder(dir.path(), "ann_file: list.txt");
    for text in [
        "\u{feff}cat/0.png 0\ndog/0.png 1\n",
        "cat/0.png 0\r\ndog/0.png 1\r\n",
        "\u{feff}cat/0.png 0\r\n\r\ndog/0.png 1",
    ] {
        write(&list, text);
        assert_eq!(labels(&read().unwrap()), [0, 1], "{text:?}");
    }
    for text in ["cat/0.png 0\ncat\\0.png 1\n", "cat/0.png 0\r\ncat\\0.png\t1\r\n"] {
        write(&list, text);
        let text = refusal(read());
        assert!(
            text.contains("list.txt:2: \"cat\\\\0.png\" is written as on Windows: folders are parted by `/`"),
            "{text}"
        );
    }
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        write(&list, "\u{feff}cat/0.png 0\n".encode_utf16().flat_map(order).collect::<Vec<u8>>());
        assert!(refusal(read()).contains("this is UTF-16 or UTF-32: save it as UTF-8"));
    }
    write(&list, b"cat/0.png 0\ndog/\xe9.png 1\n");
    assert!(refusal(read()).contains("line 2 is not UTF-8"));

    let names = dir.path().join("classes.txt");
    write(&names, "\u{feff}cat\r\ndog\r\n");
    let set = folder(dir.path(), &format!("classes: '{}'", names.display())).unwrap();
    assert_eq!(
        (set.classes().unwrap(), labels(&set)),
        (&["cat".to_owned(), "dog".to_owned()][..], vec![0, 1])
    );
}

#[test]
fn configs_from_windows() {
    let dir = tempfile::tempdir().unwrap();
    for names in ["train", "val"] {
        classes(&dir.path().join("d").join(names), &["cat", "dog"], 1);
    }
    let path = config(dir.path(), 2, "");
    let text = fs::read_to_string(&path).unwrap();
    for windows in [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        format!("\u{feff}{}", text.replace('\n', "\r\n")),
    ] {
        write(&path, windows);
        let out = shanty(&["check", "c.yaml"], dir.path());
        assert!(out.status.success(), "{}", said(&out));
    }
    for bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        write(&path, format!("\u{feff}{text}").encode_utf16().flat_map(bytes).collect::<Vec<u8>>());
        let out = shanty(&["check", "c.yaml"], dir.path());
        assert_eq!(out.status.code(), Some(2));
        assert!(said(&out).contains("c.yaml: this is UTF-16: save it as UTF-8"), "{}", said(&out));
    }
}
