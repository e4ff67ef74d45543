//! Devices, and what is moved to them and from them.

use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{Device, Storage, Tensor};
use schemars::JsonSchema;
use serde::Deserialize;
use shanty::base::{Elem, Error, Result};
use shanty::ndarray::{ArrayViewD, IxDyn};

/// Where a model is, as a config says it: `cpu`, `cuda`, `cuda:1`, `metal`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// The host.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number; feature `cuda`.
    Cuda(usize),
    /// The Apple GPU of this number; feature `metal`, untested.
    Metal(usize),
}

impl JsonSchema for Place {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^(cpu|(cuda|metal)(:[0-9]+)?)$" })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, number) = text.split_once(':').unwrap_or((text, "0"));
        match (kind, number.parse()) {
            ("cpu", _) if text == "cpu" => Ok(Self::Cpu),
            ("cuda", Ok(number)) => Ok(Self::Cuda(number)),
            ("metal", Ok(number)) => Ok(Self::Metal(number)),
            _ => Err(format!("there is no device `{text}`: say cpu, cuda, cuda:1 or metal")),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Place {
    /// The device of candle.
    ///
    /// # Errors
    /// When the program was built without it, or the machine has none.
    pub fn device(self) -> Result<Device> {
        let (made, feature, built) = match self {
            Self::Cpu => return Ok(Device::Cpu),
            Self::Cuda(number) => (Device::new_cuda(number), "cuda", cuda_is_available()),
            Self::Metal(number) => (Device::new_metal(number), "metal", metal_is_available()),
        };
        match made {
            Ok(device) => Ok(device),
            Err(_) if !built => Err(Error::config(format!(
                "`device`: this program was built without {feature}: build it with `--features {feature}`, or say `cpu`"
            ))),
            Err(error) => Err(Error::config(format!("`device`: {error}"))),
        }
    }
}

/// The thread that had the device last. candle gives each thread a stream of an NVIDIA GPU, none of which waits for
/// another: a run is on another thread than who makes the model and who reads its weights in the end.
#[derive(Debug)]
pub(crate) struct LastThread(Mutex<ThreadId>);

impl LastThread {
    pub fn this() -> Self {
        Self(Mutex::new(thread::current().id()))
    }

    /// Waits for what another thread has under way.
    pub fn wait(&self, device: &Device) -> Result<()> {
        let here = thread::current().id();
        let last = std::mem::replace(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner), here);
        if last == here { Ok(()) } else { told(finished(device)) }
    }
}

#[cfg(feature = "cuda")]
fn finished(device: &Device) -> candle_core::Result<()> {
    match device {
        Device::Cuda(gpu) => gpu.cuda_stream().context().synchronize().map_err(candle_core::Error::wrap),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "cuda"))]
fn finished(_: &Device) -> candle_core::Result<()> {
    Ok(())
}

/// What was moved between host and device so far. On the CPU nothing has to be, but it is counted all the same.
#[derive(Debug, Clone, Default)]
pub struct Transfers(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    weights: AtomicU64,
    batches: AtomicU64,
    numbers: AtomicU64,
}

impl Transfers {
    /// Weights, gradients, momenta and averages, in either direction: tensors.
    pub fn weights(&self) -> u64 {
        self.0.weights.load(Ordering::Relaxed)
    }

    /// Fields of batches and masks of dropout that went up, and predictions that came down.
    pub fn batches(&self) -> u64 {
        self.0.batches.load(Ordering::Relaxed)
    }

    /// Times that somebody waited for the device to hear a few numbers: losses, norms.
    pub fn numbers(&self) -> u64 {
        self.0.numbers.load(Ordering::Relaxed)
    }

    pub(crate) fn weight(&self) {
        self.0.weights.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn batch(&self) {
        self.0.batches.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn number(&self) {
        self.0.numbers.fetch_add(1, Ordering::Relaxed);
    }
}

/// The result as shanty's. With `RUST_BACKTRACE` candle puts a page of frames into the text of an error: those are for
/// the log.
pub(crate) fn told<T>(result: candle_core::Result<T>) -> Result<T> {
    result.map_err(|mut error| {
        while let candle_core::Error::WithBacktrace { inner, backtrace } = error {
            log::debug!("{backtrace}");
            error = *inner;
        }
        Error::Other(Box::new(error))
    })
}

/// Calls `f` with a host view of a tensor: of its own memory where that is the host's.
pub(crate) fn view<R>(tensor: &Tensor, f: impl FnOnce(ArrayViewD<'_, Elem>) -> R) -> Result<R> {
    fn shaped<'a>(shape: &[usize], all: &'a [Elem]) -> Result<ArrayViewD<'a, Elem>> {
        ArrayViewD::from_shape(IxDyn(shape), all).map_err(|error| Error::Other(error.into()))
    }
    {
        let (storage, layout) = tensor.storage_and_layout();
        if let (Storage::Cpu(own), Some((from, to))) = (&*storage, layout.contiguous_offsets()) {
            let all = told(own.as_slice::<Elem>())?;
            return Ok(f(shaped(tensor.dims(), &all[from..to])?));
        }
    }
    let copy = told(tensor.flatten_all().and_then(|flat| flat.to_vec1::<Elem>()))?;
    Ok(f(shaped(tensor.dims(), &copy)?))
}
