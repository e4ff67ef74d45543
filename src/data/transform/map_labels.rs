//! Other numbers for classes.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::data::field::{TARGET, field_name};
use crate::data::{FieldKind, FieldSpec, Fields, Sample, Transform};

/// Makes another field of the classes in one: `values` says what becomes of class 0, 1 and so on. So a data set of
/// one label has several: the parity of a digit, the kingdom of a species.
///
/// ```
/// use shanty::base::keyed;
/// use shanty::data::{MapLabels, Sample, Transform};
/// let parity = MapLabels { field: "target".into(), to: "parity".into(), values: vec![0, 1].repeat(5), classes: Vec::new() };
/// let mut sample = Sample::new(0.5f32, 7);
/// parity.apply(&mut sample, &mut keyed(0, "", 0, 0))?;
/// assert_eq!(sample.int("parity")?.first(), Some(&1));
/// # Ok::<(), shanty::base::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct MapLabels {
    /// The field of the classes; `target` if not given.
    #[serde(default = "target")]
    pub field: String,
    /// The field that is made, or replaced.
    #[serde(default = "target")]
    pub to: String,
    /// What becomes of class 0, 1 and so on.
    #[schemars(extend("x-unbounded" = true))]
    pub values: Vec<i64>,
    /// Names of the classes that are made, in the order of their numbers: `shanty predict` and tables call them so.
    #[serde(default)]
    pub classes: Vec<String>,
}

fn target() -> String {
    TARGET.to_owned()
}

crate::register! {
    /// Another field from the classes in one: `{type: MapLabels, to: parity, values: [0, 1, 0, 1]}`.
    dyn Transform, "MapLabels" => MapLabels
}

impl Transform for MapLabels {
    fn apply(&self, sample: &mut Sample, _rng: &mut Rng) -> Result<()> {
        let mut labels = sample.int(field_name(&self.field))?.clone();
        for label in &mut labels {
            let value = usize::try_from(*label).ok().and_then(|at| self.values.get(at));
            *label = *value.ok_or_else(|| {
                let (field, n) = (&self.field, self.values.len());
                Error::invalid(format!("`{field}` has the class {label}, and `values` are for {n} classes"))
            })?;
        }
        sample.fields.set(field_name(&self.to).to_owned(), labels);
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        let spec = fields.find(field_name(&self.field))?.clone();
        if spec.kind != FieldKind::Int {
            return Err(Error::invalid(format!("it maps classes, and `{}` is {spec}", self.field)));
        }
        let n = self.classes.len();
        if let Some(value) = self.values.iter().find(|value| n > 0 && **value >= n as i64) {
            return Err(Error::invalid(format!(
                "`values` makes the class {value}, and `classes` names {n}, from 0 on"
            )));
        }
        fields.set(
            field_name(&self.to).to_owned(),
            FieldSpec { names: self.classes.clone(), below: None, ..spec },
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::arr1;

    #[test]
    fn classes_beyond_the_list_and_other_fields_are_refused() {
        let map = MapLabels {
            field: "gt_label".into(),
            to: "target".into(),
            values: vec![5, -100],
            classes: Vec::new(),
        };
        let apply = |sample: Sample| {
            let mut sample = sample;
            map.apply(&mut sample, &mut keyed(0, "", 0, 0)).map(|()| sample.int("target").unwrap().clone())
        };
        assert_eq!(apply(Sample::new(0.0f32, arr1(&[1i64, 0]))).unwrap(), arr1(&[-100, 5]).into_dyn());
        let text = apply(Sample::new(0.0f32, 2)).unwrap_err().to_string();
        assert_eq!(text, "`gt_label` has the class 2, and `values` are for 2 classes");
        let mut fields = Fields::one("target", FieldSpec::new(FieldKind::Float, &[1]));
        let text = map.declare(&mut fields).unwrap_err().to_string();
        assert_eq!(text, "it maps classes, and `gt_label` is floats of shape [1]");
    }

    #[test]
    fn names_are_those_of_the_new_classes() {
        let map = |classes: &[&str]| MapLabels {
            field: "target".into(),
            to: "parity".into(),
            values: vec![0, 1, -100],
            classes: classes.iter().map(|name| (*name).to_owned()).collect(),
        };
        let mut fields = Fields::one("target", FieldSpec::class().named(["zero".to_owned()]));
        map(&["even", "odd"]).declare(&mut fields).unwrap();
        assert_eq!(fields.get("parity").unwrap().names, ["even", "odd"]);
        let text = map(&["even"]).declare(&mut fields).unwrap_err().to_string();
        assert_eq!(text, "`values` makes the class 1, and `classes` names 1, from 0 on");
    }
}
