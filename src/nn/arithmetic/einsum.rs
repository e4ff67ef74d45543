//! Sums of products, as Einstein wrote them.

use crate::base::{Error, Result};
use crate::nn::Var;

impl Var<'_> {
    /// `a.einsum("bij,bjk->bik", b)`: a letter is an axis; the product of the elements at equal letters is summed over
    /// the letters that the result does not name. Without `->` the result has the letters that come once, in
    /// alphabetical order. It is one product of matrices.
    ///
    /// ```
    /// use shanty::base::Tensor;
    /// use shanty::nn::{BufferPool, Tape};
    ///
    /// let tape = Tape::without_grad(BufferPool::default());
    /// let x = tape.input(Tensor::from_shape_vec(vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap());
    /// assert_eq!(x.einsum("ij,ij->i", x).value().as_slice(), Some(&[5.0, 25.0][..]));
    /// assert_eq!(x.einsum("ij,jk", x).value().as_slice(), Some(&[7.0, 10.0, 15.0, 22.0][..]));
    /// ```
    pub fn einsum(self, equation: &str, other: Self) -> Self {
        self.attempt(|| {
            let (a, b) = (self.shape(), other.shape());
            let equation = Equation::parse(equation, [&a, &b])?;
            Ok(equation.product([self, other]))
        })
    }
}

/// The letters of both factors and of the result.
struct Equation {
    factors: [Vec<char>; 2],
    result: Vec<char>,
}

impl Equation {
    fn parse(text: &str, shapes: [&[usize]; 2]) -> Result<Self> {
        let wrong = |why: String| Error::invalid(format!("`einsum` of \"{text}\": {why}"));
        let letters: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = letters.split_once("->").map_or((&*letters, None), |(l, r)| (l, Some(r)));
        let Some((a, b)) = left.split_once(',').filter(|(_, b)| !b.contains(',')) else {
            return Err(wrong("it wants two factors, as in \"ij,jk->ik\"".into()));
        };
        if let Some(other) =
            [a, b, right.unwrap_or("")].iter().flat_map(|t| t.chars()).find(|c| !c.is_ascii_alphabetic())
        {
            return Err(wrong(format!("an axis is a letter, not `{other}`")));
        }
        let factors = [a, b].map(|t| t.chars().collect::<Vec<char>>());
        let mut sizes: Vec<(char, usize)> = Vec::new();
        for (letters, shape) in factors.iter().zip(shapes) {
            if letters.len() != shape.len() {
                return Err(wrong(format!(
                    "{} letters do not name the axes of shape {shape:?}",
                    letters.len()
                )));
            }
            for (i, (letter, size)) in letters.iter().zip(shape).enumerate() {
                if letters[..i].contains(letter) {
                    return Err(wrong(format!(
                        "`{letter}` comes twice in one factor: a diagonal is not taken"
                    )));
                }
                match sizes.iter().find(|(known, _)| known == letter) {
                    Some((_, other)) if other != size => {
                        return Err(wrong(format!(
                            "`{letter}` is {other} in one factor and {size} in the other"
                        )));
                    }
                    Some(_) => {}
                    None => sizes.push((*letter, *size)),
                }
            }
        }
        let result: Vec<char> = match right {
            Some(right) => right.chars().collect(),
            None => {
                let once = |letter: &char| !(factors[0].contains(letter) && factors[1].contains(letter));
                let mut once: Vec<char> = sizes.iter().map(|(letter, _)| *letter).filter(once).collect();
                once.sort_unstable();
                once
            }
        };
        for (i, letter) in result.iter().enumerate() {
            if result[..i].contains(letter) || !sizes.iter().any(|(known, _)| known == letter) {
                return Err(wrong(format!(
                    "the result names `{letter}`, which must be an axis of a factor, once"
                )));
            }
        }
        Ok(Self { factors, result })
    }

    /// The product: axes of one factor that nothing names are summed first, the rest is one batch of matrices.
    fn product<'t>(&self, values: [Var<'t>; 2]) -> Var<'t> {
        let [a, b] = &self.factors;
        let kept = |letters: &[char], other: &[char]| -> Vec<char> {
            letters.iter().copied().filter(|l| other.contains(l) || self.result.contains(l)).collect()
        };
        let (a, b) = (kept(a, b), kept(b, a));
        let [x, y] = [(0, &a), (1, &b)].map(|(i, kept)| {
            let gone = self.factors[i].iter().enumerate().filter(|(_, l)| !kept.contains(l));
            let gone: Vec<isize> = gone.map(|(axis, _)| axis as isize).collect();
            if gone.is_empty() { values[i] } else { values[i].sum_axes(&gone) }
        });
        let choose = |from: &[char], f: &dyn Fn(&char) -> bool| -> Vec<char> {
            from.iter().copied().filter(|l| f(l)).collect()
        };
        let batch = choose(&a, &|l| b.contains(l) && self.result.contains(l));
        let inner = choose(&a, &|l| b.contains(l) && !self.result.contains(l));
        let (rows, cols) = (choose(&a, &|l| !b.contains(l)), choose(&b, &|l| !a.contains(l)));
        let (x, sizes) = ordered(x, &a, [&batch, &rows, &inner]);
        let (y, more) = ordered(y, &b, [&batch, &inner, &cols]);
        let order = [&batch[..], &rows, &cols].concat();
        let shape = [&sizes[0][..], &sizes[1], &more[2]].concat();
        let product = x.matmul(y).reshape(&shape);
        let place = |letter: &char| order.iter().position(|l| l == letter).map_or(0, |i| i as isize);
        product.permute(&self.result.iter().map(place).collect::<Vec<_>>())
    }
}

/// The value as a batch of matrices whose axes are these three groups of letters, and the sizes of each group.
fn ordered<'t>(x: Var<'t>, letters: &[char], groups: [&[char]; 3]) -> (Var<'t>, [Vec<usize>; 3]) {
    let shape = x.shape();
    let place = |letter: &char| letters.iter().position(|l| l == letter).unwrap_or(0);
    let order: Vec<isize> = groups.iter().flat_map(|g| g.iter()).map(|l| place(l) as isize).collect();
    let sizes = groups.map(|group| group.iter().map(|l| shape[place(l)]).collect::<Vec<usize>>());
    let joined: Vec<usize> = sizes.iter().map(|sizes| sizes.iter().product()).collect();
    (x.permute(&order).reshape(&joined), sizes)
}
