//! One step of one sequence.

use crate::base::Elem;
use crate::kernels::isa::multiversion;
use crate::kernels::math::{sigmoid, tanh};

multiversion! {
    /// Gates i, f, g, o of sums become values; the new `c` and `h`.
    pub(super) fn lstm<const FMA: bool>(gates: &mut [Elem], before: &[Elem], c: &mut [Elem], h: &mut [Elem]) {
        let n = h.len();
        for v in &mut gates[..2 * n] {
            *v = sigmoid(*v);
        }
        for v in &mut gates[2 * n..3 * n] {
            *v = tanh::<FMA>(*v);
        }
        for v in &mut gates[3 * n..] {
            *v = sigmoid(*v);
        }
        let gates: &[Elem] = gates;
        let (i, f, g, o) = (&gates[..n], &gates[n..][..n], &gates[2 * n..][..n], &gates[3 * n..][..n]);
        let (before, c) = (&before[..n], &mut c[..n]);
        for j in 0..n {
            let cell = f[j] * before[j] + i[j] * g[j];
            c[j] = cell;
            h[j] = o[j] * tanh::<FMA>(cell);
        }
    }
}

multiversion! {
    /// The gates become the gradients of their sums. `dc` is that of c from the step behind, then for the step before.
    pub(super) fn lstm_backward<const FMA: bool>(gates: &mut [Elem], before: &[Elem], c: &[Elem], dh: &[Elem], dc: &mut [Elem]) {
        let n = dc.len();
        let (i, rest) = gates.split_at_mut(n);
        let (f, rest) = rest.split_at_mut(n);
        let (g, o) = rest.split_at_mut(n);
        let (o, before, c, dh) = (&mut o[..n], &before[..n], &c[..n], &dh[..n]);
        for j in 0..n {
            let t = tanh::<FMA>(c[j]);
            let (vi, vf, vg, vo) = (i[j], f[j], g[j], o[j]);
            let d = dc[j] + dh[j] * vo * (1.0 - t * t);
            dc[j] = d * vf;
            i[j] = d * vg * vi * (1.0 - vi);
            f[j] = d * before[j] * vf * (1.0 - vf);
            g[j] = d * vi * (1.0 - vg * vg);
            o[j] = dh[j] * t * vo * (1.0 - vo);
        }
    }
}

multiversion! {
    /// Gates r, z, n of sums become values; `state` is what the state adds to n, before it is let through by r.
    pub(super) fn gru<const FMA: bool>(gates: &mut [Elem], before: &[Elem], state: &[Elem], h: &mut [Elem]) {
        let n = h.len();
        let (rz, new) = gates.split_at_mut(2 * n);
        for v in &mut *rz {
            *v = sigmoid(*v);
        }
        let (r, z) = rz.split_at(n);
        let (z, new, before, state) = (&z[..n], &mut new[..n], &before[..n], &state[..n]);
        for j in 0..n {
            let value = tanh::<FMA>(new[j] + r[j] * state[j]);
            new[j] = value;
            h[j] = (1.0 - z[j]) * value + z[j] * before[j];
        }
    }
}

multiversion! {
    /// The gates become the gradients of the input's sums, and `state` that of the state's part of n.
    pub(super) fn gru_backward(gates: &mut [Elem], before: &[Elem], dh: &[Elem], state: &mut [Elem], dbefore: &mut [Elem]) {
        let n = state.len();
        let (r, rest) = gates.split_at_mut(n);
        let (z, new) = rest.split_at_mut(n);
        let (new, before, dh, dbefore) = (&mut new[..n], &before[..n], &dh[..n], &mut dbefore[..n]);
        for j in 0..n {
            dbefore[j] += dh[j] * z[j];
        }
        for j in 0..n {
            let (vr, vz, value) = (r[j], z[j], new[j]);
            let d = dh[j] * (1.0 - vz) * (1.0 - value * value);
            r[j] = d * state[j] * vr * (1.0 - vr);
            z[j] = dh[j] * (before[j] - value) * vz * (1.0 - vz);
            new[j] = d;
            state[j] = d * vr;
        }
    }
}
