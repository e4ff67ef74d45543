//! Pictures in ImageNet's layouts, CUB's lists, and the keys that all data sets take.

use std::fs;

use shanty::config::parse;
use shanty::data::{DataLoaderConfig, Origin};

use super::folders::{classes, labels, png, refusal, write};
use super::{names, set};

/// MMPretrain's configs say `data_root` and `split` and nothing more; both layouts that it documents are found.
#[test]
fn imagenet_is_found_by_its_split_in_folders_and_by_lists() {
    let dir = tempfile::tempdir().unwrap();
    let ids = ["n01440764", "n01443537", "n01484850"];
    classes(&dir.path().join("train"), &ids, 2);
    classes(&dir.path().join("val"), &ids[..2], 1);
    write(dir.path().join("test/1.png"), png(1));
    let train = set("ImageNet", dir.path(), "split: train").unwrap();
    assert_eq!(names(&train).unwrap(), ids);
    assert_eq!(labels(&train), [0, 0, 1, 1, 2, 2]);
    assert_eq!(labels(&set("ImageNet", dir.path(), "split: val").unwrap()), [0, 1]);
    // Its test pictures have no classes.
    let test = set("mmpretrain.ImageNet", dir.path(), "split: test").unwrap();
    assert!(test.dataset().fields().unwrap().get("target").is_none() && test.dataset().len() == 1);

    // A list of this name wins; it names the classes where each is a folder.
    write(dir.path().join("meta/train.txt"), "n01484850/1.png 0\nn01440764/0.png 1\nn01440764/1.png 1\n");
    write(dir.path().join("meta/val.txt"), "n01440764/0.png 1\n");
    let train = set("ImageNet", dir.path(), "split: train").unwrap();
    assert_eq!((labels(&train), names(&train).unwrap()), (vec![0, 1, 1], vec!["n01484850", "n01440764"]));
    let val = set("ImageNet", dir.path(), "split: val").unwrap();
    assert_eq!((labels(&val), names(&val)), (vec![1], None), "a part of the classes has no names of its own");
    // The layout of the last configs: the folder and the list by name.
    let old = "ann_file: meta/train.txt, data_prefix: {img_path: train/}";
    assert_eq!(labels(&set("ImageNet21k", dir.path(), old).unwrap()), [0, 1, 1]);
    write(dir.path().join("meta/odd.txt"), "n01484850/1.png 0\nn01440764/0.png 0\n");
    assert_eq!(
        names(&set("ImageNet", dir.path(), "ann_file: meta/odd.txt, data_prefix: train").unwrap()),
        None
    );
}

/// `check` warns of what is not on this machine, and has to say what was looked for and where it comes from.
#[test]
fn a_data_set_that_is_not_here_says_what_was_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    for (kind, more, wanted) in [
        (
            "ImageNet",
            "split: val",
            "no ImageNet here. Its pictures are looked for in ROOT/val, in one folder for each class or as ROOT/meta/val.txt lists them",
        ),
        (
            "ImageNet",
            "ann_file: meta/train.txt, data_prefix: train",
            "ROOT/train, in one folder for each class or as ROOT/meta/train.txt",
        ),
        ("ImageNet21k", "split: train", "no ImageNet-21k here"),
        (
            "CUB",
            "split: test",
            "no CUB-200-2011 here. In `data_root` images, images.txt, image_class_labels.txt",
        ),
        (
            "VOC",
            "split: test",
            "no Pascal VOC here. In `data_root` JPEGImages, Annotations and ImageSets/Main",
        ),
        (
            "CIFAR10",
            "split: test",
            "no CIFAR-10 here. Looked for were cifar-10-batches-py/{test_batch} and cifar-10-batches-bin/{test_batch.bin}",
        ),
        ("CIFAR100", "split: train", "cifar-100-python/{train} and cifar-100-binary/{train.bin}"),
        ("FashionMNIST", "split: train", "no FashionMNIST here. Its four files are train-images-idx3-ubyte"),
    ] {
        let error = refusal(set(kind, dir.path(), more));
        let wanted = wanted.replace("ROOT", &dir.path().display().to_string());
        assert!(error.contains(&wanted), "{kind}: {error}");
    }
    // Of a copy that broke off all files but those that are there were looked for.
    let broken = tempfile::tempdir().unwrap();
    for part in [1, 2, 3, 5] {
        write(broken.path().join(format!("cifar-10-batches-bin/data_batch_{part}.bin")), "");
    }
    let error = refusal(set("CIFAR10", broken.path(), "split: train"));
    let wanted =
        "of the files of CIFAR-10 in cifar-10-batches-bin there is no data_batch_4.bin: copy it again";
    assert!(error.contains(wanted), "{error}");
    write(dir.path().join("cifar-10-python.tar.gz"), "");
    let packed = refusal(set("CIFAR10", dir.path(), ""));
    assert!(
        packed.contains("no CIFAR-10 here, but its archive: unpack it, `tar xzf cifar-10-python.tar.gz`"),
        "{packed}"
    );
}

/// Keys that MMEngine's data sets all have: what has an effect has it here, what has none is taken, the rest refused.
#[test]
fn the_keys_of_all_data_sets() {
    let dir = tempfile::tempdir().unwrap();
    classes(dir.path(), &["cat", "dog"], 3);
    let of = |more: &str| set("CustomDataset", dir.path(), more);
    let plain = "filter_cfg: null, serialize_data: false, lazy_init: true, max_refetch: 3, test_mode: true";
    assert_eq!(labels(&of(plain).unwrap()), [0, 0, 0, 1, 1, 1]);
    assert_eq!(labels(&of("indices: 4").unwrap()), [0, 0, 0, 1]);
    assert_eq!(labels(&of("indices: -4").unwrap()), [0, 1, 1, 1]);
    assert_eq!(labels(&of("indices: [5, 0, -2]").unwrap()), [1, 0, 1]);
    assert!(refusal(of("indices: 7")).contains("`indices`: 7 samples are asked for, and there are 6"));
    assert!(refusal(of("indices: [6]")).contains("`indices`: there is no sample 6: the data set has 6"));

    let named = of("metainfo: {classes: [dog, cat], palette: [[1, 2, 3]]}").unwrap();
    assert_eq!((labels(&named), names(&named).unwrap()), (vec![1, 1, 1, 0, 0, 0], vec!["dog", "cat"]));
    let file = dir.path().join("names.txt");
    fs::write(&file, "Katze\nHund\n").unwrap();
    for how in
        [format!("classes: '{}'", file.display()), format!("metainfo: {{classes: '{}'}}", file.display())]
    {
        assert_eq!(names(&of(&how).unwrap()).unwrap(), ["Katze", "Hund"]);
    }
    assert!(
        refusal(of("classes: [a, b], metainfo: {classes: [b, a]}"))
            .contains("name different classes: leave one out")
    );
    assert!(refusal(of("classes: [a, a]")).contains("`classes` names \"a\" twice"));
    assert!(refusal(of("metainfo: {classes: [a, b, c]}")).contains("2 folders, but `classes` names 3"));

    let wrong = |text: &str| {
        let text = format!("{{batch_size: 1, dataset: {{type: CustomDataset, data_root: x, {text}}}}}");
        parse("c.yaml", &text).unwrap().read_checked::<DataLoaderConfig>().unwrap_err().to_string()
    };
    assert!(wrong("filter_cfg: {filter_empty_gt: true}").contains("filter_empty_gt"));
    assert!(wrong("metainfo: [cat]").contains("`metainfo` is a mapping"));
    assert!(wrong("indices: all").contains("c.yaml:1:"));
    assert!(wrong("split: holdout").contains("holdout"));
}

/// VOC's lists name pictures and its annotations what is in them: 1 where a class is, -1 where only a difficult object is of it.
/// A run learns several labels at once, and is evaluated without those in doubt.
#[test]
fn voc_has_several_labels_of_a_picture() {
    let dir = tempfile::tempdir().unwrap();
    let object = |name: &str, difficult: u8| {
        format!("<object><name>{name}</name><difficult>{difficult}</difficult></object>")
    };
    for (i, (name, objects)) in [
        ("000005", object("cat", 0) + &object("dog", 0)),
        ("000007", object("cat", 1)),
        ("000012", object("dog", 1) + &object("dog", 0) + &object("unicorn", 0)),
    ]
    .iter()
    .enumerate()
    {
        write(dir.path().join(format!("JPEGImages/{name}.jpg")), png(80 * i as u8));
        write(
            dir.path().join(format!("Annotations/{name}.xml")),
            format!("<annotation>\n{objects}</annotation>\n"),
        );
    }
    write(dir.path().join("ImageSets/Main/trainval.txt"), "000005\n000007\n000012\n");
    write(dir.path().join("ImageSets/Main/test.txt"), "000012\n");
    let of = |more: &str| set("VOC", dir.path(), more).unwrap();
    let batch = of("classes: [cat, dog]").batches(0, Some(1)).next().unwrap().unwrap();
    let found: Vec<_> = batch.float("target").unwrap().iter().copied().collect();
    assert_eq!(found, [1.0, 1.0, -1.0, 0.0, 0.0, 1.0]);
    let test = of("split: test");
    assert_eq!(test.dataset().len(), 1);
    assert_eq!(test.dataset().fields().unwrap().get("target").unwrap().names.len(), 20);
    write(dir.path().join("ImageSets/Main/val.txt"), "000012\n000013\n");
    let said = refusal(set("VOC", dir.path(), "split: val"));
    assert!(said.contains("000013.xml"), "{said}");

    let data = format!(
        "{{type: VOC, data_root: '{}', classes: [cat, dog], pipeline: [{{type: LoadImageFromFile}}, {{type: PackInputs, \
         meta_keys: [img_path, gt_label_difficult]}}]}}",
        dir.path().display()
    );
    let text = format!(
        "model: {{type: ImageClassifier, backbone: [{{type: Flatten}}], head: {{type: MultiLabelLinearClsHead, num_classes: 2, \
         in_channels: 192}}, data_preprocessor: {{mean: [0, 0, 0], std: [255, 255, 255]}}}}\n\
         train_dataloader: {{batch_size: 3, dataset: {data}}}\nval_dataloader: {{batch_size: 2, dataset: {data}}}\n\
         train_cfg: {{by_epoch: true, max_epochs: 1}}\nval_cfg: {{}}\n\
         val_evaluator: [{{type: VOCMultiLabelMetric, average: micro}}, {{type: VOCAveragePrecision}}]\n\
         optim_wrapper: {{optimizer: {{type: SGD, lr: 0.1}}}}\nwork_dir: '{}'\n",
        dir.path().join("run").display()
    );
    let mut runner = shanty::run::Runner::from_config(&parse("c.yaml", &text).unwrap(), None).unwrap();
    runner.train().unwrap();
    let found = runner.val().unwrap();
    assert!(found.get("multi-label/mAP").is_some_and(f64::is_finite), "{found:?}");
}

/// CUB's lists number pictures, classes and parts from 1.
#[test]
fn cub_is_read_by_its_lists() {
    let dir = tempfile::tempdir().unwrap();
    for (i, name) in ["001.A_bird/a.png", "001.A_bird/b.png", "002.B_bird/c.png"].iter().enumerate() {
        write(dir.path().join("images").join(name), png(i as u8));
    }
    let list = |name: &str, text: &str| write(dir.path().join(name), text);
    list("images.txt", "1 001.A_bird/a.png\n2 001.A_bird/b.png\n3 002.B_bird/c.png\n");
    list("image_class_labels.txt", "1 1\n2 1\n3 2\n");
    list("train_test_split.txt", "1 1\n2 0\n3 1\n");
    list("classes.txt", "1 001.A_bird\n2 002.B_bird\n");
    let train = set("CUB", dir.path(), "").unwrap();
    assert_eq!((labels(&train), names(&train).unwrap()), (vec![0, 1], vec!["A_bird", "B_bird"]));
    let test = set("CUB", dir.path(), "split: test").unwrap();
    assert_eq!(labels(&test), [0]);
    assert_eq!(test.dataset().origin(0), Origin::File(dir.path().join("images/001.A_bird/b.png")));
    for (name, text, says) in [
        ("image_class_labels.txt", "1 1\n2 1\n", "picture 3 of"),
        ("image_class_labels.txt", "1 1\n2 1\n3 0\n", "the class 0 of 3; they count from 1"),
        ("image_class_labels.txt", "1 1\n2 1\n3 9\n", "`classes` names only 2"),
        ("train_test_split.txt", "1 x\n", "\"x\" of 1 is no number"),
        ("images.txt", "one 001.A_bird/a.png\n", "images.txt:1: a line is a number, a space"),
    ] {
        let path = dir.path().join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, text).unwrap();
        let said = refusal(set("CUB", dir.path(), ""));
        assert!(said.contains(says), "{said}");
        fs::write(&path, before).unwrap();
    }
}

/// A list that names a picture again had it come twice, of whichever classes, without a word.
#[test]
fn pictures_that_a_list_names_again_are_told() {
    let dir = tempfile::tempdir().unwrap();
    classes(&dir.path().join("p"), &["a", "b"], 2);
    let told = |list: &str| -> Vec<String> {
        write(dir.path().join("list.txt"), list);
        let text = format!(
            "{{batch_size: 1, dataset: {{type: CustomDataset, data_root: '{}', data_prefix: p, ann_file: list.txt}}}}",
            dir.path().display()
        );
        let config: DataLoaderConfig = parse("c.yaml", &text).unwrap().read_checked().unwrap();
        let mut cx = shanty::registry::BuildCx::new(0);
        config.build(0, shanty::data::Shard::SOLO, &mut cx).unwrap();
        cx.take_warnings().0.into_iter().map(|diag| diag.message).collect()
    };
    assert_eq!(told("a/0.png 0\nb/0.png 1\n"), Vec::<String>::new());
    for (list, says) in [
        (
            "a/0.png 0\na/0.png 0\n",
            "names a/0.png again, and 1 picture in all: they come several times in each pass",
        ),
        (
            "a/0.png 0\nb/0.png 1\nb/0.png 0\na/0.png 0\n",
            "b/0.png again, and 2 pictures in all, 1 of them with another class",
        ),
    ] {
        let told = told(list);
        assert!(told.len() == 1 && told[0].contains(says), "{told:?}");
    }
}
