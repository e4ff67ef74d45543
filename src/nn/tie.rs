//! One parameter under several names.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::suggest::nearest;
use crate::base::{Error, Result, Tensor};

use super::tree::{at_mut, each_param};
use super::{ChildMut, ModuleTree, Param, named_parameters};

/// Where a parameter stands during a step for those that are tied to it. Between steps it is empty, so that the
/// optimizer has the memory to itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<Lent>>>);

/// A parameter that is lent.
#[derive(Debug, Clone)]
pub(super) struct Lent {
    pub value: Tensor,
    pub trainable: bool,
}

/// What a parameter has to do with others.
#[derive(Debug)]
pub(super) enum Tie {
    /// It is used by those that are tied to it, which had these names: where each of them looks for it.
    Lends(Vec<Slot>, Vec<String>),
    /// It has no value of its own, and no place in a list of parameters.
    Borrows(Slot),
}

impl Slot {
    pub fn get(&self) -> Option<Lent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, lent: Option<Lent>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lent;
    }
}

/// The names that are gone since parameters were tied, each with that which stays.
pub fn tied_names(root: &dyn ModuleTree) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (stays, param) in named_parameters(root) {
        if let Some(Tie::Lends(_, gone)) = &param.tie {
            all.extend(gone.iter().map(|gone| (gone.clone(), stays.clone())));
        }
    }
    all
}

/// Lets parameters that are tied use those that they are tied to.
pub(super) fn lend(root: &mut dyn ModuleTree) {
    each_param(root, &mut |param| {
        if let Some(Tie::Lends(slots, _)) = &param.tie {
            let lent = || Lent { value: param.value.clone(), trainable: param.trainable };
            slots.iter().for_each(|slot| slot.put(Some(lent())));
        }
    });
}

/// Ends that.
pub(super) fn take_back(root: &mut dyn ModuleTree) {
    each_param(root, &mut |param| {
        if let Some(Tie::Lends(slots, _)) = &param.tie {
            slots.iter().for_each(|slot| slot.put(None));
        }
    });
}

/// Makes one parameter of several, by their paths: that of the first in the order of the network stays, with its
/// name, and the others are no parameters any more; their places use it. Its gradient is the sum over all places, a
/// checkpoint holds it once, and the optimizer moves it once. If one of them is frozen, all are. A parameter that is
/// tied already brings along what it is tied to.
///
/// ```
/// use shanty::base::Tensor;
/// use shanty::nn::{Linear, Sequential, named_parameters, tie_weights, tied_names};
///
/// let mut net = Sequential::new().with(Linear::new(3, 3)).with(Linear::new(3, 3).bias(false));
/// tie_weights(&mut net, &["1.weight", "0.weight"])?;
/// assert_eq!(tied_names(&net), [("1.weight".to_owned(), "0.weight".to_owned())]);
/// let names: Vec<String> = named_parameters(&net).into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["0.weight", "0.bias"]);
/// # Ok::<(), shanty::base::Error>(())
/// ```
///
/// # Errors
/// When a path is no parameter's, one is named twice or tied to another one of them already, there is but one, or their
/// shapes differ.
pub fn tie_weights<S: AsRef<str>>(root: &mut dyn ModuleTree, paths: &[S]) -> Result<()> {
    let asked: Vec<&str> = paths.iter().map(AsRef::as_ref).collect();
    let known = tied_names(root);
    let order = standing(root, &asked, &known)?;
    let [first, others @ ..] = &order[..] else { return Err(too_few()) };
    if others.is_empty() {
        return Err(too_few());
    }
    if let Some(odd) = others.iter().find(|other| other.shape != first.shape) {
        return Err(Error::config(format!(
            "`{}` has the shape {:?} and `{}` {:?}: tied weights have one shape",
            first.name, first.shape, odd.name, odd.shape
        )));
    }
    let trainable = order.iter().all(|one| one.trainable);
    let (mut slots, mut gone) = (Vec::new(), Vec::new());
    for other in others {
        let slot = Slot::default();
        at_param(root, &other.name, &mut |param| {
            param.value = Tensor::zeros(vec![0; first.shape.len()]);
            param.grad = None;
            // With it goes what is tied to it, which looks for its value where it did.
            if let Some(Tie::Lends(own, names)) = param.tie.replace(Tie::Borrows(slot.clone())) {
                slots.extend(own);
                gone.extend(names);
            }
        })?;
        slots.push(slot);
        gone.push(other.name.clone());
    }
    at_param(root, &first.name, &mut |param| {
        param.trainable = trainable;
        if let Tie::Lends(own, names) = param.tie.get_or_insert(Tie::Lends(Vec::new(), Vec::new())) {
            own.append(&mut slots);
            names.append(&mut gone);
        }
    })
}

/// A parameter that is to be tied.
struct Standing {
    name: String,
    shape: Vec<usize>,
    trainable: bool,
}

/// The parameters of these paths in the order of the network. Who is tied already is what it is tied to.
fn standing(root: &dyn ModuleTree, asked: &[&str], known: &[(String, String)]) -> Result<Vec<Standing>> {
    let all = named_parameters(root);
    let mut places: Vec<usize> = Vec::new();
    for (i, path) in asked.iter().enumerate() {
        if asked[..i].contains(path) {
            return Err(Error::config(format!("`{path}` is named twice")));
        }
        let own = known.iter().find(|(gone, _)| gone == path).map_or(*path, |(_, stays)| stays.as_str());
        let at = all.iter().position(|(name, _)| name == own).ok_or_else(|| {
            let hint = nearest(path, all.iter().map(|(name, _)| name.as_str()));
            let hint = hint.map_or(String::new(), |near| format!("; did you mean `{near}`?"));
            Error::config(format!("the model has no parameter `{path}`{hint}"))
        })?;
        if let Some(before) = places.iter().position(|place| *place == at) {
            let before = asked[before];
            return Err(Error::config(format!("`{path}` and `{before}` are tied already: name one of them")));
        }
        places.push(at);
    }
    places.sort_unstable();
    let one = |at: usize| {
        let (name, param) = &all[at];
        Standing { name: name.clone(), shape: param.value.shape().to_vec(), trainable: param.trainable }
    };
    Ok(places.into_iter().map(one).collect())
}

fn too_few() -> Error {
    Error::config("two parameters or more are tied: give their paths, `[embedding.weight, decoder.weight]`")
}

/// Calls `f` with the parameter of a path.
fn at_param(root: &mut dyn ModuleTree, path: &str, f: &mut dyn FnMut(&mut Param)) -> Result<()> {
    let (module, own) = path.rsplit_once('.').unwrap_or(("", path));
    at_mut(root, module)?.visit_children_mut(&mut |name, part| {
        if let ChildMut::Param(param) = part
            && name == own
        {
            f(param);
        }
    });
    Ok(())
}
