//! One note for each key that is accepted without effect, so that nobody believes it did something, and for what is
//! another law here than in MMEngine.

use std::collections::BTreeSet;

use super::{LoopConfig, LoopType, RunConfig};

impl RunConfig {
    /// What is accepted without effect, a sentence for each key, in the order of the keys.
    pub fn notes(&self) -> Vec<String> {
        of(self)
    }
}

fn of(config: &RunConfig) -> Vec<String> {
    let mut notes = Vec::new();
    let mut note = |given: bool, key: &str, why: &str| {
        if given {
            notes.push(format!("`{key}` is accepted without effect: {why}"));
        }
    };
    note(config.default_scope.is_some(), "default_scope", "all registered types are in reach");
    for (key, _) in
        config.env_cfg.iter().flat_map(|env| env.entries()).filter(|(key, _)| key.text != "dist_cfg")
    {
        note(true, &format!("env_cfg.{}", key.text), "it tunes Python processes and GPUs");
    }
    let tunes = config.env_cfg.as_ref().and_then(|env| env.get("dist_cfg"));
    for (key, _) in tunes.iter().flat_map(|tunes| tunes.entries()).filter(|(key, _)| key.text != "timeout") {
        note(true, &format!("env_cfg.dist_cfg.{}", key.text), "processes meet through MPI");
    }
    note(
        config.custom_imports.is_some(),
        "custom_imports",
        "it names Python modules; link plugin crates instead",
    );
    let named = config.visualizer.as_ref().is_some_and(|visualizer| visualizer.name.is_some());
    note(named, "visualizer.name", "a run has one visualizer");
    let of_visualizer = config.visualizer.as_ref().and_then(|visualizer| visualizer.vis_backends.as_ref());
    let other = of_visualizer.zip(config.vis_backends.as_ref()).is_some_and(|(used, other)| used != other);
    note(other, "vis_backends", "`visualizer` has backends of its own");
    note(config.randomness.diff_rank_seed, "randomness.diff_rank_seed", "the run has one process");
    let loaders = [
        ("train", &config.train_dataloader),
        ("val", &config.val_dataloader),
        ("test", &config.test_dataloader),
    ];
    for (mode, loader) in loaders {
        for (key, why) in loader.iter().flat_map(|l| l.ignored()) {
            note(true, &format!("{mode}_dataloader.{key}"), why);
        }
    }
    for (mode, metrics) in [("val", &config.val_evaluator), ("test", &config.test_evaluator)] {
        let keys: BTreeSet<_> =
            metrics.iter().flat_map(|m| m.iter()).flat_map(|m| m.extra.ignored()).collect();
        keys.iter().for_each(|(key, why)| note(true, &format!("{mode}_evaluator.{key}"), why));
    }
    let epochs = config.train_cfg.as_ref().is_some_and(|cfg| match cfg {
        LoopConfig::BuiltIn(cfg) => {
            cfg.by_epoch == Some(true) || cfg.r#type == Some(LoopType::EpochBasedTrainLoop)
        }
        LoopConfig::Custom(_) => false,
    });
    if epochs && config.optim_wrapper.as_ref().is_some_and(|optim| optim.accumulative_counts > 1) {
        notes.push(
            "`accumulative_counts`: a window ends with its epoch, where MMEngine's goes on into the next"
                .to_owned(),
        );
    }
    let evaluated = [("val", config.val_dataloader.is_some()), ("test", config.test_dataloader.is_some())];
    let commands: Vec<_> =
        evaluated.iter().filter(|(_, given)| *given).map(|(mode, _)| format!("`shanty {mode}`")).collect();
    if config.train_dataloader.is_none() && !commands.is_empty() {
        let commands = commands.join(" and ");
        notes.push(format!(
            "nothing to train: this config is for {commands} with a checkpoint, and `shanty train` refuses it"
        ));
    }
    notes.extend(super::leftover::note(&config.leftovers));
    notes
}
