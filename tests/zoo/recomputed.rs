//! `with_cp` of networks whose blocks are handed the size of their map beside its tokens.

use super::*;
use shanty::params::Set;

/// Loss, gradients and the bytes of the buffers of a training step.
fn step(case: &Case, with_cp: bool) -> (Option<f64>, Vec<(String, ArrayD<Elem>)>, usize) {
    let mut config = case.config.clone();
    config.insert("type".into(), "ImageClassifier".into());
    let backbone = config["backbone"].as_object_mut().unwrap();
    backbone.insert("with_cp".into(), json!(with_cp));
    backbone.insert("drop_path_rate".into(), json!(0.3));
    let mut model = build::<dyn Model>(&Value::Object(config)).unwrap();
    model.init_weights(0).unwrap();
    let batch = Batch::new(case.images(case.n).into_owned(), (0..case.n as i64).collect());
    let loss = model.train_step(&batch, &StepCx { seed: 0, iter: 0, loss_scale: 1.0 }).unwrap().loss();
    let mut grads = Vec::new();
    let all = |_: &Info<'_>| true;
    model.read(Set::Grads, &all, &mut |p, grad| grads.push((p.name.to_owned(), grad.to_owned()))).unwrap();
    (loss, grads, model.buffer_bytes().unwrap())
}

/// They refused `with_cp`, and had no other place that could be computed again.
#[test]
fn blocks_of_a_map_are_computed_again_to_the_same_bits() {
    let types =
        ["SwinTransformer", "SwinTransformerV2", "DaViT", "HiViT", "MViT", "PCPVT", "SVT", "XCiT"].map(Some);
    let mut seen = std::collections::BTreeSet::new();
    for case in cases() {
        let kind = case.config["backbone"]["type"].as_str();
        if !types.contains(&kind) || !seen.insert(kind.map(str::to_owned)) {
            continue;
        }
        let ((loss, grads, bytes), (plain_loss, plain_grads, plain_bytes)) =
            (step(&case, true), step(&case, false));
        assert_eq!(loss, plain_loss, "{}", case.name);
        assert_eq!(grads, plain_grads, "{}", case.name);
        assert!(bytes < plain_bytes, "{}: {bytes} {plain_bytes}", case.name);
    }
    assert_eq!(seen.len(), types.len());
}
