//! How many values flow into and out of one value of a layer.

/// The fans of a weight, in the direction in which data flow through the layer.
///
/// A grouped convolution has its fans per group, on *both* sides (PyTorch's `fan_out` forgets the groups: a
/// depthwise 3×3 convolution over 4 channels has fans (9, 9) here and (9, 36) there). A transposed convolution
/// stores (in, out / groups, …) and has its fans turned accordingly. Strides are not counted, as in PyTorch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fans {
    /// Values that are summed into one output value.
    pub fan_in: usize,
    /// Output values that one input value reaches.
    pub fan_out: usize,
}

impl Fans {
    /// The fans of a weight of shape (out, in / groups, kernel…); (in, out / groups, kernel…) if `transposed`.
    ///
    /// `None` if the weight has less than two axes or `groups` is 0.
    ///
    /// ```
    /// use shanty::nn::init::Fans;
    /// assert_eq!(Fans::of(&[6, 1, 5, 5], 1, false), Some(Fans { fan_in: 25, fan_out: 150 }));
    /// assert_eq!(Fans::of(&[4, 1, 3, 3], 4, false), Some(Fans { fan_in: 9, fan_out: 9 }));
    /// ```
    pub fn of(shape: &[usize], groups: usize, transposed: bool) -> Option<Self> {
        let &[first, second, ref kernel @ ..] = shape else { return None };
        let field: usize = kernel.iter().product();
        let (near, far) = (second * field, first.checked_div(groups)? * field);
        Some(if transposed {
            Self { fan_in: far, fan_out: near }
        } else {
            Self { fan_in: near, fan_out: far }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// INI-01, with the convention of decision 6.
    #[test]
    fn fans_follow_the_data() {
        let fans = |shape: &[usize], groups, transposed| {
            let fans = Fans::of(shape, groups, transposed).unwrap();
            (fans.fan_in, fans.fan_out)
        };
        assert_eq!(fans(&[84, 120], 1, false), (120, 84));
        assert_eq!(fans(&[4, 1, 3, 3], 4, false), (9, 9));
        assert_eq!(fans(&[64, 8, 3, 3], 8, false), (72, 72));
        assert_eq!(fans(&[4, 1, 1, 1], 4, false), (1, 1));
        assert_eq!(fans(&[8, 2, 3, 3], 1, true), (72, 18));
        assert_eq!(fans(&[8, 1, 3, 3], 2, true), (36, 9));
        assert_eq!(Fans::of(&[10], 1, false), None);
    }
}
