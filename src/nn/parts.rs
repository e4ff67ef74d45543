//! The tree of modules: each level names its fields, the walks over the whole of it are in `tree.rs`.

use std::any::Any;

use super::init::Init;
use super::{Buffer, Counter, Param};

/// One named thing that a module is made of.
pub enum Part<'a> {
    /// A trained tensor.
    Param(&'a Param),
    /// A tensor that is not trained.
    Buffer(&'a Buffer),
    /// A count.
    Counter(&'a Counter),
    /// A module with parts of its own.
    Module(&'a dyn Parts),
}

/// One named thing that a module is made of, with write access.
pub enum PartMut<'a> {
    /// A trained tensor.
    Param(&'a mut Param),
    /// A tensor that is not trained.
    Buffer(&'a mut Buffer),
    /// A count.
    Counter(&'a mut Counter),
    /// A module with parts of its own.
    Module(&'a mut dyn Parts),
}

/// A node of the tree of modules. Implemented by [`parts!`](crate::parts); `Box` passes through, `Vec` is a `ModuleList`.
pub trait Parts: Any {
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

    /// How tensors of its own begin that are no layer's weight or bias, by name; an `init_cfg` does not change that.
    fn own_init(&self) -> &[(&'static str, Init)] {
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

    /// Calls `f` with every direct part and its name, in the order of declaration.
    fn each<'a>(&'a self, f: &mut dyn FnMut(&str, Part<'a>));

    /// Calls `f` with every direct part and its name, in the order of declaration, with write access.
    fn each_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, PartMut<'a>));
}

/// What a field named in [`parts!`](crate::parts) can be: `Param`, `Buffer`, `Counter`, a module, or `Option` of these.
pub trait Field {
    /// Calls `f` with this field, unless it is an empty `Option`.
    fn part<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Part<'a>));
    /// Calls `f` with this field, unless it is an empty `Option`.
    fn part_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, PartMut<'a>));
}

macro_rules! leaf {
    ($($ty:ident),+) => {$(
        impl Field for $ty {
            fn part<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Part<'a>)) {
                f(name, Part::$ty(self));
            }
            fn part_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, PartMut<'a>)) {
                f(name, PartMut::$ty(self));
            }
        }
    )+};
}
leaf!(Param, Buffer, Counter);

impl<M: Parts> Field for M {
    fn part<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Part<'a>)) {
        f(name, Part::Module(self));
    }
    fn part_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, PartMut<'a>)) {
        f(name, PartMut::Module(self));
    }
}

impl<F: Field> Field for Option<F> {
    fn part<'a>(&'a self, name: &str, f: &mut dyn FnMut(&str, Part<'a>)) {
        if let Some(field) = self {
            field.part(name, f);
        }
    }
    fn part_mut<'a>(&'a mut self, name: &str, f: &mut dyn FnMut(&str, PartMut<'a>)) {
        if let Some(field) = self {
            field.part_mut(name, f);
        }
    }
}

impl<P: Parts + ?Sized> Parts for Box<P> {
    fn type_name(&self) -> &'static str {
        (**self).type_name()
    }
    fn families(&self) -> &'static [&'static str] {
        (**self).families()
    }
    fn init_cfg(&self) -> &[Init] {
        (**self).init_cfg()
    }
    fn own_init(&self) -> &[(&'static str, Init)] {
        (**self).own_init()
    }
    fn groups(&self) -> usize {
        (**self).groups()
    }
    fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
        (**self).number_mut(name)
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(&str, Part<'a>)) {
        (**self).each(f);
    }
    fn each_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, PartMut<'a>)) {
        (**self).each_mut(f);
    }
}

/// A list of modules whose children are called `0`, `1`, …
impl<F: Field + 'static> Parts for Vec<F> {
    fn type_name(&self) -> &'static str {
        "ModuleList"
    }
    fn each<'a>(&'a self, f: &mut dyn FnMut(&str, Part<'a>)) {
        for (i, item) in self.iter().enumerate() {
            item.part(&i.to_string(), f);
        }
    }
    fn each_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, PartMut<'a>)) {
        for (i, item) in self.iter_mut().enumerate() {
            item.part_mut(&i.to_string(), f);
        }
    }
}

/// Names the fields of a module that hold weights, state or other modules; what a field is follows from its type.
///
/// ```
/// use shanty::nn::{Buffer, Counter, Param, Parts};
///
/// struct Norm { weight: Param, running_mean: Buffer, seen: Counter, eps: f32 }
/// shanty::parts!(Norm: "_BatchNorm" { weight, running_mean, seen });
///
/// let norm = Norm { weight: Param::full(&[2], 1.0), running_mean: Buffer::full(&[2], 0.0), seen: Counter::default(), eps: 1e-5 };
/// assert_eq!((norm.type_name(), norm.families()), ("Norm", &["_BatchNorm"][..]));
/// # let _ = norm.eps;
/// ```
///
/// `field as "0"` gives a part another name than its field's: that of an item of a `Sequential`, say.
/// `..field` takes the parts of a field for one's own, so that they appear without its name: `parts!(Sequential { ..layers });`.
/// After the struct's name may stand its families. A type with initial weights of its own names the field that holds them
/// (a `Vec<Init>`), a grouped convolution the field with the number of its groups:
/// `parts!(Net { conv, fc }, init_cfg = init);`, `parts!(Conv: "_ConvNd" { weight, bias }, groups = groups);`. Tensors that are
/// no layer's weight or bias begin by the rules in the field of `own_init`, pairs of name and rule.
#[macro_export]
macro_rules! parts {
    ($ty:ident $(: $($family:literal),+)? { $($field:ident $(as $name:literal)?),* $(,)? $(..$spread:ident)? }
     $(, init_cfg = $init:ident)? $(, own_init = $own_init:ident)? $(, groups = $($groups:ident).+)? $(, number = $number:ident)?) => {
        impl $crate::nn::Parts for $ty {
            fn type_name(&self) -> &'static str {
                stringify!($ty)
            }
            $(fn families(&self) -> &'static [&'static str] {
                &[$($family),+]
            })?
            $(fn init_cfg(&self) -> &[$crate::nn::init::Init] {
                &self.$init
            })?
            $(fn own_init(&self) -> &[(&'static str, $crate::nn::init::Init)] {
                &self.$own_init
            })?
            $(fn groups(&self) -> usize {
                self.$($groups).+
            })?
            $(fn number_mut(&mut self, name: &str) -> Option<&mut f64> {
                (name == stringify!($number)).then_some(&mut self.$number)
            })?
            fn each<'a>(&'a self, _f: &mut dyn FnMut(&str, $crate::nn::Part<'a>)) {
                $($crate::nn::Field::part(&self.$field, $crate::__part_name!($field $($name)?), _f);)*
                $($crate::nn::Parts::each(&self.$spread, _f);)?
            }
            fn each_mut<'a>(&'a mut self, _f: &mut dyn FnMut(&str, $crate::nn::PartMut<'a>)) {
                $($crate::nn::Field::part_mut(&mut self.$field, $crate::__part_name!($field $($name)?), _f);)*
                $($crate::nn::Parts::each_mut(&mut self.$spread, _f);)?
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __part_name {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $name:literal) => {
        $name
    };
}
