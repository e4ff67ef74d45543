//! Copies of images in bf16 with their channels last, and the steps of a product over them.
//!
//! ```text
//! [block of channels][phase][image, line, position][channel of the block]
//! ```
//!
//! The pixels that neighbouring outputs see through one tap lie side by side, so 16 outputs are 16 rows of a tile, and
//! a tap is an offset. A step takes 32 products a row: the 32 channels of a block, or, where there are fewer, those of
//! taps side by side in the kernel, whose pixels lie one behind the other as well.

use super::axis::{Axis, Run, Tap};
use super::lines::{View, pairs};
use crate::base::Elem;
use crate::kernels::bf16::STEP;
use crate::kernels::disjoint::DisjointMut;
use crate::kernels::number::Number;
use crate::kernels::scratch::Scratch;
use crate::kernels::transpose::transpose;

/// Positions of a copy that are rounded before they are transposed: 32 KiB of 32 channels.
const POSITIONS: usize = 1152;

/// The taps of one step, which see pixels side by side, from the first one's on.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub offset: usize,
    /// The taps' numbers; none: zeros.
    pub taps: Vec<Option<usize>>,
}

/// The layout of the copies of some images.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub y: Axis,
    pub x: Axis,
    /// Taps of a row of the kernel.
    kernel_width: usize,
    /// Channels of an image, and of one block.
    pub channels: usize,
    pub block: usize,
    /// Positions of an image, and of all images of one phase.
    pub area: usize,
    pub len: usize,
}

impl Layout {
    /// That of images of so many channels. None may be copied before there is [room](Self::reserve).
    pub fn new(y: Axis, x: Axis, kernel_width: usize, channels: usize) -> Self {
        // As few steps as can be, and of as many the least memory.
        let cost = |&block: &usize| {
            let steps: usize =
                x.runs.iter().map(|run| side_by_side(run, &x.phases, STEP / block).len()).sum();
            (steps * channels.div_ceil(block), channels.next_multiple_of(block))
        };
        let block = [32, 16, 8, 4, 2].into_iter().min_by_key(cost).unwrap_or(STEP);
        let area = y.pitch * x.pitch;
        Self { y, x, kernel_width, channels, block, area, len: 0 }
    }

    /// Makes room for `images`.
    pub fn reserve(&mut self, images: usize) {
        self.len = images * self.area + self.tail();
    }

    /// Positions behind the last image that its outputs see: zeros.
    fn tail(&self) -> usize {
        self.y.reach.saturating_sub(self.y.pitch) * self.x.pitch + self.x.reach + STEP / self.block
    }

    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(self.block)
    }

    /// Elements of an image that is copied.
    pub fn source_len(&self) -> usize {
        self.channels * self.y.size * self.x.size
    }

    /// How many results lie from one row to the next, and from one image to the next, with those for gaps between them.
    pub fn results(&self) -> (usize, usize) {
        (self.x.pitch / self.x.spread, self.area / self.x.spread)
    }

    fn phases(&self) -> usize {
        self.y.phases.len() * self.x.phases.len()
    }

    /// Numbers from one block to the next.
    pub fn stride(&self) -> usize {
        self.phases() * self.len * self.block
    }

    /// Numbers of one image, but for what lies behind the last one.
    pub fn image_numbers(&self) -> usize {
        self.blocks() * self.phases() * self.area * self.block
    }

    /// The steps of the outputs of two runs, within one block.
    pub fn steps(&self, [y, x]: [&Run; 2]) -> Vec<Step> {
        let fold = STEP / self.block;
        let mut steps = Vec::new();
        for ty in &y.taps {
            let line = (ty.shift - self.y.low) as usize * self.x.pitch;
            for group in side_by_side(x, &self.x.phases, fold) {
                let first = group[0];
                let phase =
                    at(&self.y.phases, ty.phase) * self.x.phases.len() + at(&self.x.phases, first.phase);
                let position = phase * self.len + line + (first.shift - self.x.low) as usize;
                let mut taps = vec![None; fold];
                for tap in &group {
                    taps[(tap.shift - first.shift) as usize] = Some(ty.index * self.kernel_width + tap.index);
                }
                steps.push(Step { offset: position * self.block, taps });
            }
        }
        steps
    }

    /// The numbers of a step up to the last tap of it; those behind them have no weight.
    pub fn count(&self, step: &Step) -> usize {
        step.taps.iter().rposition(Option::is_some).map_or(0, |last| (last + 1) * self.block)
    }

    /// Copies one block of channels of `image`, the channels `src`, as the `i`th of all images to `to`, which has two
    /// numbers an element.
    ///
    /// # Safety
    /// No other thread may touch this block of this image.
    #[allow(unsafe_code)]
    pub unsafe fn fill<X: Number>(&self, src: &[X], i: usize, block: usize, to: DisjointMut<'_>) {
        let (plane, half) = (self.y.size * self.x.size, self.block / 2);
        let (pitch, lines) = (self.x.pitch, self.y.pitch);
        let at_once = (POSITIONS / pitch.max(1)).clamp(1, lines.max(1));
        let mut rounded = Scratch::take(half * at_once * pitch);
        let channel = |c: usize| (c < self.channels).then(|| &src[c * plane..][..plane]);
        for (a, &py) in self.y.phases.iter().enumerate() {
            for (b, &px) in self.x.phases.iter().enumerate() {
                let view = View::new(&self.y, &self.x, [py, px]);
                let phase = block * self.phases() + a * self.x.phases.len() + b;
                for first in (0..lines).step_by(at_once) {
                    let count = at_once.min(lines - first);
                    let positions = count * pitch;
                    for (p, to) in rounded.chunks_exact_mut(at_once * pitch).enumerate() {
                        let c = block * self.block + 2 * p;
                        match channel(c) {
                            Some(one) => {
                                pairs(&view, first..first + count, one, channel(c + 1), &mut to[..positions])
                            }
                            None => to[..positions].fill(0.0),
                        }
                    }
                    let at = phase * self.len + i * self.area + first * pitch;
                    // SAFETY: the caller's promise.
                    let to = unsafe { to.slice(at * half, positions * half) };
                    transpose(half, positions, &rounded, at_once * pitch, 0.0, to, half);
                }
            }
        }
    }

    /// Writes the zeros behind the last of `images`.
    pub fn fill_tail(&self, images: usize, to: &mut [Elem]) {
        let half = self.block / 2;
        for phase in to.chunks_exact_mut(self.len * half) {
            phase[images * self.area * half..][..self.tail() * half].fill(0.0);
        }
    }
}

/// The taps of a run in groups that see pixels side by side, at most `fold`.
fn side_by_side(run: &Run, phases: &[usize], fold: usize) -> Vec<Vec<Tap>> {
    let mut groups: Vec<Vec<Tap>> = Vec::new();
    for &phase in phases {
        let mut taps: Vec<Tap> = run.taps.iter().copied().filter(|tap| tap.phase == phase).collect();
        taps.sort_by_key(|tap| tap.shift);
        let first = groups.len();
        for tap in taps {
            match groups[first..].last_mut() {
                Some(group) if tap.shift - group[0].shift < fold as isize => group.push(tap),
                _ => groups.push(vec![tap]),
            }
        }
    }
    groups
}

/// Where `phase` is among the phases.
fn at(phases: &[usize], phase: usize) -> usize {
    phases.iter().position(|&p| p == phase).unwrap_or(0)
}
