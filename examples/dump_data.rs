//! The samples of a config as its network gets them, for a program in another language: `train.safetensors` and
//! `val.safetensors` with a tensor for each field. What is random in a pipeline (flips, crops) is left to that program.
//!
//! `cargo run --release --example dump_data -- CONFIG DIR`
#![allow(clippy::print_stdout)] // an example speaks

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use shanty::base::keyed;
use shanty::data::{Dataset, Pipeline, Value};
use shanty::registry::{BuildCx, Spec};

/// Names of transforms that a dump leaves out.
const RANDOM: [&str; 3] = ["RandomFlip", "RandomCrop", "RandomResizedCrop"];

type Field = (Dtype, Vec<usize>, Vec<u8>);

/// The samples one behind the other, by field.
fn fields(set: &dyn Dataset, whole: bool) -> anyhow::Result<BTreeMap<String, Field>> {
    let mut all: BTreeMap<String, Field> = BTreeMap::new();
    for index in 0..set.len() {
        let mut rng = keyed(0, "dump", index as u64, 0);
        let plain = Pipeline::default();
        let sample =
            if whole { set.get(index, &mut rng)? } else { set.get_through(index, &mut rng, &plain)? };
        for (name, value) in sample.fields.iter() {
            let (dtype, shape, bytes): (_, _, Vec<u8>) = match value {
                Value::Float(v) => (Dtype::F32, v.shape(), v.iter().flat_map(|x| x.to_le_bytes()).collect()),
                Value::Int(v) => (Dtype::I64, v.shape(), v.iter().flat_map(|x| x.to_le_bytes()).collect()),
                _ => continue,
            };
            let field = all.entry(name.to_owned()).or_insert_with(|| (dtype, shape.to_vec(), Vec::new()));
            field.2.extend(bytes);
        }
    }
    all.values_mut().for_each(|(_, shape, _)| shape.insert(0, set.len()));
    Ok(all)
}

fn main() -> anyhow::Result<()> {
    let (Some(config), Some(dir)) = (std::env::args().nth(1), std::env::args().nth(2)) else {
        println!("usage: dump_data CONFIG DIR");
        return Ok(());
    };
    let config = shanty::config::load(Path::new(&config), &[])?;
    std::fs::create_dir_all(&dir)?;
    // One context for both: what the training data are fitted with is known to the others.
    let mut cx = BuildCx::new(0);
    for part in ["train", "val"] {
        let loader =
            config.get(&format!("{part}_dataloader")).context("the config has no data of this part")?;
        let dataset = loader.get("dataset").context("a loader without `dataset`")?;
        let set = dataset.read::<Spec<dyn Dataset>>()?.build(&mut cx)?;
        let names = dataset.get("pipeline").map(|p| p.to_yaml()).unwrap_or_default();
        let fields = fields(&*set, !RANDOM.iter().any(|name| names.contains(name)))?;
        let views = fields.iter().map(|(name, (dtype, shape, bytes))| {
            Ok((name.clone(), TensorView::new(*dtype, shape.clone(), bytes)?))
        });
        let bytes = safetensors::serialize(views.collect::<anyhow::Result<Vec<_>>>()?, None)?;
        std::fs::write(Path::new(&dir).join(format!("{part}.safetensors")), bytes)?;
    }
    Ok(())
}
