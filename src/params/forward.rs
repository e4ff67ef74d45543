//! Models that hold another model.

/// Implements [`Params`](crate::params::Params) for a type by a field that has it, every method of it: a wrapper that
/// forgot one would silently take the slow way.
///
/// ```
/// struct Logged { inner: Box<dyn shanty::model::Model> }
/// shanty::forward_params!(Logged, inner);
/// ```
#[macro_export]
macro_rules! forward_params {
    ($type:ty, $field:ident) => {
        impl $crate::params::Params for $type {
            fn infos(&self, f: &mut dyn FnMut($crate::params::Info<'_>)) {
                self.$field.infos(f);
            }
            fn read(
                &self,
                set: $crate::params::Set,
                want: $crate::params::Want<'_>,
                f: &mut dyn FnMut(
                    &$crate::params::Info<'_>,
                    $crate::__private::ndarray::ArrayViewD<'_, $crate::base::Elem>,
                ),
            ) -> $crate::base::Result<()> {
                self.$field.read(set, want, f)
            }
            fn edit(
                &mut self,
                set: $crate::params::Set,
                want: $crate::params::Want<'_>,
                f: &mut dyn FnMut(
                    &$crate::params::Info<'_>,
                    $crate::__private::ndarray::ArrayViewMutD<'_, $crate::base::Elem>,
                ),
            ) -> $crate::base::Result<()> {
                self.$field.edit(set, want, f)
            }
            fn read_own(
                &self,
                own: &$crate::params::OwnSet,
                f: &mut dyn FnMut(&str, $crate::__private::ndarray::ArrayViewD<'_, $crate::base::Elem>),
            ) -> $crate::base::Result<()> {
                self.$field.read_own(own, f)
            }
            fn apply(
                &mut self,
                op: $crate::params::Op<'_>,
                want: $crate::params::Want<'_>,
            ) -> $crate::base::Result<()> {
                self.$field.apply(op, want)
            }
            fn norm(
                &self,
                set: $crate::params::Set,
                order: f64,
                want: $crate::params::Want<'_>,
            ) -> $crate::base::Result<f64> {
                self.$field.norm(set, order, want)
            }
            fn clear_grads(&mut self) -> $crate::base::Result<()> {
                self.$field.clear_grads()
            }
            fn put_grads(
                &mut self,
                sums: &::std::collections::BTreeMap<
                    String,
                    $crate::__private::ndarray::ArrayD<$crate::base::Elem>,
                >,
            ) -> $crate::base::Result<()> {
                self.$field.put_grads(sums)
            }
            fn update(
                &mut self,
                rule_of: $crate::params::RuleOf<'_>,
                state: &mut $crate::params::OptimState,
            ) -> $crate::base::Result<()> {
                self.$field.update(rule_of, state)
            }
            fn exchange(
                &mut self,
                want: $crate::params::Want<'_>,
                f: &mut dyn FnMut(&mut $crate::params::FlatGrads) -> $crate::base::Result<()>,
            ) -> $crate::base::Result<()> {
                self.$field.exchange(want, f)
            }
        }
    };
}
