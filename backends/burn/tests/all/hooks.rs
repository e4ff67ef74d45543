//! The table of docs/backends.md: every hook with a network of burn.

#[path = "../../../shared/hooks.rs"]
mod shared;

use shared::{Digits, only};

const DIGITS: Digits = Digits {
    config: "configs/resnet.yaml",
    set: &[
        "model.channels=4",
        "train_cfg.max_epochs=2",
        "train_dataloader.batch_size=128",
        "optim_wrapper.accumulative_counts=2",
        "optim_wrapper.clip_grad={max_norm: 5.0}",
    ],
};

/// Hooks that work with this network in their own way.
const WORK: [(&str, &str, bool); 1] = [("FreezeHook", "modules: backbone, end: 2", false)];

/// Hooks that ask for what a network of burn has not, with what they say.
const REFUSED: [(&str, &str, &str); 3] = [
    ("LSUVHook", "", "does not tell what its layers give"),
    ("MeanTeacherHook", "teacher: teacher, student: backbone", "teacher"),
    ("WarmupParamHook", "module_name: head, param_name: dropout, warmup_epochs: 1", "dropout"),
];

#[test]
fn hooks_work_as_with_any_other_model() {
    DIGITS.hooks_work(&WORK);
}

#[test]
fn what_does_not_work_says_so() {
    for (hook, keys, said) in REFUSED {
        let error = DIGITS
            .trained(&[&only(hook, keys)])
            .err()
            .unwrap_or_else(|| panic!("{hook} trained"))
            .to_string();
        assert!(error.contains(said), "{hook}: {error}");
    }
    for (key, said) in [
        ("activation_checkpointing=[backbone]", "cannot compute its activations again"),
        ("optim_wrapper.type=AmpOptimWrapper", "does not compute in bfloat16: say `type: OptimWrapper`"),
        ("val_cfg.fp16=true", "does not compute in bfloat16: leave `fp16` out"),
        ("model.init_cfg={type: Kaiming}", "init_cfg"),
        ("model.type=BurnResnet", "BurnResNet"),
    ] {
        let error = DIGITS.trained(&[key]).err().unwrap_or_else(|| panic!("{key} trained")).to_string();
        assert!(error.contains(said), "{key}: {error}");
    }
}

/// A loss that is not finite: `stop` names it, before it spoils the weights.
#[test]
fn a_spoilt_loss_is_seen_before_the_update() {
    let dir = tempfile::tempdir().unwrap();
    let hook = only("CheckInvalidLossHook", "interval: 1, action: stop");
    let blown =
        ["optim_wrapper.optimizer.lr=1e30", "param_scheduler=[]", "optim_wrapper.clip_grad=null", &hook];
    let error = DIGITS.build(dir.path(), &blown).unwrap().train().unwrap_err().to_string();
    assert!(error.contains("loss") && (error.contains("NaN") || error.contains("inf")), "{error}");
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

/// Two hooks change the data, and are not tried.
#[test]
fn the_page_names_every_hook() {
    let own = WORK.iter().map(|(hook, ..)| *hook).chain(REFUSED.iter().map(|(hook, ..)| *hook));
    let own: Vec<&str> = own.chain(["PipelineSwitchHook", "SwitchRecipeHook"]).collect();
    shared::the_page_names_every_hook("burn", &own);
}
