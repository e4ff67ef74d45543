//! The networks of the examples keep the contract of shanty's models, and an iteration moves no weight.

use std::any::Any;

use shanty::data::Batch;
use shanty::model::Model;
use shanty::ndarray::{ArrayD, IxDyn};
use shanty_candle::CandleModel;

/// Four batches of five samples of this shape, of three classes.
fn batches(shape: &[usize]) -> Vec<Batch> {
    let size: usize = shape.iter().product();
    let batch = |n: usize| {
        let values = (0..5 * size).map(|i| ((n * 5 * size + i) as f32 * 0.7).sin()).collect();
        let shape: Vec<usize> = [5].iter().chain(shape).copied().collect();
        Batch::new(ArrayD::from_shape_vec(shape, values).unwrap(), vec![0, 1, 2, 2, n as i64 % 3])
    };
    (0..4).map(batch).collect()
}

/// Four batches of three words of up to six letters.
fn words() -> Vec<Batch> {
    let batch = |n: usize| {
        let letter =
            |at: IxDyn| if at[1] < 4 + at[0] { ((n * 5 + at[0] * 3 + at[1]) % 15 + 2) as i64 } else { 0 };
        Batch { ids: vec![0, 1, 2], valid: 3, ..Batch::default() }
            .with("inputs", ArrayD::from_shape_fn(IxDyn(&[3, 6]), letter))
            .with("inputs_lengths", vec![4, 5, 6])
            .with("target", vec![0, 1, 2])
    };
    (0..4).map(batch).collect()
}

fn moved(model: &dyn Model) -> u64 {
    let model: &dyn Any = model;
    model.downcast_ref::<CandleModel>().unwrap().transfers().weights()
}

mod of_the_mlp {
    shanty::testing::model_contract!(
        crate::support::mlp("{widths: [12, 16, 16, 3], dropout: 0.3}"),
        super::batches(&[12]),
        super::moved
    );
}

mod of_the_resnet {
    shanty::testing::model_contract!(
        crate::support::candle("resnet"),
        super::batches(&[1, 8, 8]),
        super::moved
    );
}

mod of_the_transformer {
    shanty::testing::model_contract!(crate::support::transformer(), super::words(), super::moved);
}
