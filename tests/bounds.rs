//! Whatever number stands in a config, it is built or refused: in time, within bounds of memory, without a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests
use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::Instant;

use serde_json::{Value, json};
use shanty::config::parse;
use shanty::registry::{entries, example, kinds};
use shanty::run::RunConfig;

/// The memory that the process has in its hands now, and had at most since the peak was forgotten, in bytes; where the
/// system tells. Zeros straight from the system take none before somebody touches them.
fn memory(line: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|l| l.strip_prefix(line)?.trim().strip_suffix("kB")?.trim().parse::<usize>().ok());
    kib.unwrap_or_default() << 10
}

/// Runs `f`, and gives its seconds and the bytes that the process took at most.
fn timed<T>(f: impl FnOnce() -> T) -> (T, f64, usize) {
    let _ = fs::write("/proc/self/clear_refs", "5");
    let (before, began) = (memory("VmRSS:"), Instant::now());
    let made = f();
    (made, began.elapsed().as_secs_f64(), memory("VmHWM:").saturating_sub(before))
}

/// The memory is that of the whole process, and the time is that of a machine that does other things: what is beyond the
/// bounds beside others is measured again alone.
fn measured<T>(f: impl Fn() -> T) -> (T, f64, usize) {
    static BESIDE: RwLock<()> = RwLock::new(());
    let shared = BESIDE.read().unwrap_or_else(PoisonError::into_inner);
    let (made, seconds, bytes) = timed(&f);
    drop(shared);
    if seconds <= MOST_SECONDS && bytes <= MOST_BYTES {
        return (made, seconds, bytes);
    }
    let _alone = BESIDE.write().unwrap_or_else(PoisonError::into_inner);
    timed(&f)
}

/// Beside the weights of a network that is small enough to be rehearsed, with their gradients and momentum.
const MOST_BYTES: usize = (300 << 20) + 3 * REHEARSED_WEIGHTS;
const REHEARSED_WEIGHTS: usize = 1 << 29;
/// In a debug build, on a machine that does other things too.
const MOST_SECONDS: f64 = 5.0;

const INTEGERS: [&str; 8] = [
    "0",
    "1",
    "65535",
    "2147483648",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
];
const FLOATS: [&str; 6] = ["0.0", ".nan", ".inf", "1.0e+308", "-1.0", "1.0e-300"];

/// Stands for the number in a config.
const HOLE: &str = "@@";

/// What a schema takes, with the hole for one of its numbers: each number once, and whether it is whole.
fn holes(schema: &Value, root: &Value, depth: usize) -> Vec<(Value, bool)> {
    let Some(depth) = depth.checked_sub(1) else { return Vec::new() };
    if let Some(target) = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        return holes(target, root, depth);
    }
    let is = |name: &str| match &schema["type"] {
        Value::Array(types) => types.contains(&name.into()),
        one => one == name,
    };
    let mut all = Vec::new();
    if is("integer") || is("number") {
        all.push((json!(HOLE), is("integer")));
    }
    for word in ["anyOf", "oneOf", "allOf"] {
        all.extend(schema[word].as_array().into_iter().flatten().flat_map(|part| holes(part, root, depth)));
    }
    if let Some(parts) = schema["prefixItems"].as_array() {
        let numbers = parts.iter().all(|part| part["type"] == "integer" || part["type"] == "number");
        if numbers {
            for i in 0..parts.len() {
                let items = (0..parts.len()).map(|j| if i == j { json!(HOLE) } else { json!(1) });
                all.push((items.collect(), parts[i]["type"] == "integer"));
            }
        }
    } else if schema["items"].is_object() {
        let least = schema["minItems"].as_u64().unwrap_or(1) as usize;
        for (item, whole) in holes(&schema["items"], root, depth) {
            all.extend([least, least + 1].map(|n| (json!(vec![item.clone(); n]), whole)));
            let with_others = |i| (0..least).map(|j| if i == j { item.clone() } else { json!(2) }).collect();
            all.extend((0..least).filter(|_| least > 1).map(|i| (with_others(i), whole)));
        }
    }
    for (name, part) in schema["properties"].as_object().into_iter().flatten() {
        for (value, whole) in holes(part, root, depth) {
            let mut object = json!({});
            for needed in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                object[needed] = json!(2);
            }
            object[name] = value;
            all.push((object, whole));
        }
    }
    all
}

/// A small config that trains.
fn base() -> Value {
    let data = json!({
        "batch_size": 4, "num_workers": 0, "sampler": {"type": "DefaultSampler", "shuffle": false},
        "dataset": {"type": "Synthetic", "n": 8, "shape": [1, 8, 8], "classes": 4, "pipeline": [{"type": "PackInputs"}]}
    });
    json!({
        "model": {
            "type": "ImageClassifier",
            "backbone": {"type": "Sequential", "layers": [
                {"type": "Flatten"}, {"type": "Linear", "in_features": 64, "out_features": 4}
            ]},
            "head": {"type": "ClsHead", "loss": {"type": "CrossEntropyLoss"}}
        },
        "train_dataloader": data, "val_dataloader": data,
        "train_cfg": {"by_epoch": true, "max_epochs": 2}, "val_cfg": {}, "val_evaluator": [{"type": "Accuracy"}],
        "optim_wrapper": {"optimizer": {"type": "SGD", "lr": 0.1}}
    })
}

/// The config with a thing of this kind in its place.
fn with(kind: &str, thing: Value) -> Option<Value> {
    let mut config = base();
    let place = match kind {
        "batch_sampler" => "/train_dataloader/batch_sampler",
        "collate" => "/train_dataloader/collate_fn",
        "data_preprocessor" => "/model/data_preprocessor",
        "dataset" => "/train_dataloader/dataset",
        "head" => "/model/head",
        "hook" => "/custom_hooks",
        "initializer" => "/model/init_cfg",
        "loss" => "/model/head/loss",
        "metric" => "/val_evaluator",
        "model" => "/model",
        "module" => "/model/backbone",
        "optimizer" => "/optim_wrapper/optimizer",
        "param_scheduler" => "/param_scheduler",
        "sampler" => "/train_dataloader/sampler",
        "transform" => "/train_dataloader/dataset/pipeline",
        "vis_backend" => "/vis_backends",
        _ => return None,
    };
    let thing = match kind {
        "hook" | "param_scheduler" | "metric" | "vis_backend" => json!([thing]),
        "transform" => json!([thing, {"type": "PackInputs"}]),
        _ => thing,
    };
    let (parent, key) = place.rsplit_once('/').unwrap();
    config.pointer_mut(parent).unwrap()[key] = thing;
    Some(config)
}

/// Checks a config with each of these numbers in its hole; gives what went wrong.
fn attack(name: &str, config: &Value, numbers: &[&str], wrong: &mut Vec<String>) -> usize {
    for number in numbers {
        let text = config.to_string().replace(&format!("\"{HOLE}\""), number);
        let node = parse("c.yaml", &text).unwrap();
        let (said, seconds, bytes) = measured(|| {
            std::panic::catch_unwind(|| match shanty::run::check(&node, Some("c.yaml")) {
                Ok(_) => String::new(),
                Err(error) => error.to_string(),
            })
        });
        let said = said.unwrap_or_else(|_| "the check panicked".to_owned());
        let mut why = String::new();
        if seconds > MOST_SECONDS {
            let _ = write!(why, " took {seconds:.1} s;");
        }
        if bytes > MOST_BYTES {
            let _ = write!(why, " took {} MiB;", bytes >> 20);
        }
        if said.contains("panicked") {
            let _ = write!(why, " {said}");
        }
        if !why.is_empty() {
            wrong.push(format!("{name} = {number}:{why}"));
        }
    }
    numbers.len()
}

/// A config with a hole for a whole or for any number, and how it is called.
type Case = (String, Value, bool);

#[test]
fn any_number_of_any_type_is_built_or_refused() {
    shanty::run::check(&parse("c.yaml", &base().to_string()).unwrap(), Some("c.yaml")).unwrap();
    let cases = [of_types(), of_the_top_level()].concat();
    // Each case meets a third of the numbers, and its neighbours the others.
    let full = std::env::var_os("SHANTY_FULL").is_some();
    let (next, tried, wrong) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let case = next.fetch_add(1, Ordering::Relaxed);
            let Some((name, config, whole)) = cases.get(case) else { break };
            let mut own = Vec::new();
            let numbers: &[&str] = if *whole { &INTEGERS } else { &FLOATS };
            let numbers = numbers.iter().enumerate().filter(|(i, _)| full || (case + i) % 3 == 0);
            let numbers: Vec<&str> = numbers.map(|(_, number)| *number).collect();
            tried.fetch_add(attack(name, config, &numbers, &mut own), Ordering::Relaxed);
            wrong.lock().unwrap().extend(own);
        }
    };
    std::thread::scope(|scope| {
        (0..2).for_each(|_| drop(scope.spawn(work)));
    });
    let (tried, wrong) = (tried.into_inner(), wrong.into_inner().unwrap());
    assert!(tried > 1000, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Each number of each type that is registered.
fn of_types() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in kinds() {
        for entry in entries(kind.name) {
            let mut generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
            let schemas =
                [entry.maker.schema(&mut generator).to_value(), (kind.extra)(&mut generator).to_value()];
            let root = json!({ "$defs": generator.take_definitions(true) });
            let mut spec = serde_json::to_value(parse("example", &example(entry)).unwrap()).unwrap();
            // Networks that are large as they are would be drawn for each number.
            match entry.name {
                "VisionTransformer"
                | "DistilledVisionTransformer"
                | "DeiT3"
                | "BEiTViT"
                | "ViTEVA02"
                | "RevVisionTransformer" => {
                    spec["arch"] =
                        json!({"embed_dims": 8, "num_layers": 1, "num_heads": 1, "feedforward_channels": 8})
                }
                "ResNet" | "ResNet_CIFAR" => spec["base_channels"] = json!(2),
                "XCiT" => {
                    spec["embed_dims"] = json!(8);
                    spec["depth"] = json!(1);
                    spec["num_heads"] = json!(1);
                }
                "EfficientNetV2" => spec["arch"] = json!("b0"),
                "VAN" => {
                    spec["arch"] = json!({"embed_dims": [4, 4, 4, 4], "depths": [1, 1, 1, 1], "ffn_ratios": [1, 1, 1, 1]})
                }
                "ConvMixer" => {
                    spec["arch"] = json!({"embed_dims": 4, "depth": 1, "patch_size": 2, "kernel_size": 3})
                }
                "MobileOne" => {
                    spec["arch"] = json!({"num_blocks": [1, 1, 1, 1], "width_factor": [0.125, 0.0625, 0.03125, 0.015625],
                        "num_conv_branches": [1, 1, 1, 1], "num_se_blocks": [0, 0, 0, 0]})
                }
                "EdgeNeXt" => {
                    spec["arch"] =
                        json!({"channels": [8, 8, 8, 8], "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]})
                }
                "HorNet" => {
                    spec["arch"] = json!({"base_dim": 4, "depths": [1, 1, 1, 1], "orders": [1, 2, 3, 2],
                        "dw_cfg": vec![json!({"type": "DW"}); 4]})
                }
                "HRNet" => {
                    let stage = |maps: usize| {
                        json!({"num_modules": 1, "num_branches": maps, "block": "BASIC", "num_blocks": vec![1; maps],
                            "num_channels": vec![2; maps]})
                    };
                    spec["extra"] = json!({"stage1": stage(1), "stage2": stage(2), "stage3": stage(3), "stage4": stage(4)})
                }
                "Res2Net" | "ResNeSt" => {
                    spec["stem_channels"] = json!(4);
                    spec["base_channels"] = json!(4);
                }
                "RepLKNet" => {
                    spec["arch"] = json!({"large_kernel_sizes": [3, 3, 3, 3], "layers": [1, 1, 1, 1],
                        "channels": [4, 4, 4, 4], "small_kernel": 1, "dw_ratio": 1.0})
                }
                "RepMLPNet" => {
                    spec["img_size"] = json!(32);
                    spec["arch"] = json!({"channels": [4, 4, 4, 4], "depths": [1, 1, 1, 1], "sharesets_nums": [1, 1, 1, 1]})
                }
                "Vig" => spec["arch"] = json!({"num_blocks": 1, "channels": 8}),
                "PyramidVig" => spec["arch"] = json!({"blocks": [1, 1, 1, 1], "channels": [4, 4, 4, 4]}),
                "PoolFormer" | "RIFormer" => {
                    spec["arch"] = json!({"layers": [1, 1, 1, 1], "embed_dims": [4, 4, 4, 4],
                        "mlp_ratios": [1, 1, 1, 1], "layer_scale_init_value": 1e-5})
                }
                "SwinTransformerV2" => {
                    spec["arch"] = json!({"embed_dims": 4, "depths": [1, 1], "num_heads": [1, 1]})
                }
                "TinyViT" => {
                    spec["arch"] =
                        json!({"channels": [4, 4, 4, 4], "num_heads": [1, 1, 1, 1], "depths": [1, 1, 1, 1]})
                }
                "LeViT" => {
                    spec["arch"] = json!({"embed_dims": [8, 8, 8], "num_heads": [1, 1, 1], "depths": [1, 1, 1],
                        "key_dims": [4, 4, 4]})
                }
                "MViT" => {
                    spec["arch"] =
                        json!({"embed_dims": 4, "num_layers": 2, "num_heads": 1, "downscale_indices": [1]})
                }
                "HiViT" => spec["arch"] = json!({"embed_dims": 8, "depths": [1, 1, 1], "num_heads": 1}),
                "DaViT" => {
                    spec["arch"] = json!({"embed_dims": 4, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]})
                }
                "PCPVT" | "SVT" => {
                    let four = |size: usize| json!(vec![size; 4]);
                    spec["arch"] = json!({"embed_dims": four(4), "depths": four(1), "num_heads": four(1),
                        "patch_sizes": four(2), "strides": four(2), "mlp_ratios": four(1), "sr_ratios": four(1)});
                    if entry.name == "SVT" {
                        spec["arch"]["window_sizes"] = four(2);
                    }
                }
                "T2T_ViT" => {
                    spec["embed_dims"] = json!(12);
                    spec["num_layers"] = json!(1);
                    spec["t2t_cfg"] = json!({"token_dims": 4});
                }
                "TNT" => {
                    spec["arch"] = json!({"embed_dims_outer": 4, "embed_dims_inner": 4, "num_layers": 1,
                        "num_heads_outer": 1, "num_heads_inner": 1})
                }
                "Conformer" => {
                    spec["arch"] = json!({"embed_dims": 8, "channel_ratio": 1, "num_heads": 1, "depths": 3});
                    spec["base_channels"] = json!(4);
                }
                "EfficientFormer" => {
                    spec["arch"] = json!({"layers": [1, 1, 1, 1], "embed_dims": [4, 4, 4, 4],
                        "downsamples": [false, true, true, true], "vit_num": 1})
                }
                "MobileViT" => spec["arch"] = json!("xx_small"),
                "RegNet" => {
                    spec["arch"] = json!({"w0": 16, "wa": 12.5, "wm": 2.0, "group_w": 8, "depth": 9,
                        "bot_mul": 1.0})
                }
                _ => {}
            }
            for schema in schemas {
                let schema = match schema["$ref"].as_str() {
                    Some(at) => root.pointer(at.trim_start_matches('#')).unwrap().clone(),
                    None => schema,
                };
                for (key, part) in schema["properties"].as_object().into_iter().flatten() {
                    for (value, whole) in holes(part, &root, 5) {
                        let mut spec = spec.clone();
                        spec[key] = value.clone();
                        let Some(config) = with(kind.name, spec) else { continue };
                        cases.push((format!("{} {}.{key} {value}", kind.name, entry.name), config, whole));
                    }
                }
            }
        }
    }
    cases
}

fn of_the_top_level() -> Vec<Case> {
    let mut cases = Vec::new();
    let schema = schemars::schema_for!(RunConfig).to_value();
    for (key, part) in schema["properties"].as_object().into_iter().flatten() {
        for (value, whole) in holes(part, &schema, 5) {
            let mut config = base();
            match (config[key].as_object_mut(), value.as_object()) {
                (Some(given), Some(new)) => given.extend(new.clone()),
                _ => config[key] = value.clone(),
            }
            cases.push((format!("{key} {value}"), config, whole));
        }
    }
    cases
}

/// Ten thousand layers that fit one by one filled the machine before they were refused.
#[test]
fn a_network_that_is_too_deep_is_refused_while_it_is_built() {
    let deep = [
        json!({"type": "VisionTransformer", "img_size": 32, "patch_size": 16, "arch": {
            "embed_dims": 4096, "num_layers": 10_000, "num_heads": 8, "feedforward_channels": 16384
        }}),
        json!({"type": "ResNet_CIFAR", "depth": 9_998, "base_channels": 4096}),
        json!({"type": "ResNet", "depth": 34, "base_channels": 1_048_576}),
        json!({"type": "MLP", "sizes": vec![30_000; 10_000]}),
    ];
    for backbone in deep {
        let name = backbone["type"].clone();
        let text = with("module", backbone).unwrap().to_string();
        let node = parse("c.yaml", &text).unwrap();
        let (said, seconds, bytes) =
            measured(|| shanty::run::check(&node, Some("c.yaml")).unwrap_err().to_string());
        assert!(said.contains("and this machine has") && said.contains("c.yaml:"), "{name}: {said}");
        assert!(seconds < 2.0 * MOST_SECONDS, "{name}: {seconds} s");
        assert!(bytes < MOST_BYTES, "{name}: {} MiB", bytes >> 20);
    }
}

/// A table of a hundred thousand classes squared is refused, figures of as many classes are found at once.
#[test]
fn metrics_of_very_many_classes_are_linear() {
    let mut wrong = Vec::new();
    for classes in ["1000", "100000", "1000000", "10000000"] {
        for average in [json!(null), json!("macro")] {
            let metric = json!({"type": "SingleLabelMetric", "num_classes": HOLE, "average": average,
                                "items": ["precision", "recall", "f1-score", "support"]});
            let mut config = with("metric", metric).unwrap();
            config["custom_hooks"] =
                json!([{"type": "EarlyStoppingHook", "monitor": "single-label/precision_classwise/999"}]);
            attack("SingleLabelMetric", &config, &[classes], &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let mut confusion = shanty::metric::ConfusionMatrix::new(false);
    use shanty::metric::{Metric as _, Predictions};
    let batch = shanty::data::Batch::new(ndarray::ArrayD::zeros(vec![1, 1]), vec![0]);
    let scores = ndarray::ArrayD::zeros(vec![1, 10_000_000]);
    let said = confusion
        .process(&Predictions::of(&batch, &shanty::data::Fields::one("scores", scores.clone())))
        .unwrap_err()
        .to_string();
    assert!(said.starts_with("the table of the classes takes "), "{said}");
}
