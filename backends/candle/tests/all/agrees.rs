//! The same network in candle under the Runner, in shanty and in PyTorch, from equal weights and batches: equal losses.

use std::sync::{Arc, Mutex};

use shanty::base::{Elem, Result, keyed};
use shanty::config::parse;
use shanty::data::{Batch, DataLoader};
use shanty::hook::builtin::EMAHook;
use shanty::hook::{Ctx, Event, HookResult, Point};
use shanty::metric::Accuracy;
use shanty::model::{Model, StepCx};
use shanty::ndarray::ArrayD;
use shanty::optim::{Adam, ClipGrad, OptimWrapper, Optimizer, Sgd};
use shanty::params::{OptimState, Params, StateDict, update_by_transfer};
use shanty::run::{EpochBasedTrainLoop, Runner};
use shanty::testing::Signs;

use crate::support::{candle, data, fixture, mlp, native_mlp, native_resnet};

/// The optimizers of `gen_steps.py`.
fn optimizer(name: &str) -> Box<dyn Optimizer> {
    match name {
        "sgd" => Box::new(Sgd::new(0.1).momentum(0.9).dampening(0.1).weight_decay(1e-3)),
        "nesterov" => Box::new(Sgd::new(0.05).momentum(0.9).nesterov(true)),
        "adamw" => Box::new(Adam::decoupled(0.005).weight_decay(0.05)),
        _ => Box::new(Adam::new(0.005).weight_decay(0.01).amsgrad(true)),
    }
}

/// 40 batches with accumulation, clipping and an average: the losses, and that of the average on what is held out.
fn run(model: impl Model, net: &str, optim: &str) -> (Vec<f64>, f64) {
    let dir = tempfile::tempdir().unwrap();
    let (train, val) = data(net);
    let optim = OptimWrapper::boxed(optimizer(optim)).accumulate(2).clip(ClipGrad::by_norm(0.5));
    let losses = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&losses);
    let note = move |_: &mut Ctx<'_>, event: &mut Event<'_>| -> HookResult {
        if let Event::AfterTrainIter(step) = event {
            noted.lock().unwrap().push(step.outputs.loss().unwrap());
        }
        Ok(())
    };
    let mut runner = Runner::builder(model)
        .train(DataLoader::new(train).batch_size(4).shuffle(false), EpochBasedTrainLoop::new(1), optim)
        .val(DataLoader::new(val).batch_size(16), Accuracy::new(vec![1], vec![None]).unwrap())
        .work_dir(dir.path())
        .seed(0)
        .load_from(fixture(&format!("{net}.safetensors")))
        .hook(EMAHook::new(0.1, 0))
        .on(Point::AfterTrainIter, note)
        .build()
        .unwrap();
    runner.train().unwrap();
    let metrics = runner.val().unwrap();
    let val_loss = metrics.0.iter().find(|(name, _)| name == "val_loss").unwrap().1;
    let losses = losses.lock().unwrap().clone();
    (losses, val_loss)
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-5
}

#[test]
fn forty_steps_are_those_of_pytorch_and_of_shanty() {
    let text = std::fs::read_to_string(fixture("steps.json")).unwrap();
    let told = parse("steps.json", &text).unwrap();
    let mut worst = [0.0f64; 2];
    for net in ["mlp", "resnet"] {
        for optim in ["sgd", "nesterov", "adamw", "amsgrad"] {
            let case = told.get(net).unwrap().get(optim).unwrap();
            let torch: Vec<f64> = case.get("losses").unwrap().read().unwrap();
            let torch_val: f64 = case.get("val_loss").unwrap().read().unwrap();
            let (ours, our_val) = run(candle(net), net, optim);
            let (own, own_val) = match net {
                "mlp" => run(native_mlp(0.0), net, optim),
                _ => run(native_resnet(), net, optim),
            };
            assert_eq!((ours.len(), own.len()), (40, 40));
            for (i, (ours, (torch, own))) in ours.iter().zip(torch.iter().zip(&own)).enumerate() {
                assert!(near(*ours, *torch), "{net}, {optim}, step {i}: candle {ours}, PyTorch {torch}");
                assert!(near(*ours, *own), "{net}, {optim}, step {i}: candle {ours}, shanty {own}");
                worst = [worst[0].max((ours - torch).abs()), worst[1].max((ours - own).abs())];
            }
            assert!(near(our_val, torch_val), "{net}, {optim}: average {our_val}, PyTorch {torch_val}");
            assert!(near(our_val, own_val), "{net}, {optim}: average {our_val}, shanty {own_val}");
        }
    }
    println!("largest differences of a loss: {:.1e} from PyTorch, {:.1e} from shanty", worst[0], worst[1]);
}

/// The masks are those of shanty's own Dropout: a function of seed, iteration and turn.
#[test]
fn dropout_is_that_of_shanty() -> Result<()> {
    let (mut ours, mut own) = (mlp("{widths: [12, 16, 16, 3], dropout: 0.5}"), native_mlp(0.5));
    own.init_weights(3)?;
    assert!(StateDict::of(&own)?.load_into(&mut ours)?.is_exact());
    let batch = Batch::new(
        ArrayD::from_shape_fn(vec![5, 12], |at| (at[0] as f32 - at[1] as f32) / 7.0),
        vec![0, 1, 2, 0, 1],
    );
    let mut losses = Vec::new();
    for iter in 0..4 {
        let step = StepCx { seed: 9, iter, loss_scale: 1.0 };
        let (a, b) =
            (ours.train_step(&batch, &step)?.loss().unwrap(), own.train_step(&batch, &step)?.loss().unwrap());
        assert!((a - b).abs() < 1e-6, "{a} and {b}");
        assert_eq!(ours.train_step(&batch, &step)?.loss(), Some(a), "the same iteration, the same mask");
        losses.push(a);
    }
    losses.dedup();
    assert_eq!(losses.len(), 4, "another mask in each iteration");
    Ok(())
}

/// Rules come from candle's layers, draws from the seed and the name: the same weights as shanty draws by such a rule.
#[test]
fn initial_weights_are_a_function_of_the_seed() -> Result<()> {
    let drawn = |seed| {
        let mut net = candle("resnet");
        let told = net.init_weights(seed)?;
        Ok::<_, shanty::base::Error>((StateDict::of(&net)?, told))
    };
    let ((first, told), (again, _), (other, _)) = (drawn(0)?, drawn(0)?, drawn(1)?);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let fc = first.get("head.fc.weight").unwrap().value.clone();
    let mut expected = ArrayD::zeros(fc.raw_dim());
    let name = xxhash_rust::xxh3::xxh3_64(b"head.fc.weight");
    shanty::nn::init::draw::normal(
        &mut expected.view_mut(),
        0.0,
        (2.0f64 / 16.0).sqrt(),
        &mut keyed(0, "init", name, 0),
    );
    assert_eq!(fc, expected);
    assert!(
        told[0].starts_with("backbone.conv1.weight - [4, 1, 3, 3]: NormalInit: mean=0, std=0.47140"),
        "{}",
        told[0]
    );
    assert!(first.get("backbone.bn1.running_var").unwrap().value.iter().all(|v| *v == 1.0));
    Ok(())
}

/// What the device keeps for one optimizer is there when another one, of the host, joins in.
#[test]
fn state_of_the_device_goes_on_on_the_host() {
    let (adam, signs) = (Adam::decoupled(0.01), Signs::new(0.01));
    let (mut device, mut host) = (candle("mlp"), candle("mlp"));
    let (mut state, mut state_of_host) = (OptimState::default(), OptimState::default());
    device.init_weights(0).unwrap();
    StateDict::of(&device).unwrap().load_into(&mut host).unwrap();
    for iter in 0..3 {
        let rule = |name: &str| -> Option<&dyn Optimizer> {
            match name.starts_with("network.0.") {
                true => Some(&adam),
                false => (iter == 1).then_some(&signs as &dyn Optimizer),
            }
        };
        for model in [&mut device, &mut host] {
            let batch = Batch::new(ArrayD::from_elem(vec![2, 12], 0.5), vec![0, 2]);
            model.train_step(&batch, &StepCx { seed: 0, iter, loss_scale: 1.0 }).unwrap();
        }
        device.update(&rule, &mut state).unwrap();
        update_by_transfer(&mut host, &rule, &mut state_of_host).unwrap();
        device.clear_grads().unwrap();
        host.clear_grads().unwrap();
        for ((name, a), (_, b)) in
            StateDict::of(&device).unwrap().0.iter().zip(&StateDict::of(&host).unwrap().0)
        {
            let apart = a.value.iter().zip(&b.value).map(|(a, b)| (a - b).abs()).fold(0.0, Elem::max);
            assert!(apart < 1e-5, "{iter}, {name}: {apart}");
        }
    }
}
