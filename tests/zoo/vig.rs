//! What networks compute of their sizes, besides their weights.

use super::*;

/// Numbers of MMPretrain's `Grapher(features, r=…, n=side², relative_pos=True)`, one of each stage: those of the corner, of its
/// neighbour, and others. The weights are not trained.
#[test]
fn places_of_a_vig_are_as_far_apart_as_in_mmpretrain() {
    let arch = json!({"blocks": [1, 1, 1, 1], "channels": [8, 8, 16, 16]});
    let mut net = build::<dyn Module>(&json!({"type": "PyramidVig", "arch": arch})).unwrap();
    init_weights(&mut net, 0).unwrap();
    let wanted = [
        ("stages.0.0.0.relative_pos", [-0.838_459, -0.727_207, -0.478_479, -0.712_671, -1.000_668]),
        ("stages.1.1.0.relative_pos", [-0.768_168, -0.931_905, -0.695_528, -0.185_342, -0.975_727]),
        ("stages.2.1.0.relative_pos", [-1.0, -0.941_907, -0.745_611, -0.795_671, -0.941_907]),
        ("stages.3.1.0.relative_pos", [-1.0, -0.941_907, -0.745_611, -0.867_959, -0.941_907]),
    ];
    let mut seen = 0;
    net.visit(&mut |p| {
        let Some((_, wanted)) = wanted.iter().find(|(name, _)| *name == p.name) else { return };
        let (rows, columns) = (p.value.shape()[1], p.value.shape()[2]);
        let at = [(0, 0), (0, 1), (5, 2), (rows - 1, 1), (rows - 2, columns - 1)];
        for ((row, column), wanted) in at.into_iter().zip(wanted) {
            let found = f64::from(p.value[[0, row, column]]);
            assert!((found - wanted).abs() < 2e-6, "{}: {found} at {row}, {column}", p.name);
        }
        seen += 1;
    });
    assert_eq!(seen, 4);
}
