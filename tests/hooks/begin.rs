//! Hooks that act from a point of the run on, or beside it.

use super::*;

#[test]
fn the_profiler_writes_a_chrome_trace() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    let text = format!("{{by_epoch: false, profile_times: 2, json_trace_path: {}}}", path.display());
    let hook: ProfilerHook = shanty::config::parse("hook", &text).unwrap().read().unwrap();
    toy_runner(dir.path(), 1, 4).unwrap().hook(hook).build().unwrap().train().unwrap();
    let trace: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let named = |name: &str| events.iter().filter(|e| e["name"] == name && e["ph"] == "X").count();
    assert_eq!(named("train_step"), 2, "two iterations were measured");
    assert!(named("after_train_iter") >= 6);
    assert!(events.iter().any(|e| e["args"]["name"] == "ProfilerHook"));
}

/// Weights that are far too large and far too small give values of variance 1 after LSUV, for the batch that the first
/// iteration has, and the same in every run.
#[test]
fn lsuv_makes_every_layer_give_unit_variance() {
    let variances = || {
        let dir = tempfile::tempdir().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&seen);
        let mut runner = image_runner(dir.path(), 1)
            .hook(LSUVHook::default().tolerance(0.01))
            .on(Point::BeforeTrainIter, move |cx, event| {
                let Event::BeforeTrainIter(batch) = event else { return Ok(()) };
                if cx.progress.iter == 0 {
                    for module in cx.model.trace(batch)? {
                        let Some(y) = module.output.filter(|_| module.kind == "Linear") else { continue };
                        let n = y.len() as f64;
                        let mean = y.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
                        noted
                            .lock()
                            .unwrap()
                            .push(y.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n);
                    }
                }
                Ok(())
            })
            .build()
            .unwrap();
        runner.train().unwrap();
        seen.lock().unwrap().clone()
    };
    let found = variances();
    assert!(!found.is_empty() && found.iter().all(|v| (v - 1.0).abs() < 0.011), "{found:?}");
    assert_eq!(found, variances());
}

/// A model that says nothing of its layers: LSUV has nothing to go by.
#[test]
fn lsuv_asks_for_what_the_layers_give() {
    struct Closed(ToyModel);
    impl HostParams for Closed {
        fn visit(&self, f: &mut dyn FnMut(ParamRef<'_>)) {
            self.0.visit(&mut |p| f(ParamRef { layer: "Linear", ..p }));
        }
        fn visit_mut(&mut self, f: &mut dyn FnMut(ParamMut<'_>)) {
            self.0.visit_mut(&mut |p| f(ParamMut { layer: "Linear", ..p }));
        }
    }
    impl Model for Closed {
        fn train_step(&mut self, batch: &Batch, cx: &StepCx) -> Result<Outputs> {
            self.0.train_step(batch, cx)
        }
        fn eval_step(&mut self, batch: &Batch) -> Result<Outputs> {
            self.0.eval_step(batch)
        }
        fn init_weights(&mut self, seed: u64) -> Result<Vec<String>> {
            self.0.init_weights(seed)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (Closed(ToyModel::new(3)), toy_data(2, true).unwrap());
    let run = toy_runner_of(dir.path(), model, data, EpochBasedTrainLoop::new(1), toy_optim()).unwrap();
    let said = run.hook(LSUVHook::default()).build().unwrap().train().unwrap_err().to_string();
    assert!(said.contains("`Closed` does not tell what its layers give"), "{said}");
}

/// The first validations of a run are noise: they are neither the best nor waited for.
#[test]
fn early_stopping_and_the_best_begin_at_an_epoch() {
    let hook = |begin: u64| {
        early(&format!("{{monitor: score, rule: greater, min_delta: 0, patience: 2, begin: {begin}}}"))
    };
    let values = [0.9, 0.1, 0.2, 0.3, 0.4, 0.5];
    assert_eq!(stops_at(hook(0), &values).unwrap().0, 3);
    assert_eq!(stops_at(hook(2), &values), None);
    let dir = tempfile::tempdir().unwrap();
    let best = CheckpointHook::every(1).best("score").rule(shanty::metric::Direction::Greater).best_begin(2);
    let mut runner = scripted(dir.path(), 4, "score", &[0.9, 0.1, 0.3, 0.2]).hook(best).build().unwrap();
    runner.train().unwrap();
    assert!(
        dir.path().join("best_score_epoch_3").is_dir() && !dir.path().join("best_score_epoch_1").exists()
    );
    // One that never begins is a slip.
    let refused = scripted(dir.path(), 4, "score", &[0.0]).hook(hook(5)).build().err().unwrap().to_string();
    assert!(refused.contains("`begin: 5`, but the run has 4 epochs"), "{refused}");
}

/// The second pass of an average's validation gives what a run without an average gives.
#[test]
fn an_average_is_validated_beside_the_weights_of_the_run() {
    let validated = |ema: Option<EMAHook>| {
        let (dir, seen) = (tempfile::tempdir().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let noted = Arc::clone(&seen);
        let metric = shanty::metric::Accuracy::new(vec![1], vec![None]).unwrap();
        let builder = image_runner(dir.path(), 3).val(images(2), metric);
        let builder = match ema {
            Some(ema) => builder.hook(ema),
            None => builder,
        };
        let mut runner = builder
            .on(Point::AfterValEpoch, move |_, event| {
                if let shanty::hook::Event::AfterValEpoch(metrics) = event {
                    noted.lock().unwrap().push(metrics.0.clone());
                }
                Ok(())
            })
            .build()
            .unwrap();
        runner.train().unwrap();
        let end = StateDict::of(runner.model().unwrap()).unwrap();
        (seen.lock().unwrap().clone(), end)
    };
    let slow = || EMAHook::new(0.01, 0);
    let (plain, end) = validated(None);
    let (both, same) = validated(Some(slow().evaluate_on_origin(true)));
    let (raw, _) = validated(Some(slow().evaluate_on_ema(false)));
    assert_eq!((end, &plain), (same, &raw));
    let mut differ = false;
    for (both, plain) in both.iter().zip(&plain) {
        let value = |name: &str| both.iter().find(|(n, _)| n == name).unwrap().1;
        for (name, expected) in plain {
            assert_eq!(value(&format!("{name}_origin")), *expected, "{name}");
            differ |= value(name) != *expected;
        }
    }
    assert!(differ, "an average is another model");
}
