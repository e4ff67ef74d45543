//! MMEngine's three names of each shape.

/// Registers a schedule that is its own parameters as `…LR`, `…Momentum` and `…ParamScheduler`.
macro_rules! family {
    ($type:ty, $lr:literal, $momentum:literal, $any:literal, $doc:literal) => {
        crate::register! {
            #[doc = concat!("Learning rate ", $doc)]
            dyn $crate::optim::Schedule, $lr => $type
        }
        crate::register! {
            #[doc = concat!("Momentum (or beta1) ", $doc)]
            dyn $crate::optim::Schedule, $momentum => $type
        }
        crate::register! {
            #[doc = concat!("Any number of the optimizer, `param_name`, ", $doc)]
            dyn $crate::optim::Schedule, $any => $type
        }
    };
}
pub(super) use family;
