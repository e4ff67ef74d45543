//! A hook of one's own, in the program that uses it.
#![allow(clippy::print_stdout)] // an example speaks

use shanty::plugin::prelude::*;
use shanty::testing::toy_runner;

/// Keeps the largest loss that it saw, and stops the run when the loss is small.
#[derive(Default)]
struct LossWatch {
    largest: f64,
}

impl Hook for LossWatch {
    fn after_train_iter(&mut self, cx: &mut Ctx<'_>, step: &mut Step<'_>) -> HookResult {
        let loss = step.outputs.loss().ok_or("the model gives no loss")?;
        self.largest = self.largest.max(loss);
        if loss < 0.05 {
            cx.stop(format!("a loss of {loss:.3} is good enough"));
        }
        Ok(())
    }

    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.largest)
    }
}

fn main() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut runner = toy_runner(dir.path(), 20, 8)?
        .hook(LossWatch::default())
        .on(Point::AfterVal, |cx, _event| {
            println!("validated after {} iterations", cx.progress.iter);
            Ok(())
        })
        .build()?;
    println!("{:?}", runner.train()?);
    let watch = runner.hook::<LossWatch>().ok_or_else(|| anyhow::anyhow!("the hook is in line"))?;
    println!("largest loss: {:.3}", watch.largest);
    anyhow::ensure!(watch.largest > 0.05, "the first loss is larger than the last");
    Ok(())
}
