//! Which samples go into one batch.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{Array2, Array3};
use shanty::base::Result;
use shanty::config::parse;
use shanty::data::{
    ArrayDataset, AspectRatioBatchSampler, Batch, BatchSampler, DataLoader, DataLoaderConfig,
    DefaultBatchSampler, DefaultSampler, GroupSampler, InfiniteSampler, LengthBatchSampler, Sampler,
    SequentialSampler, Shard, Subsample,
};
use shanty::registry::{self, BuildCx, Spec};
use shanty::run::verify::verify;
use shanty::run::{EpochBasedTrainLoop, Limits};
use shanty::testing::{toy_optim, toy_runner};

use super::samplers::{Labelled, uneven};

fn sequential() -> DefaultSampler {
    DefaultSampler::sequential()
}

fn ids(loader: &DataLoader, from: u64, to: u64) -> Vec<Vec<u64>> {
    loader.batches(from, Some(to)).map(|batch| batch.unwrap().ids).collect()
}

fn numbered(n: i64) -> DataLoader {
    DataLoader::new(Labelled((0..n).collect()))
}

/// Every registered sampler and batch sampler: batches are those of an uncut run from any cut on, for any number of
/// workers and any rank, and a training over them ends as one that was not cut.
#[test]
fn every_way_to_batches_goes_on_where_it_was_cut() {
    let all = |kind: &'static str| registry::entries(kind).map(|entry| entry.name);
    let alone = all("sampler").map(|sampler| (sampler, "BatchSampler"));
    let batched = all("batch_sampler").flat_map(|own| [("DefaultSampler", own), ("InfiniteSampler", own)]);
    let ways: Vec<_> = alone.chain(batched).collect();
    assert!(ways.len() >= 14, "{ways:?}");
    for (sampler, batching) in ways {
        let more = match sampler {
            "WeightedRandomSampler" => ", weights: balanced",
            "RepeatFactorSampler" => ", oversample_thr: 0.5",
            "GroupSampler" => ", by: target",
            _ => "",
        };
        let make = |workers: usize, world: usize, rank: usize| {
            let (text, cx) = (format!("{{type: {sampler}{more}}}"), &mut BuildCx::new(0));
            let sampler = Spec::<dyn Sampler>::parse(&text).unwrap().build(cx).unwrap();
            let text = format!("{{type: {batching}}}");
            let batching = Spec::<dyn BatchSampler>::parse(&text).unwrap().build(cx).unwrap();
            DataLoader::new(Labelled(uneven()))
                .sampler(sampler)
                .batch_sampler(batching)
                .batch_size(3)
                .seed(5)
                .num_workers(workers)
                .shard(Shard { rank, world })
        };
        let read = |loader: DataLoader, from: u64| -> Vec<Batch> {
            loader.batches(from, Some(13)).map(Result::unwrap).collect()
        };
        for (world, rank) in [(1, 0), (2, 1), (3, 2)] {
            let whole = read(make(0, world, rank), 0);
            for (workers, cut) in [(0, 1), (1, 4), (2, 0), (2, 7), (8, 0), (8, 5)] {
                assert_eq!(
                    read(make(workers, world, rank), cut),
                    whole[cut as usize..],
                    "{sampler}, {batching}, {workers} workers, cut at {cut}"
                );
            }
        }
        let run = |dir: &Path, resume: bool, limits: Limits| {
            let loader = make(2, 1, 0);
            let runner = toy_runner(dir, 3, 4)?.train(loader, EpochBasedTrainLoop::new(3), toy_optim());
            runner.resume(resume).limits(limits).build()
        };
        let scratch = tempfile::tempdir().unwrap();
        for cut in verify(&run, |_| vec![2, 7], scratch.path(), &mut |_| ()).unwrap() {
            assert_eq!(cut.difference, None, "{sampler}, {batching}, cut after {}", cut.at);
        }
    }
}

/// Batches of as long samples, but for those at the seams of lengths: each sample once, another order in every pass.
#[test]
fn batches_are_grouped_by_length() {
    let loader = numbered(103).shuffle(true).batch_sampler(LengthBatchSampler::default()).batch_size(4);
    let n = loader.len();
    let (first, second) = (ids(&loader, 0, n), ids(&loader, n, 2 * n));
    assert_ne!(first, second);
    for batches in [&first, &second] {
        let mut all: Vec<u64> = batches.concat();
        all.sort_unstable();
        assert_eq!(all, (0..103).collect::<Vec<u64>>());
        let mixed = batches.iter().filter(|ids| ids.iter().any(|id| id % 5 != ids[0] % 5)).count();
        assert!(mixed <= 4, "{mixed} batches of several lengths, of five lengths");
        assert!(batches.windows(2).any(|two| two[0][0] % 5 < two[1][0] % 5), "batches are shuffled, too");
    }
    // Long ones first in each stretch where nothing is shuffled, and equal ones in the order drawn.
    let sorted = LengthBatchSampler { batches: 2, shuffle: false, drop_last: true };
    let sorted = numbered(11).sampler(sequential()).batch_sampler(sorted).batch_size(3);
    assert_eq!(ids(&sorted, 0, sorted.len()), [[4, 3, 2], [1, 0, 5], [9, 8, 7]]);
    let untold = super::folders::loader("{type: Digits}").unwrap().dataset().clone();
    let error = DataLoader::new(untold).batch_sampler(LengthBatchSampler::default()).check().unwrap_err();
    assert!(error.to_string().contains("does not tell how long sample 0 is"), "{error}");
}

/// As MMDetection's: a batch comes when its bucket is full, what is left comes last, upright pictures (0, 3, 6, …) first.
#[test]
fn upright_and_wide_pictures_have_batches_of_their_own() {
    let of = |drop_last| {
        numbered(11).sampler(sequential()).batch_size(3).batch_sampler(AspectRatioBatchSampler { drop_last })
    };
    // Wide ones fill up at 4 and 8, upright ones at 6; 9, and then 10, are left.
    let all: [&[u64]; 4] = [&[1, 2, 4], &[0, 3, 6], &[5, 7, 8], &[9, 10]];
    assert_eq!(ids(&of(false), 0, 4), all);
    assert_eq!(
        (of(true).len(), ids(&of(true), 0, 3)),
        (3, all[..3].iter().map(|ids| ids.to_vec()).collect())
    );
    // Two ranks share batches of one kind.
    let rank = |rank| ids(&of(false).batch_size(2).shard(Shard { rank, world: 2 }), 0, 2);
    assert_eq!((rank(0), rank(1)), (vec![vec![1, 4], vec![0, 6]], vec![vec![2, 5], vec![3, 9]]));
    // A stream has no last batch: what is left of a pass fills up with what the next one begins with.
    let endless = numbered(5).sampler(InfiniteSampler { shuffle: false, seed: None }).batch_size(2);
    let endless = endless.batch_sampler(AspectRatioBatchSampler::default());
    // 1 2 | 0 3 | 4 0 | then 1 2 3 4: 1 2 | 3 4
    assert_eq!(ids(&endless, 0, 6), [[1, 2], [0, 3], [4, 0], [1, 2], [3, 4], [1, 2]]);
}

/// Pictures of the disk are told apart by the beginnings of their files, and as their cameras were held.
#[test]
fn files_tell_which_way_round_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let images = super::fixture("pictures");
    let mut shown = BTreeMap::new();
    for entry in std::fs::read_dir(&images).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap().to_owned();
        let known = [".jpg", ".png", ".webp", ".bmp", ".gif", ".ppm", ".tif"];
        if known.iter().any(|ending| name.ends_with(ending)) {
            std::fs::copy(&entry, dir.path().join(&name)).unwrap();
        }
    }
    let set = super::set("CustomDataset", dir.path(), "with_label: false").unwrap().dataset().clone();
    assert!(set.len() > 20, "{}", set.len());
    for index in 0..set.len() {
        let mut rng = shanty::base::keyed(0, "", 0, 0);
        let Ok(sample) = set.get(index, &mut rng) else { continue };
        let packed = sample.float("inputs").unwrap().shape().to_vec();
        assert_eq!(set.picture_size(index).unwrap(), Some([packed[1], packed[2]]), "{:?}", set.origin(index));
        *shown.entry(packed[2] >= packed[1]).or_insert(0) += 1;
    }
    assert_eq!(shown.len(), 2, "both kinds are among them: {shown:?}");
    // A file that is none is told when it is read.
    std::fs::write(dir.path().join("a.jpg"), "no picture").unwrap();
    let set = super::set("CustomDataset", dir.path(), "with_label: false").unwrap().dataset().clone();
    let batches = DataLoader::new(set).sampler(GroupSampler::default()).batch_size(1);
    batches.check().unwrap();
    let wrong: Vec<String> = batches
        .batches(0, Some(batches.len()))
        .filter_map(|batch| batch.err())
        .map(|e| e.to_string())
        .collect();
    assert!(wrong.iter().any(|text| text.contains("a.jpg")), "{wrong:?}");
}

/// Whole batches of one group, each sample of a group at least once, those that fill up among their own.
#[test]
fn a_batch_holds_samples_of_one_group() {
    let group_of = |labels: &[i64], batches: &[Vec<u64>]| {
        for ids in batches {
            let groups: std::collections::BTreeSet<i64> = ids.iter().map(|id| labels[*id as usize]).collect();
            assert_eq!(groups.len(), 1, "{ids:?}");
        }
    };
    let by_class = DataLoader::new(Labelled(uneven())).sampler(GroupSampler::by("target")).batch_size(4);
    // 10, 3 and 1 samples make 3, 1 and 1 batches of 4.
    assert_eq!(by_class.len(), 5);
    let (first, second) = (ids(&by_class, 0, 5), ids(&by_class, 5, 10));
    assert_ne!(first, second);
    for batches in [&first, &second] {
        group_of(&uneven(), batches);
        let mut all: Vec<u64> = batches.concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!((batches.concat().len(), all), (20, (0..14).collect::<Vec<u64>>()));
    }
    // Lengths 0 1 2 3 4 0 1 …, in two groups: below 2, and from 2 on.
    let bounds = GroupSampler { boundaries: vec![2.0], shuffle: false, ..GroupSampler::by("length") };
    let by_length = numbered(7).sampler(bounds).batch_size(3);
    assert_eq!(ids(&by_length, 0, by_length.len()), [[0, 1, 5], [6, 0, 1], [2, 3, 4]]);
    let upright = GroupSampler { shuffle: false, ..GroupSampler::default() };
    let upright = numbered(7).sampler(upright).batch_size(2);
    assert_eq!(ids(&upright, 0, upright.len()), [[0, 3], [6, 0], [1, 2], [4, 5]]);
    // A part of the data alone: 0 and 1 are short, 2 is long.
    let bounds = GroupSampler { boundaries: vec![2.0], shuffle: false, ..GroupSampler::by("length") };
    let part = numbered(7).sampler(bounds).batch_size(3).max_batches(1);
    assert_eq!(ids(&part, 0, part.len()), [[0, 1, 0], [2, 2, 2]]);
}

fn built(text: &str) -> Option<String> {
    match parse("c.yaml", text).unwrap().read_checked::<DataLoaderConfig>() {
        Ok(config) => config.build(0, Shard::SOLO, &mut BuildCx::new(0)).err().map(|e| e.to_string()),
        Err(diags) => Some(diags.to_string()),
    }
}

#[test]
fn ways_to_batches_that_do_not_fit_are_errors_at_their_place() {
    let digits = "dataset: {type: Digits, split: val}";
    for fine in [
        "batch_sampler: null".to_owned(),
        "batch_sampler: {type: BatchSampler, drop_last: true}".to_owned(),
        "batch_sampler: {type: AspectRatioBatchSampler}".to_owned(),
        "sampler: {type: GroupSampler, by: target}".to_owned(),
    ] {
        assert_eq!(built(&format!("{{batch_size: 2,\n {fine},\n {digits}}}")), None, "{fine}");
    }
    for (what, data, says) in [
        ("batch_sampler: {type: LengthBatchSampler}", digits, "does not tell how long sample 0 is"),
        (
            "batch_sampler: {type: AspectRatioBatchSampler}",
            "dataset: {type: SyntheticRegression}",
            "does not tell of sample 0 the height and width of its picture before it reads it",
        ),
        ("sampler: {type: GroupSampler, by: length}", digits, "does not tell of sample 0 how long it is"),
        ("sampler: {type: GroupSampler, by: shop}", digits, "its `shop` before it reads it; it tells target"),
        ("sampler: {type: GroupSampler, boundaries: [1.0]}", digits, "`by: orientation` has none"),
        ("sampler: {type: GroupSampler, by: target, boundaries: [3, 1]}", digits, "in ascending order"),
        ("batch_sampler: {type: DefaultSampler}", digits, "unknown batch_sampler `DefaultSampler`"),
    ] {
        let text = built(&format!("{{batch_size: 2,\n {what},\n {data}}}")).unwrap();
        assert!(text.contains(says) && text.contains("c.yaml:2:"), "{what}: {text}");
    }
    // A mask has a number for each pixel.
    let masks = ArrayDataset::new("inputs", Array3::<f32>::zeros((4, 2, 2))).unwrap();
    let masks = masks.with("target", Array2::<i64>::zeros((4, 3))).unwrap();
    let error = DataLoader::new(masks).sampler(GroupSampler::by("target")).check().unwrap_err().to_string();
    assert!(
        error.contains("`target` of sample 0 is integers: groups are made by one number or text"),
        "{error}"
    );
    let blocks = SequentialSampler { subsample_type: Subsample::Sequential, ..SequentialSampler::default() };
    let blocks = numbered(8).sampler(blocks).batch_sampler(DefaultBatchSampler::default());
    assert!(blocks.clone().check().is_ok());
    let error = blocks.shard(Shard { rank: 0, world: 2 }).check().unwrap_err().to_string();
    assert!(error.contains("gives each rank a block of its own: leave one of them out"), "{error}");
}

/// What a batch sampler of one's own does wrong is an error with its name, whoever makes the batch.
#[test]
fn a_batch_sampler_that_fails_is_named() {
    struct Wrong(bool);
    impl BatchSampler for Wrong {
        fn arrange(&self, drawn: &mut [usize], _: usize, _: u64, _: u64) {
            assert!(self.0, "out of tune");
            drawn[0] = 99;
        }
    }
    for workers in [0, 2] {
        let of = |own: bool| numbered(4).batch_sampler(Wrong(own)).num_workers(workers);
        let said = |own| of(own).batches(0, Some(1)).next().unwrap().unwrap_err().to_string();
        assert_eq!(said(false), "the batch sampler panicked: out of tune");
        assert_eq!(said(true), "the batch sampler put a sample into pass 0 that is not below 4");
    }
}
