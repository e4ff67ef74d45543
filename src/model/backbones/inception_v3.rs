//! Inception v3 (Szegedy et al. 2015, <https://arxiv.org/abs/1512.00567>) as in MMPretrain.

use schemars::JsonSchema;
use serde::Deserialize;

use super::common::Chain;
use crate::base::{Error, Result};
use crate::nn::init::{Constant, Init, TruncNormal};
use crate::nn::{
    AvgPool2d, Child, ChildMut, ConvModule, ConvNormConfig, Dropout, Forward, Linear, MaxPool2d, Module,
    ModuleTree, Pair, Var,
};
use crate::registry::BuildCx;
use crate::{module, register};

/// The keys of `{type: InceptionV3, …}` in a config, and how a program says the same.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InceptionV3Config {
    /// Number of classes.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub num_classes: usize,
    /// Probability with which dropout zeroes an element in front of the last layer.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub dropout: f64,
    /// Accepted if it is false: MMPretrain's heads train no second classifier.
    pub aux_logits: bool,
}

impl Default for InceptionV3Config {
    fn default() -> Self {
        Self { num_classes: 1000, dropout: 0.5, aux_logits: false }
    }
}

/// Branches of kernels of several sizes and shapes side by side: images of 75 × 75 at least, 299 × 299 in the paper, to
/// scores, so that a ClsHead follows without a neck.
///
/// Weight names are MMPretrain's, and torchvision's: `Conv2d_1a_3x3.conv`, `Mixed_5b.branch1x1.bn`, `fc`. 23,834,568 parameters
/// for 1000 classes.
pub struct InceptionV3 {
    layers: Chain,
    dropout: Dropout,
    fc: Linear,
    init: Vec<Init>,
}

module!(InceptionV3 { fc, dropout, ..layers }, init_cfg = init);

register! { /// Inception v3: images to scores, [N, num_classes].
dyn Module, "InceptionV3" => fn InceptionV3::from_config }

/// Kernel, vertical and horizontal.
type Kernel = [usize; 2];

/// A convolution with its norm and ReLU, padded or not.
fn conv(from: usize, to: usize, kernel: Kernel, stride: usize, padded: bool) -> Result<ConvModule> {
    let norm = ConvNormConfig { eps: 1e-3, ..ConvNormConfig::default() };
    let padding = if padded { kernel.map(|side| side / 2) } else { [0, 0] };
    ConvModule::of(from, to, 1).kernel(Pair(kernel), Pair(padding)).stride(stride).norm(norm).build()
}

impl InceptionV3 {
    fn from_config(p: InceptionV3Config, _: &mut BuildCx) -> Result<Self> {
        Self::new(&p)
    }

    /// The network that the config describes; its weights are set by `init_weights`.
    ///
    /// # Errors
    /// When there are no classes, or a second classifier is asked for.
    pub fn new(p: &InceptionV3Config) -> Result<Self> {
        if p.aux_logits {
            return Err(Error::config(
                "`aux_logits: true`: heads have one classifier, and MMPretrain's train no other: leave it out",
            ));
        }
        if p.num_classes == 0 {
            return Err(Error::config("`num_classes` is 0: give the number of the classes"));
        }
        let plain = |from, to, side: usize, stride, padded| conv(from, to, [side; 2], stride, padded);
        let pool = || MaxPool2d::new(3).stride(2);
        let layers = Chain::default()
            .with("Conv2d_1a_3x3", plain(3, 32, 3, 2, false)?)
            .with("Conv2d_2a_3x3", plain(32, 32, 3, 1, false)?)
            .with("Conv2d_2b_3x3", plain(32, 64, 3, 1, true)?)
            .with("maxpool1", pool())
            .with("Conv2d_3b_1x1", plain(64, 80, 1, 1, false)?)
            .with("Conv2d_4a_3x3", plain(80, 192, 3, 1, false)?)
            .with("maxpool2", pool())
            .with("Mixed_5b", Mixed::a(192, 32)?)
            .with("Mixed_5c", Mixed::a(256, 64)?)
            .with("Mixed_5d", Mixed::a(288, 64)?)
            .with("Mixed_6a", Mixed::b(288)?)
            .with("Mixed_6b", Mixed::c(768, 128)?)
            .with("Mixed_6c", Mixed::c(768, 160)?)
            .with("Mixed_6d", Mixed::c(768, 160)?)
            .with("Mixed_6e", Mixed::c(768, 192)?)
            .with("Mixed_7a", Mixed::d(768)?)
            .with("Mixed_7b", Mixed::e(1280)?)
            .with("Mixed_7c", Mixed::e(2048)?);
        Ok(Self {
            layers,
            dropout: Dropout::new(p.dropout),
            fc: Linear::new(2048, p.num_classes),
            init: vec![
                Init::new(TruncNormal { std: 0.1, ..TruncNormal::default() }).layer("Conv2d").layer("Linear"),
                Init::new(Constant { val: 1.0 }).layer("BatchNorm2d"),
            ],
        })
    }
}

impl Module for InceptionV3 {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let shape = x.shape();
        if let &[_, _, h, w] = &shape[..]
            && h.min(w) < 75
        {
            return Err(Error::invalid(format!(
                "InceptionV3 wants images of 75 × 75 at least, got {h} × {w}: resize them, to 299 × 299 as in the paper"
            )));
        }
        let x = self.layers.forward(x, cx)?.global_avg_pool();
        let x = self.dropout.forward(x, cx)?;
        cx.child("fc", &mut self.fc, x)
    }
}

/// Branches side by side, whose maps stand one behind the other.
#[derive(Default)]
struct Mixed(Vec<Branch>);

/// Convolutions one behind the other, and at the end several on the same map.
struct Branch {
    pool: Option<Pool>,
    chain: Vec<(&'static str, ConvModule)>,
    fork: Vec<(&'static str, ConvModule)>,
}

/// What a branch begins with.
enum Pool {
    /// Means of 3 × 3 places.
    Mean(AvgPool2d),
    /// The largest of 3 × 3 places, every second one.
    Most(MaxPool2d),
}

/// Name, channels and kernel of a convolution.
type Step = (&'static str, usize, Kernel);

const ONE: Kernel = [1, 1];
const THREE: Kernel = [3, 3];
const WIDE: Kernel = [1, 7];
const TALL: Kernel = [7, 1];

impl Mixed {
    /// The same with one more branch, whose last convolution has this stride; with 2 it is not padded.
    fn branch(mut self, from: usize, steps: &[Step], stride: usize) -> Result<Self> {
        let (mut from, mut chain) = (from, Vec::new());
        for (i, (name, to, kernel)) in steps.iter().enumerate() {
            let stride = if i + 1 == steps.len() { stride } else { 1 };
            chain.push((*name, conv(std::mem::replace(&mut from, *to), *to, *kernel, stride, stride == 1)?));
        }
        self.0.push(Branch { pool: None, chain, fork: Vec::new() });
        Ok(self)
    }

    /// The same where the last branch ends in these, side by side.
    fn fork(mut self, from: usize, steps: [Step; 2]) -> Result<Self> {
        if let Some(branch) = self.0.last_mut() {
            let conv = |(name, to, kernel): Step| Ok((name, conv(from, to, kernel, 1, true)?));
            branch.fork = steps.into_iter().map(conv).collect::<Result<_>>()?;
        }
        Ok(self)
    }

    /// The same with means and a convolution of 1 × 1 behind them.
    fn means(self, from: usize, to: usize) -> Result<Self> {
        let mut mixed = self.branch(from, &[("branch_pool", to, ONE)], 1)?;
        if let Some(branch) = mixed.0.last_mut() {
            branch.pool = Some(Pool::Mean(AvgPool2d::new(3).stride(1).padding(1)));
        }
        Ok(mixed)
    }

    /// The same with the largest of the input's places.
    fn most(mut self) -> Self {
        let pool = Some(Pool::Most(MaxPool2d::new(3).stride(2)));
        self.0.push(Branch { pool, chain: Vec::new(), fork: Vec::new() });
        self
    }

    fn a(from: usize, pooled: usize) -> Result<Self> {
        Self::default()
            .branch(from, &[("branch1x1", 64, ONE)], 1)?
            .branch(from, &[("branch5x5_1", 48, ONE), ("branch5x5_2", 64, [5, 5])], 1)?
            .branch(
                from,
                &[("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, THREE), ("branch3x3dbl_3", 96, THREE)],
                1,
            )?
            .means(from, pooled)
    }

    fn b(from: usize) -> Result<Self> {
        let double =
            [("branch3x3dbl_1", 64, ONE), ("branch3x3dbl_2", 96, THREE), ("branch3x3dbl_3", 96, THREE)];
        let mixed = Self::default().branch(from, &[("branch3x3", 384, THREE)], 2)?;
        Ok(mixed.branch(from, &double, 2)?.most())
    }

    fn c(from: usize, inner: usize) -> Result<Self> {
        let once = [("branch7x7_1", inner, ONE), ("branch7x7_2", inner, WIDE), ("branch7x7_3", 192, TALL)];
        let twice = [
            ("branch7x7dbl_1", inner, ONE),
            ("branch7x7dbl_2", inner, TALL),
            ("branch7x7dbl_3", inner, WIDE),
            ("branch7x7dbl_4", inner, TALL),
            ("branch7x7dbl_5", 192, WIDE),
        ];
        let mixed = Self::default().branch(from, &[("branch1x1", 192, ONE)], 1)?;
        mixed.branch(from, &once, 1)?.branch(from, &twice, 1)?.means(from, 192)
    }

    fn d(from: usize) -> Result<Self> {
        let small = [("branch3x3_1", 192, ONE), ("branch3x3_2", 320, THREE)];
        let large = [
            ("branch7x7x3_1", 192, ONE),
            ("branch7x7x3_2", 192, WIDE),
            ("branch7x7x3_3", 192, TALL),
            ("branch7x7x3_4", 192, THREE),
        ];
        Ok(Self::default().branch(from, &small, 2)?.branch(from, &large, 2)?.most())
    }

    fn e(from: usize) -> Result<Self> {
        let [wide, tall] = [[1, 3], [3, 1]];
        Self::default()
            .branch(from, &[("branch1x1", 320, ONE)], 1)?
            .branch(from, &[("branch3x3_1", 384, ONE)], 1)?
            .fork(384, [("branch3x3_2a", 384, wide), ("branch3x3_2b", 384, tall)])?
            .branch(from, &[("branch3x3dbl_1", 448, ONE), ("branch3x3dbl_2", 384, THREE)], 1)?
            .fork(384, [("branch3x3dbl_3a", 384, wide), ("branch3x3dbl_3b", 384, tall)])?
            .means(from, 192)
    }
}

impl ModuleTree for Mixed {
    fn type_name(&self) -> &'static str {
        "Inception"
    }
    fn visit_children<'a>(&'a self, f: &mut dyn FnMut(&str, Child<'a>)) {
        let all = self.0.iter().flat_map(|branch| branch.chain.iter().chain(&branch.fork));
        all.for_each(|(name, conv)| f(name, Child::Module(conv)));
    }
    fn visit_children_mut<'a>(&'a mut self, f: &mut dyn FnMut(&str, ChildMut<'a>)) {
        let all = self.0.iter_mut().flat_map(|branch| branch.chain.iter_mut().chain(&mut branch.fork));
        all.for_each(|(name, conv)| f(name, ChildMut::Module(conv)));
    }
}

impl Module for Mixed {
    fn forward<'t>(&mut self, x: Var<'t>, cx: &mut Forward<'_>) -> Result<Var<'t>> {
        let mut maps = Vec::new();
        for Branch { pool, chain, fork } in &mut self.0 {
            let mut y = match pool {
                Some(Pool::Mean(pool)) => pool.forward(x, cx)?,
                Some(Pool::Most(pool)) => pool.forward(x, cx)?,
                None => x,
            };
            for (name, conv) in chain {
                y = cx.child(name, conv, y)?;
            }
            for (name, conv) in &mut *fork {
                maps.push(cx.child(name, conv, y)?);
            }
            if fork.is_empty() {
                maps.push(y);
            }
        }
        x.tape().concat(&maps, 1).checked()
    }
}
