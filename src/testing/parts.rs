//! What data sets, transforms, metrics and optimizers owe a run, as checks. Each tells what is not kept.

use std::collections::BTreeSet;

use super::ToyModel;
use crate::base::{Error, Result, keyed};
use crate::data::{Batch, Dataset, FieldSpec, Fields, Sample, Transform};
use crate::metric::{Metric, Predictions};
use crate::model::{Model, StepCx};
use crate::optim::{OptimWrapper, Optimizer};
use crate::params::{HostParams, StateDict};

fn broken(text: impl Into<String>) -> Error {
    Error::invalid(text.into())
}

/// Whether a sample is what was declared: each field, of the kind and shape that was said.
fn as_declared(sample: &Sample, declared: &Fields<FieldSpec>) -> Result<()> {
    for (name, spec) in declared.iter() {
        let value = sample.fields.find(name)?;
        let fits = |lengths: &Vec<Option<usize>>| {
            let shape = value.shape();
            shape.is_empty()
                || (lengths.len() == shape.len()
                    && lengths.iter().zip(shape).all(|(said, is)| said.is_none_or(|n| n == *is)))
        };
        if value.kind() != spec.kind || !spec.shape.as_ref().is_none_or(fits) {
            let (kind, shape) = (value.kind(), value.shape());
            return Err(broken(format!("`{name}` is declared as {spec}, and is {kind} of shape {shape:?}")));
        }
    }
    Ok(())
}

/// Samples that a check looks at.
const LOOKS: usize = 16;

/// For `dataset_contract!`: there are samples; one is the same whenever it is asked for, in whatever order; they are
/// what the set declares; and their classes have names, where it has names.
///
/// # Errors
/// What it does not keep.
pub fn dataset_breach(set: &dyn Dataset) -> Result<()> {
    let n = set.len().min(LOOKS);
    if n == 0 || set.is_empty() {
        return Err(broken("it has no samples"));
    }
    let get = |index: usize| set.get(index, &mut keyed(0, "contract", 0, index as u64));
    let first: Vec<Sample> = (0..n).map(get).collect::<Result<_>>()?;
    for index in (0..n).rev() {
        if get(index)?.fields != first[index].fields {
            return Err(broken(format!(
                "sample {index} is another one the second time: all that is random in it has to come from `rng`"
            )));
        }
    }
    if let Some(declared) = set.fields() {
        first.iter().try_for_each(|sample| as_declared(sample, &declared))?;
    }
    let unnamed = set.classes().and_then(|classes| {
        let labels = first.iter().filter_map(Sample::label);
        labels.into_iter().find(|label| *label >= classes.len() as i64)
    });
    match unnamed {
        Some(label) => Err(broken(format!("a sample has the class {label}, which has no name"))),
        None => Ok(()),
    }
}

/// For `transform_contract!`, with samples that it takes: it makes the same of the same, and what it declares.
///
/// # Errors
/// What it does not keep.
pub fn transform_breach(transform: &dyn Transform, samples: &[Sample]) -> Result<()> {
    for (index, sample) in samples.iter().enumerate() {
        let (mut first, mut again) = (sample.clone(), sample.clone());
        for done in [&mut first, &mut again] {
            transform.apply(done, &mut keyed(0, "contract", 0, index as u64))?;
        }
        if first != again {
            return Err(broken(format!(
                "it makes another sample of sample {index} the second time: all that is random in it has to come from `rng`"
            )));
        }
        let mut declared: Fields<FieldSpec> = sample
            .fields
            .iter()
            .map(|(name, value)| (name.to_owned().into(), FieldSpec::any(value.kind())))
            .collect();
        transform.declare(&mut declared)?;
        as_declared(&first, &declared)?;
    }
    Ok(())
}

/// For `metric_contract!`, with a batch and what a model says of it: computing twice gives the same twice, a reset
/// forgets all, a metric of no samples says so, and its names are those that it declares.
///
/// # Errors
/// What it does not keep.
pub fn metric_breach(metric: &mut dyn Metric, predictions: &Predictions<'_>) -> Result<()> {
    metric.process(predictions)?;
    let (whole, again) = (metric.compute()?, metric.compute()?);
    let same = |a: &[(String, f64)], b: &[(String, f64)]| {
        a.len() == b.len()
            && a.iter().zip(b).all(|(a, b)| {
                a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9 * a.1.abs().max(1.0) || a.1.is_nan() && b.1.is_nan()
            })
    };
    if !same(&whole, &again) {
        return Err(broken(format!("computed twice it gives {whole:?} and {again:?}")));
    }
    let declared = metric.names();
    let known = |name: &str| {
        declared
            .iter()
            .any(|own| own == name || own.strip_suffix('*').is_some_and(|own| name.starts_with(own)))
    };
    if let Some((name, _)) = whole.iter().find(|(name, _)| !declared.is_empty() && !known(name)) {
        return Err(broken(format!("it gives `{name}`, and declares {}", declared.join(", "))));
    }
    metric.reset();
    if let Ok(empty) = metric.compute() {
        return Err(broken(format!(
            "after a reset, without a sample, it gives {empty:?}: it has to say that there is none"
        )));
    }
    metric.process(predictions)?;
    if !same(&whole, &metric.compute()?) {
        return Err(broken("a reset does not forget all: the same samples give other values"));
    }
    Ok(())
}

/// For `optimizer_contract!`: it moves the learning rate's way, keeps its state through a save and a load bit for bit,
/// and names each number and each slot once.
///
/// # Errors
/// What it does not keep.
pub fn optimizer_breach<O: Optimizer + Clone>(mut optimizer: O) -> Result<()> {
    let names: Vec<&str> = optimizer.numbers().into_iter().map(|(name, _)| name).collect();
    let once = |names: &[&str]| names.iter().collect::<BTreeSet<_>>().len() == names.len();
    if !once(&names) || !once(optimizer.state()) {
        return Err(broken("two of its numbers, or two of its slots, have one name"));
    }
    if !names.contains(&"lr") {
        return Err(broken("it has no number `lr`: schedules and groups move that"));
    }
    optimizer.check()?;
    let batch = Batch::unlabelled(ndarray::arr2(&[[1.0, -2.0, 0.5]]).into_dyn());
    let step = |model: &mut ToyModel, optim: &mut OptimWrapper| -> Result<()> {
        model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 })?;
        optim.update(model)?;
        model.zero_grads();
        Ok(())
    };
    let (mut model, mut optim) = (ToyModel::new(3), OptimWrapper::new(optimizer.clone()));
    step(&mut model, &mut optim)?;
    if model.weight.iter().all(|weight| *weight == 0.0) {
        return Err(broken("a step changes nothing"));
    }
    step(&mut model, &mut optim)?;
    let (weights, saved) = (StateDict::of(&model)?, optim.save_state(&model).map_err(Error::Other)?);
    step(&mut model, &mut optim)?;
    let (mut resumed, mut anew) = (ToyModel::new(3), OptimWrapper::new(optimizer));
    weights.load_into(&mut resumed)?;
    anew.load_state(saved, &mut resumed).map_err(Error::Other)?;
    step(&mut resumed, &mut anew)?;
    if resumed.weight != model.weight {
        return Err(broken(format!(
            "saved, loaded and stepped it comes to {}, without to {}: state that is not in `state()` is lost",
            resumed.weight, model.weight
        )));
    }
    Ok(())
}

/// Tests that a data set keeps its contract: `dataset_contract!(Wave { n: 8 })`. It makes one `#[test]`; several in one
/// file go into modules. [`dataset_breach`](crate::testing::dataset_breach) says what is tested.
#[macro_export]
macro_rules! dataset_contract {
    ($set:expr $(,)?) => {
        $crate::__contract!(the_data_set_keeps_its_contract, $crate::testing::dataset_breach(&$set));
    };
}

/// The same of a transform, with samples that it takes: `transform_contract!(Shift { by: 1.0 }, [Sample::new(0.5f32,
/// 0)])`.
#[macro_export]
macro_rules! transform_contract {
    ($transform:expr, $samples:expr $(,)?) => {
        $crate::__contract!(
            the_transform_keeps_its_contract,
            $crate::testing::transform_breach(&$transform, &$samples)
        );
    };
}

/// The same of a metric, with a batch and what a model says of it: `metric_contract!(MAE::default(), batch(),
/// outputs())`.
#[macro_export]
macro_rules! metric_contract {
    ($metric:expr, $batch:expr, $outputs:expr $(,)?) => {
        $crate::__contract!(the_metric_keeps_its_contract, {
            let (batch, outputs) = ($batch, $outputs);
            $crate::testing::metric_breach(&mut $metric, &$crate::metric::Predictions::of(&batch, &outputs))
        });
    };
}

/// The same of an optimizer: `optimizer_contract!(Signum { lr: 0.1, .. })`.
#[macro_export]
macro_rules! optimizer_contract {
    ($optimizer:expr $(,)?) => {
        $crate::__contract!(the_optimizer_keeps_its_contract, $crate::testing::optimizer_breach($optimizer));
    };
}

/// Tests that a model keeps its contract, with how one is made and four batches on which it trains:
/// `model_contract!(ToyModel::new(3), batches())`. A third argument counts the tensors that a model on a device has
/// moved: `|model| …`. It makes one `#[test]`; several in one file go into modules.
/// [`model_breach`](crate::testing::model_breach) says what is tested.
#[macro_export]
macro_rules! model_contract {
    ($make:expr, $batches:expr $(,)?) => {
        $crate::model_contract!($make, $batches, |_| 0);
    };
    ($make:expr, $batches:expr, $moved:expr $(,)?) => {
        $crate::__contract!(the_model_keeps_its_contract, {
            let make = || -> $crate::base::Result<::std::boxed::Box<dyn $crate::model::Model>> {
                ::core::result::Result::Ok(::std::boxed::Box::new($make))
            };
            let moved: fn(&dyn $crate::model::Model) -> u64 = $moved;
            $crate::testing::model_breach(&make, &$batches, &moved)
        });
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __contract {
    ($name:ident, $breach:expr) => {
        #[test]
        fn $name() {
            let breach: $crate::base::Result<()> = $breach;
            assert!(breach.is_ok(), "{}", breach.err().map(|e| e.to_string()).unwrap_or_default());
        }
    };
}
