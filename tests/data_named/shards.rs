//! Pictures in tar files.

use std::fs;
use std::path::Path;

use shanty::base::{Elem, Result};
use shanty::config::parse;
use shanty::data::{DataLoader, Origin, SampleId, Shard};
use shanty::registry::BuildCx;
use shanty::testing::dataset_breach;

use super::folders::{labels, loader, png, refusal};
use super::names;

fn tar(path: &Path, files: &[(&str, &[u8])]) {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    fs::write(path, archive.into_inner().unwrap()).unwrap();
}

fn set(urls: &str, more: &str) -> Result<DataLoader> {
    loader(&format!("{{type: WebDataset, urls: {urls}, {more}}}"))
}

/// Two shards: `0.png` is of class 1, `1.png` of class 0; a third sample has a long name and is of class 2.
fn shards(dir: &Path) -> String {
    let long = format!("{}/deep", "folder".repeat(30));
    let (picture, class) = (format!("{long}.PNG"), format!("{long}.cls"));
    tar(
        &dir.join("t-00.tar"),
        &[("0.png", &png(10)), ("0.cls", b"1"), ("0.json", b"{}"), ("1.cls", b"0\n"), ("1.png", &png(20))],
    );
    tar(&dir.join("t-01.tar"), &[("README", b"hello"), (&picture, &png(30)), (&class, b"2")]);
    dir.display().to_string()
}

#[test]
fn samples_of_shards_are_read_in_any_order() {
    let dir = tempfile::tempdir().unwrap();
    let root = shards(dir.path());
    for urls in [
        format!("'{root}'"),
        format!("'{root}/t-{{00..01}}.tar'"),
        format!("['{root}/t-00.tar', '{root}/t-01.tar']"),
    ] {
        let all = set(&urls, "classes: [a, b, c]").unwrap();
        assert_eq!((labels(&all), names(&all).unwrap()), (vec![1, 0, 2], vec!["a", "b", "c"]));
        dataset_breach(&**all.dataset()).unwrap();
        let grays: Vec<Elem> = all
            .batches(0, Some(1))
            .next()
            .unwrap()
            .unwrap()
            .inputs()
            .unwrap()
            .iter()
            .step_by(192)
            .copied()
            .collect();
        assert_eq!(grays, [10.0, 20.0, 30.0]);
    }
    let all = set(&format!("'{root}'"), "").unwrap();
    let id = SampleId::Name { name: "1.png".into(), row: 1 };
    assert_eq!(all.dataset().origin(1), Origin::Row { file: Some(dir.path().join("t-00.tar")), id });
    let shuffled = DataLoader::new(all.dataset().clone()).shuffle(true).seed(1).num_workers(2);
    let ids: Vec<u64> = shuffled.batches(0, Some(3)).flat_map(|batch| batch.unwrap().ids).collect();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 1, 2]);
    assert_eq!(labels(&set(&format!("'{root}'"), "indices: [2, 0]").unwrap()), [2, 1]);
    let bare = set(&format!("'{root}'"), "with_label: false").unwrap();
    assert!(bare.dataset().fields().unwrap().get("target").is_none());
}

#[test]
fn what_is_wrong_in_a_shard_is_told_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let root = shards(dir.path());
    let path = dir.path().join("x.tar");
    let said = |files: &[(&str, &[u8])], more: &str| {
        tar(&path, files);
        refusal(set(&format!("'{}'", path.display()), more))
    };
    assert!(said(&[("a.png", &png(1))], "").contains("x.tar: there is no a.cls beside a.png"));
    assert!(
        said(&[("a.png", &png(1)), ("a.cls", b"cat")], "")
            .contains("a.cls holds \"cat\": it is to be the number of a class")
    );
    // Of two pictures under one name the second one was left alone.
    let two = "x.tar: a.png and a.jpg are two pictures of one sample";
    assert!(said(&[("a.png", &png(1)), ("a.cls", b"0"), ("a.jpg", &png(2))], "").contains(two));
    assert!(
        said(&[("a.png", &png(1)), ("a.png", &png(2))], "with_label: false")
            .contains("are two pictures of one")
    );
    assert!(
        said(&[("a.png", &png(1)), ("a.cls", b"0"), ("a.cls", b"1")], "").contains("are two classes of one")
    );
    assert!(said(&[("a.txt", b"1")], "").contains("no picture in "));
    assert!(said(&[("a.png", &png(1)), ("a.cls", b"7")], "classes: [a]").contains("a.png in "));
    assert!(refusal(set(&format!("'{root}/t-{{2..1}}.tar'"), "")).contains("begins behind its end"));
    assert!(refusal(set(&format!("'{root}/none.tar'"), "")).contains("none.tar: no such tar file"));
    // Cut off anywhere: an error, or what is there whole.
    let whole = fs::read(dir.path().join("t-00.tar")).unwrap();
    for cut in (0..whole.len()).step_by(173) {
        fs::write(&path, &whole[..cut]).unwrap();
        match set(&format!("'{}'", path.display()), "with_label: false") {
            Ok(set) => assert!(set.batches(0, Some(1)).all(|batch| batch.is_ok()), "cut at {cut}"),
            Err(error) => assert!(error.to_string().contains("x.tar"), "{error}"),
        }
    }
    // What is cut off has lost samples: nothing short of its end mark is taken, and the place is told.
    let at = |cut: usize| {
        fs::write(&path, &whole[..cut]).unwrap();
        refusal(set(&format!("'{}'", path.display()), "with_label: false"))
    };
    let picture = png(10).len();
    let text = at(512 + picture / 2);
    let place = format!("x.tar: it is cut off in 0.png, at byte {}: ", 512 + picture / 2);
    assert!(text.contains(&place), "{text}");
    let end = whole.len() - 1024;
    assert!(at(end).contains(&format!("it ends at byte {end} without the mark")), "{}", at(end));
    assert!(at(512 + picture.next_multiple_of(512) + 100).contains("in a header"));
    assert!(at(0).contains("without the mark"));
    for (bytes, says) in [
        (&b"\x1f\x8b\x08\0\0\0\0\0"[..], "x.tar: this is gzipped, and"),
        (&[0x9c; 2000][..], "x.tar: this is no tar archive"),
        (&b"junk"[..], "x.tar: this is no tar archive"),
    ] {
        fs::write(&path, bytes).unwrap();
        let text = refusal(set(&format!("'{}'", path.display()), ""));
        assert!(text.contains(says) && text.chars().all(|c| !c.is_control() || c == '\n'), "{text:?}");
    }
    // A picture that is torn is named.
    tar(&path, &[("a.png", &png(1)[..40]), ("a.cls", b"0")]);
    let torn = set(&format!("'{}'", path.display()), "").unwrap();
    let error = torn.batches(0, Some(1)).next().unwrap().unwrap_err().to_string();
    assert!(error.contains("sample 0: a.png in ") && error.contains("cannot be decoded"), "{error}");
}

fn warnings(urls: &str, more: &str) -> Vec<String> {
    let text = format!("{{batch_size: 1, dataset: {{type: WebDataset, urls: {urls}, {more}}}}}");
    let config: shanty::data::DataLoaderConfig = parse("c.yaml", &text).unwrap().read_checked().unwrap();
    let mut cx = BuildCx::new(0);
    config.build(0, Shard::SOLO, &mut cx).unwrap();
    cx.take_warnings().0.into_iter().map(|diag| diag.message).collect()
}

/// A class without a picture was dropped, and a shard read twice, without a word.
#[test]
fn classes_without_a_picture_and_shards_named_again_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let root = shards(dir.path());
    assert_eq!(warnings(&format!("'{root}'"), ""), Vec::<String>::new());
    let lone = dir.path().join("x.tar");
    let picture = png(1);
    let one: [(&str, &[u8]); 4] = [("0.jp2", b"?"), ("0.cls", b"1"), ("1.png", &picture), ("1.cls", b"0")];
    let two = [&one[..], &[("2.cls", b"0"), ("README", b"hello")]].concat();
    for (files, says) in [
        (&one[..], "1 sample has a class and no picture, and is left out, from 0.cls of "),
        (&two[..], "2 samples have a class and no picture, and are left out, from 0.cls of "),
    ] {
        tar(&lone, files);
        for more in ["", "with_label: false"] {
            let told = warnings(&format!("'{}'", lone.display()), more);
            assert!(
                told.len() == 1
                    && told[0].starts_with(says)
                    && told[0].contains("x.tar on: a picture ends in .jpg"),
                "{told:?}"
            );
        }
    }
    // Files of a sample that lie apart are two samples, each of which lacks something.
    tar(&lone, &[("0.png", &picture), ("1.png", &picture), ("0.cls", b"1")]);
    let error = refusal(set(&format!("'{}'", lone.display()), ""));
    assert!(error.contains("files of a sample lie one behind the other"), "{error}");
    fs::remove_file(&lone).unwrap();
    std::os::unix::fs::symlink(dir.path().join("t-00.tar"), dir.path().join("u.link")).unwrap();
    let first = format!("{root}/t-00.tar");
    for (urls, again) in [
        (format!("['{first}', '{first}']"), "t-00.tar again, and 1 tar file in all"),
        (format!("['{root}', '{root}/./t-01.tar', '{first}']"), "t-01.tar again, and 2 tar files in all"),
        (format!("['{first}', '{root}/u.link']"), "u.link again, and 1 tar file in all"),
    ] {
        let told = warnings(&urls, "");
        assert!(told.len() == 1 && told[0].contains(again), "{urls}: {told:?}");
    }
}
