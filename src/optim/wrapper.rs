//! One place for the update: group, accumulate over micro-batches, clip, step, clear.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::amp::Scaler;
use super::clip::Clipped;
use super::groups::Formed;
use super::part::{Part, Share, form_all};
use super::window::Window;
use super::{ClipGrad, Group, Optimizer, ParamwiseConfig, SamConfig, ScheduledParam, Score, Sgd};
use crate::base::{Error, Result};
use crate::comm::Comm;
use crate::params::{CloneOptimizer, Info, OptimState, Params};

/// The optimizer of a run with everything around it.
///
/// With `accumulative_counts: k` the gradients of k batches are added, weighted by their samples, so that k batches of
/// b samples equal one batch of k·b. A window ends early at the end of an epoch (of the run, in the iteration loop).
pub struct OptimWrapper {
    /// One optimizer, or several of which each has its own parameters.
    parts: Vec<Part>,
    /// The one whose turn it is; all of them, where none takes turns.
    turn: Option<usize>,
    /// The first optimizer's own numbers.
    base: Group,
    /// The factor of the linear scaling rule.
    scale: f64,
    groups: Vec<Group>,
    /// The group of each parameter; empty before the wrapper has met its model.
    members: HashMap<String, usize>,
    pub(super) bound: bool,
    pub(super) state: OptimState,
    pub(super) schedules: Vec<ScheduledParam>,
    pub(super) sam: Option<SamConfig>,
    /// Of mixed precision.
    pub(super) scaler: Option<Scaler>,
    pub(super) accumulate: u64,
    pub(super) window: Window,
    /// Those that it trains beside.
    pub(super) ranks: Option<Arc<dyn Comm>>,
    /// Updates in a row that were left out, as the gradients were not finite: of each optimizer that has turns, or of all
    /// under no name.
    pub(super) left_out: BTreeMap<String, u64>,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Update {
    /// The optimizer stepped; with the norm of the gradients before clipping, where it was measured.
    Stepped(Option<f64>),
    /// The norm was not finite: weights are as they were.
    Skipped(f64),
    /// With mixed precision: gradients were not finite, and weights are as they were.
    Overflowed {
        /// The scale of the loss in this step.
        from: f64,
        /// That of the next one.
        to: f64,
    },
}

/// Where an [`OptimWrapper`] is wanted, an optimizer alone will do.
impl<O: Optimizer> From<O> for OptimWrapper {
    fn from(optimizer: O) -> Self {
        Self::new(optimizer)
    }
}

impl OptimWrapper {
    /// Steps after every batch, without clipping or schedules.
    pub fn new(optimizer: impl Optimizer) -> Self {
        Self::boxed(Box::new(optimizer))
    }

    /// As [`new`](Self::new), for an optimizer from the registry.
    pub fn boxed(optimizer: Box<dyn Optimizer>) -> Self {
        Self::of(vec![Part::of(optimizer)])
    }

    /// Several optimizers, by name, each with the parameters that it moves: MMEngine's OptimWrapperDict. Of each wrapper
    /// the optimizer, its groups and its clipping are taken.
    ///
    /// ```
    /// use shanty::optim::{Adam, Muon, OptimWrapper, Share};
    /// let matrices = Share { modules: vec!["backbone".into()], ndim: Some(2) };
    /// let optim = OptimWrapper::several([
    ///     ("hidden", matrices, OptimWrapper::new(Muon::default())),
    ///     ("rest", Share::default(), OptimWrapper::new(Adam::decoupled(1e-3))),
    /// ]);
    /// ```
    pub fn several<N: Into<String>>(wrappers: impl IntoIterator<Item = (N, Share, Self)>) -> Self {
        let named = wrappers.into_iter().flat_map(|(name, share, wrapper)| {
            let name = name.into();
            wrapper.parts.into_iter().map(move |part| Part {
                name: name.clone(),
                share: share.clone(),
                ..part
            })
        });
        Self::of(named.collect())
    }

    fn of(parts: Vec<Part>) -> Self {
        let group = |(at, part): (usize, &Part)| {
            Group::new(part.called("default"), part.given.clone_box()).of_part(at, part.called("default"))
        };
        // Of no optimizer at all, of which `bind` complains, there are no numbers.
        let first = parts.first().map_or_else(|| Sgd::new(0.0).clone_box(), |part| part.given.clone_box());
        Self {
            base: Group::new("default", first),
            groups: parts.iter().enumerate().map(group).collect(),
            parts,
            turn: None,
            scale: 1.0,
            members: HashMap::new(),
            bound: false,
            state: OptimState::default(),
            schedules: Vec::new(),
            sam: None,
            scaler: None,
            accumulate: 1,
            window: Window::default(),
            ranks: None,
            left_out: BTreeMap::new(),
        }
    }

    /// Limits gradients before each step.
    #[must_use]
    pub fn clip(mut self, clip: ClipGrad) -> Self {
        self.parts.iter_mut().for_each(|part| part.clip = Some(clip.clone()));
        self
    }

    /// Takes the gradient where the loss nearby is largest.
    ///
    /// ```
    /// use shanty::optim::{OptimWrapper, SamConfig, Sgd};
    /// let optim = OptimWrapper::new(Sgd::new(0.1).momentum(0.9)).sam(SamConfig { rho: 0.1 });
    /// ```
    #[must_use]
    pub fn sam(mut self, sam: SamConfig) -> Self {
        self.sam = Some(sam);
        self
    }

    /// Adds the gradients of `batches` batches (at least 1) before each step.
    #[must_use]
    pub fn accumulate(mut self, batches: u64) -> Self {
        self.accumulate = batches.max(1);
        self
    }

    /// Adds a schedule; all of them are folded in this order.
    #[must_use]
    pub fn schedule(mut self, schedule: ScheduledParam) -> Self {
        self.schedules.push(schedule);
        self
    }

    /// Forms groups by these rules.
    #[must_use]
    pub fn paramwise(mut self, rules: ParamwiseConfig) -> Self {
        self.parts.iter_mut().for_each(|part| part.paramwise = Some(rules.clone()));
        self
    }

    /// Meets the model: forms the groups, and checks that each schedule moves something. A runner does this when it is
    /// built. Gives what somebody should know.
    ///
    /// # Errors
    /// Numbers of the optimizer that do not fit together; a rule or a schedule that names what there is not; a tensor
    /// under two names.
    pub fn bind(&mut self, params: &dyn Params) -> Result<Vec<String>> {
        self.check_amp()?;
        let Formed { mut groups, members, warnings } = form_all(&self.parts, params)?;
        for group in &mut groups {
            let before = self.groups.iter().find(|before| before.part() == group.part());
            match self.parts.get(group.part()).and_then(|part| part.paramwise.as_ref()) {
                // The one group is there already, and may have been changed.
                None => before.into_iter().for_each(|before| group.take_numbers(before)),
                Some(_) if self.scale != 1.0 => group.set_base("lr", group.lr() * self.scale)?,
                Some(_) => {}
            }
        }
        (self.groups, self.members) = (groups, members);
        self.schedules.iter().try_for_each(|schedule| schedule.check(&self.groups))?;
        self.bound = true;
        Ok(warnings)
    }

    /// The optimizer's name; of several `generator: Adam, discriminator: SGD`.
    pub fn name(&self) -> String {
        let named = |part: &Part| match part.name.as_str() {
            "" => part.given.name().to_owned(),
            name => format!("{name}: {}", part.given.name()),
        };
        self.parts.iter().map(named).collect::<Vec<_>>().join(", ")
    }

    /// The names of several optimizers; none of one.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.name.as_str()).filter(|name| !name.is_empty())
    }

    /// The optimizer of a group among several.
    pub fn name_of(&self, group: &Group) -> &str {
        self.parts.get(group.part()).map_or("", |part| &part.name)
    }

    /// From now on gradients are limited and parameters moved of this optimizer alone; `None`: of all.
    ///
    /// # Errors
    /// When there is none of this name, or a window of several batches, which would lose what turns leave.
    pub fn take_turn(&mut self, name: Option<&str>) -> Result<()> {
        let Some(name) = name else {
            self.turn = None;
            return Ok(());
        };
        if self.accumulate > 1 {
            return Err(Error::config(
                "`accumulative_counts`: gradients are not accumulated where optimizers take turns; give 1",
            ));
        }
        self.turn = self.parts.iter().position(|part| part.name == name);
        if self.turn.is_none() {
            let known: Vec<_> = self.names().collect();
            let has = if known.is_empty() { "one optimizer alone".to_owned() } else { known.join(", ") };
            return Err(Error::config(format!(
                "the model trains with an optimizer `{name}` in turn, and the optim_wrapper has {has}: give an \
                 `OptimWrapperDict` with the names that the model wants"
            )));
        }
        Ok(())
    }

    /// The parameter groups; before the wrapper has met its model, one.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The parameter groups, to change. A schedule overwrites its number at its next point.
    pub fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// The group of a parameter, once the wrapper has met its model; frozen ones may have none.
    pub fn group_of(&self, parameter: &str) -> Option<&Group> {
        self.members.get(parameter).and_then(|at| self.groups.get(*at))
    }

    /// The optimizer's own numbers, without the rules of any group, as the schedules move them. Of several, those of the first.
    pub fn base(&self) -> &Group {
        &self.base
    }

    /// The schedules.
    pub fn schedules(&self) -> &[ScheduledParam] {
        &self.schedules
    }

    /// Multiplies the learning rates of all groups (linear scaling rule); before the first update.
    ///
    /// # Errors
    /// When the optimizer has no learning rate.
    pub fn scale_lr(&mut self, factor: f64) -> Result<()> {
        self.scale *= factor;
        for group in self.groups.iter_mut().chain([&mut self.base]) {
            let lr = group.base("lr").unwrap_or(0.0) * factor;
            group.set_base("lr", lr)?;
        }
        Ok(())
    }

    /// Sets every scheduled number to what it has after `epoch` epochs and `iter` iterations. A pure function of these.
    pub fn set_progress(&mut self, epoch: u64, iter: u64) {
        let Self { schedules, groups, base, .. } = self;
        for group in groups.iter_mut().chain([base]) {
            for (number, value) in scheduled(schedules, group, epoch, iter) {
                // The name is the group's own.
                let _ = group.set(number, value);
            }
        }
    }

    /// Tells the schedules that watch a validation what it gave, after `epoch` epochs and `iter` iterations; their
    /// numbers follow with the next [`set_progress`](Self::set_progress).
    ///
    /// # Errors
    /// A value that is watched and was not given.
    pub fn observe(&mut self, epoch: u64, iter: u64, scores: &dyn Fn(&str) -> Option<Score>) -> Result<()> {
        for schedule in &mut self.schedules {
            let Some(name) = schedule.watches() else { continue };
            let Some(score) = scores(name) else {
                return Err(Error::invalid(format!(
                    "the validation gave no `{name}` for a schedule to watch"
                )));
            };
            schedule.observe(score, epoch, iter);
        }
        Ok(())
    }

    /// Clips and steps, and clears the gradients, also where the step fails. With mixed precision gradients that are not
    /// finite are not looked at any further: the step is left out.
    ///
    /// # Errors
    /// A norm that is not finite under `error_if_nonfinite`; gradients that are not finite at any loss scale, or in 100
    /// updates in a row; a parameter that changed its shape, or has two names; what the device says.
    pub fn update(&mut self, params: &mut dyn Params) -> Result<Update> {
        self.meet(params)?;
        if self.is_scaled() {
            self.finish_window(params)?;
        }
        let done = self.step(params);
        // Also where the run ends here: a checkpoint of it would go on with gradients that are not finite.
        let cleared = self.clear(params);
        let done = done?;
        cleared?;
        self.count_left_out(&done)?;
        Ok(done)
    }

    fn step(&mut self, params: &mut dyn Params) -> Result<Update> {
        if let Some(overflowed) = self.move_scale()? {
            return Ok(overflowed);
        }
        Ok(match self.limit(params)? {
            Clipped::Norm(norm) => {
                let Self { groups, members, state, turn, .. } = self;
                let group_of = |name: &str| members.get(name).and_then(|at| groups.get(*at));
                let on_turn = |group: &&Group| turn.is_none_or(|turn| turn == group.part());
                let rule_of = |name: &str| group_of(name).filter(on_turn).map(Group::rule);
                params.update(&rule_of, state)?;
                Update::Stepped(norm)
            }
            Clipped::NonFinite(norm) => Update::Skipped(norm),
        })
    }

    /// Limits the gradients of each optimizer, and gives the largest norm that was found.
    fn limit(&self, params: &mut dyn Params) -> Result<Clipped> {
        let mut largest: Option<f64> = None;
        for (at, part) in
            self.parts.iter().enumerate().filter(|(at, _)| self.turn.is_none_or(|turn| turn == *at))
        {
            let mine = |p: &Info<'_>| self.group_of(p.name).is_some_and(|group| group.part() == at);
            match part.limit(params, &mine)? {
                Clipped::Norm(Some(norm)) => largest = Some(largest.map_or(norm, |most| most.max(norm))),
                Clipped::Norm(None) => {}
                bad => return Ok(bad),
            }
        }
        Ok(Clipped::Norm(largest))
    }

    /// Drops the gradients and closes the window.
    ///
    /// # Errors
    /// What the device says.
    pub fn clear(&mut self, params: &mut dyn Params) -> Result<()> {
        self.window = Window::default();
        self.forget_overflow();
        params.clear_grads()
    }

    pub(super) fn meet(&mut self, params: &dyn Params) -> Result<()> {
        if !self.bound {
            self.bind(params)?;
        }
        Ok(())
    }

    pub(super) fn has(&self, p: &Info<'_>) -> bool {
        self.moves(p.name)
    }

    /// The name of the optimizer whose turn it is.
    pub(super) fn whose_turn(&self) -> Option<String> {
        self.turn.and_then(|at| self.parts.get(at)).map(|part| part.name.clone())
    }

    /// Whether the next update moves this parameter.
    pub(super) fn moves(&self, name: &str) -> bool {
        self.group_of(name).is_some_and(|group| self.turn.is_none_or(|turn| turn == group.part()))
    }
}

/// The numbers of a group that schedules move, and their values.
fn scheduled(schedules: &[ScheduledParam], group: &Group, epoch: u64, iter: u64) -> Vec<(&'static str, f64)> {
    let mut moved: Vec<(&'static str, f64)> = Vec::new();
    for schedule in schedules {
        let Some(number) = schedule.number_of(group) else { continue };
        let base = group.base(number).unwrap_or(0.0);
        let at = moved.iter().position(|(name, _)| *name == number).unwrap_or_else(|| {
            moved.push((number, base));
            moved.len() - 1
        });
        moved[at].1 = schedule.apply(moved[at].1, base, epoch, iter);
    }
    moved
}
