//! A sum over the ranks: of many numbers each rank adds up one part for all.

use std::ops::{AddAssign, Mul, Range};

use bytemuck::Pod;

use super::library::{Area, Library};
use super::{FIRST, HEAD, Head, agreed, expect_heads, first_message, peers, row, send_to_all, tag};
use crate::base::Result;
use crate::comm::Place;

/// What is added up: elements of tensors, or numbers of twice their length.
pub trait Number: Pod + AddAssign + Mul<Output = Self> {}

impl Number for f32 {}
impl Number for f64 {}

/// A sum under way.
#[derive(Debug)]
pub struct Sum<T: Pod> {
    pub head: Head,
    /// What the sum is multiplied by.
    factor: T,
    own: Area<u8>,
    heads: Area<u8>,
    data: Area<T>,
    /// What the other ranks give to the part that this one adds up.
    rows: Area<T>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The heads, and with them all of a small sum.
    Heads,
    /// The parts that this rank adds up.
    Rows,
    /// The sums of the others.
    Sums,
    Done,
}

/// The part of `n` elements that a rank adds up.
fn part(rank: usize, n: usize, world: usize) -> Range<usize> {
    let from = |rank: usize| n / world * rank + rank.min(n % world);
    from(rank)..from(rank + 1)
}

/// Whether the first message has room for all.
fn is_small(head: Head) -> bool {
    HEAD as u64 + head.bytes <= FIRST as u64
}

/// Numbers that are added up at a time, in the nearest cache.
const BLOCK: usize = 1024;

/// `(r0 + r1 + r2 …) · factor`, where the numbers of this rank stand in the sum.
fn add_up<'a, T: Number>(
    sum: &mut [T],
    factor: T,
    Place { rank, world, .. }: Place,
    given: impl Fn(usize) -> &'a [T],
) {
    let mut block = [T::zeroed(); BLOCK];
    for (nth, own) in sum.chunks_mut(BLOCK).enumerate() {
        let (at, total) = (nth * BLOCK..nth * BLOCK + own.len(), &mut block[..own.len()]);
        for r in 0..world {
            let of_rank = if r == rank { &*own } else { &given(r)[at.clone()] };
            match r {
                0 => total.copy_from_slice(of_rank),
                _ => total.iter_mut().zip(of_rank).for_each(|(total, x)| *total += *x),
            }
        }
        own.iter_mut().zip(total).for_each(|(own, total)| *own = *total * factor);
    }
}

impl<T: Number> Sum<T> {
    /// Begins to sum `data`, times a factor. What the others give comes into `rows`, memory of a former sum, of any
    /// length.
    pub fn begin(
        library: &Library,
        place: Place,
        head: Head,
        (data, factor): (Vec<T>, T),
        rows: Vec<T>,
    ) -> Result<Self> {
        let heads = expect_heads(library, place, head.number)?;
        let small = is_small(head);
        let message = first_message(head, if small { bytemuck::cast_slice(&data) } else { &[] });
        let (all, n) = (0..message.len(), data.len());
        let (mut own, mut data) = (Area::new(message), Area::new(data));
        send_to_all(&mut own, library, place, all, tag(head.number, 0))?;
        if !small {
            for peer in peers(place) {
                data.send(library, part(peer, n, place.world), peer, tag(head.number, 2))?;
            }
        }
        Ok(Self { head, factor, own, heads, data, rows: Area::new(rows), stage: Stage::Heads })
    }

    /// Moves it on as far as messages have come.
    pub fn is_done(&mut self, library: &Library, place: Place) -> Result<bool> {
        if self.stage == Stage::Heads && self.heads.is_done(library)? {
            self.stage = self.meet(library, place)?;
        }
        let arrived =
            self.own.is_done(library)? & self.data.is_done(library)? & self.rows.is_done(library)?;
        if self.stage == Stage::Rows && arrived {
            self.give_sums(library, place)?;
            self.stage = Stage::Sums;
        } else if self.stage == Stage::Sums && arrived {
            self.stage = Stage::Done;
        }
        Ok(self.stage == Stage::Done && arrived)
    }

    /// All ranks have come: a small sum is made, of a large one the parts are awaited.
    fn meet(&mut self, library: &Library, place: Place) -> Result<Stage> {
        let Place { rank, world, .. } = place;
        let heads = self.heads.data()?;
        agreed(heads, self.head, place)?;
        let bytes = self.head.bytes as usize;
        if is_small(self.head) {
            let read =
                |bytes: &[u8]| bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
            let given: Vec<Vec<T>> =
                (0..world).map(|r| read(&heads[row(r, FIRST)][HEAD..HEAD + bytes])).collect();
            add_up(self.data.data()?, self.factor, place, |r| &given[r]);
            return Ok(Stage::Done);
        }
        let length = part(rank, bytes / size_of::<T>(), world).len();
        let rows = self.rows.data()?;
        if rows.len() < length * world {
            rows.resize(length * world, T::zeroed());
        }
        for peer in peers(place) {
            self.rows.receive(library, row(peer, length), peer, tag(self.head.number, 2))?;
        }
        Ok(Stage::Rows)
    }

    /// Adds up the part of this rank, and gives it to all.
    fn give_sums(&mut self, library: &Library, place: Place) -> Result<()> {
        let Place { rank, world, .. } = place;
        let (data, rows) = (self.data.data()?, self.rows.data()?);
        let (n, own) = (data.len(), part(rank, data.len(), world));
        let length = own.len();
        add_up(&mut data[own.clone()], self.factor, place, |r| &rows[row(r, length)]);
        send_to_all(&mut self.data, library, place, own, tag(self.head.number, 3))?;
        for peer in peers(place) {
            self.data.receive(library, part(peer, n, world), peer, tag(self.head.number, 3))?;
        }
        Ok(())
    }

    /// The ranks that it waits for.
    pub fn awaited(&self) -> Vec<usize> {
        let mut all =
            [self.heads.awaited(), self.rows.awaited(), self.data.awaited(), self.own.awaited()].concat();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The sum, once it is done, and the memory of its rows.
    pub fn take(&mut self) -> Result<[Vec<T>; 2]> {
        Ok([std::mem::take(self.data.data()?), std::mem::take(self.rows.data()?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Elem;

    #[test]
    fn parts_cover_all_without_overlap_and_sums_are_in_the_order_of_the_ranks() {
        for world in 1..9 {
            for n in 0..40 {
                let parts: Vec<usize> = (0..world).flat_map(|rank| part(rank, n, world)).collect();
                assert_eq!(parts, (0..n).collect::<Vec<_>>(), "{n} on {world}");
            }
        }
        // 1 is lost beside 2²⁴ unless it comes before it is gone again.
        let big = 16_777_216.0 * if cfg!(shanty_f64) { 536_870_912.0 } else { 1.0 };
        let given: [[Elem; 1]; 3] = [[1.0], [big], [-big]];
        for rank in 0..3 {
            let mut sum = given[rank];
            let place = Place { rank, world: 3, local_rank: rank, local_world: 3 };
            add_up(&mut sum, 1.0, place, |r| &given[r]);
            assert_eq!(sum, [0.0], "as rank {rank} adds up");
            add_up(&mut sum, 0.25, place, |r| [&[3.0][..], &[4.0], &[5.0]][r]);
            let others = [4.0 + 5.0, 3.0 + 5.0, 3.0 + 4.0];
            assert_eq!(sum, [others[rank] / 4.0], "a quarter, as rank {rank} adds up");
        }
    }
}
