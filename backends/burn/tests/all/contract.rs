//! The networks of the examples keep the contract of shanty's models, and an iteration moves no weight.

use std::any::Any;
use std::sync::atomic::Ordering;

use shanty::base::Elem;
use shanty::data::Batch;
use shanty::model::Model;
use shanty::ndarray::{ArrayD, IxDyn};
use shanty_burn::{BurnModel, Network};

use crate::mlp;
use crate::resnet;
use crate::transformer;

/// Four batches of five pictures of 8 × 8, with a class each.
fn pictures() -> Vec<Batch> {
    let batch = |n: usize| {
        let pixel =
            |at: shanty::ndarray::IxDyn| ((n * 320 + at[0] * 64 + at[2] * 8 + at[3]) as Elem * 0.7).sin();
        Batch::new(ArrayD::from_shape_fn(IxDyn(&[5, 1, 8, 8]), pixel), vec![0, 1, 2, 9, n as i64])
    };
    (0..4).map(batch).collect()
}

/// Four batches of three words of up to six letters.
fn words() -> Vec<Batch> {
    let batch = |n: usize| {
        let letter = |at: shanty::ndarray::IxDyn| {
            if at[1] < 3 + at[0] { ((n * 5 + at[0] * 3 + at[1]) % 15 + 2) as i64 } else { 0 }
        };
        let letters = ArrayD::from_shape_fn(IxDyn(&[3, 6]), letter);
        Batch { ids: vec![0, 1, 2], valid: 3, ..Batch::default() }
            .with("inputs", letters)
            .with("target", vec![0, 1, 2])
    };
    (0..4).map(batch).collect()
}

fn moved<N: Network>(model: &dyn Model) -> u64 {
    let model: &dyn Any = model;
    model.downcast_ref::<BurnModel<N>>().unwrap().transfers().load(Ordering::Relaxed)
}

mod of_the_mlp {
    use super::mlp::{Mlp, MlpConfig};
    shanty::testing::model_contract!(
        shanty_burn::BurnModel::new(|device| Mlp::new(&MlpConfig::default(), device))?,
        super::pictures(),
        super::moved::<Mlp>
    );
}
mod of_the_resnet {
    use super::resnet::{ResNet, ResNetConfig};
    shanty::testing::model_contract!(
        shanty_burn::BurnModel::new(|device| ResNet::new(
            &ResNetConfig { channels: 4, ..Default::default() },
            device
        ))?,
        super::pictures(),
        super::moved::<ResNet>
    );
}
mod of_the_transformer {
    use super::transformer::{Transformer, TransformerConfig};
    shanty::testing::model_contract!(
        shanty_burn::BurnModel::new(|device| Transformer::new(&TransformerConfig::default(), device))?,
        super::words(),
        super::moved::<Transformer>
    );
}
