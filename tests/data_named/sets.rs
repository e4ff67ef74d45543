//! Sets of sets.

use std::path::Path;

use shanty::base::Result;
use shanty::config::{Diags, parse};
use shanty::data::{Batch, DataLoader};
use shanty::run::check;
use shanty::testing::dataset_breach;

use super::folders::{classes, labels, loader, png, refusal, write};

/// The formula of LVIS by hand: of ten samples two are of the rare class, sqrt(0.5 / 0.2) is 1.58, so they come twice.
#[test]
fn rare_classes_come_several_times() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["often"], 8);
    classes(dir.path(), &["rare"], 2);
    let of = |thr: &str| {
        let set = format!(
            "{{type: ClassBalancedDataset, oversample_thr: {thr}, lazy_init: false, dataset: {{type: CustomDataset, data_root: '{}'}}}}",
            dir.path().display()
        );
        labels(&loader(&set).unwrap())
    };
    assert_eq!(of("0.5"), [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
    assert_eq!(of("0.1").len(), 10);
    // sqrt(0.8 / 0.2) is 2 and not more; sqrt(1.81 / 0.2) = 3.008; sqrt(1.81 / 0.8) = 1.504.
    assert_eq!(of("0.8").len(), 12);
    assert_eq!(of("1.81").iter().filter(|label| **label == 1).count(), 8);
    assert_eq!(of("1.81").iter().filter(|label| **label == 0).count(), 16);
    let untold =
        loader("{type: ClassBalancedDataset, oversample_thr: 0.5, dataset: {type: SyntheticRegression}}");
    assert!(refusal(untold).contains("does not tell the classes of its samples"));
}

/// Each fold validates once, all others train meanwhile; without a seed folds are stretches, as in MMPretrain.
#[test]
fn folds_part_the_samples() {
    let of = |fold: usize, test: bool, more: &str| {
        let text = format!(
            "{{type: KFoldDataset, fold: {fold}, num_splits: 4, test_mode: {test}, dataset: {{type: Digits, split: val}} {more}}}"
        );
        loader(&text)
    };
    let rows =
        |set: &DataLoader| -> Vec<Batch> { set.batches(0, Some(set.len())).map(Result::unwrap).collect() };
    let whole = loader("{type: Digits, split: val}").unwrap();
    let all = whole.dataset().len();
    // 299 · f / 4, rounded down.
    let sizes: Vec<usize> = (0..4).map(|fold| of(fold, true, "").unwrap().dataset().len()).collect();
    assert_eq!(sizes, [74, 75, 75, 75]);
    assert_eq!(
        labels(&of(1, true, "").unwrap())[..50],
        labels(&loader("{type: Subset, indices: -225, dataset: {type: Digits, split: val}}").unwrap())[..50]
    );
    for more in ["", ", seed: 3"] {
        let mut seen = 0;
        for fold in 0..4 {
            let (test, train) = (of(fold, true, more).unwrap(), of(fold, false, more).unwrap());
            assert_eq!(test.dataset().len() + train.dataset().len(), all);
            seen += rows(&test).iter().map(Batch::len).sum::<usize>();
        }
        assert_eq!(seen, all);
    }
    assert_ne!(labels(&of(0, true, ", seed: 3").unwrap()), labels(&of(0, true, ", seed: 4").unwrap()));
    assert!(refusal(of(4, true, "")).contains("`fold` is 4, but the last of 4 folds is 3"));
    let few = loader(
        "{type: KFoldDataset, num_splits: 5, test_mode: true, dataset: {type: Subset, first: 3, dataset: {type: Digits}}}",
    );
    assert!(refusal(few).contains("the fold of 3 samples in 5 folds is empty"));
    dataset_breach(&**of(2, false, ", seed: 1").unwrap().dataset()).unwrap();
}

/// A run that learns the labels of VOC as MMPretrain's configs write it, with these data and a head for `classes`.
fn several(data: &str, classes: usize, dir: &Path) -> Result<Diags> {
    let loader = format!(
        "{{batch_size: 2, dataset: {{type: VOC, {data}, pipeline: [{{type: LoadImageFromFile}}, \
         {{type: RandomResizedCrop, scale: 8}}, {{type: PackInputs}}]}}}}"
    );
    let text = format!(
        "model: {{type: ImageClassifier, backbone: [{{type: Flatten}}], head: {{type: MultiLabelLinearClsHead, \
         num_classes: {classes}, in_channels: 192}}, data_preprocessor: {{to_onehot: true, num_classes: {classes}}}}}\n\
         train_dataloader: {loader}\nval_dataloader: {loader}\ntrain_cfg: {{by_epoch: true, max_epochs: 1}}\n\
         val_cfg: {{}}\nval_evaluator: [{{type: VOCMultiLabelMetric, average: micro}}]\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\nwork_dir: '{}'\n",
        dir.join("run").display()
    );
    check(&parse("c.yaml", &text)?, None)
}

/// Where VOC is not, `check` tries the layers with as many labels as there are classes; where it is, a head for another
/// number of them is told as such.
#[test]
fn several_labels_are_checked_with_and_without_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let absent = several("data_root: no/where", 20, dir.path()).unwrap();
    assert!(!absent.0.is_empty(), "that it is not here is a warning");
    let error = several("data_root: no/where", 19, dir.path()).unwrap_err().to_string();
    assert!(error.contains("`to_onehot`") && error.contains("num_classes: 19"), "{error}");

    write(dir.path().join("JPEGImages/000005.jpg"), png(80));
    let object = "<object><name>cat</name><difficult>0</difficult></object>";
    let notes = format!("<annotation>\n{object}</annotation>\n");
    write(dir.path().join("Annotations/000005.xml"), notes);
    write(dir.path().join("ImageSets/Main/trainval.txt"), "000005\n");
    let here = format!("data_root: '{}', classes: [cat, dog, cow]", dir.path().display());
    for classes in [2, 4] {
        let error = several(&here, classes, dir.path()).unwrap_err().to_string();
        let wanted = format!(
            "`model.head.num_classes` is {classes}, but the data of `train_dataloader` has 3 classes"
        );
        assert!(error.contains(&wanted), "{error}");
    }
}
