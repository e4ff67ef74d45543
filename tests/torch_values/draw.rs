//! The inputs of the fixtures, by the formula of `fixtures/draw.py`.

use ndarray::{ArrayD, IxDyn};
use shanty::base::{Elem, Tensor};

pub struct Draw(u32);

impl Draw {
    pub fn new(seed: u32) -> Self {
        Self(seed)
    }

    fn word(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0 >> 8
    }

    /// One of `low..=high`.
    pub fn int(&mut self, low: i64, high: i64) -> i64 {
        low + i64::from(self.word()) % (high - low + 1)
    }

    /// A size of `low..=high`.
    pub fn size(&mut self, low: usize, high: usize) -> usize {
        self.int(low as i64, high as i64) as usize
    }

    pub fn shape(&mut self, axes: usize, low: usize, high: usize) -> Vec<usize> {
        (0..axes).map(|_| self.size(low, high)).collect()
    }

    /// Counted from the front or from the end.
    pub fn axis(&mut self, axes: usize) -> isize {
        let axis = self.size(0, axes - 1) as isize;
        axis - axes as isize * self.int(0, 1) as isize
    }

    /// In ±scale, rounded to f32.
    pub fn values(&mut self, shape: &[usize], scale: f64) -> Tensor {
        let mut draw = || ((f64::from(self.word()) / f64::from(1 << 23) - 1.0) * scale) as f32 as Elem;
        Tensor::from_shape_simple_fn(IxDyn(shape), &mut draw)
    }

    pub fn ints(&mut self, shape: &[usize], low: i64, high: i64) -> ArrayD<i64> {
        ArrayD::from_shape_simple_fn(IxDyn(shape), || self.int(low, high))
    }

    /// Each place true or not.
    pub fn mask(&mut self, shape: &[usize]) -> ArrayD<bool> {
        self.ints(shape, 0, 1).mapv(|bit| bit > 0)
    }
}
