//! Pictures that are kept on the disk: the same bits with and without them, and nothing that is not theirs is touched.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use shanty::base::Result;
use shanty::config::parse;
use shanty::data::{Batch, DataLoader, DataLoaderConfig, Shard};
use shanty::registry::BuildCx;
use tempfile::TempDir;
use xxhash_rust::xxh3::xxh3_64;

use super::fixture;
use super::folders::{said, shanty};

/// A few pictures of the fixtures: JPEG and PNG, grey and in colours, of 8 and of 16 bits, one of them turned.
fn pictures() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["noise_420.jpg", "turned.jpg", "gray.jpg", "rgba.png", "gray_16.png", "interlaced_rgb.png"] {
        fs::copy(fixture("pictures").join(name), dir.path().join(name)).unwrap();
    }
    dir
}

const LOAD: &str = "{type: LoadImageFromFile}";
const RESIZED: &str = "{type: LoadImageFromFile}, {type: ResizeEdge, scale: 20, backend: pillow}";
const BEHIND: &str = "{type: Resize, scale: 16}, {type: RandomFlip, prob: 0.5}, {type: RandomCrop, crop_size: 12}, \
                      {type: Normalize, mean: 100, std: 50}";

fn built(pictures: &Path, pipeline: &str) -> Result<DataLoader> {
    let text = format!(
        "{{batch_size: 4,\n sampler: {{type: DefaultSampler, shuffle: true}}, dataset: {{type: CustomDataset, \
         data_root: '{}', with_label: false,\n  pipeline: [{pipeline}]}}}}",
        pictures.display()
    );
    let config: DataLoaderConfig = parse("c.yaml", &text).unwrap().read_checked()?;
    config.build(3, Shard::SOLO, &mut BuildCx::new(3))
}

fn plain(pictures: &Path, kept: &str) -> DataLoader {
    built(pictures, &format!("{kept}, {BEHIND}")).unwrap()
}

fn cached(pictures: &Path, kept: &str, cache: &Path, max_gib: f64) -> DataLoader {
    let step = format!(
        "{{type: CachePictures, transforms: [{kept}], cache_dir: '{}', max_gib: {max_gib:?}}}",
        cache.display()
    );
    built(pictures, &format!("{step}, {BEHIND}")).unwrap()
}

fn two_passes(loader: &DataLoader) -> Vec<Batch> {
    loader.batches(0, Some(2 * loader.len())).map(Result::unwrap).collect()
}

/// The files of a cache, sorted.
fn files(cache: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for folder in fs::read_dir(cache).into_iter().flatten().map(|entry| entry.unwrap().path()) {
        all.extend(fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()));
    }
    all.retain(|path| path.extension().is_some_and(|ending| ending == "picture"));
    all.sort();
    all
}

fn bytes(cache: &Path) -> u64 {
    files(cache).iter().map(|path| path.metadata().unwrap().len()).sum()
}

/// Decoded and resized pictures, for any workers, while the cache fills and when it is full; two loaders at a time.
#[test]
fn bits_are_the_same_with_and_without_a_cache() {
    let (pictures, home) = (pictures(), tempfile::tempdir().unwrap());
    for kept in [LOAD, RESIZED, "{type: LoadImageFromFile, color_type: grayscale}"] {
        let expected = two_passes(&plain(pictures.path(), kept));
        let cache = home.path().join(kept.len().to_string());
        for workers in [4, 0, 1] {
            let loader = || cached(pictures.path(), kept, &cache, 1.0).num_workers(workers);
            let (first, second) = (loader(), loader());
            std::thread::scope(|scope| {
                let both = [&first, &second].map(|loader| scope.spawn(|| two_passes(loader)));
                both.into_iter()
                    .for_each(|made| assert_eq!(made.join().unwrap(), expected, "{kept} {workers}"));
            });
            assert_eq!(files(&cache).len(), 6, "one for each picture");
        }
    }
    // All in one folder: what is done to a picture is part of its name.
    let one = home.path().join("one");
    for kept in [LOAD, RESIZED] {
        assert_eq!(
            two_passes(&cached(pictures.path(), kept, &one, 1.0)),
            two_passes(&plain(pictures.path(), kept))
        );
    }
    assert_eq!(files(&one).len(), 12);
    // Of 16 bits the values are kept.
    let deep = tempfile::tempdir().unwrap();
    fs::copy(fixture("unchanged/rgb.png"), deep.path().join("a.png")).unwrap();
    let kept = "{type: LoadImageFromFile, color_type: unchanged}";
    for _ in 0..2 {
        let loader = cached(deep.path(), kept, &home.path().join("deep"), 1.0);
        assert_eq!(two_passes(&loader), two_passes(&plain(deep.path(), kept)));
    }
}

/// That a picture comes from the cache is seen by one that somebody has changed, and signed.
#[test]
fn a_kept_picture_is_what_is_read() {
    let (pictures, cache) = (pictures(), tempfile::tempdir().unwrap());
    let expected = two_passes(&plain(pictures.path(), LOAD));
    let loader = || cached(pictures.path(), LOAD, cache.path(), 1.0);
    assert_eq!(two_passes(&loader()), expected);
    for path in files(cache.path()) {
        let mut bytes = fs::read(&path).unwrap();
        bytes[64..].iter_mut().for_each(|byte| *byte ^= 0xff);
        let sum = xxh3_64(&[&bytes[..56], &bytes[64..]].concat());
        bytes[56..64].copy_from_slice(&sum.to_le_bytes());
        fs::write(path, bytes).unwrap();
    }
    assert_ne!(two_passes(&loader()), expected);
    // A picture that is another one now is read anew, though it is as long.
    let changed = pictures.path().join("gray.jpg");
    let length = fs::metadata(&changed).unwrap().len() as usize;
    let mut other = fs::read(fixture("pictures/noise_420.jpg")).unwrap();
    other.resize(length.max(other.len()), 0);
    fs::write(&changed, &other).unwrap();
    let before = files(cache.path()).len();
    two_passes(&loader());
    assert_eq!(files(cache.path()).len(), before + 1);
}

/// Cut off anywhere, with other bytes, or with the file of another picture in its place: it is decoded anew, and stored.
#[test]
fn damaged_files_are_rebuilt_and_never_trusted() {
    let (pictures, cache) = (pictures(), tempfile::tempdir().unwrap());
    let expected = two_passes(&plain(pictures.path(), RESIZED));
    let loader = || cached(pictures.path(), RESIZED, cache.path(), 1.0);
    two_passes(&loader());
    let whole: Vec<(PathBuf, Vec<u8>)> =
        files(cache.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(24));
    runner
        .run(&(0usize..5, any::<prop::sample::Index>(), 1u8..), |(way, at, flip)| {
            for (i, (path, bytes)) in whole.iter().enumerate() {
                let at = at.index(bytes.len());
                let mut other = bytes.clone();
                match way {
                    0 => other.truncate(at),
                    1 => other[at] ^= flip,
                    2 => other.extend_from_slice(&bytes[..=at]),
                    3 => other = whole[(i + 1) % whole.len()].1.clone(),
                    _ => other.fill(0),
                }
                fs::write(path, other).unwrap();
            }
            assert_eq!(two_passes(&loader()), expected);
            for (path, bytes) in &whole {
                assert!(fs::read(path).unwrap() == *bytes, "{} is not rebuilt", path.display());
            }
            Ok(())
        })
        .unwrap();
}

/// The files never take more than was said, whoever writes them, and what finds no room is decoded each time.
#[test]
fn the_limit_holds_for_all_who_share_a_folder() {
    let pictures = pictures();
    let all = tempfile::tempdir().unwrap();
    let expected = two_passes(&plain(pictures.path(), LOAD));
    two_passes(&cached(pictures.path(), LOAD, all.path(), 1.0));
    let whole = bytes(all.path());
    for part in [0.0, 0.3, 0.6, 0.99, 1.0] {
        let cache = tempfile::tempdir().unwrap();
        let most = (whole as f64 * part).ceil();
        let loader =
            || cached(pictures.path(), LOAD, cache.path(), most / (1u64 << 30) as f64).num_workers(2);
        let three = [loader(), loader(), loader()];
        std::thread::scope(|scope| {
            let made: Vec<_> = three.iter().map(|loader| scope.spawn(|| two_passes(loader))).collect();
            made.into_iter().for_each(|made| assert_eq!(made.join().unwrap(), expected));
        });
        assert!(bytes(cache.path()) <= most as u64, "{part}");
        assert_eq!(files(cache.path()).len() == 6, part == 1.0, "{part}");
        // Who comes later counts what is there, also where somebody has deleted a part of it, or the ledger is no number.
        files(cache.path()).first().into_iter().for_each(|path| fs::remove_file(path).unwrap());
        fs::write(cache.path().join(".shanty-picture-cache"), "99999999999999999999999").unwrap();
        assert_eq!(two_passes(&loader()), expected);
        assert!(bytes(cache.path()) <= most as u64, "{part}");
        assert_eq!(files(cache.path()).len() == 6, part == 1.0, "{part}: what was deleted is there again");
    }
}

/// Files of somebody else stay, whatever they are called; half a file of a run that died goes, one in the making stays.
#[test]
fn nothing_but_the_caches_own_is_touched() {
    let (pictures, cache) = (pictures(), tempfile::tempdir().unwrap());
    let loader = || cached(pictures.path(), LOAD, cache.path(), 1.0);
    let expected = two_passes(&loader());
    let own = files(cache.path());
    let folder = own[0].parent().unwrap().to_owned();
    let foreign = ["notes.txt", "ab.picture", ".shanty-tmp-notes.txt-00000000", "0123.picture"];
    foreign.iter().for_each(|name| fs::write(folder.join(name), "mine").unwrap());
    fs::write(cache.path().join("notes.txt"), "mine").unwrap();
    // In the places of pictures: a folder, and a link to a file.
    let (precious, taken) = (pictures.path().join("precious"), &own[..2]);
    fs::write(&precious, "mine").unwrap();
    taken.iter().for_each(|path| fs::remove_file(path).unwrap());
    fs::create_dir(&taken[0]).unwrap();
    std::os::unix::fs::symlink(&precious, &taken[1]).unwrap();
    let half = |path: &Path| shanty::base::durable::sibling(path, "tmp");
    let (left, held) = (half(&own[2]), half(&own[3]));
    [&left, &held].iter().for_each(|path| fs::write(path, "half").unwrap());
    [&own[2], &own[3]].iter().for_each(|path| fs::remove_file(path).unwrap());
    let lock = File::open(&held).unwrap();
    lock.lock().unwrap();
    assert_eq!(two_passes(&loader()), expected);
    for name in foreign {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), "mine", "{name}");
    }
    assert_eq!(fs::read_to_string(cache.path().join("notes.txt")).unwrap(), "mine");
    assert!(taken[0].is_dir() && taken[1].is_symlink());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "mine");
    assert!(!left.exists() && own[2].exists(), "what was left half written is written anew");
    assert!(held.exists() && !own[3].exists(), "who writes is not disturbed");
}

/// What stands in the way of the folder is refused where it is built, by `check` as by `train`, which both leave no
/// file of a mistake; a check of a config that is right leaves none either.
#[test]
fn a_cache_that_cannot_be_is_refused_and_a_check_writes_none() {
    let pictures = pictures();
    let root = pictures.path();
    let step =
        |transforms: &str, more: &str| format!("{{type: CachePictures, transforms: [{transforms}], {more}}}");
    fs::write(root.join("file"), "x").unwrap();
    let beneath = format!("cache_dir: '{}', max_gib: 1", root.join("file/cache").display());
    for (step, says) in [
        (
            step("{type: LoadImageFromFile}, {type: RandomFlip, prob: 0.5}", "cache_dir: c, max_gib: 1"),
            "`RandomFlip` makes",
        ),
        (step("{type: PackInputs}", "cache_dir: c, max_gib: 1"), "`PackInputs` makes"),
        (step("", "cache_dir: c, max_gib: 1"), "name some"),
        (step(LOAD, "cache_dir: '', max_gib: 1"), "name one"),
        (step(LOAD, &beneath), "is a file"),
        (step(LOAD, "cache_dir: 's3://x', max_gib: 1"), "give a local path"),
        (step(LOAD, "cache_dir: c, max_gib: -1"), "max_gib"),
        (step(LOAD, "cache_dir: c"), "max_gib"),
    ] {
        let text = built(root, &step).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(says) && text.contains("c.yaml:3:"), "{step}: {text}");
    }
    let dir = tempfile::tempdir().unwrap();
    super::folders::classes(&dir.path().join("d/train"), &["a", "b"], 4);
    super::folders::classes(&dir.path().join("d/val"), &["a", "b"], 2);
    let config = super::folders::config(dir.path(), 2, "");
    let text = fs::read_to_string(&config).unwrap();
    let with = |cache: &str| {
        let pipeline = format!(
            "pipeline: [{{type: CachePictures, transforms: [{LOAD}], cache_dir: {cache}, max_gib: 1}}]"
        );
        fs::write(&config, text.replace("data_prefix: train}", &format!("data_prefix: train, {pipeline}}}")))
            .unwrap();
    };
    with("kept");
    let out = shanty(&["check", "c.yaml"], dir.path());
    assert!(out.status.success() && !dir.path().join("kept").exists(), "{}", said(&out));
    let out = shanty(&["train", "c.yaml"], dir.path());
    assert!(out.status.success() && files(&dir.path().join("kept")).len() == 8, "{}", said(&out));
    with("c.yaml/kept");
    let told = ["check", "train"].map(|command| {
        let out = shanty(&[command, "c.yaml"], dir.path());
        (out.status.code(), said(&out).lines().find(|line| line.contains("cache_dir")).map(str::to_owned))
    });
    assert!(told[0].0 == Some(2) && told[0].1.is_some() && told[0] == told[1], "{told:?}");
}
