//! Depthwise convolutions that keep the size of their images, without a copy: rows follow each other in memory as they
//! do in a flat plane, and what a tap must not see, because it lies in the next row, is masked out as it is loaded.
//!
//! For AVX-512 alone, whose loads have masks.

use super::super::geometry::ConvGeom;
use super::sums::Dots;
use super::vector::ask_ahead;
use crate::base::Elem;
use crate::kernels::gemm::microkernel::LANES;
use crate::kernels::isa::{Isa, isa};
use std::arch::x86_64::*;

/// The masks of all vectors of a plane and all taps, one table for all planes.
pub(super) struct Masked {
    /// Elements of a plane.
    plane: usize,
    /// How far each tap's pixels lie from those of the output.
    shifts: Vec<isize>,
    /// [vector][tap], a bit a lane.
    masks: Vec<u16>,
}

/// Elements after which sums are emptied into f64.
const FLUSH: usize = 256 * LANES;

impl Masked {
    /// The masks, where the shape is one for this file: a stride of 1, a kernel of 3 x 3, 5 x 5 or 7 x 7, and as many
    /// pixels before as behind. With `backward`, an input pixel looks for the outputs that it is part of.
    pub fn new(g: &ConvGeom, backward: bool) -> Option<Self> {
        let [kh, kw] = g.kernel;
        let depthwise = g.groups == g.c && g.groups == g.k;
        let fits = depthwise && g.stride == [1, 1] && g.out == [g.h, g.w] && matches!(kh * kw, 9 | 25 | 49);
        if !fits || isa() != Isa::Avx512 {
            return None;
        }
        let sign = if backward { -1 } else { 1 };
        let moves =
            |axis: usize, tap: usize| sign * ((tap * g.dilation[axis]) as isize - g.padding[axis] as isize);
        let taps: Vec<[isize; 2]> =
            (0..kh).flat_map(|r| (0..kw).map(move |s| [moves(0, r), moves(1, s)])).collect();
        let plane = g.h * g.w;
        let mut masks = vec![0; plane.div_ceil(LANES) * taps.len()];
        for (t, [dy, dx]) in taps.iter().enumerate() {
            let seen = |size: usize, by: isize| {
                let size = size as isize;
                (-by).clamp(0, size) as usize..(size - by).clamp(0, size) as usize
            };
            for y in seen(g.h, *dy) {
                for i in seen(g.w, *dx).map(|x| y * g.w + x) {
                    masks[i / LANES * taps.len() + t] |= 1 << (i % LANES);
                }
            }
        }
        Some(Self { plane, shifts: taps.iter().map(|[y, x]| y * g.w as isize + x).collect(), masks })
    }

    /// `y`, a plane: the sum of the taps' weights times what they see of the plane `x`.
    pub fn sums(&self, weights: &[Elem], x: &[Elem], y: &mut [Elem]) {
        assert!(x.len() == self.plane && y.len() == self.plane && weights.len() == self.shifts.len());
        // SAFETY: `new` has seen that the CPU has AVX-512, and that there are as many taps.
        unsafe {
            match weights.len() {
                9 => self.sums_of::<9>(weights, x, y),
                25 => self.sums_of::<25>(weights, x, y),
                _ => self.sums_of::<49>(weights, x, y),
            }
        }
    }

    /// # Safety
    /// The CPU has AVX-512 F; there are `T` taps and weights, and both planes are whole.
    #[target_feature(enable = "avx512f")]
    unsafe fn sums_of<const T: usize>(&self, weights: &[Elem], x: &[Elem], y: &mut [Elem]) {
        let (mut shifts, mut w) = ([0; T], [_mm512_setzero_ps(); T]);
        for t in 0..T {
            (shifts[t], w[t]) = (self.shifts[t], _mm512_set1_ps(weights[t]));
        }
        for (v, masks) in self.masks.as_chunks::<T>().0.iter().enumerate() {
            let at = x.as_ptr().wrapping_add(v * LANES);
            ask_ahead(at);
            ask_ahead(y.as_ptr().wrapping_add(v * LANES));
            let mut acc = _mm512_setzero_ps();
            for t in 0..T {
                // SAFETY: the mask leaves out what is not in the plane.
                let x = unsafe { _mm512_maskz_loadu_ps(masks[t], at.wrapping_offset(shifts[t])) };
                acc = _mm512_fmadd_ps(x, w[t], acc);
            }
            // SAFETY: the lanes within the plane.
            unsafe { _mm512_mask_storeu_ps(y.as_mut_ptr().wrapping_add(v * LANES), self.inside(v), acc) };
        }
    }

    /// The lanes of a vector that lie in the plane.
    fn inside(&self, vector: usize) -> u16 {
        let left = self.plane - vector * LANES;
        if left >= LANES { u16::MAX } else { (1 << left) - 1 }
    }

    /// Adds the products of the gradients and what the taps see, of `images` planes that lie `image` apart.
    pub fn add_dots(&self, dots: &mut Dots, images: usize, image: usize, x: &[Elem], dy: &[Elem]) {
        assert!(images == 0 || (images - 1) * image + self.plane <= x.len().min(dy.len()));
        let step = (FLUSH / self.plane.max(1)).max(1);
        for first in (0..images).step_by(step) {
            let count = step.min(images - first);
            let planes = Planes { count, image, x: &x[first * image..], dy: &dy[first * image..] };
            // SAFETY: `new` has seen that the CPU has AVX-512; the planes were counted above.
            unsafe {
                match self.shifts.len() {
                    9 => self.dots_of::<9>(0, planes, &mut dots.lanes),
                    25 => self.dots_of::<25>(0, planes, &mut dots.lanes),
                    // Forty-nine sums do not fit the registers, those of a row do.
                    _ => (0..49).step_by(7).for_each(|t| self.dots_of::<7>(t, planes, &mut dots.lanes)),
                }
            }
            dots.flush_after(count * self.plane);
        }
    }

    /// # Safety
    /// The CPU has AVX-512 F; there are `T` taps from `first` on, and the planes are whole.
    #[target_feature(enable = "avx512f")]
    unsafe fn dots_of<const T: usize>(&self, first: usize, p: Planes<'_>, lanes: &mut [Elem]) {
        let (mut shifts, mut acc) = ([0; T], [_mm512_setzero_ps(); T]);
        shifts.copy_from_slice(&self.shifts[first..first + T]);
        for n in 0..p.count {
            let (x, dy) = (p.x[n * p.image..].as_ptr(), p.dy[n * p.image..].as_ptr());
            for (v, masks) in self.masks.chunks_exact(self.shifts.len()).enumerate() {
                let masks = &masks[first..first + T];
                let (x, dy) = (x.wrapping_add(v * LANES), dy.wrapping_add(v * LANES));
                ask_ahead(x);
                ask_ahead(dy);
                // SAFETY: the lanes within the plane.
                let dy = unsafe { _mm512_maskz_loadu_ps(self.inside(v), dy) };
                for t in 0..T {
                    // SAFETY: the mask leaves out what is not in the plane.
                    let x = unsafe { _mm512_maskz_loadu_ps(masks[t], x.wrapping_offset(shifts[t])) };
                    acc[t] = _mm512_fmadd_ps(x, dy, acc[t]);
                }
            }
        }
        for (lanes, acc) in lanes[first * LANES..].as_chunks_mut::<LANES>().0.iter_mut().zip(acc) {
            // SAFETY: as many lanes as a vector has.
            unsafe {
                _mm512_storeu_ps(lanes.as_mut_ptr(), _mm512_add_ps(_mm512_loadu_ps(lanes.as_ptr()), acc))
            };
        }
    }
}

/// One channel's planes in some images.
#[derive(Clone, Copy)]
struct Planes<'a> {
    count: usize,
    /// Distance of two images.
    image: usize,
    x: &'a [Elem],
    dy: &'a [Elem],
}
