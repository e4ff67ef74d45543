//! A schedule that is a formula in the config.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Schedule;
use super::family::family;
use super::formula::{Formula, Names};

/// What the formula gives: `{type: ExpressionLR, expression: "lr * min(1, t / 100) * cos(pi / 2 * t / T)"}`.
///
/// `lr`, `momentum` and `value` are what the schedules before this one give, `base` is what the group began with, `t`
/// counts the steps since `begin`, `T` is the number of steps. There are `+ - * / % ^ **`, comparisons that are 1 or 0,
/// `if(condition, then, else)`, min, max, pow, mod, sin, cos, tan, exp, log, sqrt, abs, floor, ceil, round, pi and e.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct Expression {
    /// The formula of the value.
    #[schemars(with = "String", length(min = 1), example = "lr * min(1, (t + 1) / 100)")]
    expression: Formula,
}

impl Schedule for Expression {
    fn at(&self, value: f64, base: f64, t: u64, n: u64) -> f64 {
        self.expression.at(Names { value, base, t: t as f64, length: n as f64 })
    }

    fn is_factor(&self) -> bool {
        false
    }
}

family! {
    Expression, "ExpressionLR", "ExpressionMomentum", "ExpressionParamScheduler",
    "by a formula of the steps, of the value before and of the base value."
}
