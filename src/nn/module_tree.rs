//! The tree of modules: each level names its fields, the walks over the whole of it are in `tree.rs`.

use std::any::Any;

use super::init::Init;
use super::{Buffer, Counter, Param};

/// One named child of a module.
pub enum Child<'a> {
    /// A trained tensor.
    Param(&'a Param),
    /// A tensor that is not trained.
    Buffer(&'a Buffer),
    /// A count.
    Counter(&'a Counter),
    /// A module with children of its own.
    Module(&'a dyn ModuleTree),
}

/// One named child of a module, with write access.
pub enum ChildMut<'a> {
    /// A trained tensor.
    Param(&'a mut Param),
    /// A tensor that is not trained.
    Buffer(&'a mut Buffer),
    /// A count.
    Counter(&'a mut Counter),
    /// A module with children of its own.
    Module(&'a mut dyn ModuleTree),
}

/// A node of the tree of modules. Implemented by [`module!`](crate::module); `Box` passes through, `Vec` is a
/// `ModuleList`.
#[diagnostic::on_unimplemented(
    message = "the children of `{Self}` are not known",
    note = "name the fields of `{Self}` that hold parameters, buffers and layers: `shanty::module!({Self} {{ weight, bias }});`"
)]
pub trait ModuleTree: Any {
    /// Name of the type, as registered: `Conv2d`.
    fn type_name(&self) -> &'static str;

    /// The families it belongs to, which `layer:` of an `init_cfg` may name too: `_ConvNd`, `_BatchNorm`.
    fn families(&self) -> &'static [&'static str] {
        &[]
    }

    /// How its weights begin, if its type or its YAML says so.
    fn init_cfg(&self) -> &[Init] {
        &[]
    }

    /// Into how many groups the channels of its `weight` are split: the fans are counted within one.
    fn groups(&self) -> usize {
        1
    }

    /// A plain number of the module by its config's name, to change while training: `p` of a dropout.
    fn number_mut(&mut self, _name: &str) -> Option<&mut f64> {
        None
    }

    /// Calls `f` with every direct child and its name, in the order of declaration.
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>));

    /// Calls `f` with every direct child and its name, in the order of declaration, with write access.
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>));
}

/// What a field named in [`module!`](crate::module) can be: `Param`, `Buffer`, `Counter`, a module, or `Option` of
/// these.
#[diagnostic::on_unimplemented(
    message = "a field of type `{Self}` cannot stand in `module!`",
    note = "it takes `Param`, `Buffer`, `Counter`, modules, and `Option` and `Vec` of these; leave out plain numbers",
    note = "if `{Self}` is a layer of your own, name its fields: `shanty::module!({Self} {{ weight, bias }});`"
)]
pub trait Field {
    /// Calls `f` with this field, unless it is an empty `Option`.
    fn visit<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Child<'a>));
    /// Calls `f` with this field, unless it is an empty `Option`.
    fn visit_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, ChildMut<'a>));
}

macro_rules! leaf {
    ($($ty:ident),+) => {$(
        impl Field for $ty {
            fn visit<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Child<'a>)) {
                f(name, Child::$ty(self));
            }
            fn visit_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
                f(name, ChildMut::$ty(self));
            }
        }
    )+};
}
leaf!(Buffer, Counter);

/// One that is tied is listed where it is not.
impl Field for Param {
    fn visit<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Child<'a>)) {
        if !self.is_tied() {
            f(name, Child::Param(self));
        }
    }
    fn visit_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        if !self.is_tied() {
            f(name, ChildMut::Param(self));
        }
    }
}

impl<M: ModuleTree> Field for M {
    fn visit<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Child<'a>)) {
        f(name, Child::Module(self));
    }
    fn visit_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        f(name, ChildMut::Module(self));
    }
}

impl<F: Field> Field for Option<F> {
    fn visit<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Child<'a>)) {
        if let Some(field) = self {
            field.visit(name, f);
        }
    }
    fn visit_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        if let Some(field) = self {
            field.visit_mut(name, f);
        }
    }
}

impl<P: ModuleTree + ?Sized> ModuleTree for Box<P> {
    fn type_name(&self) -> &'static str {
        (**self).type_name()
    }
    fn families(&self) -> &'static [&'static str] {
        (**self).families()
    }
    fn init_cfg(&self) -> &[Init] {
        (**self).init_cfg()
    }
    fn groups(&self) -> usize {
        (**self).groups()
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        (**self).number_mut(name)
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        (**self).visit_children(f);
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        (**self).visit_children_mut(f);
    }
}

/// A list of modules whose children are called `0`, `1`, …
impl<F: Field + 'static> ModuleTree for Vec<F> {
    fn type_name(&self) -> &'static str {
        "ModuleList"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        for (i, item) in self.iter().enumerate() {
            item.visit(&i.to_string(), f);
        }
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        for (i, item) in self.iter_mut().enumerate() {
            item.visit_mut(&i.to_string(), f);
        }
    }
}

/// Names the fields of a module that hold weights, state or other modules; what a field is follows from its type.
///
/// ```
/// use shanty::nn::{Buffer, Counter, Param, ModuleTree};
///
/// struct Norm { weight: Param, running_mean: Buffer, seen: Counter, eps: f32 }
/// shanty::module!(Norm: "_BatchNorm" { weight, running_mean, seen });
///
/// let (weight, running_mean) = (Param::full(&[2], 1.0), Buffer::full(&[2], 0.0));
/// let norm = Norm { weight, running_mean, seen: Counter::default(), eps: 1e-5 };
/// assert_eq!((norm.type_name(), norm.families()), ("Norm", &["_BatchNorm"][..]));
/// # let _ = norm.eps;
/// ```
///
/// `field as "0"` gives a part another name than its field's: that of an item of a `Sequential`, say. `..field` takes
/// the children of a field for one's own, so that they appear without its name: `module!(Sequential { ..layers });`.
/// After the struct's name may stand its families. A type with initial weights of its own names the field that holds
/// them (a `Vec<Init>`), a grouped convolution the field with the number of its groups: `module!(Net { conv, fc },
/// init_cfg = init);`, `module!(Conv: "_ConvNd" { weight, bias }, groups = groups);`.
#[macro_export]
macro_rules! module {
    ($ty:ident $(: $($family:literal),+)? { $($field:ident $(as $name:literal)?),* $(,)? $(..$spread:ident)? }
     $(, init_cfg = $init:ident)? $(, groups = $($groups:ident).+)? $(, number = $number:ident)?) => {
        impl $crate::nn::ModuleTree for $ty {
            fn type_name(&self) -> &'static str {
                stringify!($ty)
            }
            $(fn families(&self) -> &'static [&'static str] {
                &[$($family),+]
            })?
            $(fn init_cfg(&self) -> &[$crate::nn::init::Init] {
                &self.$init
            })?
            $(fn groups(&self) -> usize {
                self.$($groups).+
            })?
            $(fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
                (name == stringify!($number)).then_some(&mut self.$number)
            })?
            fn visit_children<'a>(&'a self, _f: &mut dyn FnMut(&str, $crate::nn::Child<'a>)) {
                $($crate::nn::Field::visit(&self.$field, $crate::__child_name!($field $($name)?), _f);)*
                $($crate::nn::ModuleTree::visit_children(&self.$spread, _f);)?
            }
            fn visit_children_mut<'a>(&'a mut self, _f: &mut dyn FnMut(&str, $crate::nn::ChildMut<'a>)) {
                $($crate::nn::Field::visit_mut(&mut self.$field, $crate::__child_name!($field $($name)?), _f);)*
                $($crate::nn::ModuleTree::visit_children_mut(&mut self.$spread, _f);)?
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __child_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}
