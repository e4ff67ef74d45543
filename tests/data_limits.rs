//! Numbers that are too large for a data set or its loader, in a config and in a program.
#![allow(clippy::unwrap_used)] // helpers of tests

use shanty::config::parse;
use shanty::data::{DataLoader, DataLoaderConfig, InfiniteSampler, RepeatDataset, Shard, Synthetic};
use shanty::registry::BuildCx;

/// Whatever number stands in a config: an error with its place, or a run; no panic, and no allocation that ends the
/// process.
#[test]
fn huge_numbers_are_errors_with_their_place() {
    let numbers =
        ["1000000000", "4294967296", "1099511627776", "9223372036854775807", "18446744073709551615"];
    let fields = [
        "{batch_size: N, dataset: {type: Digits}}",
        "{batch_size: N, sampler: {type: InfiniteSampler}, dataset: {type: Digits}}",
        "{batch_size: 4, num_workers: N, dataset: {type: Digits}}",
        "{batch_size: 4, num_workers: 2, prefetch_factor: N, dataset: {type: Digits}}",
        "{batch_size: 4, dataset: {type: Subset, first: N, dataset: {type: Digits}}}",
        "{batch_size: 4, dataset: {type: Subset, indices: [0, N], dataset: {type: Digits}}}",
        "{batch_size: 4, dataset: {type: RepeatDataset, times: N, dataset: {type: Digits}}}",
        "{batch_size: 4, dataset: {type: Synthetic, n: N}}",
        "{batch_size: 4, dataset: {type: Synthetic, shape: [3, N, 2]}}",
        "{batch_size: 4, dataset: {type: Synthetic, shape: [60000, 60000, 60000], classes: 2}}",
        "{batch_size: 4, dataset: {type: Synthetic, classes: N}}",
        "{batch_size: 4, dataset: {type: RepeatDataset, times: 4000000000, dataset: {type: RepeatDataset, times: \
             4000000000, dataset: {type: RepeatDataset, times: N, dataset: {type: Digits}}}}}",
    ];
    for yaml in fields {
        for number in numbers {
            let yaml = yaml.replace('N', number);
            let node = parse("c.yaml", &yaml).unwrap();
            let loader = match node.read_checked::<DataLoaderConfig>() {
                Ok(config) => config.build(0, Shard::SOLO, &mut BuildCx::new(0)),
                Err(diags) => Err(diags.into()),
            };
            match loader {
                Err(error) => assert!(error.to_string().contains("c.yaml:1:"), "{yaml}: {error}"),
                // Some machines have room for the order of so many samples.
                Ok(_) => assert!(yaml.contains("Synthetic, n:") && number == "1000000000", "{yaml}"),
            }
        }
    }
    // As many as there are: no cut at all.
    for number in numbers {
        let yaml = format!("{{batch_size: 1000, num_batch_per_epoch: {number}, dataset: {{type: Digits}}}}");
        let config: DataLoaderConfig = parse("c.yaml", &yaml).unwrap().read_checked().unwrap();
        assert_eq!(config.build(0, Shard::SOLO, &mut BuildCx::new(0)).unwrap().len(), 2);
    }
}

/// A program of one's own meets the same walls.
#[test]
fn huge_numbers_of_a_program_are_errors_too() {
    let most = usize::MAX;
    let of = |set| DataLoader::new(set).shuffle(true).batch_size(4);
    let small = || of(Synthetic::new(64, [1, 8, 8], 2, 0));
    let first =
        |loader: DataLoader| loader.batches(0, Some(u64::MAX)).next().unwrap().map(|batch| batch.len());
    assert!(small().num_workers(2).prefetch(most).check().is_err());
    assert!(small().num_workers(most).prefetch(2).check().is_err());
    assert_eq!(first(small().prefetch(most)).unwrap(), 4);
    // 16 MiB a sample, 4 TiB in 65,536 batches.
    let large = Synthetic::new(64, [1024, 64, 64], 1, 0);
    let error = first(of(large).num_workers(2).prefetch(1 << 15)).unwrap_err().to_string();
    assert!(
        error.contains("what workers may be ahead, 65536 batches") && error.contains("this machine has"),
        "{error}"
    );
    assert_eq!(first(small().batch_size(most)).unwrap(), 64);
    assert!(small().max_batches(most).check().is_ok());
    assert!(of(Synthetic::new(most, [1, 1, 1], 2, 0)).check().is_err());
    let endless = of(Synthetic::new(4, [1, 1, 1], 2, 0)).sampler(InfiniteSampler::default()).batch_size(most);
    assert!(endless.check().is_err());
    // What cannot be is told by the first batch too, and has no length.
    for wrong in [small().batch_size(0), small().prefetch(0), small().shard(Shard { rank: 2, world: 0 })] {
        assert!(wrong.is_empty() || wrong.check().is_err());
        assert!(first(wrong).unwrap_err().to_string().contains("must be at least 1"));
    }
    let huge = || Box::new(Synthetic::new(most, [1, 1, 1], 2, 0));
    assert!(RepeatDataset::new(huge(), 2).is_err());
    assert!(shanty::data::ConcatDataset::new(vec![huge(), huge()]).is_err());
    let pixels = shanty::data::Pixels::new(Vec::new(), vec![0; 3], (most, most, 2), vec!["a".into()]);
    assert!(pixels.err().unwrap().to_string().contains("0 bytes do not make 3 images"));
}
