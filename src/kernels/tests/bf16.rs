//! Rounded operands: the three implementations of the micro-kernel against each other and the definition.

use super::{close, noise, on_1_and_2_threads, pick};
use crate::base::{Elem, keyed};
use crate::kernels::bf16::{
    Bf16Kernel, Bf16Scratch, MR, STEP, TILE, pack_a, pack_b, packed_a_len, round, tiles_for,
};
use crate::kernels::gemm::microkernel::Offsets;
use crate::kernels::isa::{Bf16Isa, bf16_isa};
use crate::kernels::{
    AttentionArgs, AttnGeom, AttnOutput, AttnSaved, Bias, Cell, Epilogue, Mat, MatMut, Precision,
    RecurrentGeom, RecurrentSaved, RecurrentWeights, attention_packed, attention_packed_backward, gemm,
    gemm_add, gemm_gelu, gemm_mul, recurrent, recurrent_backward, with_precision,
};

/// Numbers of a packed panel of B.
fn packed_b_len(k: usize, cols: usize) -> usize {
    k.div_ceil(STEP) * tiles_for(cols) * TILE
}

/// The classes that this process may use.
fn classes() -> impl Iterator<Item = Bf16Isa> {
    [Bf16Isa::Portable, Bf16Isa::Avx512, Bf16Isa::Amx].into_iter().filter(|isa| *isa <= bf16_isa())
}

#[test]
fn numbers_are_rounded_to_the_nearest_bf16() {
    let bits = |v: f32| round(v as Elem).to_bits();
    // 1 + 2^-8 lies between 1 and 1 + 2^-7: the even one wins; just above it the upper one does.
    assert_eq!(bits(1.0 + 1.0 / 256.0), 0x3f80);
    assert_eq!(bits(1.0 + 3.0 / 256.0), 0x3f82);
    assert_eq!(bits(1.0 + 1.0 / 256.0 + f32::EPSILON), 0x3f81);
    assert_eq!(bits(f32::MAX), 0x7f80);
    assert_eq!(bits(f32::NEG_INFINITY), 0xff80);
    assert_eq!(bits(f32::MIN_POSITIVE), 0x0080);
    assert_eq!(bits(-f32::MIN_POSITIVE / 2.0), 0x8000, "too small for a normal number");
    assert!(round(Elem::NAN).is_nan());
    // A NaN whose payload is in the lower half alone would become infinite if it were cut off.
    assert!(round(f32::from_bits(0x7f80_0001) as Elem).is_nan());
    let mut rng = keyed(9, "bf16", 0, 0);
    for _ in 0..10_000 {
        use rand::RngExt;
        let v = f32::from_bits(rng.random::<u32>());
        if v.is_normal() {
            assert_eq!(round(v as Elem), half::bf16::from_f32(v), "{v}");
        }
    }
}

/// Packing in vectors gives the bits of rounding one by one, each at its place, and zeros around them.
#[test]
fn packed_panels_have_each_number_at_its_place() {
    let mut rng = keyed(10, "bf16", 0, 0);
    for seed in 0..60 {
        let (lanes, k) = (pick(&mut rng, 1..=32), pick(&mut rng, 1..=100));
        let mut data = noise(seed, lanes * k);
        for special in [Elem::NAN, Elem::INFINITY, -1e-40 as Elem, 3.4e38] {
            data[pick(&mut rng, 0..=lanes * k - 1)] = special;
        }
        for mat in [Mat::new(&data, lanes, k), Mat::new(&data, k, lanes).t()] {
            let want = |l: usize, p: usize| match l < lanes && p < k {
                true => round(data[l * mat.rs + p * mat.cs]).to_bits(),
                false => 0,
            };
            let (mut a, mut b) =
                (Bf16Scratch::take(packed_a_len(k)), Bf16Scratch::take(packed_b_len(k, lanes)));
            pack_a(&mat, (0, lanes), (0, k), &mut a);
            pack_b(&mat.t(), 1.0, (0, k), (0, lanes), &mut b);
            for p in 0..k.next_multiple_of(STEP) {
                for l in 0..lanes {
                    let got = a[p / STEP * MR * STEP + l * STEP + p % STEP];
                    assert_eq!(got.to_bits(), want(l, p), "row {l}, product {p}");
                }
                for l in 0..16 * tiles_for(lanes) {
                    let tile = p / STEP * tiles_for(lanes) + l / 16;
                    let got = b[tile * TILE + p % STEP / 2 * 32 + l % 16 * 2 + p % 2];
                    assert_eq!(got.to_bits(), want(l, p), "column {l}, product {p}");
                }
            }
        }
    }
}

/// A block by each class: the sums of small whole numbers are exact, so all are the same bits.
#[test]
fn the_micro_kernels_agree() {
    let mut rng = keyed(11, "bf16", 0, 0);
    for seed in 0..200 {
        let mut p = |range| pick(&mut rng, range);
        let (rows, cols, k, whole) = (p(1..=32), p(1..=32), p(1..=150), p(0..=1) == 1);
        let (rs_c, accumulate) = (cols + p(0..=2), p(0..=1) == 1);
        let numbers = |seed, len| -> Vec<Elem> {
            let noise = noise(seed, len);
            noise
                .into_iter()
                .map(|v| if whole { (v * 9.0).trunc() } else { round(v).to_f32() as Elem })
                .collect()
        };
        let (a, mut b) = (numbers(seed, rows * k), numbers(seed + 1000, k * cols));
        let old = numbers(seed + 2000, rows * rs_c);
        // Of half of the products steps have fewer numbers than 32: what is behind them meets zeros in B.
        let some: Vec<u8> = (0..k.div_ceil(STEP)).map(|_| 2 * p(1..=16) as u8).collect();
        let counts = if p(0..=1) == 1 { &some[..] } else { &[] };
        for (p, row) in b.chunks_exact_mut(cols).enumerate() {
            if counts.get(p / STEP).is_some_and(|&count| p % STEP >= usize::from(count)) {
                row.fill(0.0);
            }
        }
        let (mut packed_a, mut packed_b) =
            (Bf16Scratch::take(packed_a_len(k)), Bf16Scratch::take(packed_b_len(k, cols)));
        pack_a(&Mat::new(&a, rows, k), (0, rows), (0, k), &mut packed_a);
        pack_b(&Mat::new(&b, k, cols), 1.0, (0, k), (0, cols), &mut packed_b);
        let want = |i: usize, j: usize| -> f64 {
            if j >= cols {
                return old[i * rs_c + j] as f64;
            }
            let sum: f64 = (0..k).map(|p| a[i * k + p] as f64 * b[p * cols + j] as f64).sum();
            sum + if accumulate { old[i * rs_c + j] as f64 } else { 0.0 }
        };
        let want: Vec<f64> = (0..rows * rs_c).map(|at| want(at / rs_c, at % rs_c)).collect();
        for class in classes() {
            let mut c = old.clone();
            let steps: Vec<u32> = (0..k.div_ceil(STEP)).map(|s| (s * MR * STEP) as u32).collect();
            Bf16Kernel {
                counts,
                k: Offsets::flat(&steps, (steps.len() - 1) * MR * STEP),
                a: &packed_a,
                rs_a: STEP,
                rows,
                b: &packed_b,
                rs_b: tiles_for(cols) * TILE,
                cols,
                c: (&mut c[..]).into(),
                rs_c,
                accumulate,
                is_far: seed % 2 == 0,
            }
            .run_by(class);
            let what = format!("{class:?}: {rows} x {k} x {cols}, whole numbers: {whole}");
            close(&c, &want, if whole { 0.0 } else { 3e-6 }, &what);
        }
    }
}

/// Whole numbers of up to 8 bits are not rounded and their sums are exact: the same bits as in full precision.
#[test]
fn products_of_small_whole_numbers_are_exact() {
    let whole = |seed, len: usize| -> Vec<Elem> {
        noise(seed, len).into_iter().map(|v| (v * 17.0).trunc()).collect()
    };
    for (m, k, n) in
        [(64, 784, 512), (512, 64, 784), (65, 64, 65), (33, 2100, 17), (1, 1024, 40), (300, 40, 10)]
    {
        let (a, b) = (whole(1, m * k), whole(2, k * n));
        let (bias, more) = (whole(3, n), whole(4, m * n));
        let (a, b) = (Mat::new(&a, m, k), Mat::new(&b, k, n));
        let all = |precision| {
            on_1_and_2_threads(|| {
                with_precision(precision, || {
                    let mut c = vec![Elem::NAN; 4 * m * n];
                    let mut parts = c.chunks_exact_mut(m * n);
                    let mut next = || MatMut::new(parts.next().expect("four parts"), m, n);
                    gemm(2.0, a, b, 0.0, next(), Epilogue { bias: Bias::Cols(&bias), ..Epilogue::default() });
                    gemm_add(a, b, Bias::Cols(&bias), &more, next());
                    gemm_mul(a, b, &more, next());
                    let mut slope = vec![Elem::NAN; m * n];
                    gemm_gelu(a, b, &bias, next(), &mut slope);
                    c.extend(slope);
                    c
                })
            })
        };
        let want: Vec<f64> = all(Precision::Full).into_iter().map(f64::from).collect();
        for precision in [Precision::Bf16, Precision::F16] {
            close(&all(precision), &want, 0.0, &format!("{precision:?}, {m} x {k} x {n}"));
        }
    }
}

#[test]
fn what_is_not_a_number_stays_so() {
    let (mut a, b) = (noise(1, 64 * 64), noise(2, 64 * 64));
    a[5 * 64 + 7] = Elem::NAN;
    a[6 * 64 + 7] = 1e6;
    for (precision, six) in [(Precision::Bf16, false), (Precision::F16, true)] {
        let mut c = vec![0.0; 64 * 64];
        with_precision(precision, || {
            let (a, b) = (Mat::new(&a, 64, 64), Mat::new(&b, 64, 64));
            gemm(1.0, a, b, 0.0, MatMut::new(&mut c, 64, 64), Epilogue::default());
        });
        for (i, row) in c.chunks_exact(64).enumerate() {
            assert!(row.iter().all(|v| v.is_nan() == (i == 5)), "{precision:?}, row {i}");
            // 1e6 is more than a half-precision number holds.
            assert!(row.iter().all(|v| v.is_infinite() == (six && i == 6)), "{precision:?}, row {i}");
        }
    }
}

/// Attention with rounded operands is near the one in full precision, and its bits depend on no thread.
#[test]
fn attention_of_rounded_operands() {
    let g = AttnGeom { batch: 2, heads: 3, q_len: 65, k_len: 65, dim: 64 };
    let width = g.heads * g.dim;
    let (qkv, dout) = (noise(1, g.batch * g.k_len * 3 * width), noise(2, g.batch * g.q_len * width));
    let both = |precision, causal| {
        on_1_and_2_threads(|| {
            with_precision(precision, || {
                let opts = AttentionArgs { causal, ..AttentionArgs::default() };
                let (mut out, mut lse) = (vec![0.0; dout.len()], vec![0.0; g.batch * g.heads * g.q_len]);
                attention_packed(&g, opts, &qkv, AttnOutput { out: (&mut out).into(), lse: &mut lse });
                let mut dqkv = vec![0.0; qkv.len()];
                let saved = AttnSaved { out: (&out).into(), lse: &lse };
                attention_packed_backward(&g, opts, &qkv, saved, &dout, &mut dqkv);
                out.extend(dqkv);
                out
            })
        })
    };
    for causal in [false, true] {
        let full: Vec<f64> = both(Precision::Full, causal).into_iter().map(f64::from).collect();
        // Two roundings of 2^-9 a product, and sums in which they even out.
        close(&both(Precision::Bf16, causal), &full, 1e-2, "bf16");
        close(&both(Precision::F16, causal), &full, 2e-3, "f16");
    }
}

/// Recurrent layers pack the weights of their state once for all steps: near full precision, and the same bits for any
/// number of threads.
#[test]
fn recurrent_layers_of_rounded_operands() {
    for cell in [Cell::Lstm, Cell::Gru, Cell::Tanh] {
        let (steps, batch, ins, hidden) = (5, 40, 30, 72);
        let g = RecurrentGeom { cell, steps, batch, ins, hidden, reverse: false, given: false };
        let (rows, wide) = (steps * batch, cell.gates() * hidden);
        let small = |seed, len| noise(seed, len).into_iter().map(|v| v / 8.0).collect::<Vec<Elem>>();
        let (x, dy) = (noise(1, rows * ins), noise(2, rows * hidden));
        let (ih, hh, bias) = (small(3, wide * ins), small(4, wide * hidden), small(5, wide));
        let w = RecurrentWeights { ih: &ih, hh: &hh, bias: Some([&bias, &bias]) };
        let all = |precision| {
            on_1_and_2_threads(|| {
                with_precision(precision, || {
                    let (mut gates, mut state) = (vec![0.0; g.gates_len()], vec![0.0; g.state_len()]);
                    let (mut h, mut dy) = (vec![0.0; rows * hidden], dy.clone());
                    let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
                    recurrent(&g, None, &x, w, saved, &mut h);
                    let saved = RecurrentSaved { gates: &mut gates, state: &mut state };
                    recurrent_backward(&g, None, w, &h, saved, [&mut dy, &mut []]);
                    h.extend(gates);
                    h
                })
            })
        };
        let full: Vec<f64> = all(Precision::Full).into_iter().map(f64::from).collect();
        let rounded = all(Precision::Bf16);
        close(&rounded, &full, 1e-2, &format!("{cell:?}"));
        assert!(rounded.iter().zip(&full).any(|(r, f)| f64::from(*r) != *f), "{cell:?} was not rounded");
    }
}
