//! The singular values of a small matrix.

use ndarray::{Array1, Array2, ArrayView2, Axis};

/// Sweeps over all pairs of columns: a dozen are enough for any matrix in f64.
const SWEEPS: usize = 60;

/// `matrix = u diag(s) vᵀ` with the singular values in falling order, by one-sided Jacobi rotations (Hestenes): columns
/// are turned in pairs until all are orthogonal. Exact to the last digits, and quick enough where there are few columns.
pub(super) fn svd(matrix: ArrayView2<'_, f64>) -> (Array2<f64>, Array1<f64>, Array2<f64>) {
    let columns = matrix.ncols();
    let (mut u, mut v) = (matrix.to_owned(), Array2::eye(columns));
    for _ in 0..SWEEPS {
        let mut turned = false;
        for i in 0..columns {
            for j in i + 1..columns {
                let (a, b) = (u.column(i), u.column(j));
                let (aa, bb, ab) = (a.dot(&a), b.dot(&b), a.dot(&b));
                if ab.abs() <= f64::EPSILON * (aa * bb).sqrt() {
                    continue;
                }
                turned = true;
                let slope = (bb - aa) / (2.0 * ab);
                let t = slope.signum() / (slope.abs() + slope.hypot(1.0));
                let cos = 1.0 / t.hypot(1.0);
                for matrix in [&mut u, &mut v] {
                    rotate(matrix, i, j, cos, cos * t);
                }
            }
        }
        if !turned {
            break;
        }
    }
    let lengths: Array1<f64> = u.columns().into_iter().map(|column| column.dot(&column).sqrt()).collect();
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|i, j| lengths[*j].total_cmp(&lengths[*i]));
    let s = order.iter().map(|i| lengths[*i]).collect::<Array1<f64>>();
    let (mut u, v) = (u.select(Axis(1), &order), v.select(Axis(1), &order));
    u.columns_mut().into_iter().zip(&s).filter(|(_, s)| **s > 0.0).for_each(|(mut column, s)| column /= *s);
    (u, s, v)
}

fn rotate(matrix: &mut Array2<f64>, i: usize, j: usize, cos: f64, sin: f64) {
    for mut row in matrix.rows_mut() {
        let (a, b) = (row[i], row[j]);
        row[i] = cos * a - sin * b;
        row[j] = sin * a + cos * b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::arr2;
    use rand::RngExt;

    /// Rotations of what is known: the parts make the matrix again, are orthogonal, and the values fall.
    #[test]
    fn the_parts_make_the_matrix_again() {
        let mut rng = keyed(0, "svd", 0, 0);
        for (rows, columns) in [(1, 1), (5, 3), (9, 9), (40, 9), (3, 5)] {
            let matrix = Array2::from_shape_fn((rows, columns), |_| rng.random::<f64>() - 0.5);
            let (u, s, v) = svd(matrix.view());
            let again = (&u * &s).dot(&v.t());
            assert!((&again - &matrix).iter().all(|d| d.abs() < 1e-13), "{rows} {columns}");
            assert!((v.t().dot(&v) - Array2::<f64>::eye(columns)).iter().all(|d| d.abs() < 1e-13));
            assert!(s.windows(2).into_iter().all(|pair| pair[0] >= pair[1]));
        }
        let (_, s, _) = svd(arr2(&[[3.0, 0.0], [0.0, -5.0]]).view());
        assert_eq!(s.to_vec(), [5.0, 3.0]);
        let (_, s, _) = svd(arr2(&[[1.0, 2.0], [2.0, 4.0]]).view());
        assert!((s[0] - 5.0).abs() < 1e-14 && s[1].abs() < 1e-14, "{s}");
    }
}
