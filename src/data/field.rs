//! Named fields: what samples, batches and predictions are made of, and how a data set declares them.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::base::suggest::nearest;
use crate::base::{Error, Result};

/// The name of a field: `inputs`, `target`, or a name of one's own.
pub type Name = Cow<'static, str>;

/// The field that goes into a network, unless a model says otherwise.
pub const INPUTS: &str = "inputs";
/// The field that a loss compares with, unless a model says otherwise.
pub const TARGET: &str = "target";

/// The name of a field as this crate calls it: configs of MMEngine's libraries say `img` and `gt_label`.
///
/// ```
/// use shanty::data::field_name;
/// assert_eq!(["img", "gt_label", "gt_sem_seg", "price"].map(field_name), ["inputs", "target", "target", "price"]);
/// ```
pub fn field_name(name: &str) -> &str {
    match name {
        "img" | "imgs" => INPUTS,
        "gt_label" | "gt_labels" | "gt_seg_map" | "gt_sem_seg" | "data_samples" => TARGET,
        own => own,
    }
}

/// Values by name, in the order in which they were added. There are few: a look-up walks over them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields<V>(Vec<(Name, V)>);

impl<V> Default for Fields<V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<V> Fields<V> {
    /// One value and its name.
    pub fn one(name: impl Into<Name>, value: impl Into<V>) -> Self {
        Self(vec![(name.into(), value.into())])
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&V> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The value of this name, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut V> {
        self.0.iter_mut().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// The value of this name.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is none: names those that there are, and the nearest.
    pub fn find(&self, name: &str) -> Result<&V> {
        self.get(name).ok_or_else(|| self.missing(name))
    }

    /// The value of this name, to be changed.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn find_mut(&mut self, name: &str) -> Result<&mut V> {
        match self.0.iter().position(|(own, _)| own == name) {
            Some(at) => Ok(&mut self.0[at].1),
            None => Err(self.missing(name)),
        }
    }

    /// Sets the value of this name, behind all others where it is new.
    pub fn set(&mut self, name: impl Into<Name>, value: impl Into<V>) {
        let (name, value) = (name.into(), value.into());
        match self.get_mut(&name) {
            Some(old) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// Takes the value of this name out.
    pub fn take(&mut self, name: &str) -> Option<V> {
        let at = self.0.iter().position(|(own, _)| own == name)?;
        Some(self.0.remove(at).1)
    }

    /// The names, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_ref())
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Names and values, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut V)> {
        self.0.iter_mut().map(|(name, value)| (&**name, value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The only value there is, with its name.
    pub fn only(&self) -> Option<(&str, &V)> {
        match &self.0[..] {
            [(name, value)] => Some((name, value)),
            _ => None,
        }
    }

    /// What is said when a name is asked for that is not there.
    pub fn missing(&self, name: &str) -> Error {
        let known: Vec<&str> = self.names().collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => format!(" (did you mean `{near}`?)"),
            None => String::new(),
        };
        Error::invalid(match known.is_empty() {
            true => format!("there is no field `{name}`, and no other one"),
            false => format!("there is no field `{name}`: there are {}{hint}", known.join(", ")),
        })
    }
}

impl<V> IntoIterator for Fields<V> {
    type Item = (Name, V);
    type IntoIter = std::vec::IntoIter<(Name, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<V> FromIterator<(Name, V)> for Fields<V> {
    fn from_iter<I: IntoIterator<Item = (Name, V)>>(fields: I) -> Self {
        Self(fields.into_iter().collect())
    }
}

/// What the values of a field are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FieldKind {
    /// Floating-point numbers.
    Float,
    /// Whole numbers: classes, token ids.
    Int,
    /// A picture: height, width, channels, decoded or not.
    Picture,
    /// Text.
    Text,
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Float => "floats",
            Self::Int => "integers",
            Self::Picture => "a picture",
            Self::Text => "text",
        })
    }
}

/// What a data set says of a field before a sample is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldSpec {
    /// What its values are.
    pub kind: FieldKind,
    /// The shape of a sample's value where its rank is known, `None` for a length that differs from sample to sample.
    pub shape: Option<Vec<Option<usize>>>,
    /// Of classes their names, in the order of their numbers; of several numbers a name for each. Empty where there are
    /// none.
    pub names: Vec<String>,
    /// What all whole numbers are less than, where that is known without reading them: of tokens how many there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<usize>,
}

impl FieldSpec {
    /// A field of this kind and shape.
    pub fn new(kind: FieldKind, shape: &[usize]) -> Self {
        Self { shape: Some(shape.iter().copied().map(Some).collect()), ..Self::any(kind) }
    }

    /// A field of this kind, of which nothing more is known.
    pub fn any(kind: FieldKind) -> Self {
        Self { kind, shape: None, names: Vec::new(), below: None }
    }

    /// The same with numbers from 0 on that are less than this.
    #[must_use]
    pub fn below(self, end: usize) -> Self {
        Self { below: Some(end), ..self }
    }

    /// The same with names of its classes, or of its numbers.
    #[must_use]
    pub fn named(self, names: impl IntoIterator<Item = String>) -> Self {
        Self { names: names.into_iter().collect(), ..self }
    }

    /// A number of a class.
    pub fn class() -> Self {
        Self::new(FieldKind::Int, &[])
    }
}

/// `floats of shape [4, ?]`.
impl fmt::Display for FieldSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            None => self.kind.fmt(f),
            Some(lengths) if lengths.is_empty() => write!(f, "{}, one a sample", self.kind),
            Some(lengths) => {
                let length = |n: &Option<usize>| n.map_or("?".to_owned(), |n| n.to_string());
                let lengths: Vec<String> = lengths.iter().map(length).collect();
                write!(f, "{} of shape [{}]", self.kind, lengths.join(", "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_not_there_is_told_with_the_nearest() {
        let mut fields: Fields<i32> = Fields::default();
        assert_eq!(
            fields.find("target").unwrap_err().to_string(),
            "there is no field `target`, and no other one"
        );
        fields.set("inputs", 1);
        fields.set("target", 2);
        fields.set("inputs", 3);
        assert_eq!(fields.iter().collect::<Vec<_>>(), [("inputs", &3), ("target", &2)]);
        let text = fields.find("tarhet").unwrap_err().to_string();
        assert_eq!(text, "there is no field `tarhet`: there are inputs, target (did you mean `target`?)");
        assert_eq!((fields.take("inputs"), fields.only()), (Some(3), Some(("target", &2))));
    }

    #[test]
    fn a_declaration_reads_as_a_sentence() {
        let ragged = FieldSpec { shape: Some(vec![None]), ..FieldSpec::any(FieldKind::Int) };
        assert_eq!(ragged.to_string(), "integers of shape [?]");
        assert_eq!(FieldSpec::class().to_string(), "integers, one a sample");
        assert_eq!(FieldSpec::new(FieldKind::Float, &[3, 4]).to_string(), "floats of shape [3, 4]");
    }
}
