//! Running sums.

use crate::base::Elem;
use crate::nn::Var;
use crate::nn::buffer_pool::{slice, tensor};

use super::axis_of;

impl Var<'_> {
    /// The sums of the elements up to each place of an axis.
    pub fn cumsum(self, axis: isize) -> Self {
        self.attempt(|| {
            let x = self.value();
            let shape = x.shape();
            let axis = axis_of("cumsum", shape, axis)?;
            let (size, inner) = (shape[axis], shape[axis + 1..].iter().product());
            let mut y = self.tape.take(x.len());
            y.copy_from_slice(slice(&x));
            running_sums(&mut y, size, inner, false);
            Ok(self.tape.node("cumsum", tensor(shape, y), &[self], move |mut dy, grads| {
                running_sums(&mut dy, size, inner, true);
                grads.add(0, dy);
            }))
        })
    }
}

/// Replaces each element by the sum up to it, or from it to the end if `reverse`, in `f64`.
fn running_sums(x: &mut [Elem], size: usize, inner: usize, reverse: bool) {
    let mut sums = vec![0.0; inner];
    for block in x.chunks_exact_mut((size * inner).max(1)) {
        sums.fill(0.0);
        for place in 0..size {
            let place = if reverse { size - 1 - place } else { place };
            for (x, sum) in block[place * inner..].iter_mut().zip(&mut sums) {
                *sum += f64::from(*x);
                *x = *sum as Elem;
            }
        }
    }
}
