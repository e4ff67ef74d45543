//! The hook keeps the contract, the mixture finds what was mixed, and the ranking finds flipped labels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use std::path::Path;

use label_noise::{Beta, BetaMixture, LabelNoise, NoisyLabels};
use rand_distr::Distribution;
use shanty::base::keyed;
use shanty::config::parse;
use shanty::data::{Dataset, Synthetic};
use shanty::hook::{History, Mode};
use shanty::run::Runner;

shanty::testing::hook_contract!(LabelNoise, "rounds: 5");

/// 70 % Beta(2, 9), 30 % Beta(10, 3), 20,000 draws: shapes within 10 %, shares within 0.01.
#[test]
fn the_mixture_finds_what_was_mixed() {
    let mut rng = keyed(1, "mixture", 0, 0);
    let parts: [rand_distr::Beta<f64>; 2] =
        [(2.0, 9.0), (10.0, 3.0)].map(|(a, b)| rand_distr::Beta::new(a, b).unwrap());
    let values: Vec<f64> = (0..20_000).map(|i| parts[usize::from(i % 10 >= 7)].sample(&mut rng)).collect();
    let fit = BetaMixture::fit(&values, 50);
    assert!((fit.weights[1] - 0.3).abs() < 0.01, "{fit:?}");
    for (found, (alpha, beta)) in fit.parts.iter().zip([(2.0, 9.0), (10.0, 3.0)]) {
        assert!((found.alpha / alpha - 1.0).abs() < 0.1 && (found.beta / beta - 1.0).abs() < 0.1, "{fit:?}");
    }
}

/// Beta(2, 1) has density 2x, Beta(1, 1) is uniform.
#[test]
fn densities_by_hand() {
    assert!((Beta { alpha: 2.0, beta: 1.0 }.ln_pdf(0.25) - 0.5f64.ln()).abs() < 1e-12);
    assert!(Beta { alpha: 1.0, beta: 1.0 }.ln_pdf(0.7).abs() < 1e-12);
}

#[test]
fn about_the_right_share_of_labels_is_wrong() {
    let clean = Synthetic::new(5000, [1, 1, 1], 10, 0);
    let noisy = NoisyLabels::new(Box::new(Synthetic::new(5000, [1, 1, 1], 10, 0)), 0.2, 3).unwrap();
    let label = |set: &dyn Dataset, i| set.get(i, &mut keyed(0, "", 0, 0)).unwrap().label().unwrap();
    let wrong = (0..5000).filter(|&i| label(&clean, i) != label(&noisy, i)).count();
    assert!((900..1100).contains(&wrong), "{wrong}");
    assert!((0..5000).all(|i| (0..10).contains(&label(&noisy, i))));
}

/// The chance that a flipped label stands before a right one.
fn auroc(hook: &LabelNoise, flipped: impl Fn(usize) -> bool) -> f64 {
    let (mut before, mut pairs, mut clean_after) = (0u64, 0u64, 0u64);
    for suspect in hook.ranking().iter().rev() {
        if flipped(suspect.id as usize) {
            before += clean_after;
            pairs += 1;
        } else {
            clean_after += 1;
        }
    }
    before as f64 / (pairs * clean_after) as f64
}

fn found(dataset: &str, model: &str, epochs: u64, dir: &Path) -> f64 {
    let text = format!(
        "{{model: {model}, work_dir: {}, train_cfg: {{by_epoch: true, max_epochs: {epochs}}}, randomness: {{seed: 0}},\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.05, momentum: 0.9}}}},\
         train_dataloader: {{batch_size: 64, dataset: {{type: NoisyLabels, fraction: 0.2, dataset: {dataset}}}}},\
         default_hooks: {{checkpoint: null}}, custom_hooks: [{{type: LabelNoise, begin_epoch: {epochs}}}]}}",
        dir.display()
    );
    let mut runner = Runner::from_config(&parse("run.yaml", &text).unwrap(), None).unwrap();
    runner.train().unwrap();
    let hook = runner.hook::<LabelNoise>().unwrap();
    let any = Box::new(Synthetic::new(1, [1, 1, 1], 10, 0));
    let choice = NoisyLabels::new(any, 0.2, 0).unwrap();
    let share = runner
        .session()
        .state
        .message_hub
        .scalar(Mode::Train, "label_noise")
        .and_then(History::current)
        .unwrap();
    assert!((0.1..0.35).contains(&share), "{share}");
    auroc(hook, |i| choice.shift(i) != 0)
}

const LENET: &str = "{type: ImageClassifier, data_preprocessor: {type: ClsDataPreprocessor, mean: [33.0], std: [78.0]}, \
                     backbone: {type: LeNet5, num_classes: 10}, head: {type: ClsHead}}";

#[test]
fn flipped_digits_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let model = LENET.replace("33.0", "4.9").replace("78.0", "6.0");
    let digits = "{type: Digits, pipeline: [{type: Resize, scale: 32}]}";
    let auroc = found(digits, &model, 6, dir.path());
    assert!(auroc >= 0.95, "{auroc}");
}

/// Runs where the digits are: `SHANTY_MNIST=<folder> cargo test --release -p label_noise -- --nocapture`.
#[test]
#[allow(clippy::print_stdout)]
fn flipped_mnist_labels_are_found() {
    let Ok(folder) = std::env::var("SHANTY_MNIST") else {
        println!("skipped: set SHANTY_MNIST to the folder with the four files of MNIST");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let mnist = format!("{{type: MNIST, data_prefix: {folder}, pipeline: [{{type: Resize, scale: 32}}]}}");
    let auroc = found(&mnist, LENET, 2, dir.path());
    println!("AUROC on MNIST with 20 % of the labels flipped, after 2 epochs: {auroc:.4}");
    assert!(auroc >= 0.95, "{auroc}");
}
