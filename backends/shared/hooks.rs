//! What both crates ask of hooks: a run with a network of theirs is a run with any other model.

use std::path::Path;

use shanty::base::Result;
use shanty::checkpoint::load;
use shanty::config::{self, Node};
use shanty::params::StateDict;
use shanty::run::{Runner, RunnerBuilder};
use shanty::testing::ranks;

/// Hooks that need nothing of the network: with what keys, and whether the weights end as without them.
const WORK: [(&str, &str, bool); 20] = [
    ("CheckInvalidLossHook", "interval: 1, action: rollback", true),
    ("CheckpointHook", "interval: 5, by_epoch: false", true),
    ("ClassNumCheckHook", "", true),
    ("DigestHook", "interval: 5", true),
    ("DistSamplerSeedHook", "", true),
    ("EMAHook", "momentum: 0.05, update_buffers: true", true),
    ("EarlyStoppingHook", "monitor: accuracy/top1, patience: 5", true),
    ("EmptyCacheHook", "", true),
    ("HistogramHook", "interval: 4", true),
    ("IterTimerHook", "", true),
    ("LoggerHook", "interval: 3", true),
    ("NumClassCheckHook", "", true),
    ("ParamSchedulerHook", "", true),
    ("PreciseBNHook", "num_samples: 512", false),
    ("PrepareTTAHook", "tta_cfg: {type: AverageClsScoreTTA}", true),
    ("ProfilerHook", "", true),
    ("RuntimeInfoHook", "", true),
    ("SyncBuffersHook", "", true),
    ("VisualizationHook", "enable: false", true),
    ("WorstSamplesHook", "", true),
];

/// A short run of the digits.
pub struct Digits {
    /// The file of the config.
    pub config: &'static str,
    /// The keys that make it short.
    pub set: &'static [&'static str],
}

impl Digits {
    /// The run with these keys.
    pub fn build(&self, dir: &Path, set: &[&str]) -> Result<Runner> {
        RunnerBuilder::from_config(&self.config(dir, set)?, Some("digits"))?.build()
    }

    fn config(&self, dir: &Path, set: &[&str]) -> Result<Node> {
        let mut all = vec![format!("work_dir={}", dir.display())];
        all.extend(self.set.iter().chain(set).map(|one| (*one).to_owned()));
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.config);
        Ok(config::load(&file, &all)?)
    }

    /// What becomes of it.
    pub fn trained(&self, set: &[&str]) -> Result<StateDict> {
        let dir = tempfile::tempdir().unwrap();
        let mut runner = self.build(dir.path(), set)?;
        runner.train()?;
        runner.test()?;
        StateDict::of(runner.model()?)
    }

    /// The hooks above work, and these of the network's own.
    pub fn hooks_work(&self, own: &[(&str, &str, bool)]) {
        let plain = self.trained(&["custom_hooks=[]"]).unwrap();
        for (hook, keys, same) in WORK.iter().chain(own) {
            let with = self.trained(&[&only(hook, keys)]).unwrap_or_else(|error| panic!("{hook}: {error}"));
            assert_eq!(with == plain, *same, "{hook}");
        }
    }

    /// Options of a run around the model change what comes out: groups, schedules of any number, SAM, optimizers of the
    /// host.
    pub fn options_matter(&self) {
        let plain = self.trained(&["custom_hooks=[]"]).unwrap();
        for set in [
            "optim_wrapper.sam={rho: 0.05}",
            "optim_wrapper.paramwise_cfg={custom_keys: {head: {lr_mult: 0.1}}, bias_decay_mult: 0.0}",
            "param_scheduler=[{type: LinearMomentum, start_factor: 0.5, by_epoch: false, end: 10}]",
            "optim_wrapper.optimizer={type: Lion, lr: 0.001, weight_decay: 0.001}",
            "optim_wrapper.accumulative_counts=3",
            "optim_wrapper.clip_grad={type: value, clip_value: 0.01}",
        ] {
            let other =
                self.trained(&["custom_hooks=[]", set]).unwrap_or_else(|error| panic!("{set}: {error}"));
            assert_ne!(other, plain, "{set}");
        }
    }

    /// Ranks whose batch norms should share their statistics: these cannot.
    pub fn statistics_are_not_shared(&self) {
        let dir = tempfile::tempdir().unwrap();
        let refused = ranks(2, |_, comm| {
            let config = self.config(dir.path(), &["sync_bn=torch"])?;
            RunnerBuilder::from_config_among(&config, None, comm).map(drop)
        });
        let said = refused.unwrap_err().to_string();
        assert!(said.contains("leave `sync_bn` out; SyncBuffersHook"), "{said}");
    }

    /// The weights of a checkpoint are the average; those that training goes on with are the hook's.
    pub fn a_checkpoint_holds_the_average(&self) {
        let dir = tempfile::tempdir().unwrap();
        let mut runner = self.build(dir.path(), &["custom_hooks=[{type: EMAHook, momentum: 0.05}]"]).unwrap();
        runner.train().unwrap();
        let saved = load(&dir.path().join("epoch_2")).unwrap();
        let now = StateDict::of(runner.model().unwrap()).unwrap();
        let name = "head.fc.weight";
        assert_ne!(saved.model.get(name), now.get(name));
        assert_eq!(saved.hooks["EMAHook"].tensors[name], now.get(name).unwrap().value);
    }
}

/// `custom_hooks` with this one.
pub fn only(hook: &str, keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!("custom_hooks=[{{type: {hook}{comma}{keys}}}]")
}

/// A section of docs/backends.md names every hook that there is, and each is tried, here or as one of these.
pub fn the_page_names_every_hook(section: &str, own: &[&str]) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/backends.md");
    let page = std::fs::read_to_string(page).unwrap();
    let from = page.find(&format!("\n## {section}\n")).unwrap() + 1;
    let end = page[from..].find("\n## ").map_or(page.len(), |end| from + end);
    for entry in shanty::registry::entries("hook") {
        let tried = WORK.iter().any(|(hook, ..)| *hook == entry.name) || own.contains(&entry.name);
        assert!(tried, "{} is not tried here", entry.name);
        assert!(page[from..end].contains(entry.name), "{section} of docs/backends.md lacks {}", entry.name);
    }
}
