//! Rows of a table, by number.

use crate::base::Elem;
use crate::kernels::elementwise::add_assign;
use crate::kernels::par;

/// Numbers that one task of the backward pass writes to at least.
const BLOCK: usize = 1 << 14;

/// `y[i] = table[index[i]]`, rows of `width` numbers.
pub fn embedding(width: usize, index: &[u32], table: &[Elem], y: &mut [Elem]) {
    assert_eq!(y.len(), index.len() * width, "a row for each index");
    par::each_index(width.max(1), y, |i, y| y.copy_from_slice(&table[index[i] as usize * width..][..width]));
}

/// The backward pass of [`embedding`]: overwrites `dtable`. The row `without`, if any, gets no gradient. What comes to
/// one row is added in the order of the index, whatever the number of threads.
pub fn embedding_backward(
    width: usize,
    index: &[u32],
    dy: &[Elem],
    without: Option<usize>,
    dtable: &mut [Elem],
) {
    assert_eq!(dy.len(), index.len() * width, "a gradient for each index");
    let mut order: Vec<u32> = (0..index.len() as u32).collect();
    // Stable: equal rows stay in the order of the index.
    order.sort_by_key(|i| index[*i as usize]);
    let row_of = |i: &u32| index[*i as usize] as usize;
    let rows = (BLOCK / width.max(1)).max(1);
    par::chunks((rows * width).max(1), dtable.len() <= 4 * BLOCK, dtable, |block, dtable| {
        dtable.fill(0.0);
        let first = block * rows;
        let begin = order.partition_point(|i| row_of(i) < first);
        let own = order[begin..].iter().take_while(|i| row_of(i) < first + rows);
        for i in own.filter(|i| Some(row_of(i)) != without) {
            let dy = &dy[*i as usize * width..][..width];
            add_assign(dy, &mut dtable[(row_of(i) - first) * width..][..width]);
        }
    });
}
