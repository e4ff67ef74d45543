//! Small tasks to learn, made up as they are read: blobs, spirals, a regression, sequences, shapes with masks.

use ndarray::{Array1, Array2, Array3, arr1};
use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Result, Rng, keyed, memory};
use crate::data::{
    Dataset, FieldKind, FieldSpec, Fields, INPUTS, Marks, Picture, Pipeline, Sample, TARGET, Transform, Value,
};
use crate::registry::{BuildCx, Spec};

/// What is to be learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Which of `classes` clouds of points a point of `features` numbers is from.
    Blobs {
        /// Clouds.
        classes: usize,
        /// Numbers of a point.
        features: usize,
    },
    /// Which of `arms` that wind around each other a point of the plane is from.
    Spirals {
        /// Arms.
        arms: usize,
    },
    /// A number that depends on `features` others: a weighted sum, and the product of the first two.
    Regression {
        /// Numbers that go in.
        features: usize,
    },
    /// The next value of an oscillation, from `length` values of it.
    Sequences {
        /// Values that go in.
        length: usize,
    },
    /// Which pixels of a picture belong to a bright disc (1), which to a dark square (2), and which to none (0).
    Shapes {
        /// Height and width.
        size: usize,
    },
}

/// Samples of a [`Task`]. Each is a pure function of the seed and its number, on every machine; the seed alone says
/// where clouds lie and what weights are, so that samples of other numbers are of the same task.
///
/// ```
/// use shanty::data::{Dataset, SyntheticTask, Task};
/// let train = SyntheticTask::new(Task::Spirals { arms: 3 }, 300, 0);
/// let val = SyntheticTask::new(Task::Spirals { arms: 3 }, 60, 0).starting_at(300);
/// assert_eq!((train.len(), val.classes().unwrap().len()), (300, 3));
/// ```
pub struct SyntheticTask {
    task: Task,
    n: usize,
    start: u64,
    seed: u64,
    noise: f32,
    classes: Option<Vec<String>>,
    pipeline: Pipeline,
}

impl SyntheticTask {
    /// `n` samples of a task.
    pub fn new(task: Task, n: usize, seed: u64) -> Self {
        let names = |n: usize| Some((0..n).map(|class| class.to_string()).collect());
        let classes = match task {
            Task::Blobs { classes, .. } => names(classes),
            Task::Spirals { arms } => names(arms),
            Task::Shapes { .. } => Some(["background", "disc", "square"].map(str::to_owned).to_vec()),
            Task::Regression { .. } | Task::Sequences { .. } => None,
        };
        Self { task, n, start: 0, seed, noise: task.noise(), classes, pipeline: Pipeline::default() }
    }

    /// The same with noise of this deviation.
    #[must_use]
    pub fn with_noise(self, noise: f32) -> Self {
        Self { noise, ..self }
    }

    /// The same with other samples: the first has this number.
    #[must_use]
    pub fn starting_at(self, start: u64) -> Self {
        Self { start, ..self }
    }

    /// The same samples, changed by these transforms when they are read.
    #[must_use]
    pub fn with_pipeline(self, pipeline: Pipeline) -> Self {
        Self { pipeline, ..self }
    }

    /// A number of the task itself, in -1..1.
    fn fixed(&self, a: usize, b: usize) -> f32 {
        uniform(&mut keyed(self.seed, "task", a as u64, b as u64))
    }

    /// The cloud or the arm that a sample is from: its number alone tells.
    fn class(&self, number: u64) -> Option<u64> {
        match self.task {
            Task::Blobs { classes, .. } => Some(number % classes.max(1) as u64),
            Task::Spirals { arms } => Some(number % arms.max(1) as u64),
            Task::Regression { .. } | Task::Sequences { .. } | Task::Shapes { .. } => None,
        }
    }

    fn sample(&self, number: u64) -> Sample {
        let mut rng = keyed(self.seed, "task sample", number, 0);
        let rng = &mut rng;
        match self.task {
            Task::Blobs { classes, features } => {
                let class = (number % classes.max(1) as u64) as usize;
                let point =
                    Array1::from_shape_fn(features, |at| self.fixed(class, at) + self.noise * normal(rng));
                Sample::new(point, class as i64)
            }
            Task::Spirals { arms } => {
                let arm = number % arms.max(1) as u64;
                let radius = rng.random::<f32>();
                let angle = f64::from(radius) * 5.0 + arm as f64 / arms.max(1) as f64 * std::f64::consts::TAU;
                let at = |unit: f64, rng: &mut Rng| radius * unit as f32 + self.noise * normal(rng);
                Sample::new(arr1(&[at(libm::cos(angle), rng), at(libm::sin(angle), rng)]), arm as i64)
            }
            Task::Regression { features } => {
                let x = Array1::from_shape_simple_fn(features, || uniform(rng));
                let sum: f32 = x.iter().enumerate().map(|(at, x)| self.fixed(at, 0) * x).sum();
                let product = if let [a, b, ..] = x.as_slice().unwrap_or_default() { a * b } else { 0.0 };
                let y = sum + product + self.noise * normal(rng);
                Sample::new(x, arr1(&[y]))
            }
            Task::Sequences { length } => {
                let (slow, phase, high) = (rng.random::<f64>(), rng.random::<f64>(), rng.random::<f64>());
                let (step, high) = (0.2 + 0.4 * slow, 0.5 + 0.5 * high);
                let wave =
                    |at: usize| (high * libm::sin(phase * std::f64::consts::TAU + step * at as f64)) as f32;
                let values = Array1::from_shape_fn(length, |at| wave(at) + self.noise * normal(rng));
                Sample::new(values, arr1(&[wave(length)]))
            }
            Task::Shapes { size } => self.shapes(size, rng),
        }
    }

    fn shapes(&self, size: usize, rng: &mut Rng) -> Sample {
        let mut mask = Array2::<i64>::zeros((size, size));
        let place = |rng: &mut Rng| {
            let radius = size as f32 * (0.12 + 0.12 * rng.random::<f32>());
            let mut centre = || radius + (size as f32 - 2.0 * radius) * rng.random::<f32>();
            (radius, centre(), centre())
        };
        let [(r1, y1, x1), (r2, y2, x2)] = [place(rng), place(rng)];
        for ((y, x), class) in mask.indexed_iter_mut() {
            let from = |cy: f32, cx: f32| (y as f32 + 0.5 - cy, x as f32 + 0.5 - cx);
            let ((dy, dx), (ey, ex)) = (from(y1, x1), from(y2, x2));
            if ey.abs().max(ex.abs()) <= r2 {
                *class = 2;
            } else if dy * dy + dx * dx <= r1 * r1 {
                *class = 1;
            }
        }
        let bright = |class: i64| [0.0, 1.0, -1.0][class as usize];
        let picture = Array3::from_shape_fn((size, size, 1), |(y, x, _)| {
            bright(mask[[y, x]]) + self.noise * normal(rng)
        });
        Sample::default().with(INPUTS, Picture::Values(picture)).with(TARGET, Value::Int(mask.into_dyn()))
    }

    fn raw_fields(&self) -> Fields<FieldSpec> {
        let (inputs, target) = match self.task {
            Task::Blobs { features, .. } => {
                (FieldSpec::new(FieldKind::Float, &[features]), FieldSpec::class())
            }
            Task::Spirals { .. } => (FieldSpec::new(FieldKind::Float, &[2]), FieldSpec::class()),
            Task::Regression { features: n } | Task::Sequences { length: n } => {
                (FieldSpec::new(FieldKind::Float, &[n]), FieldSpec::new(FieldKind::Float, &[1]))
            }
            Task::Shapes { size } => (
                FieldSpec::new(FieldKind::Picture, &[size, size, 1]),
                FieldSpec::new(FieldKind::Int, &[size, size]),
            ),
        };
        [(INPUTS.into(), inputs), (TARGET.into(), target)].into_iter().collect()
    }

    /// A task of a config, whose samples must fit the memory.
    fn bounded(task: Task, n: usize, seed: u64) -> Result<Self> {
        let [_, a, b] = task.marks().map(|n| n as usize);
        let b = if matches!(task, Task::Shapes { .. }) { a } else { b.max(1) };
        memory::fits("a sample", &[a, b], size_of::<f32>())?;
        Ok(Self::new(task, n, seed))
    }
}

impl Task {
    /// The deviation of the noise unless it is said.
    fn noise(self) -> f32 {
        match self {
            Self::Blobs { .. } => 0.2,
            Self::Spirals { .. } => 0.02,
            Self::Regression { .. } | Self::Sequences { .. } => 0.05,
            Self::Shapes { .. } => 0.5,
        }
    }

    fn marks(self) -> [u64; 3] {
        match self {
            Self::Blobs { classes, features } => [0, classes as u64, features as u64],
            Self::Spirals { arms } => [1, arms as u64, 0],
            Self::Regression { features } => [2, features as u64, 0],
            Self::Sequences { length } => [3, length as u64, 0],
            Self::Shapes { size } => [4, size as u64, 0],
        }
    }
}

fn uniform(rng: &mut Rng) -> f32 {
    rng.random::<f32>() * 2.0 - 1.0
}

fn normal(rng: &mut Rng) -> f32 {
    rng.sample(StandardNormal)
}

/// The keys of a task: those of all, and its own number, or two.
macro_rules! task {
    ($(#[doc = $doc:literal])+ $name:literal, $params:ident {
        $($(#[$own_doc:meta])+ $own:ident: $default:literal, $most:literal;)*
    }, $task:expr) => {
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(default)]
        struct $params {
            /// Number of samples.
            #[schemars(range(max = 10_000_000))]
            n: usize,
            /// Number of the first sample: other numbers give other samples of the same task, to validate with.
            start: u64,
            $(
                $(#[$own_doc])+
                #[schemars(range(min = 1, max = $most))]
                $own: usize,
            )*
            /// Deviation of the noise; one that suits the task if not given.
            #[schemars(range(min = 0.0, max = 1e30))]
            noise: Option<f32>,
            /// Seed of all values; the run's seed has no part in it.
            seed: u64,
            /// What is done to each sample.
            pipeline: Vec<Spec<dyn Transform>>,
        }

        impl Default for $params {
            fn default() -> Self {
                Self { n: 1000, start: 0, $($own: $default,)* noise: None, seed: 0, pipeline: Vec::new() }
            }
        }

        crate::register! {
            $(#[doc = $doc])+
            dyn Dataset, $name => fn $params::build
        }

        impl $params {
            fn build(self, cx: &mut BuildCx) -> Result<SyntheticTask> {
                let of: fn(&Self) -> Task = $task;
                let set = SyntheticTask::bounded(of(&self), self.n, self.seed)?.starting_at(self.start);
                let noise = self.noise.unwrap_or(set.noise);
                let pipeline = Pipeline::build_for(&set.raw_fields(), &self.pipeline, cx)?;
                Ok(set.with_noise(noise).with_pipeline(pipeline))
            }
        }
    };
}

task!(
    /// Made-up points of several clouds, each with the cloud that it is from.
    "SyntheticBlobs", BlobsParams {
        /// Number of clouds; sample `i` is from cloud `i % classes`.
        classes: 3, 100_000;
        /// Numbers of a point.
        features: 2, 100_000;
    }, |p| Task::Blobs { classes: p.classes, features: p.features }
);

task!(
    /// Made-up points on arms that wind around each other, each with its arm.
    "SyntheticSpirals", SpiralsParams {
        /// Number of arms; sample `i` is from arm `i % arms`.
        arms: 2, 1000;
    }, |p| Task::Spirals { arms: p.arms }
);

task!(
    /// Made-up numbers, and one that depends on them: a weighted sum and the product of the first two.
    "SyntheticRegression", RegressionParams {
        /// Numbers that go in.
        features: 4, 1_000_000;
    }, |p| Task::Regression { features: p.features }
);

task!(
    /// Made-up oscillations with noise, and the next value of each without.
    "SyntheticSequences", SequencesParams {
        /// Values that go in.
        length: 24, 1_000_000;
    }, |p| Task::Sequences { length: p.length }
);

task!(
    /// Made-up pictures of a bright disc and a dark square in noise, and a mask that says which pixels are whose.
    "SyntheticShapes", ShapesParams {
        /// Height and width in pixels.
        size: 16, 1024;
    }, |p| Task::Shapes { size: p.size }
);

impl Dataset for SyntheticTask {
    fn len(&self) -> usize {
        self.n
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        pipeline.apply(self.sample(self.start.wrapping_add(index as u64)), rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(self.raw_fields()))
    }

    fn classes(&self) -> Option<&[String]> {
        self.classes.as_deref()
    }

    fn peek(&self, index: usize, field: &str) -> Option<Value> {
        let class = self.class(self.start.wrapping_add(index as u64))?;
        (field == TARGET && index < self.n).then(|| (class as i64).into())
    }

    fn picture_size(&self, _: usize) -> Result<Option<[usize; 2]>> {
        Ok(match self.task {
            Task::Shapes { size } => Some([size, size]),
            _ => None,
        })
    }

    fn mark(&self, marks: &mut Marks) {
        let all = [self.seed, self.start, self.noise.to_bits().into()];
        all.into_iter().chain(self.task.marks()).for_each(|number| marks.contents(&number.to_le_bytes()));
    }
}
