//! What a model owes a run, wherever its weights are, as checks. Each tells what is not kept.

use std::ops::Range;

use ndarray::ArrayD;

use super::compare::{
    broken, gradients, near, norm_of, optimizers, own, same, step, taken, times, told, values, zipped,
};
use crate::base::{Elem, Error, Result, caught_from};
use crate::data::Batch;
use crate::model::{Model, Outputs};
use crate::optim::{ClipGrad, OptimWrapper, Optimizer, Sgd};
use crate::params::{
    FlatGrads, Op, OptimState, OwnSet, Set, StateDict, all, check_distinct, trained, update_by_transfer,
};

/// Rounding, relative to the largest element of a tensor.
const NEAR: f64 = 2e-5;

/// Batches that are looked at.
const BATCHES: usize = 4;

/// How such a model is made, on what it trains, and how many tensors one has moved so far.
struct Trial<'a> {
    make: &'a dyn Fn() -> Result<Box<dyn Model>>,
    batches: &'a [Batch],
    moved: &'a dyn Fn(&dyn Model) -> u64,
}

/// For `model_contract!`, with how such a model is made, four batches on which it trains, and the number of tensors that
/// one has moved between its device and the host so far: 0 of a model on the host.
///
/// - Names are unique and always the same; `infos` says what `read` gives, and moves nothing for that.
/// - Weights follow from the seed alone; a step from weights, batch, seed and iteration alone; an evaluation changes
///   nothing. Gradients are added up, times the scale, of what is trained and of nothing else.
/// - What is done to whole sets is what it says, to what was wanted only; a copy stays as it is while training goes on.
///   A norm tells a number that is not finite.
/// - Optimizers come to what the formulas on the host come to, and leave buffers alone.
/// - Weights and the sums of an open window come back bit for bit, in another instance too. Cut and resumed, a training
///   ends with the same bits.
/// - A batch without fields and tensors of another kind of model are errors, not panics, and change nothing.
/// - An iteration moves no tensor.
///
/// # Errors
/// What it does not keep.
pub fn model_breach(
    make: &dyn Fn() -> Result<Box<dyn Model>>,
    batches: &[Batch],
    moved: &dyn Fn(&dyn Model) -> u64,
) -> Result<()> {
    if batches.len() < BATCHES {
        return Err(broken(format!("the trial takes {BATCHES} batches, not {}", batches.len())));
    }
    let trial = Trial { make, batches, moved };
    trial.names()?;
    trial.weights_follow_from_the_seed()?;
    trial.steps_follow_from_their_key()?;
    trial.gradients_add_up()?;
    trial.gradients_are_scaled()?;
    trial.evaluation_changes_nothing()?;
    trial.state_comes_back()?;
    trial.copies_stand()?;
    trial.gradients_are_worked_on()?;
    trial.norms_tell()?;
    trial.sums_come_back()?;
    for rule in optimizers() {
        trial.updates_as_the_host(&*rule)?;
        trial.resumes(&*rule)?;
    }
    trial.errors_are_told()?;
    trial.iterations_move_nothing()
}

impl Trial<'_> {
    fn of_seed(&self, seed: u64) -> Result<Box<dyn Model>> {
        let mut model = (self.make)()?;
        model.init_weights(seed)?;
        Ok(model)
    }

    fn model(&self) -> Result<Box<dyn Model>> {
        self.of_seed(7)
    }

    /// A new model after the forward and backward pass of one batch, whose place is its iteration too.
    fn stepped(&self, at: usize, scale: Elem) -> Result<(Box<dyn Model>, Outputs)> {
        let mut model = self.model()?;
        let outputs = step(&mut *model, &self.batches[at], at as u64, scale)?;
        Ok((model, outputs))
    }

    /// Trains through these iterations.
    fn train(&self, model: &mut dyn Model, optim: &mut OptimWrapper, iters: Range<u64>) -> Result<()> {
        for iter in iters {
            let batch = &self.batches[iter as usize % BATCHES];
            step(model, batch, iter, optim.loss_scale(batch.len()))?;
            if optim.backward_done(batch.len(), false) {
                optim.finish_window(model)?;
                optim.update(model)?;
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<()> {
        let (mut model, again) = (self.model()?, self.model()?);
        let moved = (self.moved)(&*model);
        let names = told(&*model);
        if (self.moved)(&*model) != moved {
            return Err(broken("`infos` moves tensors: names and shapes are known without"));
        }
        if !names.iter().any(|(_, _, role, _)| role.is_trained()) {
            return Err(broken("it names no tensor that is trained"));
        }
        check_distinct(&*model)?;
        step(&mut *model, &self.batches[0], 0, 1.0)?;
        if names != told(&*again) || names != told(&*model) {
            return Err(broken("`infos` tells other tensors the second time, or after a step"));
        }
        let listed: Vec<_> = names.iter().map(|(name, shape, _, _)| (name.clone(), shape.clone())).collect();
        let read: Vec<_> = values(&*model)?.into_iter().map(|(name, v)| (name, v.shape().to_vec())).collect();
        if listed != read {
            return Err(broken(format!("`infos` tells of {listed:?}, and `read` gives {read:?}")));
        }
        match taken(&*model, Set::Values, |_| false)?.first() {
            Some((name, _)) => Err(broken(format!("`read` gives `{name}`, which was not wanted"))),
            None => Ok(()),
        }
    }

    /// Buffers may be left as training left them: a run draws weights once.
    fn weights_follow_from_the_seed(&self) -> Result<()> {
        let (mut model, again) = (self.model()?, self.model()?);
        same("the values of one seed in two models", &values(&*model)?, &values(&*again)?)?;
        let drawn = taken(&*model, Set::Values, trained)?;
        step(&mut *model, &self.batches[0], 0, 1.0)?;
        model.init_weights(7)?;
        let text = "the weights of one seed, before and after a step,";
        same(text, &drawn, &taken(&*model, Set::Values, trained)?)
    }

    fn steps_follow_from_their_key(&self) -> Result<()> {
        let ((first, outputs), (again, others)) = (self.stepped(1, 1.0)?, self.stepped(1, 1.0)?);
        let text = "the gradients of a batch, computed twice in one iteration,";
        same(text, &gradients(&*first)?, &gradients(&*again)?)?;
        if outputs != others {
            return Err(broken("a batch gives other numbers the second time in one iteration"));
        }
        match outputs.vars.first() {
            Some((name, loss)) if name == "loss" && loss.is_finite() => Ok(()),
            first => Err(broken(format!("the first number of a step is {first:?}, and not a finite `loss`"))),
        }
    }

    fn gradients_add_up(&self) -> Result<()> {
        let ((a, _), (b, _)) = (self.stepped(0, 1.0)?, self.stepped(1, 1.0)?);
        if let Some((name, _)) = taken(&*a, Set::Grads, |p| p.frozen || !p.role.is_trained())?.first() {
            return Err(broken(format!("`{name}` has a gradient, and is not trained")));
        }
        let expected = zipped(&gradients(&*a)?, &gradients(&*b)?, |a, b| a + b);
        let (mut model, _) = self.stepped(0, 1.0)?;
        step(&mut *model, &self.batches[1], 1, 1.0)?;
        near("the gradients of two batches, and those added up,", &expected, &gradients(&*model)?, NEAR)?;
        model.clear_grads()?;
        if model.norm(Set::Grads, 1.0, &all)? != 0.0 || norm_of(&gradients(&*model)?, 1.0) != 0.0 {
            return Err(broken("`clear_grads` leaves gradients"));
        }
        Ok(())
    }

    fn gradients_are_scaled(&self) -> Result<()> {
        let ((whole, outputs), (scaled, others)) = (self.stepped(0, 1.0)?, self.stepped(0, 0.25)?);
        let expected = times(&gradients(&*whole)?, 0.25);
        near(
            "a quarter of the gradients, and those of a quarter of the loss,",
            &expected,
            &gradients(&*scaled)?,
            NEAR,
        )?;
        if outputs == others {
            Ok(())
        } else {
            Err(broken("`loss_scale` changes the numbers that are logged"))
        }
    }

    fn evaluation_changes_nothing(&self) -> Result<()> {
        let (mut model, _) = self.stepped(0, 1.0)?;
        let before = (values(&*model)?, gradients(&*model)?);
        let first = model.eval_step(&self.batches[1])?;
        let again = model.eval_step(&self.batches[1])?;
        same("the values before and after an evaluation", &before.0, &values(&*model)?)?;
        same("the gradients before and after an evaluation", &before.1, &gradients(&*model)?)?;
        if first == again { Ok(()) } else { Err(broken("a batch is evaluated otherwise the second time")) }
    }

    fn state_comes_back(&self) -> Result<()> {
        let mut model = self.model()?;
        self.train(&mut *model, &mut OptimWrapper::new(Sgd::new(0.05)), 0..2)?;
        let (state, outputs) = (StateDict::of(&*model)?, model.eval_step(&self.batches[0])?);
        // Into one that has evaluated and trained with other weights.
        let mut other = self.of_seed(8)?;
        step(&mut *other, &self.batches[1], 0, 1.0)?;
        other.eval_step(&self.batches[0])?;
        let report = state.load_into(&mut *other)?;
        if !report.is_exact() {
            return Err(broken(format!("its own state does not fit it: {report}")));
        }
        same("the values that were saved and those that came back", &values(&*model)?, &values(&*other)?)?;
        match other.eval_step(&self.batches[0])? == outputs {
            true => Ok(()),
            false => Err(broken("with the values of another model it predicts otherwise than that")),
        }
    }

    fn copies_stand(&self) -> Result<()> {
        let (mut model, mut copy, mut mean) = (self.model()?, OwnSet::default(), OwnSet::default());
        let (then, then_trained) = (values(&*model)?, taken(&*model, Set::Values, trained)?);
        model.apply(Op::CopyTo(&mut copy), &all)?;
        model.apply(Op::LerpTo(&mut mean, 0.25), &trained)?;
        self.train(&mut *model, &mut OptimWrapper::boxed(optimizers()[0].clone_box()), 0..2)?;
        same("a copy before and after two updates", &then, &own(&*model, &copy, &then)?)?;
        let (now, now_trained) = (values(&*model)?, taken(&*model, Set::Values, trained)?);
        model.apply(Op::LerpTo(&mut mean, 0.25), &trained)?;
        let expected = zipped(&then_trained, &now_trained, |then, now| then + 0.25 * (now - then));
        near(
            "an average of what is trained, as it should be and as it is,",
            &expected,
            &own(&*model, &mean, &then)?,
            NEAR,
        )?;
        model.apply(Op::Swap(&mut copy), &all)?;
        same("a copy, and the values that changed places with it,", &then, &values(&*model)?)?;
        same("the values, and a copy that changed places with them,", &now, &own(&*model, &copy, &then)?)?;
        let mut restored = OwnSet::of(now.clone());
        same("tensors of a checkpoint", &now, &own(&*model, &restored, &then)?)?;
        model.apply(Op::Swap(&mut restored), &all)?;
        same(
            "tensors of a checkpoint, and the values that changed places with them,",
            &now,
            &values(&*model)?,
        )
    }

    fn gradients_are_worked_on(&self) -> Result<()> {
        let (mut model, _) = self.stepped(0, 1.0)?;
        let mut expected = gradients(&*model)?;
        let Some((first, grad)) = expected.first_mut() else {
            return Err(broken("a step leaves no gradient"));
        };
        *grad *= 0.5;
        let first = first.clone();
        model.apply(Op::ScaleGrads(0.5), &|p| p.name == first)?;
        let text =
            format!("gradients of which `{first}` alone is halved, as they should be and as they are,");
        near(&text, &expected, &gradients(&*model)?, NEAR)?;
        let limit = norm_of(&expected, f64::INFINITY) as Elem / 8.0;
        model.apply(Op::ClampGrads(f64::from(limit)), &all)?;
        let clamped =
            expected.into_iter().map(|(name, g)| (name, g.mapv(|g| g.clamp(-limit, limit)))).collect();
        near("clamped gradients, as they should be and as they are,", &clamped, &gradients(&*model)?, NEAR)
    }

    fn norms_tell(&self) -> Result<()> {
        let (mut model, _) = self.stepped(0, 1.0)?;
        let all_grads = gradients(&*model)?;
        for order in [1.0, 2.0, f64::INFINITY] {
            let (norm, expected) = (model.norm(Set::Grads, order, &all)?, norm_of(&all_grads, order));
            if (norm - expected).abs() > NEAR * expected {
                return Err(broken(format!(
                    "the norm of order {order} of its gradients is {norm}, not {expected}"
                )));
            }
        }
        let last = all_grads.last().map(|(name, _)| name.as_str()).unwrap_or_default();
        for bad in [Elem::NAN, Elem::INFINITY] {
            model.edit(Set::Grads, &|p| p.name == last, &mut |_, mut grad| {
                grad.iter_mut().take(1).for_each(|g| *g = bad);
            })?;
            for order in [1.0, 2.0, f64::INFINITY] {
                let norm = model.norm(Set::Grads, order, &all)?;
                if norm.is_finite() {
                    return Err(broken(format!(
                        "the norm of order {order} is {norm}, with a gradient that is {bad}"
                    )));
                }
            }
        }
        Ok(())
    }

    fn sums_come_back(&self) -> Result<()> {
        let (mut model, _) = self.stepped(0, 1.0)?;
        let sums = gradients(&*model)?;
        let mut other = self.model()?;
        other.put_grads(&sums.iter().cloned().collect())?;
        same("sums of gradients, and those that came back,", &sums, &gradients(&*other)?)?;
        let mut expected: Vec<Elem> = Vec::new();
        model.infos(&mut |p| match sums.iter().find(|(name, _)| name == p.name) {
            Some((_, sum)) => expected.extend(sum),
            None if p.role.is_trained() && !p.frozen => expected.extend(ArrayD::<Elem>::zeros(p.shape)),
            None => {}
        });
        let mut given = Vec::new();
        model.exchange(&all, &mut |flat: &mut FlatGrads| {
            given = flat.pieces.concat();
            flat.pieces.iter_mut().flatten().for_each(|g| *g *= 2.0);
            Ok(())
        })?;
        // Large ones stand behind the others.
        [&mut given, &mut expected].into_iter().for_each(|all| all.sort_by(Elem::total_cmp));
        if given != expected {
            return Err(broken("`exchange` does not give each gradient once"));
        }
        same("gradients that were doubled outside of the model", &times(&sums, 2.0), &gradients(&*model)?)
    }

    /// Three updates, each from equal values: what differs is the rounding of the formula.
    fn updates_as_the_host(&self, rule: &dyn Optimizer) -> Result<()> {
        let (mut model, mut host, mut state) = (self.model()?, self.model()?, OptimState::default());
        let (mut optim, name) = (OptimWrapper::boxed(rule.clone_box()), rule.name());
        for (iter, batch) in self.batches.iter().enumerate().take(3) {
            StateDict::of(&*model)?.load_into(&mut *host)?;
            step(&mut *model, batch, iter as u64, 1.0)?;
            step(&mut *host, batch, iter as u64, 1.0)?;
            let before = taken(&*model, Set::Values, |p| !trained(p))?;
            optim.update(&mut *model)?;
            let after = taken(&*model, Set::Values, |p| !trained(p))?;
            same(&format!("the buffers before and after an update by {name}"), &before, &after)?;
            update_by_transfer(&mut *host, &|_| Some(rule), &mut state)?;
            host.clear_grads()?;
            let text = format!("the values that {name} comes to on the host and where they are");
            near(&text, &values(&*host)?, &values(&*model)?, NEAR)?;
        }
        Ok(())
    }

    /// Eight iterations in windows of three, cut inside a window, against the same without a cut.
    fn resumes(&self, rule: &dyn Optimizer) -> Result<()> {
        let wrapped = || OptimWrapper::boxed(rule.clone_box()).accumulate(3).clip(ClipGrad::by_norm(0.5));
        let (mut whole, mut optim) = (self.model()?, wrapped());
        self.train(&mut *whole, &mut optim, 0..8)?;
        let (mut cut, mut optim) = (self.model()?, wrapped());
        self.train(&mut *cut, &mut optim, 0..4)?;
        let (weights, saved) = (StateDict::of(&*cut)?, optim.save_state(&*cut).map_err(Error::Other)?);
        let (mut resumed, mut optim) = (self.of_seed(8)?, wrapped());
        weights.load_into(&mut *resumed)?;
        optim.load_state(saved, &mut *resumed).map_err(Error::Other)?;
        self.train(&mut *resumed, &mut optim, 4..8)?;
        let text = format!("the values that {} comes to without a cut and with one", rule.name());
        same(&text, &values(&*whole)?, &values(&*resumed)?)
    }

    fn errors_are_told(&self) -> Result<()> {
        let (mut model, _) = self.stepped(0, 1.0)?;
        let before = (values(&*model)?, gradients(&*model)?);
        let bare = Batch { ids: vec![0, 1], valid: 2, ..Batch::default() };
        let trained = step(&mut *model, &bare, 1, 1.0).map(drop);
        if trained.is_ok() {
            return Err(broken("it trains on a batch without a field"));
        }
        // What is predicted may depend on no field.
        let predicted = caught_from("`eval_step`", || model.eval_step(&bare)).map(drop);
        let failed = [trained, predicted].into_iter().filter_map(Result::err).map(|error| error.to_string());
        if let Some(panic) = failed.into_iter().find(|text| text.contains("` panicked: ")) {
            return Err(broken(format!("a batch without a field is no error: {panic}")));
        }
        let mut foreign = OwnSet::default();
        foreign.get_mut(|_| Ok("made by another kind of model"))?;
        let taken = model.apply(Op::CopyTo(&mut foreign), &all).and(model.read_own(&foreign, &mut |_, _| {}));
        if taken.is_ok() {
            return Err(broken("it takes tensors that another kind of model made"));
        }
        same("the values before and after an error", &before.0, &values(&*model)?)?;
        same("the gradients before and after an error", &before.1, &gradients(&*model)?)
    }

    fn iterations_move_nothing(&self) -> Result<()> {
        for rule in &optimizers()[..2] {
            let (mut model, mut mean) = (self.model()?, OwnSet::default());
            let mut optim = OptimWrapper::boxed(rule.clone_box()).accumulate(3).clip(ClipGrad::by_norm(0.5));
            let before = (self.moved)(&*model);
            self.train(&mut *model, &mut optim, 0..6)?;
            model.apply(Op::LerpTo(&mut mean, 0.1), &all)?;
            let moved = (self.moved)(&*model) - before;
            if moved > 0 {
                return Err(broken(format!("six iterations with {} move {moved} tensors", rule.name())));
            }
        }
        Ok(())
    }
}
