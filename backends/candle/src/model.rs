//! A network of candle as a model of shanty.

use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::{Device, Result as CandleResult, Tensor, WithDType, bail};
use candle_nn::VarBuilder;
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::{Elem, Error, Result, keyed};
use shanty::comm::Comm;
use shanty::data::Batch;
use shanty::kernels::Precision;
use shanty::model::{FieldNeeds, Late, Model, Outputs, StepCx};

use crate::device::{LastThread, Place, Transfers, told, view};
use crate::fields::Fields;
use crate::init;
use crate::network::{Forward, Losses, Network};
use crate::weights::{Asked, Weight};

/// The keys of a network in a config.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CandleConfig<C> {
    /// What its constructor takes.
    pub network: C,
    /// Where it is: `cpu`, `cuda`, `cuda:1`, `metal`.
    #[serde(default)]
    pub device: Place,
}

/// A network whose weights stay on its device: they come to the host when somebody reads them, as a save does.
pub struct CandleModel {
    pub(crate) net: Box<dyn Network>,
    pub(crate) weights: Vec<Weight>,
    pub(crate) device: Device,
    pub(crate) transfers: Transfers,
    thread: LastThread,
    name: &'static str,
    rank: u64,
    /// Whether a backward pass was looked at for weights that it does not reach.
    looked: bool,
}

impl CandleModel {
    /// The network that a constructor makes of what it is given: it asks for its weights there, as the layers of
    /// candle do. [`Model::init_weights`] draws them.
    ///
    /// # Errors
    /// What the constructor says.
    pub fn new<N: Network>(
        device: &Device,
        build: impl FnOnce(VarBuilder<'_>) -> CandleResult<N>,
    ) -> Result<Self> {
        let asked = Asked::default();
        let vb = VarBuilder::from_backend(Box::new(asked.clone()), Elem::DTYPE, device.clone());
        let net = told(build(vb))?;
        let weights = asked.into_weights(&|name| net.is_buffer(name));
        let (device, transfers) = (device.clone(), Transfers::default());
        Ok(Self {
            net: Box::new(net),
            weights,
            device,
            transfers,
            thread: LastThread::this(),
            name: "CandleModel",
            rank: 0,
            looked: false,
        })
    }

    /// As [`new`](Self::new), from a config; for [`register!`](crate::register!).
    ///
    /// # Errors
    /// What the constructor says; a device that is not there.
    pub fn from_config<C, N: Network>(
        name: &'static str,
        config: CandleConfig<C>,
        build: fn(&C, VarBuilder<'_>) -> CandleResult<N>,
    ) -> Result<Self> {
        let device = config.device.device()?;
        let model = Self::new(&device, |vb| build(&config.network, vb));
        Ok(Self { name, ..model.map_err(|error| Error::config(error.to_string()))? })
    }

    /// What it has moved so far; it may be kept while the model is at work.
    pub fn transfers(&self) -> Transfers {
        self.transfers.clone()
    }

    /// To be called before anything is done with the device.
    pub(crate) fn settled(&self) -> Result<()> {
        self.thread.wait(&self.device)
    }

    /// The gradients of a loss are added to those that are there; all of them, or none if something fails. Of a loss times
    /// 0, which is computed for its forward pass alone, candle goes no way back.
    fn add_gradients(&mut self, loss: &Tensor, scale: Elem) -> CandleResult<()> {
        let grads = if scale == 1.0 { loss.clone() } else { (loss * f64::from(scale))? }.backward()?;
        if scale != 0.0
            && !self.weights.iter().any(|weight| weight.is_trained() && grads.get(&weight.value).is_some())
        {
            bail!("the loss depends on no parameter that is trained");
        }
        let sum = |weight: &Weight| match (
            grads.get(&weight.value).filter(|_| weight.is_trained()),
            &weight.grad,
        ) {
            (Some(new), Some(sum)) => (sum + new).map(Some),
            (Some(new), None) => new.contiguous().map(Some),
            (None, before) => Ok(before.clone()),
        };
        let sums = self.weights.iter().map(sum).collect::<CandleResult<Vec<_>>>()?;
        self.weights.iter_mut().zip(sums).for_each(|(weight, sum)| weight.grad = sum);
        if !std::mem::replace(&mut self.looked, true) {
            self.warn();
        }
        Ok(())
    }

    /// Some ops of candle have no way back and say nothing of it: what stands before them would not be trained.
    fn warn(&self) {
        let idle = self.weights.iter().filter(|weight| weight.is_trained() && weight.grad.is_none());
        let names: Vec<_> = idle.map(|weight| weight.name.as_str()).collect();
        if !names.is_empty() {
            log::warn!(
                "`{}`: the first loss does not reach {}: they are not trained. Some layers of candle have no backward \
                 pass, as LayerNorm and RmsNorm in their `forward` and `softmax_last_dim`; `layer_norm_slow`, \
                 `rms_norm_slow` and `softmax` have one",
                self.name,
                names.join(", ")
            );
        }
    }

    fn forward(&self, training: bool, seed: u64, iter: u64) -> Forward {
        Forward::new(training, keyed(seed, "forward", iter, self.rank), &self.device, &self.transfers)
    }
}

/// The sum of those that are optimised, and all numbers with `loss`, that sum, in front.
fn total(losses: Losses) -> CandleResult<(Tensor, Vec<(std::borrow::Cow<'static, str>, Tensor)>)> {
    let mut sum: Option<Tensor> = None;
    let mut all = Vec::<(std::borrow::Cow<'static, str>, Tensor)>::with_capacity(losses.0.len() + 1);
    for (name, value) in losses.0 {
        let value = if value.rank() == 0 { value } else { value.mean_all()? }.to_dtype(Elem::DTYPE)?;
        if name.contains("loss") {
            sum = Some(match sum {
                Some(sum) => (sum + &value)?,
                None => value.clone(),
            });
        }
        match all.iter_mut().find(|(own, _)| *own == name) {
            _ if name == "loss" => {}
            Some((_, sum)) => *sum = (&*sum + &value)?,
            None => all.push((name, value)),
        }
    }
    let Some(sum) = sum else {
        let names: Vec<_> = all.iter().map(|(name, _)| &**name).collect();
        bail!("no term has `loss` in its name, so nothing can be optimised: {names:?}");
    };
    all.insert(0, ("loss".into(), sum.clone()));
    Ok((sum, all))
}

impl Model for CandleModel {
    fn train_step(&mut self, batch: &Batch, step: &StepCx) -> Result<Outputs> {
        self.settled()?;
        let cx = self.forward(true, step.seed, step.iter);
        let there = Fields::new(batch, &self.device, &self.transfers);
        let (sum, all) = told(self.net.loss(&there, &cx).and_then(total))?;
        told(self.add_gradients(&sum, step.loss_scale))?;
        // All numbers come down together, when somebody reads them; cut off from the graph, which is freed before.
        let (names, values): (Vec<_>, Vec<_>) = all.into_iter().map(|(n, value)| (n, value.detach())).unzip();
        let (values, transfers) = (told(Tensor::stack(&values, 0))?, self.transfers.clone());
        Ok(Outputs::late(Late::new(names, move || {
            transfers.number();
            Ok(told(values.to_vec1::<Elem>())?.into_iter().map(f64::from).collect())
        })))
    }

    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        self.settled()?;
        // Nothing draws in evaluation.
        let cx = self.forward(false, 0, 0);
        let there = Fields::new(batch, &self.device, &self.transfers);
        let prediction = told(self.net.predict(&there, &cx))?;
        let mut predictions = shanty::data::Fields::default();
        for (name, values) in prediction.fields {
            let values = told(values.to_dtype(Elem::DTYPE).and_then(|values| values.contiguous()))?;
            predictions.set(name, view(&values, |values| values.to_owned())?);
            self.transfers.batch();
        }
        let down =
            |losses: Tensor| told(losses.to_dtype(Elem::DTYPE).and_then(|losses| losses.to_vec1::<Elem>()));
        let losses = prediction.losses.map(down).transpose()?;
        losses.iter().for_each(|_| self.transfers.batch());
        Ok(Outputs { predictions, sample_losses: losses, ..Outputs::default() })
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.settled()?;
        let Self { weights, transfers, .. } = self;
        weights.iter_mut().map(|weight| init::begin(weight, seed, transfers)).collect()
    }

    fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.rank = comm.place().rank as u64;
    }

    fn name(&self) -> &str {
        self.name
    }

    fn reads(&self) -> FieldNeeds {
        self.net.reads()
    }

    fn computes_in(&self, precision: Precision) -> bool {
        precision == Precision::Full
    }

    fn number_mut(&mut self, module: &str, name: &str) -> Option<&mut f64> {
        self.net.number_mut(module, name)
    }

    fn set_trainable(&mut self, module: &str, trainable: bool) -> Result<()> {
        let below = |name: &str| match name.strip_prefix(module) {
            Some(rest) => module.is_empty() || rest.is_empty() || rest.starts_with('.'),
            None => false,
        };
        let all = || self.weights.iter().filter(|weight| below(&weight.name));
        let moves = |name: &str| name.ends_with("running_mean") || name.ends_with("running_var");
        if let Some(buffer) = all().find(|weight| !trainable && moves(&weight.name)) {
            return Err(Error::config(format!(
                "`{module}` cannot be frozen: `{}` moves with each forward pass of candle; name parts without batch norms",
                buffer.name
            )));
        }
        if all().next().is_none() {
            let parts: BTreeSet<_> = self.weights.iter().filter_map(|w| w.name.split('.').next()).collect();
            return Err(Error::config(format!(
                "`{}` has no weights below `{module}`: its parts are {}",
                self.name,
                parts.into_iter().collect::<Vec<_>>().join(", ")
            )));
        }
        for weight in self.weights.iter_mut().filter(|weight| below(&weight.name)) {
            weight.frozen = !trainable;
            weight.grad = None;
        }
        Ok(())
    }
}
