//! What tests need, of this crate and of plugin crates: toy models on the host and on a device, a recorder, a disk that
//! fails.

mod compare;
mod contract;
mod device;
mod faults;
mod layers;
mod model;
mod parts;
mod ranks;
mod recorder;
mod reseal;
mod scripted;
mod signs;
pub mod sim;
mod toy;

pub use crate::{
    dataset_contract, hook_contract, layer_contract, metric_contract, model_contract, optimizer_contract,
    transform_contract,
};
pub use contract::{Breach, Clause, Contract, contract_run, contract_run_of};
pub use device::DeviceModel;
pub use faults::{FaultyDisk, JudgedDisk, Op, Verdict};
pub use layers::{grad_check, layer_breach};
pub use model::model_breach;
pub use parts::{dataset_breach, metric_breach, optimizer_breach, transform_breach};
pub use ranks::ranks;
pub use recorder::{Recorder, Trace};
pub use reseal::reseal;
pub use scripted::Scripted;
pub use signs::Signs;
pub use toy::{STOCHASTIC_NET, ToyModel, toy_data, toy_optim, toy_runner, toy_runner_of};
