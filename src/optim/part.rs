//! One optimizer of a wrapper, with the rules of its groups and its clipping.

use super::clip::Clipped;
use super::groups::{Formed, form};
use super::{ClipGrad, Optimizer, ParamwiseConfig};
use crate::base::{Error, Result};
use crate::params::{Info, Op, Params, Set, Want};

/// Which parameters one of several optimizers moves; of those that no optimizer before it moves.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Share {
    /// Paths of modules, or of parameters.
    pub modules: Vec<String>,
    /// Parameters with so many axes.
    pub ndim: Option<usize>,
}

impl Share {
    /// Whether it has this parameter.
    fn has(&self, p: &Info<'_>) -> bool {
        let below = |path: &String| {
            p.name.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        (self.modules.is_empty() || self.modules.iter().any(below))
            && self.ndim.is_none_or(|ndim| p.shape.len() == ndim)
    }
}

/// An optimizer with all that is its own.
pub(super) struct Part {
    /// Empty, where it is the only one.
    pub name: String,
    pub share: Share,
    /// The optimizer as it was given.
    pub given: Box<dyn Optimizer>,
    pub paramwise: Option<ParamwiseConfig>,
    pub clip: Option<ClipGrad>,
}

impl Part {
    /// An optimizer of all parameters.
    pub fn of(optimizer: Box<dyn Optimizer>) -> Self {
        Self { name: String::new(), share: Share::default(), given: optimizer, paramwise: None, clip: None }
    }

    /// Limits its gradients: by `clip_grad`, then by the norm that is part of the optimizer's formula.
    pub fn limit(&self, params: &mut dyn Params, mine: Want<'_>) -> Result<Clipped> {
        let clipped = match &self.clip {
            Some(clip) => clip.apply(params, mine)?,
            None => Clipped::Norm(None),
        };
        let (Clipped::Norm(_), Some(most)) = (clipped, self.given.max_grad_norm()) else {
            return Ok(clipped);
        };
        let norm = params.norm(Set::Grads, 2.0, mine)?;
        if !norm.is_finite() {
            return Ok(Clipped::NonFinite(norm));
        }
        if norm > most {
            params.apply(Op::ScaleGrads(most / norm), mine)?;
        }
        Ok(clipped)
    }

    /// What groups are called.
    pub fn called(&self, group: &str) -> String {
        match (self.name.as_str(), group) {
            ("", group) => group.to_owned(),
            (name, "default") => name.to_owned(),
            (name, group) => format!("{name}.{group}"),
        }
    }
}

/// Forms the groups of all parts. Each parameter goes to the first part that has it.
pub(super) fn form_all(parts: &[Part], params: &dyn Params) -> Result<Formed> {
    let mut all = Formed::default();
    for (at, part) in parts.iter().enumerate() {
        part.given.check()?;
        let mine = |p: &Info<'_>| parts.iter().position(|part| part.share.has(p)) == Some(at);
        let formed = form(&*part.given, part.paramwise.as_ref(), params, &mine)?;
        if !part.name.is_empty() && formed.members.is_empty() {
            let text = format!("the optimizer `{}` moves no parameter of the model", part.name);
            return Err(Error::config(text));
        }
        let first = all.groups.len();
        all.groups.extend(formed.groups.into_iter().map(|group| {
            let name = part.called(group.name());
            group.of_part(at, name)
        }));
        all.members.extend(formed.members.into_iter().map(|(name, group)| (name, first + group)));
        // A tensor under two names is told by every part.
        let new: Vec<_> = formed.warnings.into_iter().filter(|text| !all.warnings.contains(text)).collect();
        all.warnings.extend(new);
    }
    let mut left = None;
    params.infos(&mut |p| {
        if p.role.is_trained() && !p.frozen && parts.iter().all(|part| !part.share.has(&p)) {
            left.get_or_insert_with(|| p.name.to_owned());
        }
    });
    match left {
        None => Ok(all),
        Some(name) => Err(Error::config(format!(
            "no optimizer moves `{name}`: freeze it, or let the last one take what is left, with `modules: []`"
        ))),
    }
}
