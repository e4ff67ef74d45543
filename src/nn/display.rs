//! A model as text, nested as PyTorch prints it.

use std::fmt;

use crate::base::number::grouped;

use super::{Child, ModuleTree, Param};

/// Children in brackets below their parent, with the shapes of their tensors and the number of parameters.
///
/// ```
/// use shanty::nn::{BatchNorm1d, Linear, ModuleTree, ReLU, Sequential};
///
/// let net = Sequential::new().with(Linear::new(3, 4)).named("act", ReLU::new()).with(BatchNorm1d::new(4));
/// let net: &dyn ModuleTree = &net;
/// let text = "\
/// Sequential(  # 24 parameters
///   (0): Linear(weight=[4, 3], bias=[4])  # 16 parameters
///   (act): ReLU()
///   (2): BatchNorm1d(weight=[4], bias=[4], running_mean=[4], running_var=[4])  # 8 parameters
/// )";
/// assert_eq!(net.to_string(), text);
/// ```
impl fmt::Display for dyn ModuleTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        nested(self, 0, f)
    }
}

fn nested(module: &dyn ModuleTree, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let (mut tensors, mut children) = (Vec::new(), Vec::new());
    module.visit_children(&mut |name, part| match part {
        Child::Param(param) => tensors.push(format!("{name}={:?}", param.value.shape())),
        Child::Buffer(buffer) => tensors.push(format!("{name}={:?}", buffer.value.shape())),
        Child::Counter(_) => {}
        Child::Module(child) => children.push((name.to_owned(), child)),
    });
    write!(f, "{}({}", module.type_name(), tensors.join(", "))?;
    if children.is_empty() {
        write!(f, ")")?;
    }
    write!(f, "{}", Size::of(module))?;
    for (name, child) in &children {
        write!(f, "\n{:1$}({name}): ", "", 2 * (depth + 1))?;
        nested(*child, depth + 1, f)?;
    }
    if children.is_empty() { Ok(()) } else { write!(f, "\n{:1$})", "", 2 * depth) }
}

/// How many parameters a module and all below it have, and how many of them are held still.
struct Size {
    all: u64,
    frozen: u64,
}

impl Size {
    fn of(module: &dyn ModuleTree) -> Self {
        let params = super::named_parameters(module);
        let count = |frozen: bool| {
            let own = params.iter().filter(|(_, param)| !frozen || !param.trainable);
            own.map(|(_, param): &(String, &Param)| param.value.len() as u64).sum()
        };
        Self { all: count(false), frozen: count(true) }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { all: 0, .. } => Ok(()),
            Self { all, frozen: 0 } => write!(f, "  # {} parameters", grouped(all)),
            Self { all, frozen } if frozen == all => write!(f, "  # {} parameters, frozen", grouped(all)),
            Self { all, frozen } => {
                write!(f, "  # {} parameters, {} of them frozen", grouped(all), grouped(frozen))
            }
        }
    }
}
