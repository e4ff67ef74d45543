//! Memory that is handed out with what it last held decides nothing: runs end with the same bits whatever it is filled
//! with. Debug builds fill it, so this and all other tests run under the pattern ff; see `base::stale`.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // helpers of tests

mod nets;

use std::process::Command;

use ndarray::ArrayD;
use shanty::base::Elem;
use shanty::model::{Model, StepCx};
use shanty::optim::{ClipGrad, OptimWrapper, Sgd};
use shanty::params::StateDict;

/// A hash of all weights after some steps of each of the shipped networks, copied by a snapshot that is used again.
fn digest() -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for (_, mut model, batch) in nets::all() {
        let mut optim = OptimWrapper::new(Sgd::new(0.01).momentum(0.9)).clip(ClipGrad::by_norm(5.0));
        let mut snapshot = StateDict::default();
        for iter in 0..3 {
            model.train_step(&batch, &StepCx { seed: 0, iter, loss_scale: 1.0 }).unwrap();
            optim.update(&mut model).unwrap();
            snapshot = snapshot.renewed(&model).unwrap();
        }
        for (_, tensor) in &snapshot.0 {
            for value in &tensor.value {
                hash = (hash ^ u64::from(value.to_bits())).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }
    hash
}

/// Called by the test below in a process of its own.
#[test]
fn print_the_digest_of_all_networks() {
    println!("digest {:016x}", digest());
}

#[test]
fn all_networks_are_the_same_whatever_stale_memory_holds() {
    let own = digest();
    for stale in ["ff", "7b", "00", "keep"] {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["print_the_digest_of_all_networks", "--exact", "--nocapture"])
            .env("SHANTY_STALE", stale)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&child.stdout).into_owned();
        assert!(text.contains(&format!("digest {own:016x}")), "{stale}: {text}");
    }
}

/// What is handed out as stale is really filled, else the tests above prove nothing.
#[test]
fn stale_memory_is_filled_in_debug_builds() {
    let mut pool = shanty::nn::BufferPool::default();
    let taken = pool.take(3);
    assert_eq!(
        taken.iter().all(|v| v.is_nan()),
        cfg!(debug_assertions) && std::env::var("SHANTY_STALE").is_err()
    );
    let mut none: Vec<Elem> = Vec::new();
    shanty::base::stale::hand_out(&mut none);
    let _: ArrayD<Elem> = ArrayD::from_shape_vec(vec![0], none).unwrap();
}
