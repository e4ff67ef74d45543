//! Saves at intervals, at the end, and whenever a metric is better than ever.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, Error as _};

use crate::base::number::fixed;
use crate::checkpoint::{EMERGENCY, check_name};
use crate::config::OneOrMany;
use crate::hook::Dirs;
use crate::metric::{Direction, Directions};
use crate::plugin::prelude::*;

/// Periodic and best checkpoints, after MMEngine's CheckpointHook.
///
/// A directory is deleted only after its successor is safe on disk. What there is to delete is looked up on the disk at
/// each save, among this run's own checkpoints.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct CheckpointHook {
    /// Epochs or iterations between two checkpoints; -1 for none but the last. If absent: one for each pass over the
    /// data.
    #[schemars(range(min = -1))]
    interval: Option<i64>,
    /// Count epochs or iterations; as the training loop counts if absent.
    by_epoch: Option<bool>,
    /// First epoch or iteration that is saved.
    save_begin: u64,
    /// Keep the optimizer's state; without it a run cannot be resumed.
    save_optimizer: bool,
    /// Accepted for MMEngine's configs: schedules are functions of progress.
    save_param_scheduler: bool,
    /// Folder below which the checkpoints go, under the name of the work_dir; the work_dir itself if absent.
    out_dir: Option<String>,
    /// Periodic checkpoints kept; -1 for all.
    #[schemars(range(min = -1))]
    max_keep_ckpts: i64,
    /// Save at the end of the run, and when it is stopped.
    save_last: bool,
    /// Metrics whose best checkpoint is kept; `auto` takes the first that a validation gives.
    save_best: Option<OneOrMany<String>>,
    /// The first epoch (iteration, in a loop that counts them) whose validation can be the best.
    best_begin: u64,
    /// `greater` or `less`, one for all metrics or one each; if absent the metric says it, or its name.
    rule: Option<OneOrMany<Direction>>,
    /// Names (or parts) of metrics of which more is better, instead of the usual ones.
    greater_keys: Option<OneOrMany<String>>,
    /// Names (or parts) of metrics of which less is better, instead of the usual ones.
    less_keys: Option<OneOrMany<String>>,
    /// Name of a periodic checkpoint with one `{}`; `epoch_{}` or `iter_{}` if absent.
    filename_tmpl: Option<String>,
    #[serde(skip)]
    state: State,
    #[serde(skip)]
    training: bool,
}

impl Default for CheckpointHook {
    fn default() -> Self {
        Self {
            interval: None,
            by_epoch: None,
            save_begin: 0,
            save_optimizer: true,
            save_param_scheduler: true,
            out_dir: None,
            max_keep_ckpts: -1,
            save_last: true,
            save_best: None,
            best_begin: 0,
            rule: None,
            greater_keys: None,
            less_keys: None,
            filename_tmpl: None,
            state: State::default(),
            training: false,
        }
    }
}

/// What a checkpoint keeps of this hook.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct State {
    /// The iteration of the newest checkpoint.
    saved_iter: Option<u64>,
    /// The best of each metric.
    best: BTreeMap<String, Best>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Best {
    score: f64,
    #[serde(deserialize_with = "name_of_best")]
    name: String,
}

/// A name out of a file never leaves the folder of checkpoints.
fn name_of_best<'de, D: Deserializer<'de>>(de: D) -> Result<String, D::Error> {
    let name = String::deserialize(de)?;
    check_name(&name).map_err(D::Error::custom)?;
    Ok(name)
}

impl CheckpointHook {
    /// A checkpoint after every `n` epochs (or iterations, in a loop that counts them), and at the end.
    ///
    /// ```
    /// use shanty::hook::builtin::CheckpointHook;
    /// let hook = CheckpointHook::every(5).keep(2).best("accuracy/top1");
    /// ```
    pub fn every(n: u64) -> Self {
        Self { interval: Some(i64::try_from(n).unwrap_or(i64::MAX)), ..Self::default() }
    }

    /// Only at the end, and the best ones.
    pub fn at_the_end() -> Self {
        Self { interval: Some(-1), ..Self::default() }
    }

    /// Keeps so many periodic checkpoints; all if not called.
    #[must_use]
    pub fn keep(mut self, n: usize) -> Self {
        self.max_keep_ckpts = i64::try_from(n).unwrap_or(i64::MAX);
        self
    }

    /// Keeps the best checkpoint by this metric of the validation; several calls keep one each.
    #[must_use]
    pub fn best(mut self, metric: &str) -> Self {
        self.save_best.get_or_insert_with(|| OneOrMany(Vec::new())).0.push(metric.to_owned());
        self
    }

    /// Which way all metrics of [`best`](Self::best) are better; they say it themselves if not called.
    #[must_use]
    pub fn rule(mut self, rule: Direction) -> Self {
        self.rule = Some(OneOrMany(vec![rule]));
        self
    }

    fn fits(&self) -> Result<()> {
        let bad = |text: &str| Err(Error::config(text));
        if self.interval == Some(0) {
            return bad("`interval: 0` saves nothing: give at least 1, or -1 for the last checkpoint only");
        }
        if self.max_keep_ckpts == 0 {
            return bad("`max_keep_ckpts: 0` would keep nothing: give at least 1, or -1 for all");
        }
        if let Some(template) = &self.filename_tmpl {
            if template.matches("{}").count() != 1 {
                return bad("`filename_tmpl` needs exactly one `{}` for the number");
            }
            check_name(&template.replace("{}", "1"))
                .map_err(|why| Error::config(format!("`filename_tmpl`: {why}")))?;
        }
        if let Some(dir) = self.out_dir.as_deref().filter(|dir| dir.contains("://") || dir.starts_with('~')) {
            return Err(Error::config(format!(
                "`out_dir: {}` would be a folder of that very name: give a local path, written out",
                dir.escape_debug()
            )));
        }
        let metrics = self.save_best.as_ref().map_or(&[][..], |b| &b.0);
        metrics.iter().try_for_each(|metric| self.check_best(metric)).map_err(Error::config)?;
        if metrics.len() > 1 && metrics.iter().any(|m| m == "auto") {
            return bad("`save_best: auto` stands alone");
        }
        if (1..metrics.len()).any(|i| metrics[..i].contains(&metrics[i])) {
            return bad("`save_best` names a metric twice");
        }
        for (i, metric) in metrics.iter().enumerate() {
            if let Some(other) = metrics[..i].iter().find(|other| best_of(other) == best_of(metric)) {
                return Err(Error::config(format!(
                    "`save_best`: the best checkpoints of `{other}` and `{metric}` would both be called `{}_…` and replace each \
                     other: give one of them a CheckpointHook with an `out_dir` of its own",
                    best_of(metric)
                )));
            }
        }
        let rules = self.rule.as_ref().map_or(1, |r| r.0.len());
        if rules != 1 && rules != metrics.len() {
            return bad("`rule` needs one entry, or one for each metric of `save_best`");
        }
        Ok(())
    }

    /// Whether the best checkpoint of a metric has a name that a folder may have; the longest number has 20 digits.
    fn check_best(&self, metric: &str) -> Result<(), String> {
        let name = self.template(true).replace("{}", &u64::MAX.to_string());
        check_name(&format!("{}_{name}", best_of(metric))).map_err(|why| format!("`save_best`: {why}"))
    }

    /// The config's own words come before what the metric says, and that before the usual words.
    fn direction(&self, metric: &str, told: Option<Direction>) -> Result<Direction, String> {
        let keys = |k: &Option<OneOrMany<String>>| k.as_ref().map(|k| k.0.clone());
        let (greater, less) = (keys(&self.greater_keys), keys(&self.less_keys));
        let own = Direction::infer(metric, greater.as_deref(), less.as_deref());
        match (told, greater.is_some() || less.is_some()) {
            (Some(told), false) => Ok(told),
            (Some(told), true) => Ok(own.unwrap_or(told)),
            (None, _) => own,
        }
    }

    /// The best score of a metric so far, with the checkpoint that has it.
    pub fn best_so_far(&self, metric: &str) -> Option<(f64, &str)> {
        self.state.best.get(metric).map(|b| (b.score, b.name.as_str()))
    }

    fn in_epochs(&self, cx: &Ctx<'_>) -> bool {
        self.by_epoch.unwrap_or(cx.progress.by_epoch)
    }

    /// The names of periodic checkpoints, with `{}` for the number.
    fn template(&self, by_epoch: bool) -> &str {
        let default = if self.by_epoch.unwrap_or(by_epoch) && by_epoch { "epoch_{}" } else { "iter_{}" };
        self.filename_tmpl.as_deref().unwrap_or(default)
    }

    /// The names within an epoch, which has no number of its own then.
    fn template_within(&self) -> String {
        self.filename_tmpl.as_deref().unwrap_or("{}").replace("{}", "iter_{}")
    }

    fn name(&self, cx: &Ctx<'_>) -> String {
        let by_epoch = self.in_epochs(cx);
        if by_epoch && cx.progress.batch > 0 && cx.progress.by_epoch {
            return self.template_within().replace("{}", &cx.progress.iter.to_string());
        }
        let step = if by_epoch && cx.progress.by_epoch { cx.progress.epoch } else { cx.progress.iter };
        self.template(cx.progress.by_epoch).replace("{}", &step.to_string())
    }

    /// The metrics that the best checkpoints go by, with their values and which way is better.
    fn judged(&self, metrics: &Metrics) -> HookResult<Vec<(String, f64, Direction)>> {
        let all = self.save_best.iter().flat_map(|names| names.iter()).enumerate();
        all.map(|(index, metric)| {
            let given: Vec<_> = metrics.0.iter().map(|(name, _)| name.as_str()).collect();
            if given.is_empty() {
                return Err("`save_best` goes by a number, and the validation gives none: add a metric that gives one, or \
                            leave it out"
                    .into());
            }
            let known = self.state.best.keys().next().map(String::as_str);
            let metric = match metric.as_str() {
                "auto" => known.or(given.first().copied()).unwrap_or_default(),
                named => named,
            };
            let Some(score) = metrics.get(metric) else {
                let given = given.join(", ");
                return Err(format!("save_best: no metric `{metric}`; the validation gave {given}").into());
            };
            let rule = self.rule.as_ref().and_then(|r| r.0.get(index).or(r.0.first()).copied());
            let rule = rule.map_or_else(|| self.direction(metric, metrics.direction(metric)), Ok)?;
            Ok((metric.to_owned(), score, rule))
        })
        .collect()
    }

    fn request(&self, cx: &Ctx<'_>, name: String) -> SaveRequest {
        let out_dir = self.save_dir(cx.dirs);
        SaveRequest { out_dir, optimizer: self.save_optimizer, ..SaveRequest::new(name) }
    }

    fn save(&mut self, cx: &mut Ctx<'_>) {
        self.state.saved_iter = Some(cx.progress.iter);
        let mut request = self.request(cx, self.name(cx));
        request.series = self.template(cx.progress.by_epoch).to_owned();
        request.keep = usize::try_from(self.max_keep_ckpts).ok();
        cx.save(request);
    }

    fn due(&self, cx: &Ctx<'_>, by_epoch: bool) -> bool {
        let pass = if by_epoch { 1 } else { cx.progress.epoch_len };
        let n = self.interval.map_or(pass, |n| u64::try_from(n).unwrap_or(0));
        let (every, last) = if by_epoch {
            (cx.progress.every_n_epochs(n, self.save_begin), cx.progress.is_last_epoch())
        } else {
            (cx.progress.every_n_iters(n, self.save_begin), cx.progress.is_last_iter())
        };
        every || (last && self.save_last)
    }

    fn save_if_best(&mut self, cx: &mut Ctx<'_>, metric: &str, score: f64, rule: Direction) {
        let old = self.state.best.get(metric);
        if !rule.beats(score, old.map(|b| b.score)) {
            return;
        }
        let best = best_of(metric);
        let name = format!("{best}_{}", self.name(cx));
        let mut request = SaveRequest { optimizer: false, is_last: false, ..self.request(cx, name.clone()) };
        // Of each template its own: two hooks that keep the best of one metric do not give up each other's.
        request.series = format!("{best}_{}", self.template(cx.progress.by_epoch));
        request.keep = Some(1);
        cx.log.info(format_args!("{metric} is at its best with {}: saving {name}", fixed(score, 4)));
        self.state.best.insert(metric.to_owned(), Best { score, name });
        cx.save(request);
    }
}

setters!(CheckpointHook {
    /// Whether to count epochs or iterations; as the training loop counts if not called.
    by_epoch: some bool,
    /// First epoch or iteration that is saved.
    save_begin: = u64,
    /// The first epoch whose validation can be the best.
    best_begin: = u64,
    /// Whether to keep the optimizer's state; without it a run cannot be resumed.
    save_optimizer: = bool,
    /// Whether to save at the end of the run, and when it is stopped.
    save_last: = bool,
    /// Folder below which the checkpoints go, under the name of the work_dir.
    out_dir: some String,
    /// Name of a periodic checkpoint with one `{}`.
    filename_tmpl: some String,
});

/// What the names of the best checkpoints of a metric begin with.
fn best_of(metric: &str) -> String {
    let plain = |c: char| if c.is_alphanumeric() || "_-.".contains(c) { c } else { '_' };
    format!("best_{}", metric.chars().map(plain).collect::<String>())
}

impl Hook for CheckpointHook {
    fn priority(&self) -> Priority {
        Priority::VERY_LOW
    }

    fn reads_numbers(&self, _: Point, _: &Progress) -> bool {
        false
    }

    /// Whether its keys fit together, and then the direction of its metrics, which those of the validation may say.
    fn check_options(&self, cx: &BuildCx) -> Result<()> {
        self.fits()?;
        let known = cx.get::<Directions>().cloned().unwrap_or_default();
        let named = self.save_best.iter().flat_map(|best| &best.0).filter(|metric| *metric != "auto");
        named.filter(|_| self.rule.is_none()).try_for_each(|metric| {
            let told = self.direction(metric, known.get(metric)).map(drop);
            told.map_err(|why| Error::config(known.meant(metric, why)))
        })?;
        cx.get::<Progress>().map_or(Ok(()), |run| run.check_begin("best_begin", self.best_begin))
    }

    fn order(&self) -> HookOrder {
        let metrics = self.save_best.iter().flat_map(|b| &b.0).map(|m| if m == "auto" { "*" } else { m });
        metrics.fold(HookOrder::default(), |w, m| w.reads(Point::AfterValEpoch, format!("val/{m}")))
    }

    fn save_dir(&self, dirs: &Dirs) -> Option<PathBuf> {
        let out_dir = self.out_dir.as_ref()?;
        Some(Path::new(out_dir).join(dirs.work.file_name().unwrap_or_default()))
    }

    fn save_names(&self, by_epoch: bool) -> Vec<String> {
        let within = (by_epoch && self.by_epoch != Some(false)).then(|| self.template_within());
        let all: Vec<_> = std::iter::once(self.template(by_epoch).to_owned()).chain(within).collect();
        let asked = self.save_best.iter().flat_map(|best| &best.0);
        // What `auto` stands for is known once there is a best one.
        let metrics = asked.flat_map(|metric| match metric.as_str() {
            "auto" => self.state.best.keys().collect(),
            _ => vec![metric],
        });
        let best =
            metrics.flat_map(|metric| all.iter().map(move |name| format!("{}_{name}", best_of(metric))));
        let plans = self.save_last || self.interval.is_none_or(|n| n > 0);
        // Without a template of its own, what it saves within an epoch is called like what nobody planned.
        let own = if self.filename_tmpl.is_some() { all.len() } else { 1 };
        all.iter().take(own).filter(|_| plans).cloned().chain(best).collect()
    }

    fn counts_epochs(&self, by_epoch: bool) -> bool {
        self.by_epoch.unwrap_or(by_epoch)
    }

    fn check_metrics(&self, metrics: &Metrics) -> HookResult {
        for (metric, ..) in self.judged(metrics)? {
            self.check_best(&metric)?;
        }
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.state)
    }

    fn before_run(&mut self, _cx: &mut Ctx<'_>) -> HookResult {
        self.fits()?;
        Ok(())
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.training = true;
        if self.by_epoch.is_some_and(|by_epoch| by_epoch && !cx.progress.by_epoch) {
            cx.log.warn("CheckpointHook counts epochs in a loop of iterations: it saves at the end only");
        }
        Ok(())
    }

    fn after_train_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        let complete = cx.progress.batch == 0;
        if self.in_epochs(cx) && cx.progress.by_epoch && complete && self.due(cx, true) {
            self.save(cx);
            return Ok(());
        }
        cx.no_op()
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if !self.in_epochs(cx) && self.due(cx, false) {
            self.save(cx);
            return Ok(());
        }
        cx.no_op()
    }

    fn after_val_epoch(&mut self, cx: &mut Ctx<'_>, metrics: &Metrics) -> HookResult {
        let judges = self.training && !cx.info.placeholders;
        if self.save_best.is_none() || !judges || cx.progress.completed() < self.best_begin {
            return cx.no_op();
        }
        for (metric, score, rule) in self.judged(metrics)? {
            self.save_if_best(cx, &metric, score, rule);
        }
        Ok(())
    }

    /// A run that was stopped is saved where it stands.
    fn after_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.training = false;
        if self.save_last && self.state.saved_iter != Some(cx.progress.iter) && cx.progress.iter > 0 {
            self.state.saved_iter = Some(cx.progress.iter);
            let mut request = self.request(cx, self.name(cx));
            request.series = EMERGENCY.to_owned();
            cx.save(request);
        }
        Ok(())
    }
}

register! {
    /// Saves checkpoints at intervals, at the end, and of the best metric; deletes old ones when new ones are safe.
    dyn Hook, "CheckpointHook" => CheckpointHook
}
