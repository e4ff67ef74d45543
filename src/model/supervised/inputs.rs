//! From the fields of a batch to the input of a network, or its inputs.

use std::sync::Arc;

use ndarray::IxDyn;

use crate::base::{Elem, Error, Result, Tensor};
use crate::data::{Batch, Column};
use crate::nn::{ModuleTree, Tape, Var, named_children, named_modules};

/// The fields side by side along their second axis; a field of one number a sample counts as a column of its own.
/// Integers become floats.
pub(super) fn side_by_side<'t>(batch: &Batch, fields: &[String], tape: &'t Tape) -> Result<Var<'t>> {
    let columns = fields.iter().map(|name| Ok((name.as_str(), batch.fields.find(name)?)));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let shape = joined(&columns, batch.len())?;
    let mut values = tape.take(shape.iter().product());
    let width = values.len() / batch.len().max(1);
    let mut begin = 0;
    for (name, column) in columns {
        let own = column.shape().iter().skip(1).product::<usize>();
        let rows = values.chunks_exact_mut(width.max(1)).map(|row| &mut row[begin..begin + own]);
        match column {
            Column::Float(from) => fill(rows, from.iter().copied()),
            Column::Int(from) => fill(rows, from.iter().map(|v| *v as Elem)),
            other => {
                return Err(Error::invalid(format!(
                    "`{name}` holds {}: a network takes numbers",
                    other.kind()
                )));
            }
        }
        begin += own;
    }
    let tensor = Tensor::from_shape_vec(IxDyn(&shape), values).map_err(|e| Error::Other(e.into()))?;
    Ok(tape.input(tensor))
}

/// Each field for itself, whatever their shapes.
pub(super) fn one_by_one<'t>(batch: &Batch, fields: &[String], tape: &'t Tape) -> Result<Vec<Var<'t>>> {
    fields.chunks(1).map(|field| side_by_side(batch, field, tape)).collect()
}

/// The whole numbers of a field of lengths.
pub(super) fn lengths(batch: &Batch, field: &str) -> Result<Vec<i64>> {
    match batch.fields.find(field)? {
        Column::Int(lengths) => Ok(lengths.iter().copied().collect()),
        other => Err(Error::invalid(format!("`{field}` holds {}: lengths are whole numbers", other.kind()))),
    }
}

/// The lengths of the sequences that go in.
pub(super) fn steps(batch: &Batch, field: &str) -> Result<Arc<[usize]>> {
    let step = |length: i64| {
        usize::try_from(length)
            .map_err(|_| Error::invalid(format!("`{field}` says {length}, which is no length of a sequence")))
    };
    lengths(batch, field)?.into_iter().map(step).collect()
}

fn fill<'a>(rows: impl Iterator<Item = &'a mut [Elem]>, mut from: impl Iterator<Item = Elem>) {
    for row in rows {
        row.iter_mut().zip(&mut from).for_each(|(to, from)| *to = from);
    }
}

/// The shape of all fields side by side.
fn joined(columns: &[(&str, &Column)], n: usize) -> Result<Vec<usize>> {
    let [(name, first), others @ ..] = columns else {
        return Err(Error::config("`inputs` names no field"));
    };
    let mut shape = first.shape();
    if others.is_empty() && shape.len() > 1 {
        return Ok(shape);
    }
    if shape.len() == 1 {
        shape.push(1);
    }
    for (other, column) in others {
        let own = column.shape();
        let (width, behind) = (own.get(1).copied().unwrap_or(1), own.get(2..).unwrap_or_default());
        if own.first() != Some(&n) || behind != &shape[2..] {
            return Err(Error::invalid(format!(
                "`{name}` of shape {:?} and `{other}` of shape {own:?} do not fit side by side: let the network begin with \
                 `Parallel`, which has a branch for each",
                first.shape()
            )));
        }
        shape[1] += width;
    }
    Ok(shape)
}

/// Whether the branches of a network that takes its inputs one by one are in their order, where they go by their names.
pub(super) fn check_order(network: &dyn ModuleTree, inputs: &[String]) -> Result<()> {
    for (_, module) in named_modules(network).into_iter().filter(|(_, m)| m.type_name() == "Parallel") {
        let branches: Vec<String> = named_children(module).into_iter().map(|(name, _)| name).collect();
        let same = branches.len() == inputs.len() && inputs.iter().all(|input| branches.contains(input));
        if same && branches != inputs {
            return Err(Error::config(format!(
                "branch i of `Parallel` takes input i, and its branches {} are in another order than `inputs: [{}]`: name \
                 them in one order",
                branches.join(", "),
                inputs.join(", ")
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::BufferPool;
    use ndarray::arr2;

    #[test]
    fn columns_stand_side_by_side() {
        let batch = Batch::new(arr2(&[[1.0, 2.0], [3.0, 4.0]]).into_dyn(), vec![5, 6]);
        let tape = Tape::new(BufferPool::default());
        let names = ["inputs".to_owned(), "target".to_owned()];
        let all = side_by_side(&batch, &names, &tape).unwrap();
        assert_eq!(all.value(), arr2(&[[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]]).into_dyn());
        assert_eq!(side_by_side(&batch, &names[1..], &tape).unwrap().shape(), [2, 1]);
        let batch = batch.with("image", ndarray::Array4::<Elem>::zeros((2, 1, 3, 3)));
        let names = ["inputs".to_owned(), "image".to_owned()];
        let text = side_by_side(&batch, &names, &tape).unwrap_err().to_string();
        assert_eq!(
            text,
            "`inputs` of shape [2, 2] and `image` of shape [2, 1, 3, 3] do not fit side by side: let the network begin \
             with `Parallel`, which has a branch for each"
        );
        let apart = one_by_one(&batch, &names, &tape).unwrap();
        assert_eq!((apart[0].shape(), apart[1].shape()), (vec![2, 2], vec![2, 1, 3, 3]));
    }
}
