//! A parameter group: the numbers that the optimizer uses and the schedules move.

/// Hyper-parameters shared by the parameters of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// The learning rate of the next update.
    pub lr: f64,
    /// The learning rate that schedules start from.
    pub base_lr: f64,
    /// L2 penalty added to the gradient.
    pub weight_decay: f64,
    /// Momentum (or the first beta of Adam-like optimizers).
    pub momentum: f64,
}
