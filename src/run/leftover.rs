//! Top-level variables of a dumped MMEngine config: Python needed them to make the config, the run does not. And
//! keys of MMCV 1.x in a config of today, which look alike and do nothing. (A config that is all of MMCV 1.x was
//! translated when it was read.)

use super::RunConfig;
use crate::base::escape::escaped;
use crate::base::suggest::nearest;
use crate::config::source::Origin;
use crate::config::{Diag, Diags, Key, Kind, Node, empty_above, fields_of};

/// Keys of MMCV 1.x, and where their values stand today.
const OLD: [(&str, &str); 12] = [
    (
        "data",
        "`train_dataloader`, `val_dataloader`, `test_dataloader`: `samples_per_gpu` is `batch_size` there",
    ),
    ("optimizer", "`optim_wrapper: {optimizer: …}`"),
    ("optimizer_config", "`optim_wrapper: {clip_grad: …, accumulative_counts: …}`"),
    ("fp16", "`optim_wrapper: {type: AmpOptimWrapper, dtype: float16, loss_scale: …}`"),
    ("lr_config", "`param_scheduler`"),
    ("momentum_config", "`param_scheduler`"),
    ("runner", "`train_cfg: {by_epoch: true, max_epochs: …}`"),
    ("total_epochs", "`train_cfg: {by_epoch: true, max_epochs: …}`"),
    ("evaluation", "`val_evaluator`, `val_cfg: {}` and `train_cfg.val_interval`"),
    ("checkpoint_config", "`default_hooks: {checkpoint: …}`"),
    ("log_config", "`default_hooks: {logger: …}`"),
    (
        "resume_from",
        "`resume: true`, and `load_from` for a checkpoint that is not the newest of the work_dir",
    ),
];

/// Keys that are names of ordinary variables too: beside an `optim_wrapper` they mean nothing.
const ORDINARY: [&str; 4] = ["data", "optimizer", "runner", "evaluation"];

/// The config without its leftover variables, and their names.
///
/// # Errors
/// A layout of MMCV 1.x, or keys of it that would not do what they say.
pub(super) fn without(node: &Node) -> Result<(Node, Vec<String>), Diags> {
    let known = fields_of::<RunConfig>();
    let given = |key: &str| node.get(key).is_some_and(|value| !value.is_null());
    let modern = given("optim_wrapper") || given("train_dataloader") || given("val_dataloader");
    let old: Vec<_> = OLD.iter().filter(|(key, _)| given(key)).collect();
    let mut wrong = Diags::default();
    for (key, today) in old.iter().filter(|(key, _)| modern && !ORDINARY.contains(key)) {
        if let Some((key, _)) = node.entry(key) {
            let message = format!("`{}` is a key of MMCV 1.x and does nothing here", key.text);
            wrong.extend([Diag::error(message).on_key(key).note(format!("write {today}"))]);
        }
    }
    if wrong.has_errors() {
        return Err(wrong);
    }
    // Where there are so many, nobody wrote them, and none is a slip of the hand.
    let by_hand = node.entries().len() < 1000;
    let is_leftover = |(key, value): &(Key, Node)| {
        let text = key.text.as_str();
        !known.contains(&text)
            && key.def.source().origin == Origin::File
            && !text.starts_with('_')
            && (!by_hand || nearest(text, known.iter().copied()).is_none() && !slipped(node, key, value))
    };
    let (gone, kept): (Vec<_>, Vec<_>) = node.entries().iter().cloned().partition(is_leftover);
    let names = gone.iter().map(|(key, _)| escaped(&key.text).into_owned()).collect();
    Ok((Node { kind: Kind::Map(kept).into(), ..node.clone() }, names))
}

/// Whether a key slipped out of a section that would take it. A variable that made the section has the value that
/// stands there too.
fn slipped(node: &Node, key: &Key, value: &Node) -> bool {
    let sections: [(&str, &[&str]); 3] = [
        ("train_cfg", fields_of::<super::TrainLoopConfig>()),
        ("optim_wrapper", fields_of::<crate::optim::OptimWrapperConfig>()),
        ("train_dataloader", fields_of::<crate::data::DataLoaderConfig>()),
    ];
    let differs = |section: &Node| section.get(&key.text).is_none_or(|inside| inside != value);
    empty_above(node, key).is_some()
        || sections
            .iter()
            .any(|(name, fields)| fields.contains(&key.text.as_str()) && node.get(name).is_none_or(differs))
}

/// One note about all of them.
pub(super) fn note(names: &[String]) -> Option<String> {
    let shown: Vec<_> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(shown.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let (are, they, have) =
        if names.len() == 1 { ("is no key", "it has", "") } else { ("are no keys", "they have", "") };
    (!names.is_empty()).then(|| format!("{}{more} {are} of a run: {they} no effect{have}", shown.join(", ")))
}
