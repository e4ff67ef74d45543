//! Activations and tensor operations against what PyTorch printed, for 20 random shapes each (`fixtures/README.md`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // helpers of tests

mod activations;
mod draw;
mod edges;
mod page;
mod sequences;
mod tensor_ops;

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use shanty::base::Elem;

/// What PyTorch said, one case behind the other, and how far it was from what we say.
struct Answers {
    numbers: BTreeMap<String, std::vec::IntoIter<f64>>,
    worst: f64,
}

impl Answers {
    fn read(file: &str) -> (Self, Option<serde_json::Value>) {
        let path = format!("{}/tests/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
        let bytes = std::fs::read(path).unwrap();
        let (_, head) = SafeTensors::read_metadata(&bytes).unwrap();
        let cases = head.metadata().as_ref().map(|m| serde_json::from_str(&m["cases"]).unwrap());
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let number = |bytes: &[u8]| f64::from_le_bytes(bytes.try_into().unwrap());
        let numbers = tensors.iter().map(|(name, tensor)| {
            let numbers: Vec<f64> = tensor.data().chunks_exact(8).map(number).collect();
            (name.to_owned(), numbers.into_iter())
        });
        (Self { numbers: numbers.collect(), worst: 0.0 }, cases)
    }

    /// Compares with the next numbers of this name, to `tolerance` of the largest of 1, `scale` and the number.
    fn compare<'a>(
        &mut self,
        name: &str,
        found: impl IntoIterator<Item = &'a Elem>,
        scale: f64,
        tolerance: f64,
    ) {
        for (i, found) in found.into_iter().enumerate() {
            let wanted = self.numbers.get_mut(name).unwrap().next().unwrap();
            let error = (f64::from(*found) - wanted).abs() / wanted.abs().max(scale).max(1.0);
            assert!(error <= tolerance, "{name}: element {i} is {found}, PyTorch has {wanted}");
            self.worst = self.worst.max(error);
        }
    }

    /// The largest error since this was asked last.
    fn take_worst(&mut self) -> f64 {
        std::mem::take(&mut self.worst)
    }

    /// Every number was compared.
    fn finish(self) {
        for (name, mut rest) in self.numbers {
            assert_eq!(rest.next(), None, "{name} has more numbers");
        }
    }
}
