//! Made-up data for tests and benchmarks.

use std::sync::OnceLock;

use ndarray::Array3;
use rand::RngExt;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Result, Rng, keyed, memory};
use crate::data::{Dataset, FieldSpec, Fields, Marks, Pipeline, Sample, TARGET, Transform, Value};
use crate::registry::{BuildCx, Spec};

use super::pixels::pictures;

/// Noise around one random image a class: nothing to read, and a network can learn it. Sample `i` is of class
/// `i % classes`; all values are a pure function of the seed, on every machine.
pub struct Synthetic {
    n: usize,
    seed: u64,
    noise: f32,
    /// Height, width, channels.
    shape: (usize, usize, usize),
    /// One image a class, values in -1..1, drawn when the first sample of its class is read.
    prototypes: Vec<OnceLock<Array3<f32>>>,
    classes: Vec<String>,
    pipeline: Pipeline,
}

impl Synthetic {
    /// `n` samples of `shape` (channels, height, width) in `classes` classes, with noise as strong as the signal.
    pub fn new(n: usize, shape: [usize; 3], classes: usize, seed: u64) -> Self {
        let [c, h, w] = shape;
        Self {
            n,
            seed,
            noise: 1.0,
            shape: (h, w, c),
            prototypes: std::iter::repeat_with(OnceLock::new).take(classes.max(1)).collect(),
            classes: (0..classes.max(1)).map(|class| class.to_string()).collect(),
            pipeline: Pipeline::default(),
        }
    }

    /// Noise in `-noise..noise` instead of `-1..1`.
    #[must_use]
    pub fn with_noise(self, noise: f32) -> Self {
        Self { noise, ..self }
    }

    /// The same samples, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline, ..self }
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct SyntheticConfig {
    /// Number of samples.
    #[schemars(range(max = 10_000_000))]
    n: usize,
    /// Channels, height, width.
    #[schemars(inner(range(min = 1, max = 65536)))]
    shape: [usize; 3],
    /// Number of classes; sample `i` is of class `i % classes`.
    #[schemars(range(min = 1, max = 1_000_000))]
    classes: usize,
    /// Noise is uniform in `-noise..noise`, the signal in -1..1.
    #[schemars(range(min = 0.0, max = 1e30))]
    noise: f32,
    /// Seed of all values; the run's seed has no part in it.
    seed: u64,
    /// What is done to each image.
    pipeline: Vec<Spec<dyn Transform>>,
}

impl Default for SyntheticConfig {
    fn default() -> Self {
        Self { n: 1000, shape: [1, 8, 8], classes: 10, noise: 1.0, seed: 0, pipeline: Vec::new() }
    }
}

crate::register! {
    /// Made-up images that a network can learn: one random image a class, and noise.
    dyn Dataset, "Synthetic" => fn Synthetic::from_config
}

impl Synthetic {
    fn from_config(p: SyntheticConfig, cx: &mut BuildCx) -> Result<Self> {
        let [c, h, w] = p.shape;
        memory::fits("one image for each class", &[p.classes, c, h, w], size_of::<f32>())?;
        let set = Self::new(p.n, p.shape, p.classes, p.seed).with_noise(p.noise);
        let pipeline = Pipeline::build_for(&pictures(Some([h, w, c])), &p.pipeline, cx)?;
        Ok(set.with_pipeline(pipeline))
    }
}

impl Dataset for Synthetic {
    fn len(&self) -> usize {
        self.n
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let class = index % self.prototypes.len();
        let prototype = self.prototypes[class]
            .get_or_init(|| noise(self.shape, &mut keyed(self.seed, "synthetic class", class as u64, 0)));
        // The sample's own noise: `rng` would change it from pass to pass.
        let mut img = noise(self.shape, &mut keyed(self.seed, "synthetic sample", index as u64, 0));
        img.zip_mut_with(prototype, |v, p| *v = self.noise * *v + p);
        pipeline.apply(Sample::image(img, class as i64), rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        let (h, w, c) = self.shape;
        Some(self.pipeline.fields(pictures(Some([h, w, c]))))
    }

    fn classes(&self) -> Option<&[String]> {
        Some(&self.classes)
    }

    /// The class is known by the number alone.
    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        let known = field == TARGET && index < self.n;
        known.then(|| ((index % self.prototypes.len()) as i64).into())
    }

    fn picture_size(&self, _: usize) -> Result<Option<[usize; 2]>> {
        let (height, width, _) = self.shape;
        Ok(Some([height, width]))
    }

    fn mark(&self, marks: &mut Marks) {
        let (height, width, channels) = self.shape;
        let shape = [height, width, channels].into_iter().map(|n| n as u64);
        let settings = [self.seed, self.noise.to_bits().into(), self.prototypes.len() as u64];
        settings.into_iter().chain(shape).for_each(|number| marks.contents(&number.to_le_bytes()));
    }
}

fn noise(shape: (usize, usize, usize), rng: &mut Rng) -> Array3<f32> {
    Array3::from_shape_simple_fn(shape, || rng.random::<f32>() * 2.0 - 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_their_class_plus_bounded_noise() {
        let get = |set: &Synthetic, i| set.get(i, &mut keyed(9, "", i as u64, 0)).unwrap();
        let set = Synthetic::new(6, [2, 3, 4], 3, 5).with_noise(0.25);
        let clean = Synthetic::new(6, [2, 3, 4], 3, 5).with_noise(0.0);
        for i in 0..6 {
            let (noisy, pure) = (get(&set, i), get(&clean, i));
            let [noisy, pure] = [&noisy, &pure].map(|s| (s.label().unwrap(), s.float("inputs").unwrap()));
            assert_eq!((noisy.0, noisy.1.shape()), ((i % 3) as i64, &[2, 3, 4][..]));
            let gap = (noisy.1 - pure.1).iter().fold(0f32, |m, d| m.max(d.abs()));
            assert!(gap > 0.0 && gap <= 0.25, "{gap}");
        }
        assert_eq!(get(&clean, 1), get(&clean, 4));
        assert_ne!(get(&clean, 1).float("inputs").unwrap(), get(&clean, 2).float("inputs").unwrap());
        assert_ne!(get(&set, 1), get(&set, 4));
        assert_eq!([4, 6].map(|at| set.peek(at, TARGET)), [Some(Value::from(1i64)), None]);
        assert_eq!(get(&set, 1), get(&Synthetic::new(6, [2, 3, 4], 3, 5).with_noise(0.25), 1));
    }
}
