//! What the outputs along one axis see of the input, and where that lies in a padded copy.

use crate::kernels::conv::geometry::ConvGeom;

/// A tap of the kernel. From output `o` of its run it sees input `stride * (o + shift) + phase`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tap {
    /// Its number in the kernel.
    pub index: usize,
    pub shift: isize,
    pub phase: usize,
}

/// Outputs that see the same taps: `count` of them from `first` on, `step` apart.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub first: usize,
    pub step: usize,
    pub count: usize,
    pub taps: Vec<Tap>,
}

/// One axis. The copy has a line for each phase, in which what neighbouring outputs see lies side by side. Padding that
/// follows a line is also that before the next one, so that `pitch` may be less than `reach`.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    /// Inputs, and how far apart they are that neighbouring outputs see.
    pub size: usize,
    pub stride: usize,
    /// How many elements of the copy lie from what one output sees to what its neighbour does.
    pub spread: usize,
    /// The remainders of the inputs that are seen.
    pub phases: Vec<usize>,
    /// The smallest shift: the copy begins with input `stride * low` and its phase.
    pub low: isize,
    /// The distance of two lines, and the elements of one that outputs see.
    pub pitch: usize,
    pub reach: usize,
    pub runs: Vec<Run>,
}

impl Axis {
    /// Of the output of `g`, with the inputs as they lie: neighbouring outputs see what is a stride apart.
    pub fn spread(g: &ConvGeom, axis: usize) -> Self {
        let taps = (0..g.kernel[axis]).map(|index| {
            let shift = (index * g.dilation[axis]) as isize - g.padding[axis] as isize;
            Tap { index, shift, phase: 0 }
        });
        let run = Run { first: 0, step: 1, count: g.out[axis], taps: taps.collect() };
        Self::new([g.h, g.w][axis], 1, g.stride[axis], vec![run])
    }

    /// Of the output of `g`: one run.
    pub fn forward(g: &ConvGeom, axis: usize) -> Self {
        let stride = g.stride[axis];
        let taps = (0..g.kernel[axis]).map(|index| {
            let at = (index * g.dilation[axis]) as isize - g.padding[axis] as isize;
            let (shift, phase) = (at.div_euclid(stride as isize), at.rem_euclid(stride as isize));
            Tap { index, shift, phase: phase as usize }
        });
        let run = Run { first: 0, step: 1, count: g.out[axis], taps: taps.collect() };
        Self::new([g.h, g.w][axis], stride, 1, vec![run])
    }

    /// Of the gradient of the input of `g`, from that of the output: inputs of one remainder modulo the stride meet the
    /// same taps, so that no zeros are multiplied.
    pub fn backward(g: &ConvGeom, axis: usize) -> Self {
        let (size, step) = ([g.h, g.w][axis], g.stride[axis]);
        let run = |first: usize| {
            let distance = |tap| (first + g.padding[axis]) as isize - (tap * g.dilation[axis]) as isize;
            let taps = (0..g.kernel[axis])
                .map(|index| (index, distance(index)))
                .filter(|(_, d)| d.rem_euclid(step as isize) == 0)
                .map(|(index, d)| Tap { index, shift: d.div_euclid(step as isize), phase: 0 });
            Run { first, step, count: (size - first).div_ceil(step), taps: taps.collect() }
        };
        Self::new(g.out[axis], 1, 1, (0..step.min(size)).map(run).collect())
    }

    fn new(size: usize, stride: usize, spread: usize, runs: Vec<Run>) -> Self {
        // From the first output's element to the last one's.
        let width = |run: &Run| run.count.saturating_sub(1) * spread + 1;
        let taps = || runs.iter().flat_map(|run| run.taps.iter().map(move |tap| (width(run) as isize, tap)));
        let low = taps().map(|(_, tap)| tap.shift).min().unwrap_or(0);
        let reach = taps().map(|(width, tap)| width + tap.shift - low).max().unwrap_or(0) as usize;
        let mut phases: Vec<usize> = taps().map(|(_, tap)| tap.phase).collect();
        phases.sort_unstable();
        phases.dedup();
        let mut axis = Self { size, stride, spread, phases, low, pitch: 0, reach, runs };
        // What lies between the last element of a line and the first of the next one is zero for both.
        let seen = || axis.phases.iter().map(|&phase| axis.seen(phase, reach));
        let left = seen().map(|s| s.start).min().unwrap_or(0);
        let right = seen().map(|s| s.end).max().unwrap_or(0);
        let width = axis.runs.iter().map(width).max().unwrap_or(0);
        axis.pitch = width.max(right).max(reach - left).next_multiple_of(spread);
        axis
    }

    /// The input that lies at the beginning of a line of the copy, were there one.
    pub fn origin(&self, phase: usize) -> isize {
        self.stride as isize * self.low + phase as isize
    }

    /// Which of `len` elements of a line of the copy are inputs; the others are zero.
    pub fn seen(&self, phase: usize, len: usize) -> std::ops::Range<usize> {
        let (stride, origin) = (self.stride as isize, self.origin(phase));
        let first_from = |at: isize| {
            // The first element whose input is `at` or behind it.
            let distance = at - origin;
            (if distance <= 0 { 0 } else { (distance + stride - 1) / stride }) as usize
        };
        let end = first_from(self.size as isize).min(len);
        first_from(0).min(end)..end
    }
}
