//! What each layer of a training step takes, forward and on the way back: the time from one op to the next.
//!
//! A tape looks once, when a step begins, whether times are asked for on this thread. Where they are not, it has no
//! trace, and no clock is read in a step.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Instant;

use super::trace::Trace;
use super::{ModuleTree, Work, named_modules};

thread_local! {
    static PASSES: RefCell<Option<Vec<PassTimes>>> = const { RefCell::new(None) };
}

/// The times of a forward pass and its way back.
#[derive(Debug, Clone)]
pub struct PassTimes {
    /// When the forward pass began, the way back began, and the gradients were there.
    pub marks: [Instant; 3],
    /// Each layer that took time, in the order of their first calls. One that is called twice stands here once.
    pub layers: Vec<LayerTimes>,
    /// When each call and each op of the way back began and ended, with the place of its layer above.
    pub spans: Vec<(usize, [Instant; 2])>,
}

/// What a layer took by itself, without those below it.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerTimes {
    /// Its dotted path; empty for what stands outside of all layers, as a loss does.
    pub path: String,
    /// Name of its type: `Conv2d`.
    pub kind: &'static str,
    /// Forward.
    pub forward: Cost,
    /// On the way back, with what is computed once more there.
    pub backward: Cost,
}

impl LayerTimes {
    /// What a table calls it: a loss, and what a network computes between its layers, is the work of none of them.
    pub fn name(&self) -> &str {
        if self.path.is_empty() { "(outside of layers)" } else { &self.path }
    }
}

/// Time, and what was multiplied in it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cost {
    /// Seconds.
    pub seconds: f64,
    /// Multiplications of products, each with the addition that follows it.
    pub multiply_adds: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        self.seconds += more.seconds;
        self.multiply_adds += more.multiply_adds;
    }
}

/// What `f` gives, with the times of the passes of its training steps, if `on`. It is in force on this thread.
///
/// ```
/// use shanty::base::{Tensor, keyed};
/// use shanty::nn::{Autograd, Linear, Module, ReLU, Sequential, timed};
///
/// let mut net = Sequential::new().with(Linear::new(3, 4)).with(ReLU::new());
/// let (_, passes) = timed(true, || {
///     Autograd::default().train(&mut net, &mut keyed(0, "example", 0, 0), |net, tape, cx| {
///         Ok((net.forward(tape.input(Tensor::from_elem(vec![5, 3], 1.0)), cx)?.mean(), ()))
///     })
/// });
/// let linear = passes[0].layers.iter().find(|layer| layer.path == "0").unwrap();
/// // The input asks for no gradient, so the way back has one product, that of the weight.
/// assert_eq!((linear.kind, linear.forward.multiply_adds, linear.backward.multiply_adds), ("Linear", 60, 60));
/// ```
pub fn timed<R>(on: bool, f: impl FnOnce() -> R) -> (R, Vec<PassTimes>) {
    /// Puts the old value back, also when `f` panics.
    struct Restore(Option<Vec<PassTimes>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PASSES.set(self.0.take());
        }
    }
    let _restore = Restore(PASSES.replace(on.then(Vec::new)));
    let result = f();
    (result, PASSES.take().unwrap_or_default())
}

/// The event in which all others happen.
const ROOT: usize = 0;

/// The clock of a step.
#[derive(Debug)]
pub(super) struct Times {
    began: Instant,
    /// Up to when all time belongs to somebody.
    last: Instant,
    /// When the way back began.
    turned: Option<Instant>,
    /// When the calls and the ways back began that are under way.
    entered: Vec<Instant>,
    spans: Vec<(usize, [Instant; 2])>,
}

impl Trace {
    /// A trace of times, if they are asked for.
    pub fn timed() -> Option<Self> {
        let asked = PASSES.with_borrow(Option::is_some);
        asked.then(|| {
            let now = Instant::now();
            let times = Times { began: now, last: now, turned: None, entered: Vec::new(), spans: Vec::new() };
            let mut trace = Self::of(times);
            // The root, in which all is called.
            trace.enter(&"", None);
            trace
        })
    }

    /// The time since the last time belongs to this event.
    pub fn took(&mut self, event: usize) {
        let Some(times) = &mut self.times else { return };
        let now = Instant::now();
        let seconds = now.duration_since(times.last).as_secs_f64();
        let back = usize::from(times.turned.is_some());
        times.last = now;
        self.event(event).costs[back] += Cost { seconds, multiply_adds: 0 };
    }

    /// An op of this event multiplied so much.
    pub fn multiplied(&mut self, event: usize, work: Work) {
        let Some(times) = &self.times else { return };
        let back = usize::from(times.turned.is_some());
        self.event(event).costs[back].multiply_adds += work.multiply_adds;
    }

    /// A call has begun where the last time ended.
    pub fn entered(&mut self) {
        if let Some(times) = &mut self.times {
            times.entered.push(times.last);
        }
    }

    /// The call of this event came back, or the way back of its op is at its end.
    pub fn returned(&mut self, event: usize) {
        self.took(event);
        if let Some(times) = &mut self.times
            && let Some(began) = times.entered.pop()
        {
            times.spans.push((event, [began, times.last]));
        }
    }

    /// The way back begins.
    pub fn turn(&mut self) {
        self.took(ROOT);
        if let Some(times) = &mut self.times {
            times.turned = Some(times.last);
        }
    }

    /// The way back of an op begins; the time since the last one belongs to no layer. It [returns](Self::returned).
    pub fn goes_back(&mut self) {
        self.took(ROOT);
        self.entered();
    }

    /// The gradients of `root` are there.
    pub fn ended(mut self, root: &dyn ModuleTree) {
        self.took(ROOT);
        let paths = self.paths(root);
        let Some(times) = self.times.take() else { return };
        let kinds: HashMap<String, &'static str> =
            named_modules(root).into_iter().map(|(path, module)| (path, module.type_name())).collect();
        let (mut layers, mut places) = (Vec::new(), HashMap::new());
        let layer = |path: String| {
            *places.entry(path).or_insert_with_key(|path| {
                let kind = kinds.get(path).copied().unwrap_or_default();
                let [forward, backward] = [Cost::default(); 2];
                layers.push(LayerTimes { path: path.clone(), kind, forward, backward });
                layers.len() - 1
            })
        };
        let at: Vec<usize> = paths.into_iter().map(layer).collect();
        for (event, at) in self.events().iter().zip(&at) {
            let [forward, backward] = event.costs;
            layers[*at].forward += forward;
            layers[*at].backward += backward;
        }
        let spans = times.spans.into_iter().map(|(event, ends)| (at[event], ends)).collect();
        let marks = [times.began, times.turned.unwrap_or(times.last), times.last];
        let pass = PassTimes { marks, layers, spans };
        PASSES.with_borrow_mut(|passes| {
            if let Some(passes) = passes {
                passes.push(pass);
            }
        });
    }
}
