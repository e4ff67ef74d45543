//! Mixed precision: the products of a step in fewer bits, and a loss that is scaled so that small gradients keep theirs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::{OptimWrapper, Update};
use crate::base::number::short;
use crate::base::{Elem, Error, Result};
use crate::config::{Diag, FromNode, Key, Kind, Node, read, receive};
use crate::kernels::Precision;
use crate::params::Params;

/// Mixed precision of a training: MMEngine's AmpOptimWrapper. The default is that of PyTorch's autocast on a CPU and of
/// MMEngine, bfloat16 and a dynamic scale.
///
/// ```
/// use shanty::optim::{Amp, AmpDtype, LossScale, OptimWrapper, Sgd};
/// let optim = OptimWrapper::new(Sgd::new(0.1)).amp(Amp::default());
/// assert_eq!(optim.amp_scale(), Some(65536.0));
/// let half = Amp { dtype: AmpDtype::Float16, loss_scale: LossScale::Fixed(512.0) };
/// assert_eq!(OptimWrapper::new(Sgd::new(0.1)).amp(half).amp_scale(), Some(512.0));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Amp {
    /// What products of forward and backward passes are computed in.
    pub dtype: AmpDtype,
    /// What losses are multiplied by.
    pub loss_scale: LossScale,
}

/// `dtype` of an AmpOptimWrapper.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AmpDtype {
    /// 8 bits and the range of single precision.
    #[default]
    Bfloat16,
    /// 11 bits; what exceeds 65,504 becomes infinite, and what is below 6e-8 nothing.
    Float16,
    /// Single precision: the loss is scaled, and that is all.
    Float32,
}

impl AmpDtype {
    /// What kernels round to.
    pub fn precision(self) -> Precision {
        match self {
            Self::Bfloat16 => Precision::Bf16,
            Self::Float16 => Precision::F16,
            Self::Float32 => Precision::Full,
        }
    }

    /// As configs write it.
    fn name(self) -> &'static str {
        match self {
            Self::Bfloat16 => "bfloat16",
            Self::Float16 => "float16",
            Self::Float32 => "float32",
        }
    }
}

/// `loss_scale` of an AmpOptimWrapper: `dynamic`, a number, or the numbers of the dynamic one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LossScale {
    /// The same from the first step to the last. A step whose gradients are not finite is left out here too, and after
    /// 100 of them in a row the run ends with an error.
    Fixed(f64),
    /// It falls when gradients are not finite, and grows after many steps in which they were.
    Dynamic(DynamicScale),
}

impl Default for LossScale {
    fn default() -> Self {
        Self::Dynamic(DynamicScale::default())
    }
}

/// The numbers of a dynamic scale, and their defaults: those of PyTorch's GradScaler.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DynamicScale {
    /// The scale of the first step.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub init_scale: f64,
    /// What it is multiplied by after `growth_interval` steps in a row with finite gradients; above 1.
    #[schemars(extend("exclusiveMinimum" = 1))]
    pub growth_factor: f64,
    /// What it is multiplied by after a step whose gradients are not finite; below 1.
    #[schemars(extend("exclusiveMinimum" = 0, "exclusiveMaximum" = 1))]
    pub backoff_factor: f64,
    /// Steps with finite gradients after which it grows.
    #[schemars(range(min = 1))]
    pub growth_interval: u64,
}

impl Default for DynamicScale {
    fn default() -> Self {
        Self { init_scale: 65536.0, growth_factor: 2.0, backoff_factor: 0.5, growth_interval: 2000 }
    }
}

impl FromNode for LossScale {
    fn from_node(node: &Node, key: Option<&Key>) -> (Self, Vec<Diag>) {
        let (read, wrong) = match &*node.kind {
            Kind::Str(word) if &**word == "dynamic" => return (Self::default(), Vec::new()),
            Kind::Str(word) => {
                let text = format!("a loss scale is dynamic, a number, or {{init_scale: …}}, not {word:?}");
                return (Self::default(), vec![Diag::error(text).on(node)]);
            }
            Kind::Map(_) => match read(node, key, &[]) {
                Ok(dynamic) => (Self::Dynamic(dynamic), Vec::new()),
                Err(diags) => (Self::default(), diags.0),
            },
            _ => match read(node, key, &[]) {
                Ok(fixed) => (Self::Fixed(fixed), Vec::new()),
                Err(diags) => (Self::default(), diags.0),
            },
        };
        (read, wrong)
    }
}

impl<'de> Deserialize<'de> for LossScale {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        receive(d)
    }
}

impl JsonSchema for LossScale {
    fn schema_name() -> Cow<'static, str> {
        "LossScale".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(g: &mut SchemaGenerator) -> Schema {
        let dynamic = g.subschema_for::<DynamicScale>();
        json_schema!({ "anyOf": [
            { "type": "string", "enum": ["dynamic"] },
            { "type": "number", "exclusiveMinimum": 0 },
            dynamic
        ] })
    }
}

/// What a scale may be: a normal number of single precision.
const RANGE: &str = "at least 1.2e-38 and at most 3.4e38";

impl Amp {
    /// Checks what a schema checks of a config.
    ///
    /// # Errors
    /// A number out of its range.
    pub(super) fn check(&self) -> Result<()> {
        let (scale, rest) = match self.loss_scale {
            LossScale::Fixed(scale) => (scale, None),
            LossScale::Dynamic(numbers) => (numbers.init_scale, Some(numbers)),
        };
        // A normal number of single precision, as the gradients are to be.
        let representable = scale >= f64::from(f32::MIN_POSITIVE) && scale <= f64::from(f32::MAX);
        let wrong = match rest {
            None if !representable => Some(("loss_scale", RANGE, scale)),
            Some(_) if !representable => Some(("init_scale", RANGE, scale)),
            Some(n) if !(n.growth_factor > 1.0 && n.growth_factor.is_finite()) => {
                Some(("growth_factor", "above 1", n.growth_factor))
            }
            Some(n) if !(n.backoff_factor > 0.0 && n.backoff_factor < 1.0) => {
                Some(("backoff_factor", "between 0 and 1", n.backoff_factor))
            }
            Some(n) if n.growth_interval == 0 => Some(("growth_interval", "1 or more", 0.0)),
            _ => None,
        };
        match wrong {
            Some((key, must, is)) => {
                Err(Error::config(format!("`{key}` must be {must}, and it is {}", short(is))))
            }
            None => Ok(()),
        }
    }

    /// One line for the log: `bfloat16, loss scale 65536 at first`.
    fn describe(&self) -> String {
        let scale = match self.loss_scale {
            LossScale::Fixed(scale) => format!("loss scale {}", short(scale)),
            LossScale::Dynamic(numbers) => format!("loss scale {} at first", short(numbers.init_scale)),
        };
        format!("{}, {scale}", self.dtype.name())
    }
}

/// The scale as a training has it: PyTorch's GradScaler.
#[derive(Debug, Clone)]
pub(super) struct Scaler {
    amp: Amp,
    now: ScalerState,
    /// Whether the gradients of a window that is full, which are not scaled any more, are finite.
    finite: Option<bool>,
}

/// What a checkpoint keeps of it, under PyTorch's names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ScalerState {
    /// A number of single precision.
    pub scale: f64,
    /// Steps with finite gradients since the scale changed.
    #[serde(rename = "_growth_tracker")]
    pub growth_tracker: u64,
}

impl Scaler {
    fn new(amp: Amp) -> Self {
        let scale = match amp.loss_scale {
            LossScale::Fixed(scale) => scale,
            LossScale::Dynamic(numbers) => numbers.init_scale,
        };
        let now = ScalerState { scale: single(scale), growth_tracker: 0 };
        Self { amp, now, finite: None }
    }

    /// As the config gives it.
    pub fn loss_scale(&self) -> LossScale {
        self.amp.loss_scale
    }

    pub fn state(&self) -> ScalerState {
        self.now
    }

    /// Goes on where another one stood. A number that a config gives is what it says.
    pub fn take_up(&mut self, then: ScalerState) {
        if matches!(self.amp.loss_scale, LossScale::Dynamic(_)) {
            self.now = then;
        }
        self.finite = None;
    }

    /// Moves the scale after a step, as GradScaler's `update`.
    fn move_on(&mut self, finite: bool) -> Result<()> {
        let LossScale::Dynamic(numbers) = self.amp.loss_scale else { return Ok(()) };
        let ScalerState { scale, growth_tracker } = self.now;
        let (scale, growth_tracker) = match (finite, growth_tracker + 1) {
            (true, steps) if steps >= numbers.growth_interval => {
                let grown = single(scale * numbers.growth_factor);
                (if grown.is_finite() { grown } else { scale }, 0)
            }
            (true, steps) => (scale, steps),
            (false, _) => (single(scale * numbers.backoff_factor), 0),
        };
        if scale >= f64::from(f32::MIN_POSITIVE) {
            self.now = ScalerState { scale, growth_tracker };
            return Ok(());
        }
        // Who goes on from here has changed something: at so small a scale gradients would vanish.
        self.now = Self::new(self.amp).now;
        Err(Error::invalid(
            "the gradients are not finite at any loss scale: it is not their size, and the model or the learning rate is to \
             blame; CheckInvalidLossHook with `check: all` says where the first bad number is",
        ))
    }
}

/// Rounded to single precision.
fn single(scale: f64) -> f64 {
    f64::from(scale as f32)
}

impl OptimWrapper {
    /// Computes the products of each step in fewer bits, and scales its loss. Gradients are seen, limited and saved as they
    /// are without the scale; a step in which one of them is not finite is left out.
    ///
    /// Who trains without a [`Runner`](crate::run::Runner) calls [`gradients`](Self::gradients), which computes in that
    /// precision, with the [`loss_scale`](Self::loss_scale) of the batch, and then [`update`](Self::update).
    #[must_use]
    pub fn amp(mut self, amp: Amp) -> Self {
        self.scaler = Some(Scaler::new(amp));
        self
    }

    /// That of mixed precision.
    pub fn amp_dtype(&self) -> Option<AmpDtype> {
        self.scaler.as_ref().map(|scaler| scaler.amp.dtype)
    }

    /// What its steps multiply in.
    pub fn precision(&self) -> Precision {
        self.amp_dtype().unwrap_or(AmpDtype::Float32).precision()
    }

    /// What the loss of the next batch is multiplied by, its weight in a window aside; `None` without mixed precision.
    pub fn amp_scale(&self) -> Option<f64> {
        self.scaler.as_ref().map(|scaler| scaler.now.scale)
    }

    /// Whether gradients that are not finite may be so for the scale alone: their step is left out then.
    pub fn may_overflow(&self) -> bool {
        self.amp_scale().is_some_and(|scale| scale > 1.0)
    }

    /// Its mixed precision in one line, for the log.
    pub(crate) fn describe_amp(&self) -> Option<String> {
        self.scaler.as_ref().map(|scaler| scaler.amp.describe())
    }

    pub(super) fn check_amp(&self) -> Result<()> {
        self.scaler.as_ref().map_or(Ok(()), |scaler| scaler.amp.check())
    }

    /// Takes the scale from the gradients of a full window, times a factor, and looks whether they are finite.
    pub(super) fn unscale<P: Params + ?Sized>(&mut self, params: &mut P, factor: f64) -> Result<()> {
        let Some(scale) = self.amp_scale() else { return Ok(()) };
        // Of several ranks the gradients are one sum by now, so all of them see the same.
        let finite = params.unscale(factor / scale, &|p| self.has(p))?;
        if let Some(scaler) = &mut self.scaler {
            scaler.finite = Some(finite);
        }
        Ok(())
    }

    /// Whether the gradients still have the scale.
    pub(super) fn is_scaled(&self) -> bool {
        self.scaler.as_ref().is_some_and(|scaler| scaler.finite.is_none())
    }

    /// Moves the scale, and says so where a step is left out.
    pub(super) fn move_scale(&mut self) -> Result<Option<Update>> {
        let Some(scaler) = &mut self.scaler else { return Ok(None) };
        let finite = scaler.finite.take().unwrap_or(true);
        let from = scaler.now.scale;
        scaler.move_on(finite)?;
        Ok((!finite).then_some(Update::Overflowed { from, to: scaler.now.scale }))
    }

    /// The gradients of a window are gone, and with them what was known of them.
    pub(super) fn forget_overflow(&mut self) {
        if let Some(scaler) = &mut self.scaler {
            scaler.finite = None;
        }
    }

    /// The factor of a loss that is the scale's.
    pub(super) fn loss_factor(&self) -> Elem {
        self.amp_scale().map_or(1.0, |scale| scale as Elem)
    }
}
