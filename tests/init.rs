//! Who initialises what, and in which order (behaviour: MMEngine's `BaseModule.init_weights`).

#![allow(clippy::unwrap_used)] // helpers of tests

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ndarray::{ArrayD, ArrayViewMutD};
use shanty::base::{Elem, Result, Rng};
use shanty::checkpoint::tensors::write_tensors;
use shanty::module;
use shanty::nn::init::{
    Constant, Fans, Init, Initializer, Kaiming, Normal, Pretrained, Uniform, Xavier, init_weights,
};
use shanty::nn::{Buffer, Param};
use shanty::params::{Params, Role, StateDict, StateTensor};

struct Linear {
    weight: Param,
    bias: Param,
}
module!(Linear { weight, bias });

struct Conv2d {
    weight: Param,
    bias: Option<Param>,
    groups: usize,
}
module!(Conv2d: "_ConvNd" { weight, bias }, groups = groups);

struct BatchNorm2d {
    weight: Param,
    bias: Param,
    running_mean: Buffer,
}
module!(BatchNorm2d: "_BatchNorm" { weight, bias, running_mean });

struct Backbone {
    conv: Conv2d,
    norm: BatchNorm2d,
    init: Vec<Init>,
}
module!(Backbone { conv, norm }, init_cfg = init);

struct Net {
    backbone: Backbone,
    // Hidden in a plain container: MMEngine would not get there.
    heads: Vec<Linear>,
    init: Vec<Init>,
}
module!(Net { backbone, heads }, init_cfg = init);

fn linear(n_in: usize, n_out: usize) -> Linear {
    Linear { weight: Param::fan_in(&[n_out, n_in], n_in), bias: Param::fan_in(&[n_out], n_in) }
}

fn conv(shape: [usize; 4], groups: usize) -> Conv2d {
    let fan_in = shape[1..].iter().product();
    Conv2d { weight: Param::fan_in(&shape, fan_in), bias: Some(Param::fan_in(&shape[..1], fan_in)), groups }
}

fn net(outer: Vec<Init>, inner: Vec<Init>) -> Net {
    let _ = log::set_logger(&Collect).map(|()| log::set_max_level(log::LevelFilter::Info));
    let norm = BatchNorm2d {
        weight: Param::full(&[6], 1.0),
        bias: Param::full(&[6], 0.0),
        running_mean: Buffer::full(&[6], 0.0),
    };
    let backbone = Backbone { conv: conv([6, 1, 5, 5], 1), norm, init: inner };
    Net { backbone, heads: vec![linear(84, 10)], init: outer }
}

fn values(net: &dyn Params, name: &str) -> Vec<Elem> {
    StateDict::of(net).unwrap().get(name).unwrap().value.iter().copied().collect()
}

fn all(net: &dyn Params, name: &str, value: Elem) -> bool {
    values(net, name).iter().all(|v| *v == value)
}

fn std(values: &[Elem]) -> f64 {
    let n = values.len() as f64;
    let mean = values.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (values.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / n).sqrt()
}

fn constant(val: f64) -> Init {
    Init::new(Constant { val })
}

/// A checkpoint file with these tensors, all elements equal.
fn file(dir: &tempfile::TempDir, tensors: &[(&str, &[usize], Elem)]) -> PathBuf {
    let state = tensors
        .iter()
        .map(|(name, shape, value)| {
            let value = ArrayD::from_elem(shape.to_vec(), *value);
            (String::from(*name), StateTensor { role: Role::Weight, value })
        })
        .collect();
    let path = dir.path().join("file.safetensors");
    std::fs::write(&path, write_tensors(&StateDict(state)).unwrap()).unwrap();
    path
}

fn pretrained(path: &Path, prefix: Option<&str>) -> Init {
    let checkpoint = path.display().to_string();
    Init::new(Pretrained { checkpoint, prefix: prefix.map(Into::into), map_location: None })
}

#[test]
fn layers_that_nobody_names_start_as_in_pytorch() {
    let mut net = net(vec![], vec![]);
    let report = init_weights(&mut net, 0).unwrap();
    // U(±1/√fan_in): fan_in 25 and 84, bias like weight. The standard deviation of U(±b) is b/√3.
    let head = 84f64.powf(-0.5);
    for (name, bound) in [("backbone.conv.weight", 0.2), ("heads.0.weight", head), ("heads.0.bias", head)] {
        let largest = values(&net, name).iter().fold(0.0, |m: f64, v| m.max(f64::from(*v).abs()));
        assert!(largest <= bound && largest > 0.6 * bound, "{name}: {largest} of {bound}");
    }
    assert!((std(&values(&net, "heads.0.weight")) - head / 3f64.sqrt()).abs() < 0.004);
    assert!(all(&net, "backbone.norm.weight", 1.0), "norms keep what they were built with");
    let same = "as its layer was made; no rule of init_cfg reaches it";
    let within = |fan_in| format!("PyTorch's default: uniform within 1/sqrt({fan_in})");
    let expected = [
        ("backbone.conv.weight - [6, 1, 5, 5]", within(25)),
        ("backbone.conv.bias - [6]", within(25)),
        ("backbone.norm.weight - [6]", same.to_owned()),
        ("backbone.norm.bias - [6]", same.to_owned()),
        ("heads.0.weight - [10, 84]", within(84)),
        ("heads.0.bias - [10]", within(84)),
    ];
    let told: Vec<&str> = report.iter().filter_map(|line| Some(line.split_once(" (mean ")?.0)).collect();
    assert_eq!(told, expected.map(|(tensor, rule)| format!("{tensor}: {rule}")));
    let spread = std(&values(&net, "heads.0.weight"));
    let (_, told) = report[4].rsplit_once("std ").unwrap();
    assert!(
        (told.trim_end_matches(')').parse::<f64>().unwrap() / spread - 1.0).abs() < 1e-3,
        "{told}, {spread}"
    );
}

#[test]
fn the_outer_config_reaches_everything_and_the_innermost_wins() {
    let outer = vec![
        Init::new(Kaiming::default()).layer("Conv2d"),
        Init::new(Xavier::default()).layer("Linear").bias(0.5),
        constant(3.0).layer("_BatchNorm"),
    ];
    let inner = vec![constant(2.0).layer("Conv2d").bias(-1.0)];
    let mut net = net(outer, inner);
    let report = init_weights(&mut net, 0).unwrap();
    assert!(all(&net, "backbone.conv.weight", 2.0) && all(&net, "backbone.conv.bias", -1.0));
    assert!(all(&net, "backbone.norm.weight", 3.0) && all(&net, "backbone.norm.bias", 0.0));
    assert!(all(&net, "backbone.norm.running_mean", 0.0), "buffers are not weights");
    assert!(all(&net, "heads.0.bias", 0.5));
    assert!((std(&values(&net, "heads.0.weight")) - (2f64 / 94.0).sqrt()).abs() < 0.01);
    assert_eq!(
        report[0],
        "backbone.conv.weight - [6, 1, 5, 5]: ConstantInit: val=2, bias=-1 (mean 2, std 0)"
    );
    assert_eq!(report[2], "backbone.norm.weight - [6]: ConstantInit: val=3, bias=0 (mean 3, std 0)");
    assert!(
        report[4].starts_with("heads.0.weight - [10, 84]: XavierInit: gain=1, distribution=normal, bias=0.5"),
        "{}",
        report[4]
    );
}

#[test]
fn of_one_list_the_later_entry_wins() {
    let mut net = net(vec![constant(1.0).layer("Linear"), constant(2.0).layer("Linear")], vec![]);
    init_weights(&mut net, 0).unwrap();
    assert!(all(&net, "heads.0.weight", 2.0));
}

/// INI-04: Pretrained wins where it has something, in either order, over inner entries too; the rest is initialised.
#[test]
fn pretrained_comes_last_and_leaves_the_rest_to_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(
        &dir,
        &[("module.backbone.conv.weight", &[6, 1, 5, 5], 4.0), ("backbone.norm.running_mean", &[6], 5.0)],
    );
    for turned in [false, true] {
        let mut outer = vec![constant(1.0).layer("Conv2d").layer("Linear"), pretrained(&path, None)];
        if turned {
            outer.reverse();
        }
        let mut net = net(outer, vec![constant(2.0).layer("Conv2d")]);
        let report = init_weights(&mut net, 0).unwrap();
        assert!(all(&net, "backbone.conv.weight", 4.0), "from the file, its `module.` left off");
        assert!(all(&net, "backbone.norm.running_mean", 5.0), "buffers are loaded too");
        assert!(all(&net, "heads.0.weight", 1.0), "the head is not left uninitialised");
        let line =
            format!("backbone.conv.weight - [6, 1, 5, 5]: PretrainedInit: load from {}", path.display());
        assert_eq!(report[0], line + " (mean 4, std 0)");
        assert_eq!(report[1], "backbone.conv.bias - [6]: ConstantInit: val=2, bias=0 (mean 0, std 0)");
    }
    let told = logged(&path.display().to_string());
    assert!(told.contains("2 loaded, 5 missing (backbone.conv.bias, backbone.norm.weight"), "{told}");
}

#[test]
fn an_inner_pretrained_sees_its_own_names_and_can_take_a_part_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &[("backbone.conv.bias", &[6], 4.0), ("head.fc.weight", &[1], 4.0)]);
    for prefix in ["backbone", "backbone."] {
        let mut net = net(vec![constant(1.0).layer("Conv2d")], vec![pretrained(&path, Some(prefix))]);
        init_weights(&mut net, 0).unwrap();
        assert!(all(&net, "backbone.conv.bias", 4.0));
    }
    let mut net = net(vec![], vec![pretrained(&path, Some("neck"))]);
    let error = init_weights(&mut net, 0).unwrap_err().to_string();
    assert!(error.ends_with("no tensor is called `neck.…`; names begin with: backbone, head"), "{error}");
}

/// INI-05.
#[test]
fn a_file_that_fits_nothing_is_an_error_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |tensors: &[(&str, &[usize], Elem)], at_backbone: bool| {
        let init = vec![pretrained(&file(&dir, tensors), None)];
        let mut net = if at_backbone { net(vec![], init) } else { net(init, vec![]) };
        init_weights(&mut net, 0).unwrap_err().to_string()
    };
    let error = refusal(&[("model.backbone.conv.bias", &[6], 0.0)], false);
    assert!(error.contains("none of its 1 tensors has a name of `Net`"), "{error}");
    assert!(error.ends_with("set `prefix: model`"), "{error}");
    let error = refusal(&[("conv.bias", &[6], 0.0)], false);
    assert!(error.ends_with("it fits `backbone`, so give this init_cfg to that"), "{error}");
    let error = refusal(&[("backbone.conv.bias", &[6], 0.0)], true);
    assert!(error.ends_with("set `prefix: backbone`"), "{error}");
    let error = refusal(&[("heads.0.weight", &[5, 84], 0.0)], false);
    assert!(error.ends_with("heads.0.weight: file [5, 84], model [10, 84]"), "{error}");
    let error = refusal(&[("x", &[1], 0.0)], false);
    assert!(error.contains("it has `x`; `Net` wants `backbone.conv.weight`, "), "{error}");
}

#[test]
fn a_tensor_of_another_shape_is_left_out_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = file(&dir, &[("heads.0.weight", &[5, 84], 4.0), ("heads.0.bias", &[10], 4.0)]);
    let mut net = net(vec![constant(1.0).layer("Linear"), pretrained(&path, None).layer("Linear")], vec![]);
    init_weights(&mut net, 0).unwrap();
    assert!(all(&net, "heads.0.weight", 1.0) && all(&net, "heads.0.bias", 4.0));
    assert!(logged("so `layer` and `bias` do nothing here").contains("PretrainedInit: load from"));
    let told = logged(&path.display().to_string());
    assert!(told.contains("1 of another shape (heads.0.weight: file [5, 84], model [10, 84])"), "{told}");
}

#[test]
fn an_override_takes_a_whole_sub_module() {
    let outer = vec![
        constant(1.0).layer("Linear").bias(2.0).override_all("backbone"),
        Init::new(Normal::default()).override_with("heads", constant(5.0).bias(6.0)),
    ];
    let mut own = net(outer, vec![]);
    init_weights(&mut own, 0).unwrap();
    assert!(
        all(&own, "backbone.norm.weight", 1.0) && all(&own, "backbone.norm.bias", 2.0),
        "whatever its type"
    );
    assert!(all(&own, "heads.0.weight", 5.0) && all(&own, "heads.0.bias", 6.0));

    let mut wrong = net(vec![constant(1.0).layer("Linear").override_all("neck")], vec![]);
    let error = init_weights(&mut wrong, 0).unwrap_err().to_string();
    assert_eq!(error, "`override` names `neck`, but `Net` has only: backbone, heads");
}

#[test]
fn draws_depend_on_seed_and_name_alone() {
    let drawn = |seed, heads: usize| {
        let mut net = net(vec![Init::new(Uniform::default()).layer("Linear")], vec![]);
        net.heads = (0..heads).map(|_| linear(84, 10)).collect();
        init_weights(&mut net, seed).unwrap();
        net
    };
    let (one, more) = (drawn(0, 1), drawn(0, 2));
    assert_eq!(values(&one, "heads.0.weight"), values(&more, "heads.0.weight"));
    assert_ne!(values(&more, "heads.0.weight"), values(&more, "heads.1.weight"));
    let mut again = drawn(1, 1);
    assert_ne!(values(&one, "heads.0.weight"), values(&again, "heads.0.weight"));
    init_weights(&mut again, 0).unwrap();
    assert_eq!(StateDict::of(&again).unwrap(), StateDict::of(&one).unwrap(), "a second call starts over");
}

/// INI-01: the fans are those of one group. 400 channels give 3,600 draws: std 0.4714 ± 0.0056.
#[test]
fn a_depthwise_convolution_has_the_fans_of_one_channel() {
    let mut own = net(vec![Init::new(Kaiming::default()).layer("Conv2d")], vec![]);
    own.backbone.conv = conv([400, 1, 3, 3], 400);
    init_weights(&mut own, 0).unwrap();
    assert!((std(&values(&own, "backbone.conv.weight")) - 0.471_405).abs() < 0.02);
}

#[test]
fn a_rule_that_does_not_fit_names_the_parameter() {
    let mut own = net(vec![Init::new(Xavier::default()).layer("BatchNorm2d")], vec![]);
    let error = init_weights(&mut own, 0).unwrap_err().to_string();
    assert!(error.starts_with("backbone.norm.weight: Xavier needs a weight of two or more axes"), "{error}");
}

#[test]
fn a_rule_that_does_nothing_is_told() {
    let mut own = net(vec![constant(1.0).layer("Conv2D"), constant(11.0)], vec![]);
    init_weights(&mut own, 0).unwrap();
    let told = logged("finds no layer Conv2D");
    assert!(told.ends_with("; did you mean `Conv2d`?"), "{told}");
    let told = logged("val=11");
    assert_eq!(told, "init_cfg of `Net`: ConstantInit: val=11 does nothing: say for which `layer` it is");
}

/// A rule of one's own, as a plugin has it.
struct Eye;

impl Initializer for Eye {
    fn describe(&self) -> String {
        "EyeInit".into()
    }
    fn fill(&self, weight: &mut ArrayViewMutD<'_, Elem>, _: Option<Fans>, _: &mut Rng) -> Result<()> {
        weight.indexed_iter_mut().for_each(|(i, w)| *w = if i[0] == i[1] { 1.0 } else { 0.0 });
        Ok(())
    }
}

#[test]
fn a_custom_rule_is_a_few_lines() {
    let mut own = net(vec![Init::new(Eye).layer("Linear")], vec![]);
    own.heads = vec![linear(2, 2)];
    assert_eq!(
        init_weights(&mut own, 0).unwrap()[4],
        "heads.0.weight - [2, 2]: EyeInit, bias=0 (mean 0.5, std 0.5)"
    );
    assert_eq!(values(&own, "heads.0.weight"), [1.0, 0.0, 0.0, 1.0]);
}

/// The last log line with this text in it.
fn logged(part: &str) -> String {
    let lines = LINES.lock().unwrap();
    lines.iter().rev().find(|line| line.contains(part)).cloned().unwrap_or_default()
}

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collect;

impl log::Log for Collect {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(record.args().to_string());
    }
    fn flush(&self) {}
}
