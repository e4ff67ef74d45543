//! The sliding window of convolutions and poolings.

/// What to do where a window is larger than what it moves over: seldom is padding what is wrong.
pub(super) const TOO_SMALL: &str = "what comes in is too small. Make the pictures or sequences larger (their transforms and the strides \
                                    before decide it), take a smaller kernel, or more padding";

/// A window that moves over an image. Each pair is vertical, horizontal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Taps of the window.
    pub kernel: [usize; 2],
    /// Distance of two positions of the window.
    pub stride: [usize; 2],
    /// Elements added on each side of the image.
    pub padding: [usize; 2],
    /// Distance of two taps.
    pub dilation: [usize; 2],
}

impl Window {
    /// A window that moves by one element over an image without padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self { kernel, stride: [1, 1], padding: [0, 0], dilation: [1, 1] }
    }

    /// The first property that no window can have: its name, and the numbers of which one is 0.
    pub(super) fn zero(&self) -> Option<(&'static str, [usize; 2])> {
        [("kernel size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)]
            .into_iter()
            .find(|(_, v)| v.contains(&0))
    }

    /// What is left of an axis of `size` elements when the window stands at its beginning; `None` if it does not fit.
    pub(super) fn rest(&self, axis: usize, size: usize) -> Option<usize> {
        let span = self.dilation[axis].checked_mul(self.kernel[axis].checked_sub(1)?)?.checked_add(1)?;
        self.padding[axis].checked_mul(2)?.checked_add(size)?.checked_sub(span)
    }

    /// The number of positions along an axis of `size` elements; `None` if the window does not fit.
    pub(super) fn positions(&self, axis: usize, size: usize) -> Option<usize> {
        self.rest(axis, size).map(|rest| rest / self.stride[axis] + 1)
    }
}
