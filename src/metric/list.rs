//! One metric, a tuple of several or a list of boxes, where an [`Evaluator`] is wanted. Two values of one name are told
//! by [`Evaluator::check`], which a run asks when it is built.

use super::{Evaluator, Metric, MetricConfig};

impl From<Vec<Box<dyn Metric>>> for Evaluator {
    fn from(metrics: Vec<Box<dyn Metric>>) -> Self {
        Self::of(metrics.into_iter().map(|metric| (MetricConfig::default(), metric)).collect())
    }
}

impl<M: Metric + 'static> From<M> for Evaluator {
    fn from(metric: M) -> Self {
        vec![Box::new(metric) as Box<dyn Metric>].into()
    }
}

macro_rules! tuples_are_metrics {
    ($($metric:ident)+) => {
        impl<$($metric: Metric + 'static),+> From<($($metric,)+)> for Evaluator {
            #[allow(non_snake_case)]
            fn from(($($metric,)+): ($($metric,)+)) -> Self {
                vec![$(Box::new($metric) as Box<dyn Metric>),+].into()
            }
        }
    };
}
tuples_are_metrics!(A B);
tuples_are_metrics!(A B C);
tuples_are_metrics!(A B C D);
tuples_are_metrics!(A B C D E);
