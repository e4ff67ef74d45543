//! The table of docs/backends.md: every hook with a network of candle.

#[path = "../../../shared/hooks.rs"]
mod shared;

use shanty::checkpoint::load;
use shanty::ndarray::Axis;
use shanty::plugin::prelude::*;

use shared::{Digits, only};

const DIGITS: Digits = Digits {
    config: "configs/digits.yaml",
    set: &["model.network.base_channels=4", "train_cfg.max_epochs=2", "train_dataloader.batch_size=128"],
};

/// Hooks that work with this network in their own way.
const WORK: [(&str, &str, bool); 2] = [
    ("FreezeHook", "modules: head, end: 2", false),
    ("WarmupParamHook", "module_name: head, param_name: dropout, warmup_epochs: 1", false),
];

/// Hooks that ask for what only networks of shanty's own layers have, or that are about something else, with what they
/// say; `None` for one that does nothing here.
const REFUSED: [(&str, &str, Option<&str>); 6] = [
    ("FreezeHook", "modules: backbone", Some("moves with each forward pass of candle")),
    ("FreezeHook", "modules: backbone, begin: 2", Some("moves with each forward pass of candle")),
    ("LSUVHook", "", Some("does not tell what its layers give")),
    ("MeanTeacherHook", "teacher: teacher, student: backbone", Some("teacher")),
    ("SwitchRecipeHook", "schedule: []", None),
    ("PipelineSwitchHook", "switch_epoch: 1, switch_pipeline: []", None),
];

#[test]
fn hooks_work_as_with_any_other_model() {
    DIGITS.hooks_work(&WORK);
}

#[test]
fn what_does_not_work_says_so() {
    for (hook, keys, said) in REFUSED {
        match (DIGITS.trained(&[&only(hook, keys)]), said) {
            (Ok(_), None) => {}
            (Err(error), Some(said)) => assert!(error.to_string().contains(said), "{hook}: {error}"),
            (other, _) => panic!("{hook}: {:?}", other.map(|_| "trained")),
        }
    }
    for (key, said) in [
        ("activation_checkpointing=[backbone]", "cannot compute its activations again"),
        ("optim_wrapper.type=AmpOptimWrapper", "does not compute in bfloat16: say `type: OptimWrapper`"),
        ("val_cfg.fp16=true", "does not compute in bfloat16: leave `fp16` out"),
        ("train_dataloader.dataset={type: Digits, split: train, pipeline: [{type: NoSuch}]}", "NoSuch"),
    ] {
        let error = DIGITS.trained(&[key]).unwrap_err().to_string();
        assert!(error.contains(said), "{key}: {error}");
    }
}

#[test]
fn the_page_names_every_hook() {
    let own = WORK.iter().map(|(hook, ..)| *hook).chain(REFUSED.iter().map(|(hook, ..)| *hook));
    shared::the_page_names_every_hook("candle", &own.collect::<Vec<_>>());
}

/// The pixels of one sample are NaN.
struct Poison;

const POISONED: u64 = 17;

impl Hook for Poison {
    fn before_train_iter(&mut self, _: &mut Ctx<'_>, batch: &mut Batch) -> HookResult {
        if let Some(row) = batch.ids.iter().position(|id| *id == POISONED) {
            batch.inputs_mut()?.index_axis_mut(Axis(0), row).fill(Elem::NAN);
        }
        Ok(())
    }
}

/// `stop` names the sample; `skip` leaves finite numbers, in the average too; after `rollback` weights, statistics and
/// average are those of a run that never had it.
#[test]
fn a_spoilt_sample_is_named_and_undone() {
    let (none, known) = ("exclude_samples=[]", format!("exclude_samples=[{POISONED}]"));
    let ended = |action: &str, excluded: &str| {
        let average = "{type: EMAHook, momentum: 0.05, update_buffers: true}";
        let hooks =
            format!("custom_hooks=[{average}, {{type: CheckInvalidLossHook, interval: 1, {action}}}]");
        let dir = tempfile::tempdir().unwrap();
        let mut runner = DIGITS.build(dir.path(), &[&hooks, excluded])?;
        runner.add_hook(Poison)?;
        runner.train()?;
        load(&dir.path().join("epoch_2")).map(|saved| (saved.model, saved.hooks["EMAHook"].clone()))
    };
    let error = ended("action: stop, check: all", none).unwrap_err().to_string();
    // The rectifiers of candle make zeros of NaN, so the loss tells nothing: `check: all` looks at the inputs.
    assert!(error.contains("became invalid") && error.contains("the input of samples [17]"), "{error}");
    let (skipped, average) = ended("action: skip, check: all", none).unwrap();
    assert!(skipped.0.iter().all(|(_, tensor)| tensor.value.iter().all(|v| v.is_finite())));
    assert!(average.tensors.values().all(|tensor| tensor.iter().all(|v| v.is_finite())));
    let undone = ended("action: rollback, check: all", none).unwrap();
    assert!(undone == ended("action: rollback, check: all", &known).unwrap());
}

#[test]
fn groups_schedules_and_sam_are_those_of_any_model() {
    DIGITS.options_matter();
}

#[test]
fn ranks_do_not_share_statistics() {
    DIGITS.statistics_are_not_shared();
}

#[test]
fn a_checkpoint_holds_the_average() {
    DIGITS.a_checkpoint_holds_the_average();
}
