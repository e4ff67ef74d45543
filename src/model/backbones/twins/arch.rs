//! The sizes of PCPVT and SVT.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::backbones::arch::Arch;

/// The sizes of a PCPVT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct PCPVTArch {
    /// Size of a token in each stage.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub embed_dims: [usize; 4],
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// Heads of each stage, divisors of its `embed_dims`.
    #[schemars(inner(range(min = 1)))]
    pub num_heads: [usize; 4],
    /// Size of the patches that begin each stage.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub patch_sizes: [usize; 4],
    /// Step from patch to patch.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub strides: [usize; 4],
    /// By how much the feed-forward networks widen a token.
    #[schemars(inner(range(min = 1, max = 1024)))]
    pub mlp_ratios: [usize; 4],
    /// By how much the map becomes smaller that an attention of all places looks at.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub sr_ratios: [usize; 4],
}

/// The sizes of an SVT: those of a PCPVT, and of windows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct SVTArch {
    /// Size of a token in each stage.
    #[schemars(inner(range(min = 1, max = 1_048_576)))]
    pub embed_dims: [usize; 4],
    /// Blocks of each stage.
    #[schemars(inner(range(min = 1, max = 1000)))]
    pub depths: [usize; 4],
    /// Heads of each stage, divisors of its `embed_dims`.
    #[schemars(inner(range(min = 1)))]
    pub num_heads: [usize; 4],
    /// Size of the patches that begin each stage.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub patch_sizes: [usize; 4],
    /// Step from patch to patch.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub strides: [usize; 4],
    /// By how much the feed-forward networks widen a token.
    #[schemars(inner(range(min = 1, max = 1024)))]
    pub mlp_ratios: [usize; 4],
    /// By how much the map becomes smaller that an attention of all places looks at.
    #[schemars(inner(range(min = 1, max = 255)))]
    pub sr_ratios: [usize; 4],
    /// Height and width of the windows of each stage.
    #[schemars(inner(range(min = 1, max = 256)))]
    pub window_sizes: [usize; 4],
}

impl Default for PCPVTArch {
    fn default() -> Self {
        Self {
            embed_dims: [64, 128, 320, 512],
            depths: [3, 4, 6, 3],
            num_heads: [1, 2, 5, 8],
            patch_sizes: [4, 2, 2, 2],
            strides: [4, 2, 2, 2],
            mlp_ratios: [8, 8, 4, 4],
            sr_ratios: [8, 4, 2, 1],
        }
    }
}

impl Default for SVTArch {
    fn default() -> Self {
        Self::of(64, [2, 2, 10, 4], 2)
    }
}

impl SVTArch {
    fn of(dims: usize, depths: [usize; 4], heads: usize) -> Self {
        let doubled = |first: usize| [first, 2 * first, 4 * first, 8 * first];
        Self {
            embed_dims: doubled(dims),
            depths,
            num_heads: doubled(heads),
            patch_sizes: [4, 2, 2, 2],
            strides: [4, 2, 2, 2],
            mlp_ratios: [4; 4],
            sr_ratios: [8, 4, 2, 1],
            window_sizes: [7; 4],
        }
    }
}

impl Arch for PCPVTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let all =
            [(["s", "small"], [3, 4, 6, 3]), (["b", "base"], [3, 4, 18, 3]), (["l", "large"], [3, 8, 27, 3])];
        let of = |depths| Self { depths, ..Self::default() };
        all.into_iter().flat_map(|(names, depths)| names.map(|name| (name, of(depths)))).collect()
    }
}

impl Arch for SVTArch {
    fn names() -> Vec<(&'static str, Self)> {
        let all = [
            (["s", "small"], Self::default()),
            (["b", "base"], Self::of(96, [2, 2, 18, 2], 3)),
            (["l", "large"], Self::of(128, [2, 2, 18, 2], 4)),
        ];
        all.into_iter().flat_map(|(names, sizes)| names.map(|name| (name, sizes.clone()))).collect()
    }
}
