//! A teacher that follows its student slowly.

use std::collections::BTreeMap;

use ndarray::ArrayD;

use crate::plugin::prelude::*;

/// Moves `teacher.*` towards `student.*` in a model that holds both (Tarvainen and Valpola 2017, after mmdet's hook).
///
/// The teacher is part of the model, so checkpoints hold it and a resumed run needs nothing else.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MeanTeacherHook {
    /// The weight of the student in an update, in (0, 1).
    #[schemars(extend("exclusiveMinimum" = 0.0, "exclusiveMaximum" = 1.0))]
    momentum: f64,
    /// Iterations between two updates.
    #[schemars(range(min = 1))]
    interval: u64,
    /// Leave buffers of the teacher alone.
    skip_buffer: bool,
    /// Where the teacher's names begin.
    teacher: String,
    /// Where the student's names begin.
    student: String,
    /// The student's tensors, kept so that an update allocates nothing.
    #[serde(skip)]
    copies: BTreeMap<String, ArrayD<Elem>>,
}

impl Default for MeanTeacherHook {
    fn default() -> Self {
        Self {
            momentum: 0.001,
            interval: 1,
            skip_buffer: true,
            teacher: "teacher".into(),
            student: "student".into(),
            copies: BTreeMap::new(),
        }
    }
}

impl MeanTeacherHook {
    fn update(&mut self, model: &mut dyn Model, momentum: f64) -> HookResult {
        let Self { skip_buffer, copies, .. } = self;
        let taken = |role: Role| role.is_trained() || !*skip_buffer;
        let (student, teacher) = (&self.student, &self.teacher);
        let named = |p: &Info<'_>, prefix: &str| taken(p.role) && below(p.name, prefix).is_some();
        model.read(Set::Values, &|p| named(p, student), &mut |p, value| {
            let Some(name) = below(p.name, student) else { return };
            match copies.get_mut(name) {
                Some(copy) => copy.assign(&value),
                None => drop(copies.insert(name.to_owned(), value.to_owned())),
            }
        })?;
        let mut unmatched = None;
        let mut met = 0;
        model.edit(Set::Values, &|p| named(p, teacher), &mut |p, mut value| {
            let Some(name) = below(p.name, teacher) else { return };
            let Some(source) = copies.get(name).filter(|s| s.shape() == value.shape()) else {
                unmatched.get_or_insert_with(|| p.name.to_owned());
                return;
            };
            met += 1;
            if p.role == Role::Counter {
                value.assign(source);
            } else {
                value.zip_mut_with(source, |t, s| *t += momentum as Elem * (s - *t));
            }
        })?;
        match unmatched {
            Some(name) => Err(format!("`{name}` has no counterpart below `{student}`").into()),
            None if met == 0 => {
                Err(format!("the model has no weights below `{teacher}` and `{student}`").into())
            }
            None => Ok(()),
        }
    }
}

/// `fc.weight` of `teacher.fc.weight`.
fn below<'n>(name: &'n str, prefix: &str) -> Option<&'n str> {
    name.strip_prefix(prefix)?.strip_prefix('.')
}

setters!(MeanTeacherHook {
    /// The weight of the student in an update, in (0, 1).
    momentum: = f64,
    /// Iterations between two updates.
    interval: = u64,
    /// Whether to leave buffers of the teacher alone.
    skip_buffer: = bool,
    /// Where the teacher's names begin.
    teacher: = String,
    /// Where the student's names begin.
    student: = String,
});

impl Hook for MeanTeacherHook {
    fn check_options(&self, _: &BuildCx) -> Result<()> {
        check_ranges(self)
    }

    fn order(&self) -> HookOrder {
        HookOrder::default().before("CheckpointHook")
    }

    fn before_train(&mut self, cx: &mut Ctx<'_>) -> HookResult {
        if cx.progress.iter == 0 && !cx.info.placeholders {
            self.update(&mut **cx.model, 1.0)?;
        }
        Ok(())
    }

    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, _step: &mut Step<'_>) -> HookResult {
        if !cx.progress.every_n_iters(self.interval, 0) {
            return cx.no_op();
        }
        if cx.info.placeholders { Ok(()) } else { self.update(&mut **cx.model, self.momentum) }
    }
}

register! {
    /// Moves a teacher's weights slowly towards those of its student, both parts of the model.
    dyn Hook, "MeanTeacherHook" => MeanTeacherHook
}
