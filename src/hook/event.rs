//! The lifecycle points, the payload that each carries, and the one `match` that dispatches them.

use std::any::Any;
use std::collections::BTreeMap;

use super::{Ctx, Hook, HookResult};
use crate::base::Error;
use crate::checkpoint::Checkpoint;
use crate::data::Batch;
use crate::metric::{Direction, Table};
use crate::model::Outputs;

/// A batch with what the model made of it.
pub struct Step<'a> {
    /// The batch.
    pub batch: &'a mut Batch,
    /// Losses and scores.
    pub outputs: &'a mut Outputs,
}

/// The result of a validation or a test: names such as `accuracy/top1` with their values, in order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metrics(pub Vec<(String, f64)>, BTreeMap<String, Direction>, Vec<(String, Table)>);

impl Metrics {
    /// These values, and which way they are better, where that is known.
    pub fn new(values: Vec<(String, f64)>, direction: impl Fn(&str) -> Option<Direction>) -> Self {
        let known = values.iter().filter_map(|(name, _)| Some((name.clone(), direction(name)?))).collect();
        Self(values, known, Vec::new())
    }

    /// The same with tables, by name.
    #[must_use]
    pub fn with_tables(self, tables: Vec<(String, Table)>) -> Self {
        Self(self.0, self.1, tables)
    }

    /// The same with the values of another pass beside it, whose names end with `suffix`.
    #[must_use]
    pub(crate) fn beside(mut self, other: Self, suffix: &str) -> Self {
        self.0.extend(other.0.into_iter().map(|(name, value)| (name + suffix, value)));
        self.1.extend(other.1.into_iter().map(|(name, direction)| (name + suffix, direction)));
        self
    }

    /// What is no single number: `confusion_matrix/result`.
    pub fn tables(&self) -> &[(String, Table)] {
        &self.2
    }

    /// Which way the value of this name is better, if its metric says so.
    pub fn direction(&self, name: &str) -> Option<Direction> {
        self.1.get(name).copied()
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| *v)
    }
}

/// A checkpoint that was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointSaved {
    /// Its directory.
    pub path: std::path::PathBuf,
    /// Whether `last_checkpoint` names it now.
    pub is_last: bool,
}

macro_rules! points {
    ($($point:ident => $name:literal),+ $(,)?) => {
        /// A place in the lifecycle where hooks are called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        #[allow(missing_docs)]
        pub enum Point { $($point),+ }

        impl Point {
            /// All points in the order in which a run meets them.
            pub const ALL: &'static [Point] = &[$(Point::$point),+];

            /// The name of the hook method: `after_train_iter`.
            pub fn name(self) -> &'static str {
                match self { $(Point::$point => $name),+ }
            }
        }
    };
}

points! {
    BeforeRun => "before_run",
    AfterLoadCheckpoint => "after_load_checkpoint",
    BeforeTrain => "before_train",
    BeforeTrainEpoch => "before_train_epoch",
    BeforeTrainIter => "before_train_iter",
    AfterBackward => "after_backward",
    AfterTrainIter => "after_train_iter",
    AfterTrainEpoch => "after_train_epoch",
    BeforeVal => "before_val",
    BeforeValEpoch => "before_val_epoch",
    BeforeValIter => "before_val_iter",
    AfterValIter => "after_val_iter",
    AfterValEpoch => "after_val_epoch",
    AfterVal => "after_val",
    BeforeSaveCheckpoint => "before_save_checkpoint",
    AfterSaveCheckpoint => "after_save_checkpoint",
    AfterTrain => "after_train",
    BeforeTest => "before_test",
    BeforeTestEpoch => "before_test_epoch",
    BeforeTestIter => "before_test_iter",
    AfterTestIter => "after_test_iter",
    AfterTestEpoch => "after_test_epoch",
    AfterTest => "after_test",
    AfterRun => "after_run",
    OnError => "on_error",
    OnCustom => "on_custom",
}

/// A point with its payload.
#[allow(missing_docs)] // each variant is documented at the hook method of the same name
pub enum Event<'a> {
    BeforeRun,
    AfterRun,
    AfterLoadCheckpoint(&'a mut Checkpoint),
    BeforeSaveCheckpoint(&'a mut Checkpoint),
    AfterSaveCheckpoint(&'a CheckpointSaved),
    BeforeTrain,
    AfterTrain,
    BeforeTrainEpoch,
    AfterTrainEpoch,
    BeforeTrainIter(&'a mut Batch),
    AfterBackward(Step<'a>),
    AfterTrainIter(Step<'a>),
    BeforeVal,
    AfterVal,
    BeforeValEpoch,
    AfterValEpoch(&'a Metrics),
    BeforeValIter(&'a mut Batch),
    AfterValIter(Step<'a>),
    BeforeTest,
    AfterTest,
    BeforeTestEpoch,
    AfterTestEpoch(&'a Metrics),
    BeforeTestIter(&'a mut Batch),
    AfterTestIter(Step<'a>),
    OnError(&'a Error),
    OnCustom(&'a str, &'a mut dyn Any),
}

impl Event<'_> {
    /// The point of this event.
    pub fn point(&self) -> Point {
        match self {
            Self::BeforeRun => Point::BeforeRun,
            Self::AfterRun => Point::AfterRun,
            Self::AfterLoadCheckpoint(_) => Point::AfterLoadCheckpoint,
            Self::BeforeSaveCheckpoint(_) => Point::BeforeSaveCheckpoint,
            Self::AfterSaveCheckpoint(_) => Point::AfterSaveCheckpoint,
            Self::BeforeTrain => Point::BeforeTrain,
            Self::AfterTrain => Point::AfterTrain,
            Self::BeforeTrainEpoch => Point::BeforeTrainEpoch,
            Self::AfterTrainEpoch => Point::AfterTrainEpoch,
            Self::BeforeTrainIter(_) => Point::BeforeTrainIter,
            Self::AfterBackward(_) => Point::AfterBackward,
            Self::AfterTrainIter(_) => Point::AfterTrainIter,
            Self::BeforeVal => Point::BeforeVal,
            Self::AfterVal => Point::AfterVal,
            Self::BeforeValEpoch => Point::BeforeValEpoch,
            Self::AfterValEpoch(_) => Point::AfterValEpoch,
            Self::BeforeValIter(_) => Point::BeforeValIter,
            Self::AfterValIter(_) => Point::AfterValIter,
            Self::BeforeTest => Point::BeforeTest,
            Self::AfterTest => Point::AfterTest,
            Self::BeforeTestEpoch => Point::BeforeTestEpoch,
            Self::AfterTestEpoch(_) => Point::AfterTestEpoch,
            Self::BeforeTestIter(_) => Point::BeforeTestIter,
            Self::AfterTestIter(_) => Point::AfterTestIter,
            Self::OnError(_) => Point::OnError,
            Self::OnCustom(..) => Point::OnCustom,
        }
    }

    /// Calls the hook's method for this point.
    ///
    /// # Errors
    /// What the hook returns.
    pub fn call<H: Hook + ?Sized>(&mut self, hook: &mut H, cx: &mut Ctx<'_>) -> HookResult {
        match self {
            Self::BeforeRun => hook.before_run(cx),
            Self::AfterRun => hook.after_run(cx),
            Self::AfterLoadCheckpoint(c) => hook.after_load_checkpoint(cx, c),
            Self::BeforeSaveCheckpoint(c) => hook.before_save_checkpoint(cx, c),
            Self::AfterSaveCheckpoint(s) => hook.after_save_checkpoint(cx, s),
            Self::BeforeTrain => hook.before_train(cx),
            Self::AfterTrain => hook.after_train(cx),
            Self::BeforeTrainEpoch => hook.before_train_epoch(cx),
            Self::AfterTrainEpoch => hook.after_train_epoch(cx),
            Self::BeforeTrainIter(b) => hook.before_train_iter(cx, b),
            Self::AfterBackward(s) => hook.after_backward(cx, s),
            Self::AfterTrainIter(s) => hook.after_train_iter(cx, s),
            Self::BeforeVal => hook.before_val(cx),
            Self::AfterVal => hook.after_val(cx),
            Self::BeforeValEpoch => hook.before_val_epoch(cx),
            Self::AfterValEpoch(m) => hook.after_val_epoch(cx, m),
            Self::BeforeValIter(b) => hook.before_val_iter(cx, b),
            Self::AfterValIter(s) => hook.after_val_iter(cx, s),
            Self::BeforeTest => hook.before_test(cx),
            Self::AfterTest => hook.after_test(cx),
            Self::BeforeTestEpoch => hook.before_test_epoch(cx),
            Self::AfterTestEpoch(m) => hook.after_test_epoch(cx, m),
            Self::BeforeTestIter(b) => hook.before_test_iter(cx, b),
            Self::AfterTestIter(s) => hook.after_test_iter(cx, s),
            Self::OnError(e) => hook.on_error(cx, e),
            Self::OnCustom(name, data) => hook.on_custom(cx, name, &mut **data),
        }
    }
}
