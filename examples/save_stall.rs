//! How long a 100 MB checkpoint holds up the training, written in the step and beside it.
//!
//! `cargo run --release --example save_stall [DIR]`

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ndarray::Array1;
use shanty::optim::Sgd;
use shanty::plugin::prelude::*;
use shanty::run::{IterBasedTrainLoop, Runner};
use shanty::testing::toy_data;

/// Weights and momentum of 4 bytes each: 100 MB together.
const WEIGHTS: usize = 12_500_000;

struct Heavy {
    weight: Array1<Elem>,
    grad: Array1<Elem>,
}

impl HostParams for Heavy {
    fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
        let (value, grad) = (self.weight.view().into_dyn(), Some(self.grad.view().into_dyn()));
        f(ParamRef { name: "weight", layer: "Heavy", role: Role::Weight, frozen: false, value, grad });
    }
    fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
        let (value, grad) = (self.weight.view_mut().into_dyn(), Some(self.grad.view_mut().into_dyn()));
        f(ParamMut { name: "weight", layer: "Heavy", role: Role::Weight, frozen: false, value, grad });
    }
}

impl Model for Heavy {
    fn train_step(&mut self, _batch: &Batch, _cx: &StepCx) -> Result<Outputs> {
        self.grad += 1e-3;
        Ok(Outputs { vars: [("loss".into(), 1.0)].into_iter().collect(), ..Outputs::default() })
    }
    fn eval_step(&mut self, _batch: &Batch) -> Result<Outputs> {
        Ok(Outputs::default())
    }
    fn init_weights(&mut self, _seed: u64) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}

/// Time from the end of iteration 3, 6, … (where the save is asked for) to the beginning of the next.
fn stall(dir: &Path, beside: bool) -> Result<Duration> {
    let asked = Arc::new(Mutex::new((None, Vec::new())));
    let (ends, begins) = (Arc::clone(&asked), Arc::clone(&asked));
    let model = Heavy { weight: Array1::zeros(WEIGHTS), grad: Array1::zeros(WEIGHTS) };
    let mut runner = Runner::builder(model)
        .train(toy_data(4, true)?, IterBasedTrainLoop::new(31), Sgd::new(0.1).momentum(0.9))
        .without_default_hooks()
        .hook_yaml(
            "{type: CheckpointHook, interval: 3, by_epoch: false, max_keep_ckpts: 1, save_last: false}",
        )?
        .on(Point::AfterTrainIter, move |cx, _| {
            let saves = cx.progress.iter.is_multiple_of(3) && cx.progress.iter > 3;
            if let Ok(mut asked) = ends.lock() {
                asked.0 = saves.then(Instant::now);
            }
            Ok(())
        })
        .on(Point::BeforeTrainIter, move |_, _| {
            if let Ok(mut asked) = begins.lock()
                && let Some(since) = asked.0.take()
            {
                asked.1.push(since.elapsed());
            }
            // A step that takes as long as a network's would, so that the disk has time.
            std::thread::sleep(Duration::from_millis(400));
            Ok(())
        })
        .async_save(beside)
        .work_dir(dir)
        .build()?;
    runner.train()?;
    let mut times = asked.lock().map(|asked| asked.1.clone()).unwrap_or_default();
    times.sort();
    Ok(times.get(times.len() / 2).copied().unwrap_or_default())
}

#[allow(clippy::print_stdout)]
fn main() -> Result<()> {
    let dir = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into).join("shanty_save_stall");
    let in_step = stall(&dir.join("in_step"), false)?;
    let beside = stall(&dir.join("beside"), true)?;
    println!("saved in the step: {in_step:.1?}");
    println!(
        "saved beside it:   {beside:.1?} ({:.1} %)",
        100.0 * beside.as_secs_f64() / in_step.as_secs_f64()
    );
    let _ = std::fs::remove_dir_all(&dir);
    Ok(())
}
