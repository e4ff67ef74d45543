//! Several processes that train one network of candle.

#[path = "../../../shared/ranks.rs"]
mod shared;

use shanty::base::Result;
use shanty::data::DataLoader;
use shanty_candle::CandleModel;

use crate::support::{data, mlp};

fn make(dropout: f64) -> Result<(CandleModel, DataLoader)> {
    let (train, _) = data("mlp");
    Ok((mlp(&format!("{{widths: [12, 16, 16, 3], dropout: {dropout}}}")), DataLoader::new(train)))
}

#[test]
fn two_ranks_with_halves_of_a_batch_are_one_with_the_whole() {
    shared::two_ranks_are_one(make);
}

#[test]
fn ranks_with_dropout_stay_together() {
    shared::ranks_with_dropout_stay_together(make);
}
