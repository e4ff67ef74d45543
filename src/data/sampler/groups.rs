//! Which samples are alike: pictures that lie the same way round, samples of one value, or within the same bounds.

use std::collections::HashMap;

use rayon::prelude::*;

use crate::base::{Error, Result, memory};
use crate::data::{Dataset, Value};

/// What tells groups apart.
#[derive(PartialEq, Eq, Hash)]
enum Mark {
    /// How many bounds a number has reached, or the bits of the number itself.
    Number(u64),
    Text(String),
}

/// The group of each sample by `by`: `orientation`, `length`, or the name of a field. Groups are numbered as they come.
///
/// # Errors
/// When the data set does not tell it before it reads a sample, or a value is no number where there are bounds.
pub(super) fn groups(data: &dyn Dataset, by: &str, boundaries: &[f64]) -> Result<Vec<u32>> {
    if by == "orientation" {
        return orientations(data);
    }
    memory::lists("the groups of all samples", data.len(), size_of::<u32>())?;
    let mut known = HashMap::<Mark, u32>::new();
    let group = |index| {
        let mark = marked(data, index, by, boundaries)?;
        let next = known.len() as u32;
        Ok(*known.entry(mark).or_insert(next))
    };
    (0..data.len()).map(group).collect()
}

fn marked(data: &dyn Dataset, index: usize, by: &str, boundaries: &[f64]) -> Result<Mark> {
    let number = |value: f64| match boundaries.is_empty() {
        true => Mark::Number((value + 0.0).to_bits()),
        false => Mark::Number(boundaries.iter().filter(|bound| value >= **bound).count() as u64),
    };
    if by == "length" {
        let length = data.length(index).ok_or_else(|| untold(data, "how long it is", index))?;
        return Ok(number(length as f64));
    }
    match data.peek(index, by) {
        Some(Value::Int(value)) if value.len() == 1 => Ok(number(value.sum() as f64)),
        Some(Value::Float(value)) if value.len() == 1 => Ok(number(f64::from(value.sum()))),
        Some(Value::Text(text)) if boundaries.is_empty() => Ok(Mark::Text(text)),
        Some(value) => Err(Error::invalid(format!(
            "`{by}` of sample {index} is {}: groups are made by one number{} a sample",
            value.kind(),
            if boundaries.is_empty() { " or text" } else { "" }
        ))),
        None => Err(untold(data, &format!("its `{by}`"), index)),
    }
}

/// The group of each picture: 0 where it is higher than wide, else 1. One whose file cannot be read is told when it is
/// read.
///
/// # Errors
/// When the data set does not tell sizes before it reads pictures.
pub(in crate::data) fn orientations(data: &dyn Dataset) -> Result<Vec<u32>> {
    memory::lists("the groups of all samples", data.len(), size_of::<u32>())?;
    let of = |index| match data.picture_size(index) {
        Ok(Some([height, width])) => Ok(u32::from(width >= height)),
        Ok(None) => Err(untold(data, "the height and width of its picture", index)),
        Err(_) => Ok(1),
    };
    (0..data.len()).into_par_iter().map(of).collect()
}

fn untold(data: &dyn Dataset, what: &str, index: usize) -> Error {
    let fields = data.fields().unwrap_or_default();
    let known: Vec<&str> = fields.names().filter(|name| data.peek(index, name).is_some()).collect();
    let known = match known.is_empty() {
        true => String::new(),
        false => format!("; it tells {}", known.join(", ")),
    };
    Error::invalid(format!("the data set does not tell of sample {index} {what} before it reads it{known}"))
}
