//! Where the time of a training goes: parts of an iteration, layers, and the trace that Perfetto opens.

#![allow(clippy::unwrap_used, clippy::panic)] // helpers of tests

use std::fs;
use std::path::Path;

use ndarray::Array2;
use shanty::base::{Tensor, keyed};
use shanty::hook::builtin::ProfilerHook;
use shanty::nn::{
    Autograd, Conv2d, FFN, Flatten, LSTM, LayerTimes, Linear, MSELoss, Module, MultiheadAttention, PassTimes,
    ReLU, Residual, Sequential, checkpoint_activations, init::init_weights, set_trainable, timed,
};
use shanty::params::HostParams;
use shanty::prelude::*;

/// The passes of one step over an input that asks for no gradient, and all gradients.
fn step(net: &mut Sequential, x: &Tensor, on: bool) -> (Vec<PassTimes>, Vec<(String, Vec<f32>)>) {
    init_weights(net, 3).unwrap();
    let (done, passes) = timed(on, || {
        Autograd::default().train(net, &mut keyed(1, "noise", 0, 0), |net, tape, cx| {
            let y = net.forward(tape.input(x.clone()), cx)?;
            Ok(((y * y).mean(), ()))
        })
    });
    done.unwrap();
    let mut grads = Vec::new();
    net.visit(&mut |p| {
        let values = p.grad.unwrap_or(p.value);
        grads.push((p.name.to_owned(), values.iter().copied().collect()));
    });
    (passes, grads)
}

fn input(shape: &[usize]) -> Tensor {
    Tensor::from_shape_fn(shape.to_vec(), |i| {
        (0..shape.len()).map(|axis| (i[axis] * (axis + 3)) % 11).sum::<usize>() as f32 / 7.0 - 1.0
    })
}

/// What a layer multiplied, forward and on the way back.
fn multiplied(layers: &[LayerTimes], path: &str) -> [u64; 2] {
    let found = layers.iter().find(|layer| layer.path == path);
    let found = found.unwrap_or_else(|| panic!("{path} took no time: {layers:?}"));
    [found.forward.multiply_adds, found.backward.multiply_adds]
}

/// Every op that multiplies tells its products, and those of its way back: one for each factor that is trained.
#[test]
fn layers_tell_what_they_multiply_both_ways() {
    // Images of 2 channels, 6 x 6; 3 channels of 4 x 4 behind the first, 2 of 2 x 2 behind the second.
    let mut net = Sequential::new()
        .with(Conv2d::new(2, 3, 3))
        .with(ReLU::new())
        .with(Conv2d::new(3, 2, 3))
        .with(Flatten::new())
        .with(Linear::new(8, 5));
    let (passes, _) = step(&mut net, &input(&[7, 2, 6, 6]), true);
    assert_eq!(passes.len(), 1);
    let layers = &passes[0].layers;
    let (first, second, third) = (7 * 16 * 3 * 18, 7 * 4 * 2 * 27, 7 * 8 * 5);
    assert_eq!(multiplied(layers, "0"), [first, first], "nobody asks for the gradient of the pictures");
    assert_eq!(multiplied(layers, "2"), [second, 2 * second]);
    assert_eq!(multiplied(layers, "4"), [third, 2 * third]);
    assert_eq!(multiplied(layers, "1"), [0, 0]);
    let kinds: Vec<_> = layers.iter().map(|layer| (&*layer.path, layer.kind)).collect();
    for known in [("0", "Conv2d"), ("1", "ReLU"), ("3", "Flatten"), ("4", "Linear")] {
        assert!(kinds.contains(&known), "{kinds:?}");
    }

    // A frozen weight has no product on the way back.
    set_trainable(&mut net, "2", false).unwrap();
    let (passes, _) = step(&mut net, &input(&[7, 2, 6, 6]), true);
    assert_eq!(multiplied(&passes[0].layers, "2"), [second, second]);

    // 4 sequences of 5 steps of 6 numbers: projections of 3 · 6 · 6 and 6 · 6 a step, scores and sums of 5 · 6.
    let mut net = Sequential::new()
        .with(Linear::new(6, 6))
        .with(MultiheadAttention::new(6, 2))
        .with(FFN::new(6, 24, 0.0));
    let (passes, _) = step(&mut net, &input(&[4, 5, 6]), true);
    let sum = |above: &str| {
        let own = passes[0].layers.iter().filter(|layer| layer.path.starts_with(above));
        own.fold([0, 0], |[a, b], layer| [a + layer.forward.multiply_adds, b + layer.backward.multiply_adds])
    };
    let attention = 20 * (3 * 36 + 36) + 2 * 20 * 5 * 6;
    assert_eq!(sum("1"), [attention, 2 * attention]);
    let ffn = 20 * 2 * 6 * 24;
    assert_eq!(sum("2"), [ffn, 2 * ffn]);

    // An LSTM of 3 numbers: 4 gates of 3 over 6 numbers and 3 of the state.
    let mut net = Sequential::new().with(Linear::new(6, 6)).with(LSTM::new(6, 3));
    let (passes, _) = step(&mut net, &input(&[4, 5, 6]), true);
    assert_eq!(multiplied(&passes[0].layers, "1"), [20 * 12 * 9, 2 * 20 * 12 * 9]);
}

/// Times are those of the step: each stretch belongs to one layer, and all of them together to forward and backward.
#[test]
fn the_times_of_layers_are_those_of_the_pass() {
    let block = || Sequential::new().with(Linear::new(32, 64)).with(ReLU::new()).with(Linear::new(64, 32));
    let mut net = Sequential::new().with(Residual::new(block())).with(Residual::new(block()));
    let (passes, _) = step(&mut net, &input(&[64, 32]), true);
    let PassTimes { marks: [began, turned, ended], layers, spans } = &passes[0];
    let seconds = |from: &std::time::Instant, to: &std::time::Instant| to.duration_since(*from).as_secs_f64();
    for (sum, whole) in [
        (layers.iter().map(|layer| layer.forward.seconds).sum::<f64>(), seconds(began, turned)),
        (layers.iter().map(|layer| layer.backward.seconds).sum::<f64>(), seconds(turned, ended)),
    ] {
        assert!((sum - whole).abs() < 1e-9 + 1e-6 * whole, "{sum} of {whole}");
    }
    for path in ["0.body.0", "0.body.1", "1.body.2"] {
        let layer = layers.iter().find(|layer| layer.path == path).unwrap();
        assert!(layer.forward.seconds > 0.0 && layer.backward.seconds > 0.0, "{layer:?}");
    }
    assert!(
        spans
            .iter()
            .all(|(layer, [from, to])| *layer < layers.len() && began <= from && from <= to && to <= ended)
    );
}

/// What is computed again counts where it is computed: on the way back. The bits do not depend on who looks.
#[test]
fn activations_that_are_computed_again_are_told_by_their_layers() {
    let build = || {
        let block = || {
            Residual::new(
                Sequential::new().with(Linear::new(8, 16)).with(ReLU::new()).with(Linear::new(16, 8)),
            )
        };
        Sequential::new().with(Linear::new(8, 8)).with(block()).with(block())
    };
    let product = 5 * 8 * 16;
    let (plain, wanted) = step(&mut build(), &input(&[5, 8]), true);
    assert_eq!(multiplied(&plain[0].layers, "1.body.0"), [product, 2 * product]);
    for paths in [&["1"][..], &["1", "2"], &["1.body"], &["2.body.2", "2", "1"]] {
        let mut net = build();
        paths.iter().for_each(|path| checkpoint_activations(&mut net, path).unwrap());
        let (passes, grads) = step(&mut net, &input(&[5, 8]), true);
        assert_eq!(grads, wanted, "{paths:?}");
        assert_eq!(multiplied(&passes[0].layers, "1.body.0")[0], product);
        assert_eq!(
            multiplied(&passes[0].layers, paths[0])[0],
            if paths[0] == "2.body.2" { product } else { 0 }
        );
        let again = if paths == ["2.body.2", "2", "1"] { "2.body.0" } else { "1.body.0" };
        assert_eq!(multiplied(&passes[0].layers, again), [product, 3 * product], "{paths:?}");
        let mut net = build();
        paths.iter().for_each(|path| checkpoint_activations(&mut net, path).unwrap());
        let (none, grads) = step(&mut net, &input(&[5, 8]), false);
        assert!(none.is_empty(), "nobody asked");
        assert_eq!(grads, wanted, "{paths:?}");
    }
}

/// A step that nobody measures reads no clock: in networks and kernels only what a profile asks for does, and threads
/// that spin.
#[test]
fn no_clock_is_read_in_a_step() {
    fn clocks(dir: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                clocks(&path, found);
            } else if fs::read_to_string(&path).unwrap().lines().any(|line| {
                let code = line.split("//").next().unwrap_or_default();
                ["Instant::now", "SystemTime", "elapsed("].iter().any(|clock| code.contains(clock))
            }) {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    for module in ["nn", "kernels", "model", "optim"] {
        clocks(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(module), &mut found);
    }
    found.sort();
    assert_eq!(found, ["peak.rs", "spinning.rs", "timing.rs"]);
}

fn runner(dir: &Path, hook: ProfilerHook) -> Runner {
    let x = Array2::from_shape_fn((64, 3), |(n, axis)| ((n * (axis + 2)) % 13) as f32 / 6.0 - 1.0);
    let y = x.map_axis(ndarray::Axis(1), |row| row.sum()).insert_axis(ndarray::Axis(1));
    let data = ArrayDataset::new("inputs", x).unwrap().with("target", y).unwrap();
    let network = Sequential::new().with(Linear::new(3, 8)).with(ReLU::new()).with(Linear::new(8, 1));
    Runner::builder(Supervised::new(network, MSELoss::default()))
        .train(DataLoader::new(data).batch_size(16), EpochBasedTrainLoop::new(2), Adam::new(0.02))
        .work_dir(dir)
        .hook(hook)
        .build()
        .unwrap()
}

/// Google's "Trace Event Format", as far as it is used: one object with `traceEvents`; complete events ("X") with a
/// name, a time and a duration in microseconds, on rows of a process that metadata ("M") names once each. Perfetto takes
/// process and row 0 for a machine at rest.
fn check_format(trace: &serde_json::Value) {
    assert_eq!(trace["displayTimeUnit"], "ms");
    let events = trace["traceEvents"].as_array().unwrap();
    let of = |ph: &str| events.iter().filter(move |event| event["ph"] == ph).collect::<Vec<_>>();
    let (named, calls) = (of("M"), of("X"));
    assert_eq!(named.len() + calls.len(), events.len());
    let place = |event: &serde_json::Value| [&event["pid"], &event["tid"]].map(|at| at.as_u64().unwrap());
    let mut rows: Vec<_> = named.iter().map(|event| place(event)).collect();
    for row in &named {
        assert_eq!(row["name"], "thread_name");
        assert!(row["args"]["name"].as_str().is_some_and(|name| !name.is_empty()), "{row}");
    }
    assert!(rows.iter().flatten().all(|at| *at > 0), "{rows:?}");
    let many = rows.len();
    rows.dedup();
    assert_eq!(rows.len(), many, "each row has one name");
    for call in calls {
        assert!(rows.contains(&place(call)), "{call} stands in a row without a name");
        assert!(call["name"].is_string() && call["cat"].is_string(), "{call}");
        assert!(
            ["ts", "dur"].iter().all(|key| call[*key].as_f64().is_some_and(|time| time >= 0.0)),
            "{call}"
        );
        let known = ["name", "cat", "ph", "pid", "tid", "ts", "dur", "args"];
        assert!(call.as_object().unwrap().keys().all(|key| known.contains(&&**key)), "{call}");
    }
}

/// The events of a trace, as Perfetto reads them: what happens in one row lies beside or within what else does.
#[test]
fn the_trace_has_parts_layers_and_hooks_within_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.json");
    let mut runner = runner(dir.path(), ProfilerHook::whole_run().json_trace_path(path.clone()));
    runner.train().unwrap();
    let trace: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let calls: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
    let named = |name: &str, cat: &str| calls.iter().filter(|e| e["name"] == name && e["cat"] == cat).count();
    for part in ["data", "train_step", "forward", "backward", "optimizer"] {
        assert!(named(part, "run") >= 8, "{part}: eight iterations");
    }
    assert_eq!((named("network.0", "forward"), named("network.0", "backward")), (8, 8));
    let layer = calls.iter().find(|event| event["name"] == "network.2").unwrap();
    assert_eq!(layer["args"]["type"], "Linear");
    let rows: Vec<_> = events.iter().filter(|event| event["ph"] == "M").map(|row| &row["tid"]).collect();
    check_format(&trace);
    for tid in rows {
        let ns = |event: &serde_json::Value, key: &str| (event[key].as_f64().unwrap() * 1e3).round() as u64;
        let mut open: Vec<u64> = Vec::new();
        let mut last = 0;
        for event in calls.iter().filter(|event| event["tid"] == *tid) {
            let (begin, end) = (ns(event, "ts"), ns(event, "ts") + ns(event, "dur"));
            assert!(begin >= last, "events come in their order");
            last = begin;
            open.retain(|outer| *outer > begin);
            assert!(open.last().is_none_or(|outer| end <= *outer), "{event} ends behind what it lies in");
            open.push(end);
        }
    }

    let profile = &runner.session().state.profile;
    let tables = profile.tables(runner.session().hooks.keys());
    for words in
        ["forward", "backward", "optimizer", "hooks", "GFLOP/s", "network.2", "Linear", "two matrices of 768"]
    {
        assert!(tables.contains(words), "{words}: {tables}");
    }
    let part = |name: &str| profile.parts().iter().find(|(own, _)| *own == name).unwrap().1;
    assert_eq!((part("forward").calls, part("backward").calls), (8, 8));
    assert!(part("forward").seconds + part("backward").seconds <= part("train_step").seconds);
    let linear = profile.layers().all().iter().find(|layer| layer.path == "network.2").unwrap();
    assert_eq!(linear.forward.multiply_adds, 2 * 64 * 8);
    assert!(profile.layers().peak().unwrap() > 1e6);
}

/// A run that is not profiled has no times of layers, and one of some iterations those of these.
#[test]
fn layers_are_measured_in_the_iterations_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut some = runner(&dir.path().join("some"), ProfilerHook::default().by_epoch(false).profile_times(3));
    some.train().unwrap();
    let profile = &some.session().state.profile;
    let forward = profile.parts().iter().find(|(part, _)| *part == "forward").unwrap().1;
    assert_eq!(forward.calls, 3);
    let linear = profile.layers().all().iter().find(|layer| layer.path == "network.0").unwrap();
    assert_eq!(linear.forward.multiply_adds, 3 * 16 * 3 * 8);
}
