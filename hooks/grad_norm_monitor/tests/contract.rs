//! The contract, and a run with one exploding gradient.

use grad_norm_monitor::GradNormMonitor;
use shanty::config::parse;
use shanty::plugin::prelude::*;
use shanty::testing::toy_runner;

shanty::testing::hook_contract!(GradNormMonitor, "{spike: 2.0, warmup: 2, skip: true}");

/// The gradient of iteration 6 is a thousand times too large: it is told, and the weights stay as they were.
#[test]
fn an_explosion_is_skipped() {
    let weights_at_6 = |skip: bool| {
        let dir = tempfile::tempdir().unwrap();
        let hook: GradNormMonitor =
            parse("hook", &format!("{{warmup: 3, skip: {skip}}}")).unwrap().read().unwrap();
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let noted = std::sync::Arc::clone(&seen);
        let mut runner = toy_runner(dir.path(), 1, 8)
            .unwrap()
            .on(Point::AfterBackward, |cx, _| {
                let explodes = cx.progress.iter == 5;
                if explodes {
                    cx.model.apply(shanty::params::Op::ScaleGrads(1000.0), &shanty::params::all)?;
                }
                Ok(())
            })
            .on(Point::AfterTrainIter, move |cx, _| {
                cx.model.read(Set::Values, &shanty::params::all, &mut |_, value| {
                    noted.lock().unwrap().push(value.to_owned());
                })?;
                Ok(())
            })
            .hook(hook)
            .build()
            .unwrap();
        runner.train().unwrap();
        // A skipped explosion is one; one that is let in throws the weights far off, and more follow.
        let spikes = runner.hook::<GradNormMonitor>().unwrap().spikes();
        assert!(if skip { spikes == 1 } else { spikes > 1 }, "{spikes}");
        let seen = seen.lock().unwrap();
        (seen[4].clone(), seen[5].clone())
    };
    let (before, after) = weights_at_6(true);
    assert_eq!(before, after);
    let (before, after) = weights_at_6(false);
    assert_ne!(before, after);
}
