//! The sizes of a vision transformer.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::backbones::arch::Arch;

/// The sizes of a [`VisionTransformer`](super::VisionTransformer).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct VisionTransformerArch {
    /// Size of a token.
    #[schemars(range(min = 1))]
    pub embed_dims: usize,
    /// Blocks, each of attention and feed-forward network.
    #[schemars(range(min = 1, max = 10_000))]
    pub num_layers: usize,
    /// Heads of each attention; a divisor of `embed_dims`.
    #[schemars(range(min = 1))]
    pub num_heads: usize,
    /// Size of a token inside the feed-forward networks.
    #[schemars(range(min = 1))]
    pub feedforward_channels: usize,
}

/// MMPretrain's names, with embed_dims, num_layers, num_heads and feedforward_channels.
const NAMED: [(&[&str], [usize; 4]); 9] = [
    (&["s", "small"], [768, 8, 8, 768 * 3]),
    (&["b", "base"], BASE),
    (&["l", "large"], [1024, 24, 16, 4096]),
    (&["h", "huge"], [1280, 32, 16, 5120]),
    (&["eva-g", "eva-giant"], [1408, 40, 16, 6144]),
    (&["deit-t", "deit-tiny"], [192, 12, 3, 192 * 4]),
    (&["deit-s", "deit-small", "dinov2-s", "dinov2-small"], [384, 12, 6, 384 * 4]),
    (&["deit-b", "deit-base"], [768, 12, 12, 768 * 4]),
    (&["dinov2-g", "dinov2-giant"], [1536, 40, 24, 6144]),
];

const BASE: [usize; 4] = [768, 12, 12, 3072];

impl VisionTransformerArch {
    fn of([embed_dims, num_layers, num_heads, feedforward_channels]: [usize; 4]) -> Self {
        Self { embed_dims, num_layers, num_heads, feedforward_channels }
    }
}

impl Default for VisionTransformerArch {
    fn default() -> Self {
        Self::of(BASE)
    }
}

impl Arch for VisionTransformerArch {
    fn names() -> Vec<(&'static str, Self)> {
        let all = NAMED.iter().flat_map(|(names, sizes)| names.iter().map(|name| (*name, Self::of(*sizes))));
        all.collect()
    }
}
