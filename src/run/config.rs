//! The top level of a config: MMEngine's keys, typed.

use schemars::JsonSchema;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::LoopConfig;
use crate::base::Result;
use crate::checkpoint::Origin;
use crate::comm::Launcher;
use crate::config::{Diag, Diags, Kind, Node, OneOrMany, null_is_default};
use crate::data::DataLoaderConfig;
use crate::hook::{Hook, builtin::LogProcessor};
use crate::kernels::Precision;
use crate::metric::Metric;
use crate::model::{Model, Preprocessor};
use crate::optim::{OptimWrapperConfig, Schedule};
use crate::registry::Spec;
use crate::vis::VisBackend;

/// A whole run. Keys are MMEngine's; what only means something in Python is accepted with a note.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct RunConfig {
    /// What is trained: a network, its preprocessing, its losses.
    pub model: Spec<dyn Model>,
    /// The model's `data_preprocessor`, where MMEngine's configs write it too.
    #[serde(default)]
    pub data_preprocessor: Option<Spec<dyn Preprocessor>>,
    /// Modules of the model, by path (`network.0`), of which a training step keeps nothing but the inputs until the way
    /// back, which computes them once more: less memory for more time, and the same result.
    #[serde(default)]
    pub activation_checkpointing: Option<OneOrMany<String>>,
    /// Folder of checkpoints and logs; `work_dirs/<name of the config>` from the command line if absent.
    #[serde(default)]
    pub work_dir: Option<String>,
    /// First part of the experiment's name.
    #[serde(default)]
    pub experiment_name: Option<String>,
    /// Training data; with `train_cfg` and `optim_wrapper`, or none of the three.
    #[serde(default)]
    pub train_dataloader: Option<DataLoaderConfig>,
    /// Length of the training and when to validate.
    #[serde(default)]
    pub train_cfg: Option<LoopConfig>,
    /// Optimizer, accumulation and clipping.
    #[serde(default)]
    pub optim_wrapper: Option<OptimWrapperConfig>,
    /// Schedules, folded in the order of the list.
    #[serde(default)]
    pub param_scheduler: Option<OneOrMany<Spec<dyn Schedule>>>,
    /// Linear scaling of the learning rate with the batch size.
    #[serde(default)]
    pub auto_scale_lr: Option<AutoScaleLr>,
    /// Validation data; with `val_cfg` and `val_evaluator`, or none of the three.
    #[serde(default)]
    pub val_dataloader: Option<DataLoaderConfig>,
    /// Validation, with `val_dataloader` and `val_evaluator`; `{}` is enough.
    #[serde(default)]
    pub val_cfg: Option<EvalConfig>,
    /// Metrics of the validation.
    #[serde(default)]
    pub val_evaluator: Option<OneOrMany<Spec<dyn Metric>>>,
    /// Test data; with `test_cfg` and `test_evaluator`, or none of the three.
    #[serde(default)]
    pub test_dataloader: Option<DataLoaderConfig>,
    /// Test, with `test_dataloader` and `test_evaluator`; `{}` is enough.
    #[serde(default)]
    pub test_cfg: Option<EvalConfig>,
    /// Metrics of the test.
    #[serde(default)]
    pub test_evaluator: Option<OneOrMany<Spec<dyn Metric>>>,
    /// Slots of the default hooks: replace one, remove it with null, or add a slot.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<HookSlots>")]
    pub default_hooks: HookSlots,
    /// Further hooks, in order.
    #[serde(default)]
    pub custom_hooks: Option<Vec<Spec<dyn Hook>>>,
    /// Checkpoint to start from: weights only, unless `resume` is on.
    #[serde(default)]
    #[schemars(length(min = 1))]
    pub load_from: Option<String>,
    /// Go on with `load_from`, or with the newest checkpoint of the work_dir.
    #[serde(default)]
    pub resume: bool,
    /// Delete the checkpoints that an earlier run left in the work_dir; without it such a work_dir is refused.
    #[serde(default)]
    pub overwrite: bool,
    /// How weights of `load_from` are matched with the model's.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<LoadConfig>")]
    pub load_options: LoadConfig,
    /// Iterations between two lines with a digest of everything that the run did; none if absent. See `DigestHook`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub digest_interval: Option<u64>,
    /// Samples of the training data to leave out, by position.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<Vec<u64>>")]
    pub exclude_samples: Vec<u64>,
    /// Write checkpoints on a thread of their own while training goes on.
    #[serde(default = "crate::config::yes")]
    pub async_save: bool,
    /// Accept hooks whose state a resumed checkpoint lacks, and state of hooks that are gone.
    #[serde(default)]
    pub allow_hook_changes: bool,
    /// Resume although the training data are not those of the checkpoint: other samples, another order, other classes.
    #[serde(default)]
    pub allow_data_changes: bool,
    /// Seed and reproducibility.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<Randomness>")]
    pub randomness: Randomness,
    /// Smoothing and layout of log lines.
    #[serde(default, deserialize_with = "null_is_default")]
    #[schemars(with = "Option<LogProcessor>")]
    pub log_processor: LogProcessor,
    /// Least important lines of the log file.
    #[serde(default)]
    pub log_level: LogLevel,
    /// Where the events of the run go, as MMEngine writes it.
    #[serde(default)]
    pub visualizer: Option<VisualizerConfig>,
    /// Where the events of the run go, if `visualizer` does not say it: `scalars.json` if absent.
    #[serde(default)]
    pub vis_backends: Option<OneOrMany<Spec<dyn VisBackend>>>,
    /// Accepted without effect: registries have no scopes to choose from.
    #[serde(default)]
    pub default_scope: Option<String>,
    /// Tuning of processes: of several that train together, `dist_cfg: {timeout: SECONDS}` is how long one waits for the
    /// others, 1800 if absent. Accepted without effect: all else, which tunes Python.
    #[serde(default)]
    pub env_cfg: Option<Node>,
    /// What starts the processes of the run; told from their environment if absent.
    #[serde(default)]
    pub launcher: Option<Launcher>,
    /// Whose batch norms share their statistics among processes; without effect in a run of one.
    #[serde(default)]
    pub sync_bn: Option<SyncBn>,
    /// Accepted without effect: Python modules.
    #[serde(default)]
    pub custom_imports: Option<Node>,
    /// Top-level variables of a dumped config, which mean nothing to a run.
    #[serde(skip)]
    pub leftovers: Vec<String>,
}

/// `val_cfg` and `test_cfg`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct EvalConfig {
    /// `ValLoop` or `TestLoop`.
    pub r#type: Option<EvalLoopType>,
    /// Products of forward passes are computed in bfloat16, as autocast does on a CPU.
    pub fp16: bool,
}

impl EvalConfig {
    /// What products are computed in: `fp16` is autocast, which on a CPU has bfloat16 unless it is told otherwise.
    pub(super) fn precision(given: Option<&Self>) -> Precision {
        if given.is_some_and(|cfg| cfg.fp16) { Precision::Bf16 } else { Precision::Full }
    }
}

/// The evaluation loops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[allow(missing_docs)]
pub enum EvalLoopType {
    ValLoop,
    TestLoop,
}

/// `randomness`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Randomness {
    /// The seed; one is drawn and logged if absent.
    pub seed: Option<u64>,
    /// Accepted without effect: every run is deterministic.
    pub deterministic: bool,
    /// Accepted without effect in a run of one process.
    pub diff_rank_seed: bool,
}

/// `load_options`: how the weights of a `load_from` without `resume` meet the model.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LoadConfig {
    /// Every tensor of the file must find its place and every one of the model its value. If false, what does not fit
    /// by name and shape is listed and left out; nothing that fits is an error all the same.
    pub strict: bool,
    /// `[pattern, replacement]` pairs, applied in turn to each name in the file; `$1` stands for the first group.
    pub revise_keys: Vec<(String, String)>,
    /// The library that wrote the file, whose names for the networks of docs/models.md become ours; after `revise_keys`.
    pub from: Option<Origin>,
    /// Whether `shanty ckpt fuse` wrote the file: what it has no batch norms for has none. Only to evaluate and predict.
    pub fused: bool,
}

impl Default for LoadConfig {
    /// Strict; `module.` in front, a wrapper of the writer, is left off.
    fn default() -> Self {
        Self {
            strict: true,
            revise_keys: vec![(r"^module\.".into(), String::new())],
            from: None,
            fused: false,
        }
    }
}

/// `auto_scale_lr`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct AutoScaleLr {
    /// Batch size for which the learning rate was chosen.
    #[schemars(range(min = 1))]
    pub base_batch_size: u64,
    /// Whether to scale; `train --auto-scale-lr` turns it on.
    #[serde(default)]
    pub enable: bool,
}

/// `log_level`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum LogLevel {
    Debug,
    #[default]
    Info,
    Warning,
    Error,
}

/// `sync_bn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyncBn {
    /// PyTorch's.
    Torch,
    /// MMCV's.
    Mmcv,
}

/// `visualizer`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VisualizerConfig {
    /// A visualizer of MMEngine or of the projects around it: they are one here.
    pub r#type: Option<VisualizerType>,
    /// The backends.
    pub vis_backends: Option<OneOrMany<Spec<dyn VisBackend>>>,
    /// Accepted without effect.
    pub name: Option<String>,
}

/// The visualizers.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[allow(missing_docs, clippy::enum_variant_names)]
pub enum VisualizerType {
    Visualizer,
    UniversalVisualizer,
    ClsVisualizer,
    DetLocalVisualizer,
    SegLocalVisualizer,
}

/// `default_hooks`: slots in the order of the config; null removes one.
#[derive(Debug, Clone, Default)]
pub struct HookSlots(pub Vec<(String, Option<Spec<dyn Hook>>)>);

impl<'de> Deserialize<'de> for HookSlots {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        struct Slots;
        impl<'de> Visitor<'de> for Slots {
            type Value = HookSlots;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a mapping of slot names to hooks")
            }
            fn visit_unit<E>(self) -> Result<HookSlots, E> {
                Ok(HookSlots::default())
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HookSlots, A::Error> {
                let mut slots = Vec::new();
                while let Some(slot) = map.next_entry()? {
                    slots.push(slot);
                }
                Ok(HookSlots(slots))
            }
        }
        de.deserialize_map(Slots)
    }
}

impl JsonSchema for HookSlots {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HookSlots".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let hook = generator.subschema_for::<Option<Spec<dyn Hook>>>();
        let slot = |(name, spec): (String, Option<Spec<dyn Hook>>)| {
            let mut slot = hook.clone();
            slot.insert("default".into(), spec.map(|spec| serde_json::json!({ "type": spec.name() })).into());
            (name, slot.to_value())
        };
        let slots: serde_json::Map<_, _> =
            super::spelt_out::default_slots().unwrap_or_default().into_iter().map(slot).collect();
        schemars::json_schema!({ "type": "object", "properties": slots, "additionalProperties": hook })
    }
}

impl RunConfig {
    /// The backends of the run.
    pub(super) fn backends(&self) -> &[Spec<dyn VisBackend>] {
        let of_visualizer = self.visualizer.as_ref().and_then(|visualizer| visualizer.vis_backends.as_ref());
        of_visualizer.or(self.vis_backends.as_ref()).map_or(&[], |backends| &backends.0)
    }

    /// Reads a resolved config: names, keys, types and ranges. Whether its parts can be built and fit together,
    /// [`check`](super::check()) tells.
    ///
    /// # Errors
    /// All mistakes at once, each with its place.
    pub fn read(node: &Node) -> Result<Self, Diags> {
        let (node, leftovers) = super::leftover::without(node)?;
        let node = super::spelt_out::spelt_out(&node);
        let config = Self { leftovers, ..node.read_checked()? };
        let wrong = Diags(config.inconsistencies(&node));
        if wrong.has_errors() { Err(wrong) } else { Ok(config) }
    }

    /// The three triples, and what `train_cfg` must say.
    fn inconsistencies(&self, node: &Node) -> Vec<Diag> {
        let mut wrong = Vec::new();
        let triples = [
            ("train_dataloader", "train_cfg", "optim_wrapper"),
            ("val_dataloader", "val_cfg", "val_evaluator"),
            ("test_dataloader", "test_cfg", "test_evaluator"),
        ];
        for (a, b, c) in triples {
            let given = |key: &&str| node.get(key).is_some_and(|n| !n.is_null());
            let (have, lack): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(given);
            // `test_cfg: {}` alone asks for nothing.
            if have == [b] && node.get(b).is_some_and(|cfg| *cfg.kind == Kind::Map(Vec::new())) {
                continue;
            }
            if let (Some(first), false) = (have.first(), lack.is_empty()) {
                let missing = lack.join("` and `");
                let mut diag = Diag::error(format!("`{first}` needs `{missing}` beside it"));
                if let Some((key, _)) = node.entry(first) {
                    diag = diag.on_key(key);
                }
                wrong.push(diag.note(format!("give all three of `{a}`, `{b}`, `{c}`, or none")));
            }
        }
        if let (Some(train), Some((_, at))) = (&self.train_cfg, node.entry("train_cfg"))
            && let LoopConfig::BuiltIn(train) = train
            && let Err(text) = train.to_loop()
        {
            wrong.push(Diag::error(text).on(at));
        }
        wrong
    }
}
