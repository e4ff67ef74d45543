//! The arithmetic of preprocessors on pixels.

use ndarray::{ArrayD, IxDyn};
use rayon::prelude::*;

use crate::base::{Elem, Error, Result, Tensor, is_shapes_only, memory};
use crate::data::PictureFile;
use crate::nn::{Tape, Var};

/// What is done to a batch of images: the order of the channels turned, then `(x - mean) / std`, then padding below and
/// to the right with the raw pad value.
#[derive(Debug, Clone, PartialEq)]
pub struct PixelOps {
    /// Whether three channels are turned round: RGB to BGR or back. Other numbers of channels stay.
    pub swap_rgb: bool,
    /// Mean and standard deviation: one pair a channel, one pair for all, or none.
    pub norm: Vec<(Elem, Elem)>,
    /// Height and width are padded up to multiples of this.
    pub divisor: usize,
    /// The value of padded pixels.
    pub pad_value: Elem,
}

/// Nothing is done.
impl Default for PixelOps {
    fn default() -> Self {
        Self { swap_rgb: false, norm: Vec::new(), divisor: 1, pad_value: 0.0 }
    }
}

impl PixelOps {
    /// The pairs for `norm` from the keys `mean` and `std` of a config.
    ///
    /// # Errors
    /// [`Error::Config`] if one of them is missing, their lengths differ or are neither 1 nor 3, or a `std` is not
    /// above 0.
    pub fn norm(mean: Option<&[f64]>, std: Option<&[f64]>) -> Result<Vec<(Elem, Elem)>> {
        let (mean, std) = match (mean, std) {
            (None, None) => return Ok(Vec::new()),
            (Some(mean), Some(std)) if mean.len() == std.len() => (mean, std),
            _ => return Err(Error::config("`mean` and `std` go together, with as many numbers")),
        };
        if !matches!(mean.len(), 1 | 3) || !std.iter().all(|s| *s > 0.0) {
            return Err(Error::config("`mean` and `std` have 1 number or 3, those of `std` above 0"));
        }
        Ok(mean.iter().zip(std).map(|(m, s)| (*m as Elem, *s as Elem)).collect())
    }

    /// The result for `inputs`, N × C × H × W or any other shape N × C × …, in a buffer of the tape's pool.
    ///
    /// # Errors
    /// If there are three means for another number of channels, or padding is asked for something that is no image.
    pub fn apply<'t>(&self, inputs: &ArrayD<Elem>, tape: &'t Tape) -> Result<Var<'t>> {
        let grid = Grid::of(inputs.shape(), self.divisor)?;
        if self.norm.len() > 1 && self.norm.len() != grid.channels {
            let (n, shape) = (self.norm.len(), inputs.shape());
            return Err(Error::invalid(format!(
                "`mean` has {n} numbers for a batch of shape {shape:?}: N, {n}, … fits"
            )));
        }
        let inputs_in_rows = inputs.as_standard_layout();
        let source = inputs_in_rows.as_slice().unwrap_or_default();
        let mut target = tape.take(inputs.shape().first().unwrap_or(&1) * grid.channels * grid.padded.len());
        if grid.padded != grid.plane {
            target.fill(self.pad_value);
        }
        self.fill(source, &mut target, grid);
        let mut shape = inputs.shape().to_vec();
        if let [_, _, height, width] = shape.as_mut_slice() {
            (*height, *width) = (grid.padded.height, grid.padded.width);
        }
        let tensor = Tensor::from_shape_vec(IxDyn(&shape), target).map_err(|e| Error::Other(e.into()))?;
        Ok(tape.input(tensor))
    }

    /// Image by image, in parallel where they hold more than a few elements.
    fn fill(&self, source: &[Elem], target: &mut [Elem], grid: Grid) {
        /// Elements of one task at least.
        const TASK: usize = 1 << 14;
        if source.is_empty() || is_shapes_only() {
            return;
        }
        let image = grid.channels * grid.plane.len();
        let images = target.par_chunks_exact_mut(grid.channels * grid.padded.len());
        images
            .zip(source.par_chunks_exact(image))
            .with_min_len(TASK.div_ceil(image))
            .for_each(|(target, source)| self.fill_image(source, target, grid));
    }

    fn fill_image(&self, source: &[Elem], target: &mut [Elem], grid: Grid) {
        if *self == Self::default() {
            return target.copy_from_slice(source);
        }
        for (channel, plane) in source.chunks_exact(grid.plane.len()).enumerate() {
            let channel = if self.swap_rgb && grid.channels == 3 { 2 - channel } else { channel };
            let (mean, std) = self.norm.get(channel).or(self.norm.first()).copied().unwrap_or((0.0, 1.0));
            let target = &mut target[channel * grid.padded.len()..][..grid.padded.len()];
            let rows = plane.chunks_exact(grid.plane.width).zip(target.chunks_exact_mut(grid.padded.width));
            for (from, to) in rows {
                to.iter_mut().zip(from).for_each(|(to, from)| *to = (from - mean) / std);
            }
        }
    }
}

/// The planes of a batch.
#[derive(Debug, Clone, Copy)]
struct Grid {
    channels: usize,
    plane: Size,
    padded: Size,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Size {
    height: usize,
    width: usize,
}

impl Size {
    fn len(self) -> usize {
        self.height * self.width
    }
}

impl Grid {
    fn of(shape: &[usize], divisor: usize) -> Result<Self> {
        match *shape {
            [n, channels, height, width] => {
                let up = |length: usize| length.checked_next_multiple_of(divisor).unwrap_or(usize::MAX);
                let padded = Size { height: up(height), width: up(width) };
                if padded.height.saturating_mul(padded.width) > PictureFile::MAX_PIXELS.max(height * width) {
                    return Err(Error::invalid(format!(
                        "`pad_size_divisor: {divisor}` makes images of {} × {} pixels: {} pixels are the most",
                        padded.width,
                        padded.height,
                        PictureFile::MAX_PIXELS
                    )));
                }
                let shape = [n, channels, padded.height, padded.width];
                memory::fits("a batch of padded images", &shape, size_of::<Elem>())?;
                Ok(Self { channels, plane: Size { height, width }, padded })
            }
            [_, channels, ref rest @ ..] if divisor == 1 => {
                let plane = Size { height: 1, width: rest.iter().product() };
                Ok(Self { channels, plane, padded: plane })
            }
            _ => Err(Error::invalid(format!(
                "a batch of shape {shape:?} is none of images: N, C, H, W is wanted"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::BufferPool;

    fn apply(ops: &PixelOps, shape: &[usize], values: &[Elem]) -> Result<(Vec<usize>, Vec<Elem>)> {
        let tape = Tape::without_grad(BufferPool::default());
        let y = ops.apply(&ArrayD::from_shape_vec(IxDyn(shape), values.to_vec()).unwrap(), &tape)?.value();
        Ok((y.shape().to_vec(), y.iter().copied().collect()))
    }

    #[test]
    fn one_mean_is_for_all_channels() {
        let ops =
            PixelOps { norm: PixelOps::norm(Some(&[2.0]), Some(&[4.0])).unwrap(), ..Default::default() };
        assert_eq!(apply(&ops, &[1, 2, 1, 2], &[2.0, 4.0, 6.0, 0.0]).unwrap().1, [0.0, 0.5, 1.0, -0.5]);
        assert_eq!(apply(&ops, &[2, 2], &[2.0, 4.0, 6.0, 0.0]).unwrap().1, [0.0, 0.5, 1.0, -0.5]);
    }

    /// MMEngine turns the channels first: `mean` is in the order of the result.
    #[test]
    fn channels_turn_before_they_are_normalised() {
        let norm = PixelOps::norm(Some(&[1.0, 2.0, 3.0]), Some(&[1.0, 1.0, 2.0])).unwrap();
        let ops = PixelOps { swap_rgb: true, norm, ..Default::default() };
        assert_eq!(
            apply(&ops, &[2, 3, 1, 1], &[5.0, 6.0, 7.0, 0.0, 0.0, 0.0]).unwrap().1,
            [6.0, 4.0, 1.0, -1.0, -2.0, -1.5]
        );
        let error = apply(&ops, &[1, 1, 1, 1], &[5.0]).unwrap_err().to_string();
        assert_eq!(error, "`mean` has 3 numbers for a batch of shape [1, 1, 1, 1]: N, 3, … fits");
        let swapped = PixelOps { swap_rgb: true, ..Default::default() };
        assert_eq!(
            apply(&swapped, &[1, 2, 1, 1], &[5.0, 6.0]).unwrap().1,
            [5.0, 6.0],
            "two channels have no colour"
        );
    }

    #[test]
    fn padding_is_below_and_right_with_the_raw_value() {
        let norm = PixelOps::norm(Some(&[1.0]), Some(&[1.0])).unwrap();
        let ops = PixelOps { norm, divisor: 2, pad_value: 9.0, ..Default::default() };
        let (shape, values) = apply(&ops, &[1, 1, 1, 3], &[1.0, 2.0, 3.0]).unwrap();
        assert_eq!(shape, [1, 1, 2, 4]);
        assert_eq!(values, [0.0, 1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 9.0]);
        assert!(
            apply(&ops, &[1, 3], &[1.0, 2.0, 3.0]).unwrap_err().to_string().contains("N, C, H, W is wanted")
        );
    }

    #[test]
    fn mean_and_std_are_checked() {
        let refused = |mean, std| PixelOps::norm(mean, std).unwrap_err().to_string();
        assert!(refused(Some(&[1.0][..]), None).contains("go together"));
        assert!(refused(Some(&[1.0][..]), Some(&[1.0, 1.0, 1.0][..])).contains("go together"));
        assert!(refused(Some(&[1.0, 2.0][..]), Some(&[1.0, 2.0][..])).contains("1 number or 3"));
        assert!(refused(Some(&[1.0][..]), Some(&[0.0][..])).contains("above 0"));
    }
}
