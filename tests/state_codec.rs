//! State loses nothing on its way through `state.json`: every float, every integer, every text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use shanty::base::codec::{from_json, to_json};
use shanty::checkpoint::load;
use shanty::hook::{MessageHub, Mode};
use shanty::optim::{Adam, OptimWrapper, Optimizer, Sgd};
use shanty::params::ParamRef;
use shanty::plugin::prelude::*;
use shanty::run::EpochBasedTrainLoop;
use shanty::testing::toy_data;
use shanty::testing::{ToyModel, toy_runner};

/// A state with plain fields, as a plugin writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Plain {
    float: f64,
    single: f32,
    maybe: Option<f64>,
    list: Vec<f64>,
    by_name: BTreeMap<String, f64>,
    by_number: BTreeMap<u64, i64>,
    large: u64,
    small: i64,
    text: String,
    kind: Kind,
    #[serde(flatten)]
    more: More,
    either: Either,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Kind {
    Unit,
    One(f64),
    Two(u64, f64),
    Named { x: f64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct More {
    flattened: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Either {
    Number(f64),
    Text(String),
}

fn float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5e-324, f64::MAX, 0.1]),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![".*", "(number|text|bytes|bool):.*", Just("NaN".to_owned()), Just("number:nan".to_owned())]
}

prop_compose! {
    fn plain()(
        float in float(),
        single in any::<u32>().prop_map(f32::from_bits),
        (maybe, list) in (prop::option::of(self::float()), prop::collection::vec(self::float(), 0..5)),
        by_name in prop::collection::btree_map(self::text(), self::float(), 0..4),
        by_number in prop::collection::btree_map(any::<u64>(), any::<i64>(), 0..4),
        (large, small) in (any::<u64>(), any::<i64>()),
        text in self::text(),
        kind in prop_oneof![
            Just(Kind::Unit),
            self::float().prop_map(Kind::One),
            (any::<u64>(), self::float()).prop_map(|(n, x)| Kind::Two(n, x)),
            self::float().prop_map(|x| Kind::Named { x }),
        ],
        flattened in self::float(),
        either in prop_oneof![self::float().prop_map(Either::Number), self::text().prop_map(Either::Text)],
    ) -> Plain {
        // Its payload is quieted on the way through f64, which is all that f32 promises.
        let single = if single.is_nan() { f32::NAN } else { single };
        Plain { float, single, maybe, list, by_name, by_number, large, small, text, kind, more: More { flattened }, either }
    }
}

/// Through the text of a file.
fn through<T: Serialize + for<'de> Deserialize<'de>>(state: &T) -> T {
    let text = serde_json::to_string_pretty(&to_json(state).unwrap()).unwrap();
    from_json(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// With the bits of its floats, for NaN is not equal to itself.
fn bits(state: &impl std::fmt::Debug, floats: &[f64]) -> (String, Vec<u64>) {
    (format!("{state:?}"), floats.iter().map(|x| x.to_bits()).collect())
}

proptest! {
    #[test]
    fn any_state_comes_back_bit_for_bit(state in plain()) {
        let back = through(&state);
        let floats = |s: &Plain| {
            let mut all = vec![s.float, f64::from(s.single), s.more.flattened, s.maybe.unwrap_or(1.5)];
            all.extend(s.list.iter().chain(s.by_name.values()));
            all.extend(match (&s.kind, &s.either) {
                (Kind::One(x) | Kind::Two(_, x) | Kind::Named { x }, _) => Some(*x),
                _ => None,
            });
            if let Either::Number(x) = s.either {
                all.push(x);
            }
            all
        };
        prop_assert_eq!(bits(&back, &floats(&back)), bits(&state, &floats(&state)));
        // Twice around is the same text: a state within a state, as an optimizer's in its wrapper.
        let record = Record::of(&state).unwrap();
        let nested = Record::of(&record.data).unwrap();
        prop_assert_eq!(nested.read::<serde_json::Value>().unwrap(), record.data);
    }

    #[test]
    fn a_message_hub_comes_back_bit_for_bit(values in prop::collection::vec((0..3usize, float()), 0..40)) {
        let mut message_hub = MessageHub::default();
        for (name, value) in &values {
            message_hub.update_scalar(Mode::Train, ["loss", "grad_norm", "number:nan"][*name], *value);
            message_hub.update_info("eta", *value);
        }
        let back = through(&message_hub);
        // The codec is one to one: equal texts are equal bits.
        prop_assert_eq!(to_json(&back).unwrap(), to_json(&message_hub).unwrap());
        for (name, history) in message_hub.scalars(Mode::Train) {
            let again = back.scalar(Mode::Train, name).unwrap();
            prop_assert_eq!(again.current().map(f64::to_bits), history.current().map(f64::to_bits));
            prop_assert_eq!(again.nonfinite(), history.nonfinite());
        }
    }

    #[test]
    fn an_optimizer_comes_back_bit_for_bit(patterns in prop::collection::vec(any::<u32>(), 3)) {
        let weights = |seen: &mut Vec<u64>, p: &ParamRef<'_>| seen.extend(p.value.iter().map(|v| f64::from(*v).to_bits()));
        let adam = || -> Box<dyn Optimizer> { Box::new(Adam::new(1e-3)) };
        let sgd = || -> Box<dyn Optimizer> { Box::new(Sgd::new(0.1).momentum(0.9)) };
        for make in [&adam as &dyn Fn() -> Box<dyn Optimizer>, &sgd] {
            let (mut a, mut b) = (ToyModel::new(3), ToyModel::new(3));
            let (mut first, mut second) = (OptimWrapper::boxed(make()), OptimWrapper::boxed(make()));
            let spoil = |model: &mut ToyModel| model.visit_mut(&mut |p| {
                let Some(mut grad) = p.grad else { return };
                grad.iter_mut().zip(&patterns).for_each(|(g, bits)| *g = f32::from_bits(*bits) as Elem);
            });
            spoil(&mut a);
            first.update(&mut a).unwrap();
            let saved = first.save_state(&a).unwrap();
            second.load_state(Record { data: through(&saved.data), tensors: saved.tensors }, &mut b).unwrap();
            b.weight.assign(&a.weight);
            let mut ends = Vec::new();
            for (optim, model) in [(&mut first, &mut a), (&mut second, &mut b)] {
                spoil(model);
                optim.update(model).unwrap();
                let mut seen = Vec::new();
                model.visit(&mut |p| weights(&mut seen, &p));
                ends.push(seen);
            }
            prop_assert_eq!(&ends[0], &ends[1]);
        }
    }
}

/// What stands in the file, for people and for Python.
#[test]
fn numbers_that_json_lacks_are_marked_texts() {
    let odd = f64::from_bits(0x7ff8_0000_0000_0001);
    let state =
        (f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, odd, 0.1, u64::MAX, i64::MIN, "number:nan");
    let text = to_json(&state).unwrap().to_string();
    assert_eq!(
        text,
        r#"["number:nan","number:inf","number:-inf",-0.0,"number:0x7ff8000000000001",0.1,18446744073709551615,-9223372036854775808,"text:number:nan"]"#
    );
    for wrong in [r#""number:seven""#, r#""bytes:0""#, r#""bytes:zz""#, r#""bool:yes""#, r#""number:0xnan""#]
    {
        assert!(from_json::<f64>(&serde_json::from_str(wrong).unwrap()).is_err(), "{wrong}");
    }
    assert!(to_json(&u128::MAX).unwrap_err().to_string().contains("64 bits"));
}

/// Keeps whatever a test puts in.
struct Keeper(Kept);

struct Kept(serde_json::Value, Option<(f64, u64)>);

impl HookState for Kept {
    fn save(&self) -> HookResult<Record> {
        match self.1 {
            Some(state) => Record::of(&state),
            None => Ok(Record { data: self.0.clone(), ..Record::default() }),
        }
    }
    fn load(&mut self, record: Record) -> HookResult {
        self.1 = Some(record.read()?);
        Ok(())
    }
    fn reset(&mut self) {}
}

impl Hook for Keeper {
    fn state(&mut self) -> Option<&mut dyn HookState> {
        Some(&mut self.0)
    }
}

#[test]
fn a_plugins_own_floats_come_back_from_a_real_checkpoint() {
    for state in [(f64::NAN, u64::MAX), (f64::NEG_INFINITY, (1 << 53) + 1), (-0.0, 0), (5e-324, 1)] {
        let dir = tempfile::tempdir().unwrap();
        let run = |resume: bool, epochs: u64, state| {
            let keeper = Keeper(Kept(serde_json::Value::Null, state));
            let builder = toy_runner(dir.path(), epochs, 2).unwrap().resume(resume).hook(keeper);
            let mut runner = builder.build().unwrap();
            runner.train().unwrap();
            runner.hook::<Keeper>().unwrap().0.1.unwrap()
        };
        run(false, 1, Some(state));
        let (float, whole) = run(true, 2, Some((0.5, 7)));
        assert_eq!((float.to_bits(), whole), (state.0.to_bits(), state.1));
    }
}

/// What could not be read back is an error of the save, with the hook's name, and not of the resume.
#[test]
fn an_unreadable_state_is_found_when_it_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let keeper = Keeper(Kept(serde_json::json!({"score": "number:seven"}), None));
    let mut runner = toy_runner(dir.path(), 1, 2).unwrap().async_save(false).hook(keeper).build().unwrap();
    let error = runner.train().unwrap_err().to_string();
    assert!(error.contains("the state of hook `Keeper` could not be read back"), "{error}");
    assert!(!dir.path().join("epoch_1").exists());
}

/// The mean of the run is that of the finite values, as documented; the recent ones show what they were.
#[test]
fn one_nan_does_not_spoil_the_mean_of_the_run() {
    let mut message_hub = MessageHub::default();
    [1.0, f64::NAN, 3.0, f64::INFINITY]
        .iter()
        .for_each(|v| message_hub.update_scalar(Mode::Train, "loss", *v));
    let history = message_hub.scalar(Mode::Train, "loss").unwrap();
    assert_eq!((history.global_mean(), history.count(), history.nonfinite()), (Some(2.0), 4, 2));
    assert_eq!((history.max(2), history.min(3)), (Some(f64::INFINITY), Some(3.0)));
    assert!(history.mean(3).unwrap().is_nan() || history.mean(3).unwrap().is_infinite());
}

fn with(dir: &std::path::Path, epochs: u64, optim: OptimWrapper) -> shanty::run::RunnerBuilder {
    let (data, train_loop) = (toy_data(2, true).unwrap(), EpochBasedTrainLoop::new(epochs));
    toy_runner(dir, epochs, 2).unwrap().train(data, train_loop, optim)
}

/// Resumed with another optimizer, the run says whose state it has found, and what to do.
#[test]
fn another_optimizer_is_refused_with_both_names() {
    let adam = || OptimWrapper::new(Adam::new(1e-3));
    let adam_w = || OptimWrapper::new(Adam::decoupled(1e-3));
    let sgd = || OptimWrapper::new(Sgd::new(0.1).momentum(0.9));
    type Make = fn() -> OptimWrapper;
    let cases: [(Make, Make, [&str; 2]); 4] = [
        (sgd, adam, ["SGD", "Adam"]),
        (adam, sgd, ["Adam", "SGD"]),
        (adam, adam_w, ["Adam", "AdamW"]),
        (adam_w, adam, ["AdamW", "Adam"]),
    ];
    for (before, after, [old, new]) in cases {
        let dir = tempfile::tempdir().unwrap();
        with(dir.path(), 1, before()).build().unwrap().train().unwrap();
        let mut resumed = with(dir.path(), 2, after()).resume(true).build().unwrap();
        let error = resumed.train().unwrap_err().to_string();
        assert!(error.contains(&format!("the optimizer {old}, and this run has {new}")), "{error}");
        assert!(error.contains("`load_from`"), "{error}");
        // The remedy works.
        let from = dir.path().join("epoch_1");
        let fresh = tempfile::tempdir().unwrap();
        let builder = with(fresh.path(), 1, after()).load_from(from);
        builder.build().unwrap().train().unwrap();
    }
    // With other settings of one optimizer its state is taken as far as it is there, as PyTorch does.
    let dir = tempfile::tempdir().unwrap();
    let plain = OptimWrapper::new(Sgd::new(0.1));
    with(dir.path(), 1, plain).build().unwrap().train().unwrap();
    with(dir.path(), 2, sgd()).resume(true).build().unwrap().train().unwrap();
    assert_eq!(load(&dir.path().join("epoch_2")).unwrap().meta.epoch, 2);
}

/// `shanty test` writes its metrics as strict JSON, whatever they are; `state.json` too.
#[test]
fn files_of_a_run_with_nan_are_strict_json() {
    let dir = tempfile::tempdir().unwrap();
    let spoil = |cx: &mut Ctx<'_>, _: &mut Event<'_>| {
        cx.message_hub.update_scalar(Mode::Train, "odd", f64::NAN);
        cx.message_hub.update_info("fact", f64::INFINITY);
        Ok(())
    };
    toy_runner(dir.path(), 1, 2).unwrap().on(Point::BeforeTrainIter, spoil).build().unwrap().train().unwrap();
    let text = fs::read_to_string(dir.path().join("epoch_1/state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(state["message_hub"]["runtime_info"]["fact"], "number:inf");
}
