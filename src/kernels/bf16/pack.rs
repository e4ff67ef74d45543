//! The layouts of the micro-kernel's operands: numbers are rounded, and where it has to be transposed, on their way.

use super::microkernel::TILE;
use super::{MR, NR, STEP, bf16, round, tiles_for};
use crate::base::Elem;
use crate::kernels::gemm::Mat;
use crate::kernels::number::{Number, Numbers};

/// Numbers that a panel of B of `k` rows and `cols` columns takes.
fn packed_b_len(k: usize, cols: usize) -> usize {
    k.div_ceil(STEP) * tiles_for(cols) * TILE
}

/// Numbers that a panel of up to [`MR`] rows of A takes.
pub(crate) fn packed_a_len(k: usize) -> usize {
    k.div_ceil(STEP) * MR * STEP
}

/// Packs one panel of `alpha * b`: its `cols` columns, at most [`NR`], from `col` on, and `kc` rows from `pc` on. The
/// result is `[steps][tiles][16 pairs][16 columns][2]`, with zeros where B ends.
pub(crate) fn pack_b(
    b: &Mat<'_>,
    alpha: Elem,
    products: (usize, usize),
    columns: (usize, usize),
    panel: &mut [bf16],
) {
    match b.data {
        Numbers::Full(data) => pack_b_of(data, b, alpha, products, columns, panel),
        Numbers::Half(data) => pack_b_of(data, b, alpha, products, columns, panel),
    }
}

fn pack_b_of<X: Number>(
    data: &[X],
    b: &Mat<'_>,
    alpha: Elem,
    (pc, kc): (usize, usize),
    (col, cols): (usize, usize),
    panel: &mut [bf16],
) {
    debug_assert!(cols <= NR && panel.len() == packed_b_len(kc, cols));
    for (s, step) in panel.chunks_exact_mut(tiles_for(cols).max(1) * TILE).enumerate() {
        for (t, tile) in step.chunks_exact_mut(TILE).enumerate() {
            let (p, j) = (pc + s * STEP, col + 16 * t);
            Block {
                from: &data[p * b.rs + j * b.cs..],
                lane: b.cs,
                product: b.rs,
                lanes: (cols - 16 * t).min(16),
                products: (kc - s * STEP).min(STEP),
                alpha,
            }
            .pack(Order::Pairs, tile);
        }
    }
}

/// Packs a panel of A: `rows` rows, at most [`MR`], from `row` on, and `kc` columns from `pc` on. The result is
/// `[steps][MR][32]`, with zeros where the columns end; rows that are not there are left alone.
pub(crate) fn pack_a(a: &Mat<'_>, rows: (usize, usize), products: (usize, usize), panel: &mut [bf16]) {
    match a.data {
        Numbers::Full(data) => pack_a_of(data, a, rows, products, panel),
        Numbers::Half(data) => pack_a_of(data, a, rows, products, panel),
    }
}

fn pack_a_of<X: Number>(
    data: &[X],
    a: &Mat<'_>,
    (row, rows): (usize, usize),
    (pc, kc): (usize, usize),
    panel: &mut [bf16],
) {
    debug_assert!(rows <= MR && panel.len() == packed_a_len(kc));
    for i in (0..rows).step_by(16) {
        for (s, step) in panel.chunks_exact_mut(MR * STEP).enumerate() {
            let (r, p) = (row + i, pc + s * STEP);
            Block {
                from: &data[r * a.rs + p * a.cs..],
                lane: a.rs,
                product: a.cs,
                lanes: (rows - i).min(16),
                products: (kc - s * STEP).min(STEP),
                alpha: 1.0,
            }
            .pack(Order::Lanes, &mut step[i * STEP..][..16 * STEP]);
        }
    }
}

/// Up to 16 lanes, rows of A or columns of B, of the products of one step.
struct Block<'a, X> {
    from: &'a [X],
    /// The distance of two lanes.
    lane: usize,
    /// The distance of two products of a lane.
    product: usize,
    lanes: usize,
    products: usize,
    alpha: Elem,
}

/// What lies side by side in a packed block.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The 32 products of a lane.
    Lanes,
    /// Two products of each of the 16 lanes.
    Pairs,
}

impl<X: Number> Block<'_, X> {
    /// Packs the block; of [`Order::Lanes`] as many lanes as there are.
    fn pack(&self, order: Order, to: &mut [bf16]) {
        assert!(
            (self.lanes - 1) * self.lane + (self.products - 1) * self.product < self.from.len()
                && self.lanes <= 16
                && self.products <= STEP
                && to.len() == TILE
        );
        #[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
        if crate::kernels::isa::bf16_isa() != crate::kernels::isa::Bf16Isa::Portable
            && (self.lane == 1 || self.product == 1)
        {
            return avx512::pack(self, order, to);
        }
        self.portable(order, to);
    }

    fn portable(&self, order: Order, to: &mut [bf16]) {
        for lane in 0..if order == Order::Pairs { 16 } else { self.lanes } {
            for p in 0..STEP {
                let there = lane < self.lanes && p < self.products;
                let at = match order {
                    Order::Lanes => lane * STEP + p,
                    Order::Pairs => p / 2 * STEP + 2 * lane + p % 2,
                };
                to[at] = match there {
                    true => round(self.alpha * self.from[lane * self.lane + p * self.product].wide()),
                    false => bf16::ZERO,
                };
            }
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(shanty_f64)))]
#[allow(unsafe_code)]
mod avx512 {
    use super::{Block, Order, STEP, bf16};
    use crate::kernels::bf16::load;
    use crate::kernels::number::Number;
    use crate::kernels::prefetch::ask_to_read;
    use crate::kernels::transpose::avx512::transposed;
    use std::arch::x86_64::*;

    /// Packs a block that has passed its check, and whose lanes or products lie side by side.
    pub fn pack<X: Number>(block: &Block<'_, X>, order: Order, to: &mut [bf16]) {
        // SAFETY: the CPU has this class, and the caller has compared the last number's place with the length.
        unsafe {
            match (block.product == 1, order) {
                (true, Order::Lanes) => store(block.lanes, lanes(block), to),
                (true, Order::Pairs) => store(16, turned(lanes(block)), to),
                (false, Order::Lanes) => store(block.lanes, turned(pairs(block)), to),
                (false, Order::Pairs) => store(16, pairs(block), to),
            }
        }
    }

    /// The 32 products of each lane, which lie side by side.
    ///
    /// # Safety
    /// The block must lie in its slice, with `product` 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    unsafe fn lanes<X: Number>(b: &Block<'_, X>) -> [__m512i; 16] {
        let mask = (0xffff_ffff_u64 >> (STEP - b.products)) as u32;
        let (low, high, alpha) = (mask as u16, (mask >> 16) as u16, _mm512_set1_ps(b.alpha));
        let mut out = [_mm512_setzero_si512(); 16];
        for (lane, out) in out.iter_mut().enumerate().take(b.lanes) {
            let from = b.from.as_ptr().wrapping_add(lane * b.lane);
            // SAFETY: the lane lies in the slice; products behind its end are masked.
            let (x, y) = unsafe { (load(from, 1, low), load(from.wrapping_add(16), 1, high)) };
            *out = rounded(_mm512_mul_ps(x, alpha), _mm512_mul_ps(y, alpha));
        }
        out
    }

    /// Pairs of products of all lanes, which lie side by side.
    ///
    /// # Safety
    /// The block must lie in its slice, with `lane` 1.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
    #[inline]
    unsafe fn pairs<X: Number>(b: &Block<'_, X>) -> [__m512i; 16] {
        let (mask, alpha) = ((0xffff_u32 >> (16 - b.lanes)) as u16, _mm512_set1_ps(b.alpha));
        // The first of each pair, then the second: 0, 16, 1, 17, ...
        let places = _mm512_add_epi32(
            _mm512_set1_epi32(0x0010_0000),
            _mm512_mullo_epi32(
                _mm512_set1_epi32(0x0001_0001),
                _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
            ),
        );
        let has_next = STEP * b.product < b.from.len();
        let mut out = [_mm512_setzero_si512(); 16];
        for (pair, out) in out.iter_mut().enumerate().take(b.products.div_ceil(2)) {
            let from = b.from.as_ptr().wrapping_add(2 * pair * b.product);
            let second = if 2 * pair + 1 < b.products { mask } else { 0 };
            if has_next {
                // The same lanes of the next step, which the processor does not foresee: each product is a row far away.
                for product in [0, b.product] {
                    ask_to_read(from.wrapping_add(STEP * b.product + product), b.lanes);
                }
            }
            // SAFETY: these products lie in the slice; lanes that do not, and a product behind the last, are masked.
            let (x, y) = unsafe { (load(from, 1, mask), load(from.wrapping_add(b.product), 1, second)) };
            let both = rounded(_mm512_mul_ps(x, alpha), _mm512_mul_ps(y, alpha));
            *out = _mm512_permutexvar_epi16(places, both);
        }
        out
    }

    /// 16 numbers, then 16 more.
    #[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
    #[inline]
    fn rounded(first: __m512, then: __m512) -> __m512i {
        // SAFETY: both are 512 bits, all of which are allowed.
        unsafe { std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(then, first)) }
    }

    /// Lanes of pairs become pairs of lanes, or the other way about.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn turned(v: [__m512i; 16]) -> [__m512i; 16] {
        // SAFETY: each vector is 512 bits, all of which are allowed.
        unsafe {
            let turned = transposed(std::mem::transmute::<[__m512i; 16], [__m512; 16]>(v));
            std::mem::transmute::<[__m512; 16], [__m512i; 16]>(turned)
        }
    }

    /// Writes the first `count` of the vectors.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    fn store(count: usize, v: [__m512i; 16], to: &mut [bf16]) {
        for (to, v) in to.chunks_exact_mut(STEP).zip(v).take(count) {
            // SAFETY: a chunk is 64 bytes.
            unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), v) };
        }
    }
}
