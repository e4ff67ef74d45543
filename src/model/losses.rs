//! The terms of a loss, and which of them are optimised.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::Outputs;
use crate::base::{Error, Result};
use crate::nn::Var;

/// Named numbers of a training step, in the order in which they are logged.
///
/// As in MMEngine's `parse_losses` the total is the sum of those with `loss` in their name: `loss_cls` and `aux_loss`
/// are optimised, `accuracy_top-1` is only logged. Unlike there, `loss` in the log is always this total, also when a
/// term is called `loss` and others are beside it.
#[derive(Debug, Default)]
pub struct LossDict<'t> {
    terms: SmallVec<[Term<'t>; 4]>,
}

#[derive(Debug)]
struct Term<'t> {
    name: Cow<'static, str>,
    value: Var<'t>,
    optimised: bool,
}

impl<'t> LossDict<'t> {
    /// Adds a term; of a tensor the mean. Values of one name are added up, as a loss per level.
    pub fn push(&mut self, name: impl Into<Cow<'static, str>>, value: Var<'t>) {
        let name: Cow<'static, str> = name.into();
        let value = if value.value().ndim() == 0 { value } else { value.mean() };
        self.terms.push(Term { optimised: name.contains("loss"), name, value });
    }

    /// Adds a number that is only logged, whatever its name.
    pub fn log(&mut self, name: impl Into<Cow<'static, str>>, value: Var<'t>) {
        self.terms.push(Term { name: name.into(), value, optimised: false });
    }

    /// What is optimised, and everything that is logged.
    ///
    /// # Errors
    /// If no term has `loss` in its name.
    pub fn total(self) -> Result<(Var<'t>, Outputs)> {
        let mut losses = self.terms.iter().filter(|term| term.optimised).map(|term| term.value);
        let first = losses.next().ok_or_else(|| {
            let names: Vec<_> = self.terms.iter().map(|term| term.name.as_ref()).collect();
            Error::invalid(format!("no term has `loss` in its name, so nothing can be optimised: {names:?}"))
        })?;
        let total = losses.fold(first, |sum, loss| sum + loss);
        let mut outputs = Outputs::default();
        outputs.add("loss".into(), f64::from(total.item()));
        for term in self.terms.into_iter().filter(|term| term.name != "loss") {
            outputs.add(term.name, f64::from(term.value.item()));
        }
        Ok((total, outputs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Tensor;
    use crate::nn::{BufferPool, Tape};

    fn vars(outputs: &Outputs) -> Vec<(&str, f64)> {
        outputs.vars.iter().map(|(name, value)| (name.as_ref(), *value)).collect()
    }

    #[test]
    fn terms_called_loss_are_summed_and_the_rest_is_logged() {
        let tape = Tape::new(BufferPool::default());
        let number = |v| tape.input(Tensor::from_elem(vec![], v));
        let mut dict = LossDict::default();
        dict.push("accuracy_top-1", number(50.0));
        dict.push("loss", number(1.0));
        dict.push("aux_loss", tape.input(Tensor::from_shape_vec(vec![2], vec![1.0, 3.0]).unwrap()));
        dict.push("Loss", number(8.0));
        dict.push("loss_levels", number(0.25));
        dict.push("loss_levels", number(0.5));
        dict.log("weight_of_loss", number(7.0));
        let (total, outputs) = dict.total().unwrap();
        assert_eq!(total.item(), 3.75);
        let expected = [
            ("loss", 3.75),
            ("accuracy_top-1", 50.0),
            ("aux_loss", 2.0),
            ("Loss", 8.0),
            ("loss_levels", 0.75),
            ("weight_of_loss", 7.0),
        ];
        assert_eq!(vars(&outputs), expected);
    }

    #[test]
    fn nothing_to_optimise_is_an_error() {
        let tape = Tape::new(BufferPool::default());
        let mut dict = LossDict::default();
        dict.push("accuracy", tape.input(Tensor::from_elem(vec![], 1.0)));
        let error = dict.total().unwrap_err().to_string();
        assert!(error.ends_with(r#"nothing can be optimised: ["accuracy"]"#), "{error}");
    }
}
