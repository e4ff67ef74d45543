//! The rectifier and what was made of it to keep its negative side alive.

use super::activation;
use crate::base::Elem;
use crate::kernels::Act;

activation! {
    /// `max(x, 0)`.
    ReLU "ReLU", relu() inplace => Act::Relu
}

activation! {
    /// `x` where positive, else `negative_slope · x`.
    LeakyReLU "LeakyReLU", leaky_relu(
        /// The slope where `x` is negative.
        #[schemars(extend("x-unbounded" = true))]
        negative_slope = 0.01
    ) inplace => Act::LeakyRelu { slope: negative_slope }
}

activation! {
    /// `x` where positive, else `alpha · (exp(x) - 1)` (Clevert et al. 2015, <https://arxiv.org/abs/1511.07289>).
    ELU "ELU", elu(
        /// Minus the value that it approaches where `x` is negative.
        #[schemars(extend("x-unbounded" = true))]
        alpha = 1.0
    ) inplace => Act::Elu { alpha, scale: 1.0, input_scale: 1.0 }
}

activation! {
    /// ELU with the two factors that keep mean 0 and variance 1 from layer to layer.
    /// Klambauer et al. 2017, <https://arxiv.org/abs/1706.02515>; for weights of variance 1 / fan_in.
    SELU "SELU", selu() inplace => Act::Elu {
        alpha: (1.673_263_242_354_377_3 * SCALE) as Elem,
        scale: SCALE as Elem,
        input_scale: 1.0,
    }
}

/// The slope of SELU where `x` is positive.
const SCALE: f64 = 1.050_700_987_355_480_5;

activation! {
    /// `x` where positive, else `alpha · (exp(x / alpha) - 1)`: an ELU whose slope at 0 is 1 for each alpha.
    /// Barron 2017, <https://arxiv.org/abs/1704.07483>.
    CELU "CELU", celu(
        /// Minus the value that it approaches where `x` is negative.
        #[schemars(extend("exclusiveMinimum" = 0.0))]
        alpha = 1.0
    ) inplace => Act::Elu { alpha, scale: 1.0, input_scale: 1.0 / alpha }
}
