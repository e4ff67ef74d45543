//! Pictures of validation and test samples with what is true and what is predicted.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::shown::{Shown, Style, Viewer};
use crate::base::durable;
use crate::checkpoint;
use crate::data::Origin;
use crate::plugin::prelude::*;
use crate::vis::{Drawing, Rgb};

/// Draws every `interval`-th sample of a validation or test with the true class and the predicted one, for the backends
/// or into a folder.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct VisualizationHook {
    /// Whether anything is drawn.
    pub enable: bool,
    /// Samples from one picture to the next.
    #[schemars(range(min = 1))]
    pub interval: u64,
    /// Whether to open a window: there is none here, so it must be false where `enable` is true.
    pub show: bool,
    /// A folder for the pictures, which the backends are then not told of.
    pub out_dir: Option<PathBuf>,
    /// Whether the true class stands below the picture.
    pub draw_gt: bool,
    /// Whether the predicted class does.
    pub draw_pred: bool,
    /// Whether that has its score.
    pub draw_score: bool,
    /// The length of the shorter side of a picture, in pixels. If absent small pictures are enlarged until their
    /// caption fits.
    #[schemars(range(min = 1, max = 4096))]
    pub resize: Option<usize>,
    /// How many times as wide and high a picture is drawn, where there is no `resize`.
    #[schemars(range(min = 0.01, max = 100.0))]
    pub rescale_factor: Option<f64>,
    #[serde(skip)]
    pass: Pass,
}

/// What is known of the pass under way.
#[derive(Debug, Clone, Default)]
struct Pass {
    samples: u64,
    /// Names of pictures that are taken.
    names: BTreeSet<String>,
}

/// No side of a picture is longer, whatever a config says.
const SIDE: usize = 4096;
/// A caption needs about so many pixels in width.
const CAPTION: usize = 168;
const LIGHT: Rgb = [230, 233, 237];
const GREEN: Rgb = [98, 210, 138];
const RED: Rgb = [255, 123, 110];

impl Default for VisualizationHook {
    fn default() -> Self {
        Self {
            enable: false,
            interval: 5000,
            show: false,
            out_dir: None,
            draw_gt: true,
            draw_pred: true,
            draw_score: true,
            resize: None,
            rescale_factor: None,
            pass: Pass::default(),
        }
    }
}

impl VisualizationHook {
    fn begin(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if !self.enable {
            return cx.unsubscribe();
        }
        self.pass = Pass::default();
        Ok(())
    }

    /// Draws the samples of a batch whose number is a multiple of the interval. What cannot be drawn or kept is said,
    /// and the run goes on.
    fn draw(&mut self, cx: &mut Ctx<'_>, step: &Step<'_>) -> HookResult {
        if !self.enable {
            return cx.unsubscribe();
        }
        let first = self.pass.samples;
        self.pass.samples += step.batch.valid as u64;
        if cx.info.dry_run {
            return cx.no_op();
        }
        let due = (first.next_multiple_of(self.interval)..self.pass.samples).step_by(self.interval as usize);
        let rows: Vec<_> = due.map(|sample| (sample - first) as usize).collect();
        if rows.is_empty() {
            return cx.no_op();
        }
        let viewer = Viewer::of(cx, step, Style { numbered: true, score: self.draw_score });
        for row in rows {
            let shown = viewer.look(step, row, SIDE);
            if shown.panels.is_empty() {
                cx.log.warn("VisualizationHook: the samples are no pictures, nothing is drawn");
                return cx.no_op();
            }
            let id = step.batch.ids.get(row).copied().unwrap_or_default();
            if let Err(why) = self.keep(cx, id, self.drawn(shown)) {
                cx.log.warn(format_args!("VisualizationHook: a picture is not kept: {why}"));
            }
        }
        Ok(())
    }

    fn drawn(&self, shown: Shown) -> Drawing {
        let panels: Vec<_> = shown.panels.into_iter().map(|panel| self.sized(panel)).collect();
        let truth = shown.truth.filter(|_| self.draw_gt);
        let truth = truth.map(|truth| (format!("Ground truth: {truth}"), LIGHT));
        let color = shown.right.map_or(LIGHT, |right| if right { GREEN } else { RED });
        let prediction = self.draw_pred.then(|| (format!("Prediction: {}", shown.prediction), color));
        let texts: Vec<_> = truth.into_iter().chain(prediction).collect();
        let all = Drawing::beside(&panels, 4);
        if texts.is_empty() { all } else { all.captioned(&texts) }
    }

    fn sized(&self, panel: Drawing) -> Drawing {
        let (width, height) = panel.size();
        let times = match (self.resize, self.rescale_factor) {
            (Some(side), _) => side as f64 / width.min(height).max(1) as f64,
            (None, Some(times)) => times,
            (None, None) => return panel.at_least(CAPTION),
        };
        let most = SIDE as f64 / width.max(height).max(1) as f64;
        let side = |side: usize| (side as f64 * times.min(most)).round() as usize;
        panel.resized(side(width), side(height))
    }

    fn keep(&mut self, cx: &mut Ctx<'_>, id: u64, drawn: Drawing) -> Result<()> {
        let number = id as usize;
        let origin = cx.evaluated.map_or(Origin::Position, |data| data.dataset().origin(number));
        let file = match origin {
            Origin::File(file) => file.file_name().map(|name| name.to_string_lossy().into_owned()),
            _ => None,
        };
        let mut name = file.unwrap_or_else(|| id.to_string());
        // Pictures of two classes may be called alike.
        if !self.pass.names.insert(name.clone()) {
            name = format!("{name}_{id}");
        }
        let step = match (cx.progress.phase, cx.progress.by_epoch) {
            (Phase::Test, _) => 0,
            (_, true) => cx.progress.epoch,
            (_, false) => cx.progress.iter,
        };
        let bytes = drawn.png()?;
        let Some(dir) = &self.out_dir else { return cx.vis.add_image(&name, &bytes, step) };
        let path = dir.join(format!("{name}_{step}.png"));
        if let Some(why) = checkpoint::not_own(&path, Drawing::is_own, "picture") {
            return Err(Error::config(format!("{} {why}", path.display())));
        }
        durable::make_dir(cx.fs, dir)?;
        durable::replace(cx.fs, &path, &bytes)
    }
}

setters!(VisualizationHook {
    /// Samples from one picture to the next.
    interval: = u64,
    /// A folder for the pictures, which the backends are then not told of.
    out_dir: some PathBuf,
});

impl Hook for VisualizationHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)?;
        if !self.enable {
            return Ok(());
        }
        if self.show {
            let why = "`show: true`: there is no window here; leave it out, pictures go to backends or to `out_dir`";
            return Err(Error::config(why));
        }
        if cfg!(not(feature = "images")) {
            let why =
                "`enable: true`: this program was built without the feature `images`, which writes pictures";
            return Err(Error::config(why));
        }
        let unusable = self.out_dir.as_deref().and_then(durable::unusable);
        unusable.map_or(Ok(()), |why| Err(Error::config(format!("`out_dir`: {why}"))))
    }

    fn before_val_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.begin(cx)
    }

    fn after_val_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.draw(cx, step)
    }

    fn before_test_epoch(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        self.begin(cx)
    }

    fn after_test_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        self.draw(cx, step)
    }
}

register! {
    /// Draws samples of validations and tests with what is true and what is predicted.
    ///
    /// ```yaml
    /// {type: VisualizationHook, enable: true, interval: 500}
    /// ```
    dyn Hook, "VisualizationHook" => VisualizationHook
}
