//! Discriminant correlation analysis.

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};

use super::svd::svd;
use crate::base::{Error, Result};

/// A direction in which the classes differ less than this, as a share of the first one's eigenvalue, is rounding.
const LEAST: f64 = 1e-6;

/// How the transformed features of both kinds become one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Fused {
    /// One behind the other.
    #[default]
    Concat,
    /// Added up: they have as many values, each with the other's meaning.
    Sum,
}

/// Discriminant correlation analysis (Haghighat, Abdel-Mottaleb and Alhalabi 2016): two linear maps for two kinds of
/// features of the same samples. Behind them the classes are apart in every direction, each direction of the one kind
/// is correlated with one of the other, and with no other. There are less directions than classes.
///
/// ```
/// use ndarray::arr2;
/// use shanty::fusion::{Dca, Fused};
/// let height = arr2(&[[1.0, 0.1], [1.2, 0.3], [3.0, 0.2], [3.1, 0.1]]);
/// let weight = arr2(&[[10.0], [11.0], [29.0], [31.0]]);
/// let dca = Dca::fit(height.view(), weight.view(), &[0, 0, 1, 1])?;
/// assert_eq!(dca.directions(), 1);
/// assert_eq!(dca.fuse(height.view(), weight.view(), Fused::Concat)?.dim(), (4, 2));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Dca {
    /// A row for each direction.
    x: Array2<f64>,
    y: Array2<f64>,
}

impl Dca {
    /// Learns the maps from two features of the same samples, a row each, and the samples' classes.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other numbers of rows, values that are not finite, fewer than two classes, and features in
    /// which the classes do not differ.
    pub fn fit<T: Copy + Into<f64>>(
        x: ArrayView2<'_, T>,
        y: ArrayView2<'_, T>,
        classes: &[usize],
    ) -> Result<Self> {
        let n = classes.len();
        if (x.nrows(), y.nrows()) != (n, n) {
            let (x, y) = (x.nrows(), y.nrows());
            return Err(Error::invalid(format!("{x} and {y} rows of features for {n} samples")));
        }
        let [x, y] = [("first", x), ("second", y)].map(|(which, values)| (which, values.mapv(Into::into)));
        let [apart_x, apart_y] = [&x, &y].map(|(which, values)| apart(which, values, classes));
        let (apart_x, apart_y) = (apart_x?, apart_y?);
        let r = apart_x.ncols().min(apart_y.ncols());
        let [apart_x, apart_y] = [apart_x, apart_y].map(|all| all.slice_move(ndarray::s![.., ..r]));
        // Of both kinds as many directions; what they have in common is made diagonal.
        let common = x.1.dot(&apart_x).t().dot(&y.1.dot(&apart_y));
        let (u, s, v) = svd(common.view());
        let kept = s.iter().filter(|value| **value > LEAST * s[0]).count();
        let scale = s.slice(ndarray::s![..kept]).mapv(|value| 1.0 / value.sqrt());
        let map = |apart: Array2<f64>, turn: Array2<f64>| {
            (apart.dot(&turn.slice(ndarray::s![.., ..kept])) * &scale).reversed_axes()
        };
        let (mut x, mut y) = (map(apart_x, u), map(apart_y, v));
        for (mut x, mut y) in x.rows_mut().into_iter().zip(y.rows_mut()) {
            // The sign of a direction means nothing: its largest part is positive.
            let largest = x
                .iter()
                .copied()
                .fold(0.0, |most: f64, part| if part.abs() > most.abs() { part } else { most });
            if largest < 0.0 {
                x *= -1.0;
                y *= -1.0;
            }
        }
        Ok(Self { x, y })
    }

    /// How many directions there are.
    pub fn directions(&self) -> usize {
        self.x.nrows()
    }

    /// Both kinds of features behind their maps, a row a sample.
    ///
    /// # Errors
    /// [`Error::Invalid`] for features that are not as wide as those that were learnt from.
    pub fn transform<T: Copy + Into<f64>>(
        &self,
        x: ArrayView2<'_, T>,
        y: ArrayView2<'_, T>,
    ) -> Result<(Array2<f64>, Array2<f64>)> {
        if (x.ncols(), y.ncols(), x.nrows()) != (self.x.ncols(), self.y.ncols(), y.nrows()) {
            return Err(Error::invalid(format!(
                "features of shapes {:?} and {:?}, and {} and {} values a sample were learnt from",
                x.shape(),
                y.shape(),
                self.x.ncols(),
                self.y.ncols()
            )));
        }
        Ok((x.mapv(Into::into).dot(&self.x.t()), y.mapv(Into::into).dot(&self.y.t())))
    }

    /// The same as one array.
    ///
    /// # Errors
    /// As [`transform`](Self::transform).
    pub fn fuse<T: Copy + Into<f64>>(
        &self,
        x: ArrayView2<'_, T>,
        y: ArrayView2<'_, T>,
        how: Fused,
    ) -> Result<Array2<f64>> {
        let (x, y) = self.transform(x, y)?;
        match how {
            Fused::Sum => Ok(x + y),
            Fused::Concat => {
                concatenate(Axis(1), &[x.view(), y.view()]).map_err(|e| Error::invalid(e.to_string()))
            }
        }
    }
}

/// The map, a column for each direction, behind which the scatter between the classes is the identity: with
/// `Φ = [√n_k (m_k - m)] = U Σ Vᵀ` it is `U / Σ`.
fn apart(which: &str, values: &Array2<f64>, classes: &[usize]) -> Result<Array2<f64>> {
    if let Some(row) = values.rows().into_iter().position(|row| row.iter().any(|value| !value.is_finite())) {
        return Err(Error::invalid(format!(
            "sample {row} has a value that is not finite among the {which} features"
        )));
    }
    let mut known: Vec<usize> = classes.to_vec();
    known.sort_unstable();
    known.dedup();
    if known.len() < 2 {
        return Err(Error::invalid(format!(
            "two classes at least are wanted, and there are {}",
            known.len()
        )));
    }
    let mean = |rows: &[usize]| -> Array1<f64> {
        values.select(Axis(0), rows).sum_axis(Axis(0)) / rows.len() as f64
    };
    let all = mean(&(0..classes.len()).collect::<Vec<_>>());
    let mut phi = Array2::zeros((values.ncols(), known.len()));
    for (mut column, class) in phi.columns_mut().into_iter().zip(&known) {
        let rows: Vec<usize> = (0..classes.len()).filter(|row| classes[*row] == *class).collect();
        column.assign(&((mean(&rows) - &all) * (rows.len() as f64).sqrt()));
    }
    let (u, s, _) = svd(phi.view());
    let kept = s.iter().filter(|value| **value > 0.0 && value.powi(2) >= LEAST * s[0].powi(2)).count();
    if kept == 0 {
        return Err(Error::invalid(format!(
            "the classes do not differ in the means of the {which} features"
        )));
    }
    Ok(&u.slice(ndarray::s![.., ..kept]) / &s.slice(ndarray::s![..kept]))
}
