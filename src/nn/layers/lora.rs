//! Low-rank adapters of linear layers (Hu et al. 2021, LoRA).

use super::Dropout;
use crate::base::{Elem, Result};
use crate::module;
use crate::nn::{Child, ChildMut, Forward, Module, ModuleTree, Param, Var};

/// What a linear layer adds to its output once it is adapted: `alpha / rank · B A x`, with A [rank, in] drawn as
/// PyTorch's linear layers are, and B [out, rank] of zeros. Nothing at first.
#[derive(Debug, Clone, Default)]
pub(super) struct Adapter(Option<Box<Lora>>);

#[derive(Debug, Clone)]
struct Lora {
    lora_dropout: Dropout,
    lora_down: Factor,
    lora_up: Factor,
    scaling: Elem,
    /// Whether the last pass came by.
    called: bool,
}

module!(Lora { lora_dropout, lora_down, lora_up });

/// One of the two matrices. It is no `Linear`, so that an `init_cfg` for those leaves it alone.
#[derive(Debug, Clone)]
struct Factor {
    weight: Param,
}

module!(Factor { weight });

impl Adapter {
    pub(super) fn new([outs, ins]: [usize; 2], alpha: f64, rank: usize, drop_rate: f64) -> Self {
        Self(Some(Box::new(Lora {
            lora_dropout: Dropout::new(drop_rate),
            lora_down: Factor { weight: Param::fan_in(&[rank, ins], ins) },
            lora_up: Factor { weight: Param::full(&[outs, rank], 0.0) },
            scaling: (alpha / rank as f64) as Elem,
            called: false,
        })))
    }

    pub(super) fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a pass came by since this was asked; `None` where nothing is added.
    pub(super) fn take_called(&mut self) -> Option<bool> {
        self.0.as_mut().map(|lora| std::mem::take(&mut lora.called))
    }

    /// `y`, and what is added to it for the input `x`.
    pub(super) fn add<'t>(&mut self, x: Var<'t>, y: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let Some(lora) = &mut self.0 else { return Ok(y) };
        lora.called = true;
        let (tape, y) = (x.tape(), y.checked()?);
        let x = lora.lora_dropout.forward(x, cx)?;
        let low = x.linear(tape.param(&lora.lora_down.weight), None) * lora.scaling;
        Ok(low.linear_add(tape.param(&lora.lora_up.weight), None, y))
    }
}

/// As parts of the layer that it belongs to: `qkv.lora_down.weight` stands beside `qkv.weight`.
impl ModuleTree for Adapter {
    fn type_name(&self) -> &'static str {
        "Lora"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        if let Some(lora) = &self.0 {
            lora.visit_children(f);
        }
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        if let Some(lora) = &mut self.0 {
            lora.visit_children_mut(f);
        }
    }
}
