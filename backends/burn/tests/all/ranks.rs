//! Several processes that train one network of burn.

use shanty::base::Result;
use shanty::data::{DataLoader, Synthetic};
use shanty_burn::BurnModel;

use crate::mlp;
#[path = "../../../shared/ranks.rs"]
mod shared;

fn make(dropout: f64) -> Result<(BurnModel<mlp::Mlp>, DataLoader)> {
    let config = mlp::MlpConfig { hidden: 16, dropout, norm: false, ..Default::default() };
    let model = BurnModel::new(move |device| mlp::Mlp::new(&config, device))?;
    Ok((model, DataLoader::new(Synthetic::new(240, [1, 8, 8], 10, 0))))
}

#[test]
fn two_ranks_with_halves_of_a_batch_are_one_with_the_whole() {
    shared::two_ranks_are_one(make);
}

#[test]
fn ranks_with_dropout_stay_together() {
    shared::ranks_with_dropout_stay_together(make);
}
