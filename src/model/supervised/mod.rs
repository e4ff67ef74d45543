//! Supervised learning of any kind: a network, its heads, and the losses that compare them with the data.

mod config;
mod inputs;
mod last_layer;
mod scale;

pub use config::{ObjectiveConfig, SupervisedConfig};

use ndarray::ArrayD;

use self::scale::Scale;
use super::preprocessors::Preprocessor;
use super::task::has_sync_batchnorm;
use super::{FieldNeeds, LossDict, Outputs, SCORES, Task, Weighting};
use crate::base::suggest::nearest;
use crate::base::{Elem, Error, Result, Tensor};
use crate::data::{Batch, Column, Fields, INPUTS, TARGET, TargetScales, field_name};
use crate::module;
use crate::nn::init::Init;
use crate::nn::{Activation, Autograd, Forward, Loss, Losses, Module, ModuleDict, Tape, Target, Var};

/// A loss, the head whose scores it takes, the field that it compares them with, and its weight among several.
pub struct Objective {
    loss: Box<dyn Loss>,
    head: Option<String>,
    target: String,
    lengths: Option<String>,
    weight: f64,
    scale: Option<Scale>,
}

impl Objective {
    /// This loss of the only head, compared with `target`.
    pub fn new(loss: impl Loss) -> Self {
        Self::of(Box::new(loss))
    }

    fn of(loss: Box<dyn Loss>) -> Self {
        Self { loss, head: None, target: TARGET.to_owned(), lengths: None, weight: 1.0, scale: None }
    }

    /// The same for the head of this name.
    #[must_use]
    pub fn head(self, name: &str) -> Self {
        Self { head: Some(name.to_owned()), ..self }
    }

    /// The same compared with this field of the data.
    #[must_use]
    pub fn target(self, field: &str) -> Self {
        Self { target: field_name(field).to_owned(), ..self }
    }

    /// The same of sequences whose lengths are in this field of the data, for a loss of sequences.
    #[must_use]
    pub fn lengths(self, field: &str) -> Self {
        Self { lengths: Some(field_name(field).to_owned()), ..self }
    }

    /// The loss of these scores.
    fn measure<'t>(&self, scores: Var<'t>, batch: &Batch, made: Option<&ArrayD<Elem>>) -> Result<Losses<'t>> {
        let target = target(batch, made, &self.target)?;
        let standardized = match (&self.scale, target) {
            (Some(scale), Target::Dense(values)) => Some(scale.standardized(values.clone())),
            _ => None,
        };
        let target = standardized.as_ref().map_or(target, Target::Dense);
        let Some(field) = &self.lengths else { return self.loss.forward(scores, target) };
        self.loss.forward_lengths(scores, target, &inputs::lengths(batch, field)?)
    }

    /// The same with this weight in the sum.
    #[must_use]
    pub fn weight(self, weight: f64) -> Self {
        Self { weight, ..self }
    }
}

/// A network that is trained by comparing what it says with fields of the data: classes, numbers, several labels at
/// once, masks, its own input.
///
/// ```
/// use ndarray::arr2;
/// use shanty::data::Batch;
/// use shanty::model::{Model, StepCx, Supervised};
/// use shanty::nn::{Linear, MSELoss, ReLU, Sequential};
///
/// let network = Sequential::default().with(Linear::new(2, 8)).with(ReLU::new()).with(Linear::new(8, 1));
/// let mut model = Supervised::new(network, MSELoss::default());
/// model.init_weights(0)?;
/// let batch = Batch::unlabelled(arr2(&[[1.0, 2.0], [3.0, 4.0]]).into_dyn()).with("target", arr2(&[[3.0], [7.0]]));
/// let outputs = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 })?;
/// assert!(outputs.loss().is_some());
/// assert_eq!(model.eval_step(&batch)?.predictions.get("prediction").unwrap().shape(), [2, 1]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Supervised {
    network: Box<dyn Module>,
    heads: ModuleDict,
    inputs: Vec<String>,
    lengths: Option<String>,
    objectives: Vec<Objective>,
    weighting: Option<Box<dyn Weighting>>,
    preprocessor: Option<Box<dyn Preprocessor>>,
    init: Vec<Init>,
    autograd: Autograd,
}

module!(Supervised { network, heads, weighting }, init_cfg = init);

impl Supervised {
    /// A network whose output this loss compares with `target`. What it predicts is called `scores` where the loss is
    /// one of classes, else `prediction`.
    pub fn new(network: impl Module, loss: impl Loss) -> Self {
        Self::trunk(network).objective(Objective::new(loss))
    }

    /// A network without a loss so far: [`head`](Self::head) and [`objective`](Self::objective) follow.
    pub fn trunk(network: impl Module) -> Self {
        Self {
            network: Box::new(network),
            heads: ModuleDict::new(),
            inputs: vec![INPUTS.to_owned()],
            lengths: None,
            objectives: Vec::new(),
            weighting: None,
            preprocessor: None,
            init: Vec::new(),
            autograd: Autograd::default(),
        }
    }

    /// The same with a further head behind the network: what it predicts has this name.
    #[must_use]
    pub fn head(mut self, name: &str, head: impl Module) -> Self {
        self.heads.insert(name, Box::new(head));
        self
    }

    /// The same with a further loss.
    #[must_use]
    pub fn objective(mut self, objective: Objective) -> Self {
        self.objectives.push(objective);
        self.begin_weighting();
        self
    }

    /// The same with weights of its losses that follow the training.
    #[must_use]
    pub fn weighting(mut self, weighting: impl Weighting) -> Self {
        self.weighting = Some(Box::new(weighting));
        self.begin_weighting();
        self
    }

    fn begin_weighting(&mut self) {
        let losses: Vec<_> = self.objectives.iter().map(|objective| objective.loss.activation()).collect();
        if let Some(weighting) = &mut self.weighting {
            weighting.begin(&losses);
        }
    }

    /// The same with these fields going in: side by side along their second axis, or one by one where the network
    /// begins with a module that takes several.
    #[must_use]
    pub fn inputs(self, fields: &[&str]) -> Self {
        Self { inputs: fields.iter().map(|name| field_name(name).to_owned()).collect(), ..self }
    }

    /// The same with sequences going in whose lengths are in this field, as `pad_collate` gives them.
    #[must_use]
    pub fn lengths(self, field: &str) -> Self {
        Self { lengths: Some(field_name(field).to_owned()), ..self }
    }

    /// The same compared with this field, where there is one loss.
    #[must_use]
    pub fn target(mut self, field: &str) -> Self {
        self.objectives.iter_mut().for_each(|objective| objective.target = field_name(field).to_owned());
        self
    }

    /// The names of what it predicts, in order.
    fn outputs(&self) -> Vec<&str> {
        match self.heads.is_empty() {
            false => self.heads.names().collect(),
            true => {
                let classes =
                    self.objectives.first().is_some_and(|o| o.loss.activation() == Activation::Softmax);
                vec![if classes { SCORES } else { "prediction" }]
            }
        }
    }

    /// Which output an objective takes.
    fn output_of(&self, objective: &Objective) -> Result<usize> {
        let names = self.outputs();
        match &objective.head {
            None if names.len() == 1 => Ok(0),
            None => Err(Error::config(format!("say by `head` which of {} a loss takes", names.join(", ")))),
            Some(head) => names.iter().position(|name| name == head).ok_or_else(|| {
                let hint = nearest(head, names.iter().copied());
                let hint = hint.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
                Error::config(format!("there is no head `{head}`: there are {}{hint}", names.join(", ")))
            }),
        }
    }

    /// Whether every loss has its head and every head its loss.
    ///
    /// # Errors
    /// Names the loss or the head that is alone.
    pub fn check(&self) -> Result<()> {
        if self.objectives.is_empty() {
            return Err(Error::config("nothing would be trained: give a `loss`, or a list of `losses`"));
        }
        if self.lengths.is_some() && self.network.takes_several() {
            return Err(Error::config(
                "`lengths` are those of one input, and the network takes several one by one",
            ));
        }
        let trained = self.objectives.iter().map(|o| self.output_of(o)).collect::<Result<Vec<_>>>()?;
        match self.outputs().iter().enumerate().find(|(at, _)| !trained.contains(at)) {
            Some((_, head)) => Err(Error::config(format!("no loss trains the head `{head}`"))),
            None => self.check_weighting(&trained),
        }
    }

    /// Whether the weighting has what it weighs, with the output that each loss takes.
    fn check_weighting(&self, outputs: &[usize]) -> Result<()> {
        let Some(weighting) = &self.weighting else { return Ok(()) };
        if outputs.len() < 2 {
            return Err(Error::config("`weighting` weighs several `losses`: there is one"));
        }
        let shared = outputs.iter().enumerate().any(|(at, output)| outputs[..at].contains(output));
        if weighting.looks_at_features() && shared && !self.heads.is_empty() {
            let name = weighting.type_name();
            return Err(Error::config(format!(
                "`{name}` measures each loss alone: give each a head of its own"
            )));
        }
        Ok(())
    }

    /// What the preprocessor made of the batch, and the scores.
    fn scores<'t>(&mut self, batch: &Batch, tape: &'t Tape, cx: &mut Forward<'_>) -> Result<Scores<'t>> {
        let (xs, made) = match &self.preprocessor {
            Some(preprocessor) => {
                let prepared = preprocessor.prepare(batch, cx, tape)?;
                (vec![prepared.inputs], prepared.scores)
            }
            None if self.network.takes_several() => (inputs::one_by_one(batch, &self.inputs, tape)?, None),
            None => (vec![inputs::side_by_side(batch, &self.inputs, tape)?], None),
        };
        let outputs = self.objectives.iter().map(|o| self.output_of(o)).collect::<Result<Vec<_>>>()?;
        cx.lengths = self.lengths.as_ref().map(|field| inputs::steps(batch, field)).transpose()?;
        cx.sizes = xs.first().map(|x| x.shape().into_iter().skip(1).collect()).unwrap_or_default();
        let x = cx.child_all("network", &mut self.network, &xs)?;
        self.check_weighting(&outputs)?;
        let features = match &mut self.weighting {
            Some(weighting) if cx.training => weighting.features(x, outputs.len()),
            _ => vec![x; outputs.len()],
        };
        if self.heads.is_empty() {
            return Ok(Scores { made, outputs: vec![x], of_losses: features });
        }
        // A head takes the features of its first loss.
        let first = |head| outputs.iter().position(|output| *output == head);
        let heads = self.heads.iter_mut().enumerate().map(|(at, (name, head))| {
            let own = first(at).map_or(x, |at| features[at]);
            cx.child(format_args!("heads.{name}"), head, own)
        });
        let scores = heads.collect::<Result<Vec<_>>>()?;
        let of_losses = outputs.into_iter().map(|output| scores[output]).collect();
        Ok(Scores { made, outputs: scores, of_losses })
    }

    /// What a loss is called in the log: `loss` where there is one, else with the head's name.
    fn name_of(&self, at: usize) -> String {
        let objective = &self.objectives[at];
        let twice = self.objectives.iter().filter(|o| o.head == objective.head).count() > 1;
        match (&objective.head, twice) {
            _ if self.objectives.len() == 1 => "loss".to_owned(),
            (Some(head), false) => format!("loss_{head}"),
            (Some(head), true) => format!("loss_{head}_{at}"),
            (None, _) => format!("loss_{at}"),
        }
    }
}

/// The values of the losses; beside other ranks their means over the samples of all.
fn values_of_all(losses: &[Var<'_>], samples: usize, cx: &Forward<'_>) -> Result<Vec<Elem>> {
    let own = losses.iter().map(|loss| loss.item());
    let Some(comm) = &cx.ranks else { return Ok(own.collect()) };
    let mut sums = vec![samples as f64];
    sums.extend(own.map(|loss| f64::from(loss) * samples as f64));
    comm.sum(&mut sums)?;
    let of_all = sums.remove(0);
    Ok(sums.into_iter().map(|sum| (sum / of_all) as Elem).collect())
}

/// What a forward pass gives.
struct Scores<'t> {
    /// Probabilities that the preprocessor made of `target`.
    made: Option<ArrayD<Elem>>,
    /// One output a head, or that of the network.
    outputs: Vec<Var<'t>>,
    /// What each loss takes: its output, by a branch of its own where a weighting looks at it.
    of_losses: Vec<Var<'t>>,
}

impl Task for Supervised {
    fn loss<'t>(&mut self, batch: &Batch, tape: &'t Tape, cx: &mut Forward<'_>) -> Result<LossDict<'t>> {
        let Scores { made, of_losses, .. } = self.scores(batch, tape, cx)?;
        let mut losses = Vec::with_capacity(of_losses.len());
        for (objective, scores) in self.objectives.iter().zip(of_losses) {
            let loss = objective.measure(scores, batch, made.as_ref())?.loss;
            let loss = if loss.shape().is_empty() { loss } else { loss.mean() };
            losses.push(if objective.weight == 1.0 { loss } else { loss * objective.weight as Elem });
        }
        let mut dict = LossDict::default();
        let names: Vec<_> = (0..losses.len()).map(|at| self.name_of(at)).collect();
        let Some(weighting) = &mut self.weighting else {
            names.into_iter().zip(losses).for_each(|(name, loss)| dict.push(name, loss));
            return Ok(dict);
        };
        let weighed = weighting.weigh(&losses, &values_of_all(&losses, batch.len(), cx)?)?;
        for ((name, term), weight) in names.into_iter().zip(weighed.terms).zip(weighed.weights) {
            let weight = tape.input(Tensor::from_elem(vec![], weight as Elem));
            dict.log(name.replacen("loss", "weight", 1), weight);
            dict.push(name, term);
        }
        if let Some(extra) = weighed.extra {
            dict.push("loss_weighting", extra);
        }
        Ok(dict)
    }

    fn meets_in_steps(&self) -> bool {
        self.weighting.is_some() || has_sync_batchnorm(self)
    }

    fn predict(&mut self, batch: &Batch, tape: &Tape, cx: &mut Forward<'_>) -> Result<Outputs> {
        let Scores { made, outputs, of_losses } = self.scores(batch, tape, cx)?;
        let labelled = self.objectives.iter().all(|objective| batch.get(&objective.target).is_some());
        let (mut losses, mut activations) = (vec![0.0; batch.len()], vec![None; outputs.len()]);
        for (objective, scores) in self.objectives.iter().zip(of_losses) {
            activations[self.output_of(objective)?].get_or_insert(objective.loss.activation());
            if labelled {
                let own = objective.measure(scores, batch, made.as_ref())?.per_sample;
                losses.iter_mut().zip(own).for_each(|(sum, own)| *sum += objective.weight as Elem * own);
            }
        }
        let mut scales: Vec<Option<&Scale>> = vec![None; outputs.len()];
        for objective in &self.objectives {
            scales[self.output_of(objective)?] = objective.scale.as_ref();
        }
        let values = outputs.iter().zip(activations).zip(scales).map(|((scores, activation), scale)| {
            let values = activation.unwrap_or_default().apply(scores.value().into_owned());
            match scale {
                Some(scale) => scale.undone(values),
                None => values,
            }
        });
        let names = self.outputs().into_iter().map(|name| name.to_owned().into());
        let predictions: Fields<_> = names.zip(values).collect();
        Ok(Outputs { predictions, sample_losses: labelled.then_some(losses), ..Outputs::default() })
    }

    fn autograd(&mut self) -> &mut Autograd {
        &mut self.autograd
    }

    fn standardize(&mut self, scales: &TargetScales) -> Result<()> {
        let mut used = false;
        for objective in &mut self.objectives {
            let Some(scale) = scales.0.get(&objective.target) else { continue };
            if objective.loss.activation() != Activation::Identity {
                return Err(Error::config(format!(
                    "`standardize_target`: the loss of `{}` predicts yes and no, or classes: leave it out",
                    objective.target
                )));
            }
            objective.scale = Some(Scale::of(scale));
            used = true;
        }
        match used {
            true => Ok(()),
            false => {
                Err(Error::config("`standardize_target`: no loss compares with these numbers, leave it out"))
            }
        }
    }

    fn reads(&self) -> FieldNeeds {
        let fields = |objective: &Objective| [Some(objective.target.clone()), objective.lengths.clone()];
        let targets = self.objectives.iter().flat_map(fields).flatten();
        let outputs = self.outputs().into_iter().enumerate().filter_map(|(at, name)| {
            let own = |objective: &&Objective| self.output_of(objective).is_ok_and(|output| output == at);
            Some((name.to_owned(), self.objectives.iter().find(own)?.target.clone()))
        });
        let inputs = self.inputs.iter().chain(&self.lengths).cloned().collect();
        FieldNeeds { inputs, outputs: outputs.collect(), targets: targets.collect() }
    }
}

/// What a loss compares with: the field, or what the preprocessor made of `target`.
fn target<'a>(batch: &'a Batch, made: Option<&'a ArrayD<Elem>>, field: &str) -> Result<Target<'a>> {
    if let Some(made) = made.filter(|_| field == TARGET) {
        return Ok(Target::Dense(made));
    }
    match batch.fields.find(field)? {
        Column::Float(values) => Ok(Target::Dense(values)),
        Column::Int(values) => values.as_slice().map(Target::Classes).ok_or_else(|| {
            Error::invalid(format!("the classes in `{field}` do not lie in order: collate them anew"))
        }),
        other => {
            Err(Error::invalid(format!("`{field}` holds {}, which no loss compares with", other.kind())))
        }
    }
}
