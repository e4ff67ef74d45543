//! The values of a sample in words.

use ndarray::ArrayD;

use super::Value;
use crate::base::escape::brief;
use crate::base::number::short;

/// Numbers of one value that are told.
const FEW: usize = 24;

impl Value {
    /// What it is to a person: a class by its name, numbers as they are, of many the first.
    ///
    /// ```
    /// use shanty::data::Value;
    /// let names = ["cat", "dog"].map(String::from);
    /// assert_eq!(Value::from(1i64).told(&names), "dog");
    /// assert_eq!(Value::from(ndarray::arr1(&[0.5f32, 2.0])).told(&[]), "0.5, 2");
    /// ```
    pub fn told(&self, names: &[String]) -> String {
        match self {
            Self::Int(class) if class.len() == 1 => {
                let class = class.first().copied().unwrap_or_default();
                let named = usize::try_from(class).ok().and_then(|class| names.get(class));
                named.cloned().unwrap_or_else(|| class.to_string())
            }
            Self::Int(values) => few(values, |value| value.to_string()),
            Self::Float(values) => few(values, |value| short(f64::from(*value))),
            Self::Text(text) => brief(text).into_owned(),
            Self::Picture(_) => "a picture".into(),
        }
    }
}

fn few<T>(values: &ArrayD<T>, told: impl Fn(&T) -> String) -> String {
    let texts: Vec<_> = values.iter().take(FEW).map(told).collect();
    let more = if values.len() > FEW { format!(", … ({:?})", values.shape()) } else { String::new() };
    format!("{}{more}", texts.join(", "))
}
