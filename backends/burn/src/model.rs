//! A network of burn as a model of shanty.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, ThreadId};

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Tensor};
use shanty::base::{Elem, Error, Result, caught, caught_from};
use shanty::comm::Comm;
use shanty::data::Batch;
use shanty::kernels::Precision;
use shanty::model::{FieldNeeds, Model, Outputs, StepCx};

use crate::fields::{Fields, Losses, Predictions};
use crate::noise::{drawing, reseed};
use crate::places::{Editor, Place, Taker, Thaw, is_below, modules, places};

/// A module of burn with a loss and a prediction: all that is asked of a network.
///
/// Neither moves weights, draws from a generator of its own or keeps anything: layers of burn that draw (`Dropout`) are
/// given the stream of the iteration. A panic of burn, as of shapes that do not fit, is an error of the run.
pub trait Network: Module + 'static {
    /// The loss of a batch, in training.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn loss(&self, batch: &Fields<'_>) -> Result<Losses>;

    /// What it says of a batch. Layers are in evaluation mode; no gradient is kept.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn predict(&self, batch: &Fields<'_>) -> Result<Predictions>;

    /// The fields of a batch that it reads, where it can say.
    fn reads(&self) -> FieldNeeds {
        FieldNeeds::default()
    }
}

/// A network of burn under shanty's Runner: weights, gradients, momentum and averages stay on its device.
///
/// Tensors go by their paths in the module, under the names and in the shapes of PyTorch and of shanty's own networks:
/// `gamma` and `beta` of norms are `weight` and `bias`, the weight of a `Linear` is [out, in]. SGD, Adam and AdamW are
/// computed on the device; other optimizers move gradients and values to the host and back in each update.
pub struct BurnModel<N: Network> {
    make: Box<dyn Fn(&Device) -> Result<N> + Send>,
    /// With gradients.
    device: Device,
    /// Burn takes a module to change it; gone if it panicked while it had it.
    net: Option<N>,
    /// The network as it evaluates, until a weight changes.
    evaluating: Option<N>,
    pub(crate) places: Vec<Place>,
    /// The sums of gradients, by place.
    pub(crate) sums: Vec<Option<Tensor<1>>>,
    /// Whether running statistics wait to be taken over: burn does so with the next step on the same thread.
    unsettled: Cell<bool>,
    /// The thread of the last step.
    thread: Option<ThreadId>,
    rank: u64,
    pub(crate) moved: Arc<AtomicU64>,
}

impl<N: Network> BurnModel<N> {
    /// The network that `make` makes, on burn's default device: that of the environment variable `BURN_DEVICE`, of the
    /// GPU or of the CPU, by what is compiled in.
    ///
    /// # Errors
    /// Those of `make`, and its panics; a parameter that is not of floating-point numbers; a device that is not there.
    pub fn new(make: impl Fn(&Device) -> Result<N> + Send + 'static) -> Result<Self> {
        let device = caught(|| Ok(Device::default()))
            .map_err(|why| Error::config(format!("burn has no device to offer, it {why}")))?;
        Self::on(device, make)
    }

    /// The same on this device.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn on(device: Device, make: impl Fn(&Device) -> Result<N> + Send + 'static) -> Result<Self> {
        let mut model = Self {
            make: Box::new(make),
            device: device.autodiff(),
            net: None,
            evaluating: None,
            places: Vec::new(),
            sums: Vec::new(),
            unsettled: Cell::new(false),
            thread: None,
            rank: 0,
            moved: Arc::default(),
        };
        model.draw(0)?;
        Ok(model)
    }

    /// How many tensors of weights, gradients or state were moved between device and host so far. Batches, losses and
    /// predictions do not count. It may be kept while the model is at work.
    pub fn transfers(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.moved)
    }

    /// Where it is.
    pub fn device(&self) -> Device {
        self.device.clone().without_autodiff()
    }

    /// The network, with running statistics as they are now.
    ///
    /// # Errors
    /// When burn panicked while it changed it.
    pub fn network(&self) -> Result<&N> {
        let net = self.net.as_ref().ok_or_else(lost)?;
        if self.unsettled.replace(false) {
            drop(net.valid());
        }
        Ok(net)
    }

    pub(crate) fn count(&self, tensors: usize) {
        self.moved.fetch_add(tensors as u64, Ordering::Relaxed);
    }

    /// Makes the network anew. What it draws in its constructor comes from the stream of the seed, and what burn draws
    /// later from that of the parameter's path, so that a further layer does not change the others.
    fn draw(&mut self, seed: u64) -> Result<()> {
        let Self { make, device, .. } = self;
        let made = || -> Result<(N, Vec<Place>)> {
            let net = make(device)?;
            let found = places(&net, &|path| reseed(device, seed, path, (0, 0)))?;
            Ok((net, found))
        };
        let (net, found) = caught_from("the network", || drawing(device, seed, "burn init", (0, 0), made))?;
        self.sums = vec![None; found.len()];
        self.places = found;
        self.net = Some(net);
        self.evaluating = None;
        self.unsettled = Cell::new(false);
        Ok(())
    }

    /// The values at these places, by place.
    pub(crate) fn values(&self, wanted: &[bool]) -> Result<Vec<(usize, Tensor<1>)>> {
        let mut taker = Taker { wanted, at: 0, found: Vec::new() };
        self.network()?.visit(&mut taker);
        Ok(taker.found)
    }

    /// Changes the values at these places, where they are.
    pub(crate) fn change(
        &mut self,
        wanted: &[bool],
        change: &mut dyn FnMut(usize, Tensor<1>) -> Tensor<1>,
    ) -> Result<()> {
        if !wanted.contains(&true) {
            return Ok(());
        }
        // What else holds the weights would make burn copy them first.
        self.evaluating = None;
        self.network()?;
        let net = self.net.take().ok_or_else(lost)?;
        self.net = Some(net.map(&mut Editor { wanted, at: 0, change }));
        Ok(())
    }

    /// Forward, loss and backward.
    fn pass(&self, batch: &Batch, cx: &StepCx) -> Result<(Outputs, Gradients)> {
        let (net, fields) = (self.net.as_ref().ok_or_else(lost)?, Fields::new(batch, &self.device));
        let at = (cx.iter, self.rank);
        let losses = drawing(&self.device, cx.seed, "burn forward", at, || net.loss(&fields))?;
        let total = losses.total.clone();
        if !total.is_tracked() {
            return Err(Error::invalid(
                "the loss depends on no parameter that is trained: all are frozen, or it was detached",
            ));
        }
        let scaled = if cx.loss_scale == 1.0 { total } else { total.mul_scalar(cx.loss_scale) };
        Ok((Outputs::late(losses.late()?), scaled.backward()))
    }
}

fn lost() -> Error {
    Error::invalid("the network is gone: burn panicked while it changed the weights")
}

/// Adds gradients to sums.
struct Collector<'a> {
    gradients: &'a mut Gradients,
    sums: &'a mut [Option<Tensor<1>>],
    at: usize,
}

impl ModuleVisitor for Collector<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = param.base().grad_remove(self.gradients) {
            let len = gradient.shape().num_elements();
            let gradient = gradient.reshape([len]);
            self.sums[self.at] = Some(match self.sums[self.at].take() {
                Some(sum) => sum.add(gradient),
                None => gradient,
            });
        }
        self.at += 1;
    }
}

impl<N: Network> Model for BurnModel<N> {
    fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
        self.evaluating = None;
        let here = thread::current().id();
        if self.thread.replace(here) != Some(here) {
            self.network()?;
        }
        self.unsettled.set(true);
        let (outputs, mut gradients) = caught_from("the network", || self.pass(batch, cx))?;
        let Self { net, sums, .. } = self;
        net.as_ref().ok_or_else(lost)?.visit(&mut Collector { gradients: &mut gradients, sums, at: 0 });
        Ok(outputs)
    }

    fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
        let device = self.device();
        let net = match self.evaluating.take() {
            Some(net) => net,
            None => self.network()?.valid(),
        };
        let outputs = caught_from("the network", || net.predict(&Fields::new(batch, &device))?.read());
        self.evaluating = Some(net);
        outputs
    }

    fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
        self.draw(seed)?;
        let told = |place: &Place| {
            let info = place.info();
            format!("{} - {:?}: as burn's {} draws it", info.name, info.shape, info.layer)
        };
        Ok(self.places.iter().filter(|place| !place.is_buffer()).map(told).collect())
    }

    fn beside(&mut self, comm: Arc<dyn Comm>) {
        self.rank = comm.place().rank as u64;
    }

    fn name(&self) -> &str {
        let path = std::any::type_name::<N>();
        // Without what stands between angle brackets.
        let path = path.split('<').next().unwrap_or(path);
        path.rsplit("::").next().unwrap_or(path)
    }

    fn computes_in(&self, precision: Precision) -> bool {
        precision == Precision::Full
    }

    fn reads(&self) -> FieldNeeds {
        self.net.as_ref().map(Network::reads).unwrap_or_default()
    }

    fn set_trainable(&mut self, module: &str, trainable: bool) -> Result<()> {
        if !module.is_empty() && !modules(&self.places).contains(module) {
            let mut known: Vec<_> = modules(&self.places).into_iter().map(str::to_owned).collect();
            known.sort();
            return Err(Error::invalid(format!(
                "the network has no module `{module}` with weights: there are {}",
                known.join(", ")
            )));
        }
        let wanted: Vec<bool> =
            self.places.iter().map(|p| !p.is_buffer() && is_below(&p.name, module)).collect();
        self.evaluating = None;
        self.network()?;
        let net = self.net.take().ok_or_else(lost)?;
        let mut thaw = Thaw { wanted: &wanted, below: module, trainable, at: 0, path: Vec::new() };
        self.net = Some(net.map(&mut thaw));
        for ((place, sum), _) in self.places.iter_mut().zip(&mut self.sums).zip(&wanted).filter(|(_, w)| **w)
        {
            place.frozen = !trainable;
            sum.take_if(|_| !trainable);
        }
        Ok(())
    }
}

/// A factor as burn multiplies with it.
pub(crate) fn factor(value: f64) -> Elem {
    value as Elem
}
