//! The scale of the loss, step by step.

use super::*;

/// What `args` of a recorded case ask for.
fn asked(args: &Value) -> LossScale {
    if let Some(fixed) = args["fixed"].as_f64() {
        return LossScale::Fixed(fixed);
    }
    LossScale::Dynamic(DynamicScale {
        init_scale: args["init_scale"].as_f64().unwrap(),
        growth_factor: args["growth_factor"].as_f64().unwrap(),
        backoff_factor: args["backoff_factor"].as_f64().unwrap(),
        growth_interval: args["growth_interval"].as_u64().unwrap(),
    })
}

fn tracker(optim: &OptimWrapper, model: &Given) -> Option<u64> {
    optim.save_state(model).unwrap().data["loss_scaler"]["_growth_tracker"].as_u64()
}

#[test]
fn the_scale_moves_as_that_of_gradscaler() {
    let recorded = recorded();
    for case in recorded["scaler"].as_array().unwrap() {
        let loss_scale = asked(&case["args"]);
        let amp = Amp { dtype: AmpDtype::Float32, loss_scale };
        let (mut optim, mut model) = (OptimWrapper::new(Sgd::new(0.5)).amp(amp), Given::new());
        let steps = case["overflows"].as_array().unwrap().iter().zip(case["steps"].as_array().unwrap());
        for (n, (overflow, step)) in steps.enumerate() {
            let what = format!("{}, step {n}", case["args"]);
            let (from, to) = (step["scale"].as_f64().unwrap(), step["next"].as_f64().unwrap());
            assert_eq!(f64::from(optim.loss_scale(64)), from, "{what}");
            model.scaled([0.25, 0.5, 0.75], optim.loss_scale(64));
            match overflow.as_u64() {
                Some(1) => model.grad[[1]] = Elem::INFINITY,
                Some(2) => model.grad[[1]] = Elem::NAN,
                _ => {}
            }
            assert!(optim.backward_done(64, false));
            let update = optim.update(&mut model).unwrap();
            match overflow.as_u64() {
                Some(0) => assert_eq!(update, Update::Stepped(None), "{what}"),
                _ => assert_eq!(update, Update::Overflowed { from, to }, "{what}"),
            }
            assert_eq!(optim.amp_scale(), Some(to), "{what}");
            if matches!(loss_scale, LossScale::Dynamic(_)) {
                assert_eq!(tracker(&optim, &model), step["tracker"].as_u64(), "{what}");
            }
            for (found, expected) in model.weight.iter().zip(numbers(&step["weight"])) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{what}: {}", model.weight);
            }
            assert!(model.grad.iter().all(|g| *g == 0.0), "{what}");
        }
    }
}

/// Hooks, clipping and the norm that is logged see the gradient of the loss itself.
#[test]
fn gradients_are_seen_without_the_scale() {
    let clip = shanty::optim::ClipGrad::by_norm(1.0);
    let mut optim = OptimWrapper::new(Sgd::new(1.0)).clip(clip).accumulate(2).amp(Amp::default());
    let mut model = Given::new();
    assert_eq!(optim.loss_scale(3), 3.0 * 65536.0);
    model.scaled([3.0, 4.0, 0.0], optim.loss_scale(3));
    assert!(!optim.backward_done(3, false));
    model.grad += &(arr1(&[0.0, 0.0, 12.0]).into_dyn() * optim.loss_scale(1));
    assert!(optim.backward_done(1, false));
    optim.finish_window(&mut model).unwrap();
    assert_eq!(model.grad, arr1(&[2.25, 3.0, 3.0]).into_dyn(), "(3·[3, 4, 0] + [0, 0, 12]) / 4");
    let Update::Stepped(Some(norm)) = optim.update(&mut model).unwrap() else { panic!() };
    assert!((norm - 23.0625f64.sqrt()).abs() < 1e-6, "{norm}");
}

/// A scale that a hook keeps from its step does not move.
#[test]
fn a_step_that_is_dropped_is_no_step_of_the_scale() {
    let mut optim = OptimWrapper::new(Sgd::new(1.0)).amp(Amp::default());
    let mut model = Given::new();
    model.scaled([Elem::NAN, 0.0, 0.0], 1.0);
    optim.finish_window(&mut model).unwrap();
    optim.clear(&mut model).unwrap();
    model.scaled([1.0, 0.0, 0.0], optim.loss_scale(1));
    assert_eq!(optim.update(&mut model).unwrap(), Update::Stepped(None));
    assert_eq!((optim.amp_scale(), tracker(&optim, &model)), (Some(65536.0), Some(1)));
}

/// With PyTorch the scale would fall to 0 and the run go on without a step to its end.
#[test]
fn gradients_that_no_scale_makes_finite_end_the_run() {
    let loss_scale = LossScale::Dynamic(DynamicScale { init_scale: 1e-36, ..DynamicScale::default() });
    let mut optim = OptimWrapper::new(Sgd::new(1.0)).amp(Amp { loss_scale, ..Amp::default() });
    let mut model = Given::new();
    assert!(!optim.may_overflow());
    let mut step = || {
        model.scaled([Elem::INFINITY, 0.0, 0.0], 1.0);
        optim.update(&mut model)
    };
    let error = (0..20).find_map(|_| step().err()).unwrap().to_string();
    assert!(error.contains("not finite at any loss scale"), "{error}");
}

/// With PyTorch a fixed scale that is too large leaves out every step to the end of the run.
#[test]
fn gradients_that_a_fixed_scale_makes_infinite_end_the_run() {
    let mut optim =
        OptimWrapper::new(Sgd::new(1.0)).amp(Amp { loss_scale: LossScale::Fixed(1e38), ..Amp::default() });
    let mut model = Given::new();
    let mut step = |first: Elem| {
        model.scaled([first, 0.0, 0.0], 1.0);
        optim.update(&mut model)
    };
    for _ in 0..99 {
        assert!(matches!(step(Elem::INFINITY), Ok(Update::Overflowed { .. })));
    }
    // One good step, and it counts anew.
    assert!(matches!(step(1.0), Ok(Update::Stepped(None))));
    assert!((0..99).all(|_| step(Elem::INFINITY).is_ok()));
    let error = step(Elem::INFINITY).unwrap_err().to_string();
    assert!(error.contains("100 updates in a row") && error.contains("loss_scale: dynamic"), "{error}");
}

/// What a fixed scale has left out goes on with the run, and is not the count of good steps of a dynamic one.
#[test]
fn a_resumed_fixed_scale_counts_on() {
    let with = |loss_scale| OptimWrapper::new(Sgd::new(1.0)).amp(Amp { loss_scale, ..Amp::default() });
    let step = |optim: &mut OptimWrapper, first: Elem| {
        let mut model = Given::new();
        model.scaled([first, 0.0, 0.0], 1.0);
        optim.update(&mut model)
    };
    let (fixed, model) = (LossScale::Fixed(65536.0), Given::new());
    let resumed = |optim: &OptimWrapper| {
        let mut again = with(fixed);
        again.load_state(optim.save_state(&model).unwrap(), &mut Given::new()).unwrap();
        again
    };
    let mut dynamic = with(LossScale::default());
    assert!((0..150).all(|_| step(&mut dynamic, 1.0).is_ok()));
    let mut optim = resumed(&dynamic);
    assert!((0..60).all(|_| step(&mut optim, Elem::INFINITY).is_ok()));
    let mut optim = resumed(&optim);
    assert!((0..39).all(|_| step(&mut optim, Elem::INFINITY).is_ok()));
    assert!(step(&mut optim, Elem::INFINITY).is_err());
}

/// The same without mixed precision, where `clip_grad` finds a norm that is not finite.
#[test]
fn norms_that_are_never_finite_end_the_run() {
    let clipped =
        || OptimWrapper::new(Sgd::new(1.0)).clip(ClipGrad { max_norm: Some(1.0), ..ClipGrad::default() });
    let step = |optim: &mut OptimWrapper, first: Elem| {
        let mut model = Given::new();
        model.scaled([first, 0.0, 0.0], 1.0);
        optim.update(&mut model)
    };
    let mut optim = clipped();
    assert!((0..60).all(|_| matches!(step(&mut optim, Elem::NAN), Ok(Update::Skipped(_)))));
    let mut resumed = clipped();
    resumed.load_state(optim.save_state(&Given::new()).unwrap(), &mut Given::new()).unwrap();
    assert!((0..39).all(|_| step(&mut resumed, Elem::INFINITY).is_ok()));
    let error = step(&mut resumed, Elem::NAN).unwrap_err().to_string();
    assert!(error.contains("100 updates in a row") && !error.contains("loss scale"), "{error}");
    assert!(matches!(step(&mut optim, 1.0), Ok(Update::Stepped(Some(1.0)))));
    assert!((0..99).all(|_| step(&mut optim, Elem::NAN).is_ok()));
}

/// What a run that ends so leaves behind can be gone on with: none of the gradients, and a count that begins anew.
#[test]
fn the_state_after_such_an_end_is_good() {
    let scaled = |loss_scale| OptimWrapper::new(Sgd::new(1.0)).amp(Amp { loss_scale, ..Amp::default() });
    let dynamic = DynamicScale { init_scale: 1.0, ..DynamicScale::default() };
    let clipped = |error_if_nonfinite| {
        let clip = ClipGrad { max_norm: Some(1.0), error_if_nonfinite, ..ClipGrad::default() };
        OptimWrapper::new(Sgd::new(1.0)).clip(clip)
    };
    let wrappers: [&dyn Fn() -> OptimWrapper; 5] = [
        &|| scaled(LossScale::Fixed(1e38)),
        &|| scaled(LossScale::Dynamic(dynamic)),
        // Rounded to single precision it stays where it is.
        &|| scaled(LossScale::Dynamic(DynamicScale { backoff_factor: 0.999_999_999, ..dynamic })),
        &|| clipped(false),
        &|| clipped(true),
    ];
    for (case, new) in wrappers.iter().enumerate() {
        let (mut optim, mut model) = (new(), Given::new());
        let ended = (0..200).any(|_| {
            model.scaled([Elem::NAN, 0.0, 0.0], 1.0);
            optim.backward_done(1, true);
            optim.update(&mut model).is_err()
        });
        assert!(ended, "case {case}");
        let (mut again, mut resumed) = (new(), Given::new());
        again.load_state(optim.save_state(&model).unwrap(), &mut resumed).unwrap();
        // A scale that fell as far as it could begins anew.
        let scale = again.amp_scale().unwrap_or(1.0) as Elem;
        assert_eq!(again.amp_scale(), new().amp_scale(), "case {case}");
        resumed.grad = &resumed.grad + &(arr1(&[1.0, 0.0, 0.0]).into_dyn() * scale);
        assert!(matches!(again.update(&mut resumed), Ok(Update::Stepped(_))), "case {case}");
        // The step is one, but for what a norm is clipped by.
        assert!(resumed.weight[0].abs() < 1e-5, "case {case}: {}", resumed.weight);
    }
}

/// A mean without a scale is nothing that the next batch could be added to.
#[test]
fn a_window_that_waits_for_its_update_is_not_saved() {
    let new = || OptimWrapper::new(Sgd::new(1.0)).accumulate(2).amp(Amp::default());
    let (mut optim, mut model) = (new(), Given::new());
    for full in [false, true] {
        model.grad += &(arr1(&[1.0, 2.0, 3.0]).into_dyn() * optim.loss_scale(4));
        assert_eq!(optim.backward_done(4, false), full);
    }
    optim.finish_window(&mut model).unwrap();
    let (mut again, mut resumed) = (new(), Given::new());
    again.load_state(optim.save_state(&model).unwrap(), &mut resumed).unwrap();
    assert_eq!(resumed.grad, Given::new().grad);
    resumed.scaled([1.0, 2.0, 3.0], again.loss_scale(4));
    assert!(!again.backward_done(4, false), "the window begins anew");
    assert!(matches!(again.update(&mut resumed), Ok(Update::Stepped(_))));
    assert!(matches!(optim.update(&mut model), Ok(Update::Stepped(_))));
    assert_eq!(resumed.weight, model.weight, "one step of the same mean");
    // Nor does a program add to it that goes on after a failure there.
    model.scaled([9.0; 3], 1.0);
    assert!(optim.backward_done(4, true));
    optim.finish_window(&mut model).unwrap();
    let batch = arr1(&[1.0, 2.0, 3.0]).into_dyn();
    let pass = |model: &mut Given| {
        model.grad += &batch;
        Ok(())
    };
    optim.gradients(&mut model, pass).unwrap();
    assert_eq!(model.grad, batch);
}

/// A number of single precision, as long as the run.
#[test]
fn a_resumed_scale_goes_on_and_comes_and_goes_with_a_word() {
    let amp = || OptimWrapper::new(Sgd::new(0.5)).accumulate(2).amp(Amp::default());
    let plain = || OptimWrapper::new(Sgd::new(0.5)).accumulate(2);
    let (mut optim, mut model) = (amp(), Given::new());
    model.scaled([Elem::INFINITY, 0.0, 0.0], 1.0);
    optim.update(&mut model).unwrap();
    // Within a window, whose sum has the scale.
    model.scaled([1.0, 2.0, 3.0], optim.loss_scale(4));
    assert!(!optim.backward_done(4, false));
    let saved = optim.save_state(&model).unwrap();

    let (mut resumed, mut anew) = (amp(), Given::new());
    assert!(resumed.load_state(saved.clone(), &mut anew).unwrap().is_empty());
    assert_eq!(resumed.amp_scale(), Some(32768.0));
    assert_eq!(anew.grad, model.grad);

    let mut without = plain();
    let notes = without.load_state(saved, &mut anew).unwrap();
    assert!(notes[0].contains("its loss scale is dropped"), "{notes:?}");
    assert_eq!(anew.grad, arr1(&[4.0, 8.0, 12.0]).into_dyn(), "a sum of losses without a scale");
    let saved = without.save_state(&anew).unwrap();
    assert!(saved.data.get("loss_scaler").is_none());

    let mut with = amp();
    let notes = with.load_state(saved, &mut anew).unwrap();
    assert!(notes[0].contains("its loss scale begins anew"), "{notes:?}");
    assert_eq!(anew.grad, arr1(&[4.0, 8.0, 12.0]).into_dyn() * 65536.0);
}
