//! Mixed precision: the scale of the loss against PyTorch's GradScaler, and runs with it.
#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

mod held;
mod refused;
mod runs;
mod scaler;
mod steps;

use std::path::Path;

use ndarray::{ArrayD, arr1};
use serde_json::Value;
use shanty::optim::{Amp, AmpDtype, ClipGrad, DynamicScale, LossScale, OptimWrapper, Sgd, Update};
use shanty::plugin::prelude::*;

/// What PyTorch printed (`fixtures/gen_amp.py`).
fn recorded() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/amp.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect()
}

/// A weight whose gradient a test gives.
struct Given {
    weight: ArrayD<Elem>,
    grad: ArrayD<Elem>,
}

impl Given {
    fn new() -> Self {
        Self { weight: arr1(&[1.0, 1.0, 1.0]).into_dyn(), grad: arr1(&[0.0, 0.0, 0.0]).into_dyn() }
    }

    /// Gives it the gradient of a loss that was multiplied by `scale`.
    fn scaled(&mut self, gradient: [Elem; 3], scale: Elem) {
        self.grad = arr1(&gradient).into_dyn() * scale;
    }
}

impl HostParams for Given {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        let (value, grad) = (self.weight.view(), Some(self.grad.view()));
        f(ParamRef { name: "w", layer: "Given", role: Role::Weight, frozen: false, value, grad });
    }

    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let (value, grad) = (self.weight.view_mut(), Some(self.grad.view_mut()));
        f(ParamMut { name: "w", layer: "Given", role: Role::Weight, frozen: false, value, grad });
    }
}
