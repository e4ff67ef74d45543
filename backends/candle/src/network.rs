//! What a user brings.

use std::borrow::Cow;
use std::cell::RefCell;

use candle_core::{Device, Result, Tensor, bail};
use rand::Rng as _;
use shanty::base::{Elem, Rng};
use shanty::model::FieldNeeds;

use crate::device::Transfers;
use crate::fields::Fields;

/// A network with its loss: what stands between the batch and `backward` in a training loop of candle.
pub trait Network: Send + 'static {
    /// The losses of a batch in training.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn loss(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Losses>;

    /// What it predicts for a batch, and the loss of each sample where there are targets; `cx.training` is false.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn predict(&self, batch: &Fields<'_>, cx: &Forward) -> Result<Predictions>;

    /// Whether a tensor is kept and saved, but not trained. `running_mean` and `running_var` are without saying.
    fn is_buffer(&self, _name: &str) -> bool {
        false
    }

    /// A plain number of one of its modules, by path and name, that hooks and schedules may change: a dropout's `p`.
    fn number_mut(&mut self, _module: &str, _name: &str) -> Option<&mut f64> {
        None
    }

    /// The fields of a batch that it reads: a config is checked against them.
    fn reads(&self) -> FieldNeeds {
        FieldNeeds::default()
    }
}

/// A forward pass: training or evaluation, and its noise.
#[derive(Debug)]
pub struct Forward {
    /// Whether dropout drops and batch norms take the statistics of the batch: the `train` of candle's `ModuleT`.
    pub training: bool,
    rng: RefCell<Rng>,
    device: Device,
    transfers: Transfers,
}

impl Forward {
    pub(crate) fn new(training: bool, rng: Rng, device: &Device, transfers: &Transfers) -> Self {
        Self { training, rng: RefCell::new(rng), device: device.clone(), transfers: transfers.clone() }
    }

    /// In training, zero with probability `p`, else `x / (1 - p)`; in evaluation `x`.
    ///
    /// The mask is drawn on the host, by the seed of the run and its iteration, for candle's own generator of the CPU
    /// cannot be seeded; it goes up with the batch. It is the mask that shanty's own Dropout draws.
    ///
    /// # Errors
    /// A `p` that is no probability; what the device says.
    pub fn dropout(&self, x: &Tensor, p: f64) -> Result<Tensor> {
        if !(0.0..=1.0).contains(&p) {
            bail!("dropout: {p} is no probability");
        }
        if !self.training || p <= 0.0 {
            return Ok(x.clone());
        }
        // A draw of 32 bits is below the bound with probability p, to 2⁻³²; everything is for p = 1.
        let bound = (p * 2f64.powi(32)) as u64;
        let kept = if p < 1.0 { (1.0 / (1.0 - p)) as Elem } else { 0.0 };
        let mut rng = self.rng.borrow_mut();
        let draw = |_| if u64::from(rng.next_u32()) >= bound { kept } else { 0.0 };
        let mask: Vec<Elem> = (0..x.elem_count()).map(draw).collect();
        self.transfers.batch();
        x.mul(&Tensor::from_vec(mask, x.dims(), &self.device)?)
    }

    /// Calls `f` with the generator of this pass, for noise of one's own: equal for equal seed and iteration.
    pub fn draw<R>(&self, f: impl FnOnce(&mut Rng) -> R) -> R {
        f(&mut self.rng.borrow_mut())
    }
}

/// Named numbers of a training step, on the device. As in MMEngine's `parse_losses` those with `loss` in their name are
/// added up and optimised, the others are only logged.
#[derive(Debug, Default)]
pub struct Losses(pub(crate) Vec<(Cow<'static, str>, Tensor)>);

impl Losses {
    /// One number, or the mean of many.
    pub fn new(loss: Tensor) -> Self {
        Self::default().and("loss", loss)
    }

    /// The same with one more.
    #[must_use]
    pub fn and(mut self, name: impl Into<Cow<'static, str>>, value: Tensor) -> Self {
        self.0.push((name.into(), value));
        self
    }
}

/// What a network predicts, on the device.
#[derive(Debug, Default)]
pub struct Predictions {
    pub(crate) fields: Vec<(Cow<'static, str>, Tensor)>,
    pub(crate) losses: Option<Tensor>,
}

impl Predictions {
    /// A prediction of this name; its first axis is that of the samples. Metrics of classes look for `scores`.
    pub fn new(name: impl Into<Cow<'static, str>>, values: Tensor) -> Self {
        Self::default().and(name, values)
    }

    /// The same with one more.
    #[must_use]
    pub fn and(mut self, name: impl Into<Cow<'static, str>>, values: Tensor) -> Self {
        self.fields.push((name.into(), values));
        self
    }

    /// The same with the loss of each sample, [N].
    #[must_use]
    pub fn losses(mut self, losses: Tensor) -> Self {
        self.losses = Some(losses);
        self
    }
}
