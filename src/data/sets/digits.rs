//! The 1,797 handwritten digits that come with the crate.

use std::io::Read;

use flate2::read::GzDecoder;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result};
use crate::data::{Dataset, Pipeline, Transform};
use crate::registry::{BuildCx, Spec};

use super::pixels::{Pixels, digit_names, pictures};

static DIGITS: &[u8] = include_bytes!("../../../assets/digits/digits.csv.gz");

/// Which part of the digits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DigitsSplit {
    /// To learn from: 1,498 images (1,500 when split by the tail).
    #[default]
    Train,
    /// To validate with: 299 images (297 when split by the tail).
    Val,
}

/// How the digits are parted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SplitBy {
    /// Every sixth image validates: those whose number is 5 modulo 6. The writers are the same in both parts.
    #[default]
    Index,
    /// The last 297 images validate. Others wrote them, so they are harder.
    Tail,
}

/// The UCI handwritten digits: 8 × 8 pixels of one channel with values 0..=16, ten classes. Embedded, it needs no file.
///
/// Source: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository (Alpaydin and Kaynak, 1998), its
/// test part as scikit-learn ships it. Licence: CC BY 4.0.
///
/// ```
/// use shanty::data::{Dataset, Digits, DigitsSplit, SplitBy};
/// let digits = Digits::load(DigitsSplit::Val, SplitBy::Index)?;
/// assert_eq!(digits.len(), 299);
/// # Ok::<(), shanty::base::Error>(())
/// ```
pub struct Digits;

impl Digits {
    /// One part of the digits.
    ///
    /// # Errors
    /// None in practice: the data are part of the program.
    pub fn load(split: DigitsSplit, by: SplitBy) -> Result<Pixels> {
        let (rows, mut bytes, mut labels) = (rows()?, Vec::new(), Vec::new());
        for (i, row) in rows.chunks_exact(65).enumerate() {
            let validates = match by {
                SplitBy::Index => i % 6 == 5,
                SplitBy::Tail => i >= 1500,
            };
            if validates == (split == DigitsSplit::Val) {
                bytes.extend_from_slice(&row[..64]);
                labels.push(row[64]);
            }
        }
        Pixels::new(bytes, labels, (8, 8, 1), digit_names())
    }
}

#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(default)]
struct DigitsConfig {
    /// train or val.
    split: DigitsSplit,
    /// index: every sixth image validates; tail: the last 297 do, which other writers wrote.
    split_by: SplitBy,
    /// What is done to each image.
    pipeline: Vec<Spec<dyn Transform>>,
}

crate::register! {
    /// The 1,797 UCI handwritten digits, 8 × 8 pixels with values 0..=16. Part of the program: needs no file.
    dyn Dataset, "Digits" => fn Digits::from_config
}

impl Digits {
    fn from_config(p: DigitsConfig, cx: &mut BuildCx) -> Result<Pixels> {
        let pipeline = Pipeline::build_for(&pictures(Some([8, 8, 1])), &p.pipeline, cx)?;
        Ok(Self::load(p.split, p.split_by)?.with_pipeline(pipeline))
    }
}

/// 65 numbers a row: the pixels and the label.
fn rows() -> Result<Vec<u8>> {
    let damaged =
        |what: &dyn std::fmt::Display| Error::invalid(format!("the embedded digits are damaged: {what}"));
    let mut text = String::new();
    GzDecoder::new(DIGITS).read_to_string(&mut text).map_err(|e| damaged(&e))?;
    let numbers = text.split([',', '\n']).map(str::trim).filter(|field| !field.is_empty());
    numbers.map(|field| field.parse().map_err(|e| damaged(&e))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;

    fn all() -> Vec<Pixels> {
        [SplitBy::Index, SplitBy::Tail]
            .iter()
            .flat_map(|&by| {
                [DigitsSplit::Train, DigitsSplit::Val].map(|split| Digits::load(split, by).unwrap())
            })
            .collect()
    }

    #[test]
    fn parts_have_the_documented_sizes() {
        assert_eq!(all().iter().map(Dataset::len).collect::<Vec<_>>(), [1498, 299, 1500, 297]);
    }

    #[test]
    fn values_are_those_of_the_file() {
        let rows = rows().unwrap();
        assert_eq!(rows.len(), 1797 * 65);
        assert_eq!(rows.chunks_exact(65).flat_map(|r| &r[..64]).max(), Some(&16));
        // images per class, as scikit-learn's description gives them
        let count = |label| rows.chunks_exact(65).filter(|r| r[64] == label).count();
        assert_eq!(
            (0..10).map(count).collect::<Vec<_>>(),
            [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
        );

        // row 5 of the file is the first that validates; its label is 5
        let first = all()[1].get(0, &mut keyed(0, "", 0, 0)).unwrap();
        let expected: Vec<f32> = rows[5 * 65..][..64].iter().map(|&v| f32::from(v)).collect();
        let img = first.float("inputs").unwrap();
        assert_eq!((img.shape(), first.label()), (&[1, 8, 8][..], Some(5)));
        assert_eq!(img.iter().copied().collect::<Vec<_>>(), expected);
    }
}
