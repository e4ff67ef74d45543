//! Pictures of samples with what is true and what is predicted, and the samples with the largest losses.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ndarray::{Axis, Ix3};
use shanty::hook::builtin::VisualizationHook;
use shanty::vis::Drawing;

use super::*;

/// A shipped config with changes, in a folder of its own.
fn shipped(name: &str, dir: &Path, more: &[&str]) -> Result<RunnerBuilder> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    let work = format!("work_dir={}", dir.join("w").display());
    let set = [work.as_str(), "randomness.seed=1"].into_iter().chain(more.iter().copied());
    let set: Vec<String> = set.map(str::to_owned).collect();
    let node = shanty::config::load(&file, &set)?;
    RunnerBuilder::from_config(&node, Some(name))
}

const SHORT: [&str; 3] =
    ["train_dataloader.num_batch_per_epoch=2", "train_cfg.max_epochs=2", "train_cfg.val_interval=1"];

/// The pixels of a PNG file, three bytes each.
fn pixels(png: &[u8]) -> (usize, usize, Vec<u8>) {
    let mut reader = png::Decoder::new(io::Cursor::new(png)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    (reader.info().width as usize, reader.info().height as usize, bytes)
}

/// What a probe sees of the validation batches: the inputs as they are drawn, the losses.
#[derive(Default)]
struct Seen {
    drawn: Vec<Drawing>,
    losses: Vec<f64>,
    pairs: Vec<[f64; 2]>,
}

fn watched(builder: RunnerBuilder) -> (RunnerBuilder, Arc<Mutex<Seen>>) {
    let seen = Arc::<Mutex<Seen>>::default();
    let own = Arc::clone(&seen);
    let builder = builder.on(Point::BeforeValEpoch, {
        let seen = Arc::clone(&seen);
        move |_, _| {
            *seen.lock().unwrap() = Seen::default();
            Ok(())
        }
    });
    let watched = builder.on(Point::AfterValIter, move |_, event| {
        let Event::AfterValIter(step) = event else { return Ok(()) };
        let mut seen = own.lock().unwrap();
        for (row, loss) in step.outputs.sample_losses.iter().flatten().enumerate() {
            seen.losses.push(f64::from(*loss));
            let input = step.batch.inputs()?.index_axis(Axis(0), row);
            if let Ok(planes) = input.into_dimensionality::<Ix3>() {
                seen.drawn.push(Drawing::of_values(planes, false, 112));
            }
            if let (Ok(truth), Some((_, said))) =
                (step.batch.float("target"), step.outputs.predictions.only())
            {
                let one = |values: &ndarray::ArrayD<Elem>| {
                    f64::from(*values.index_axis(Axis(0), row).first().unwrap())
                };
                seen.pairs.push([one(truth), one(said)]);
            }
        }
        Ok(())
    });
    (watched, seen)
}

/// Every hundredth sample of each validation, the picture as it goes into the network, enlarged until its caption fits.
#[test]
fn validation_samples_are_drawn_at_an_interval() {
    let dir = tempfile::tempdir().unwrap();
    let hook = "custom_hooks=[{type: VisualizationHook, enable: true, interval: 100}]";
    let backends = "vis_backends=[{type: LocalVisBackend}, {type: TensorboardVisBackend}]";
    let all = [&SHORT[..], &[hook, backends]].concat();
    let (builder, seen) = watched(shipped("digits_lenet.yaml", dir.path(), &all).unwrap());
    let mut runner = builder.build().unwrap();
    runner.train().unwrap();
    let seen = seen.lock().unwrap();
    let told = events(&vis_data(&runner));
    let images: Vec<_> = told.iter().filter(|event| event.kind() == "image").collect();
    let names: Vec<String> = (0..seen.drawn.len()).step_by(100).map(|sample| sample.to_string()).collect();
    let wanted: Vec<_> =
        [1, 2].iter().flat_map(|epoch| names.iter().map(|name| (name.as_str(), *epoch))).collect();
    assert_eq!(images.iter().map(|event| (event.text("name"), event.step())).collect::<Vec<_>>(), wanted);
    let last = images.iter().rfind(|event| event.text("name") == "100").unwrap();
    assert!(last.text("path").ends_with("vis_data/vis_image/100_2.png"), "{last:?}");
    let (width, height, drawn) = pixels(&fs::read(dir.path().join("w").join(last.text("path"))).unwrap());
    // 32 pixels become 192, and a caption has two lines of 16 pixels within 4.
    assert_eq!((width, height), (192, 192 + 2 * 16 + 8));
    let sample = seen.drawn[100].clone().at_least(168);
    assert_eq!(sample.size(), (192, 192));
    let (_, _, own) = pixels(&sample.png().unwrap());
    assert_eq!(drawn[..own.len()], own, "the sample stands above its caption");
    let caption: std::collections::BTreeSet<_> = drawn[own.len()..].chunks(3).collect();
    assert!(caption.len() > 10, "letters of several shades");
    let board = board::summaries(&vis_data(&runner));
    assert_eq!(board.iter().filter(|(tag, ..)| *tag == "100").count(), 2);
}

/// A picture takes nothing from a run: the same weights with the hooks and without.
#[test]
fn pictures_do_not_change_the_bits() {
    let metrics = |hooks: &str| {
        let dir = tempfile::tempdir().unwrap();
        let mut runner = shipped("digits_lenet.yaml", dir.path(), &[&SHORT[..], &[hooks]].concat())
            .unwrap()
            .build()
            .unwrap();
        runner.train().unwrap();
        fs::read(dir.path().join("w/epoch_2/model.safetensors")).unwrap()
    };
    let both =
        "custom_hooks=[{type: VisualizationHook, enable: true, interval: 7}, {type: WorstSamplesHook}]";
    assert!(metrics("custom_hooks=[]") == metrics(both));
}

/// What is no picture is said once; a folder of one's own keeps what stands there and is none of shanty's.
#[test]
fn what_cannot_be_drawn_or_kept_ends_no_run() {
    let dir = tempfile::tempdir().unwrap();
    let hook = "custom_hooks=[{type: VisualizationHook, enable: true, interval: 10}]";
    let more = [&SHORT[..], &[hook]].concat();
    let mut table = shipped("houses_mlp.yaml", dir.path(), &more).unwrap().build().unwrap();
    table.train().unwrap();
    let log = text_log(&table);
    assert_eq!(log.matches("the samples are no pictures").count(), 1, "{log}");
    assert!(!vis_data(&table).join("vis_image").exists());

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::write(out.join("0_1.png"), "mine").unwrap();
    let hook = format!(
        "custom_hooks=[{{type: VisualizationHook, enable: true, interval: 100, out_dir: '{}', draw_pred: false, \
         resize: 64}}]",
        out.display()
    );
    let run = |overwrite: &str| {
        let more = [&SHORT[..], &[&*hook, overwrite]].concat();
        let mut runner = shipped("digits_lenet.yaml", dir.path(), &more).unwrap().build().unwrap();
        runner.train().unwrap();
        runner
    };
    let first = run("overwrite=false");
    assert!(text_log(&first).contains("0_1.png is there already and is no picture of shanty's"));
    assert_eq!(fs::read_to_string(out.join("0_1.png")).unwrap(), "mine");
    assert!(events(&vis_data(&first)).iter().all(|event| event.kind() != "image"), "no backend is told");
    let (width, height, _) = pixels(&fs::read(out.join("100_2.png")).unwrap());
    assert_eq!(width, 64);
    assert!(height > 64, "a caption of the truth alone");
    // Its own pictures it replaces.
    fs::remove_file(out.join("0_1.png")).unwrap();
    let again = run("overwrite=true");
    assert!(!text_log(&again).contains("is not kept"));
}

#[test]
fn options_of_pictures_are_checked() {
    let build = |yaml: &str| {
        let spec = Spec::<dyn Hook>::parse(yaml).map_err(shanty::base::Error::from);
        let built = spec.and_then(|spec| spec.build(&mut BuildCx::new(0)));
        built.map(drop).map_err(|why| why.to_string())
    };
    let window = build("{type: VisualizationHook, enable: true, show: true}").unwrap_err();
    assert!(window.contains("there is no window here"), "{window}");
    build("{type: VisualizationHook, show: true, interval: 100}").unwrap();
    let remote = build("{type: VisualizationHook, enable: true, out_dir: 's3://a/b'}").unwrap_err();
    assert!(remote.contains("`out_dir`"), "{remote}");
    for wrong in ["interval: 0", "resize: 0", "rescale_factor: 0.0", "resize: 100000"] {
        assert!(build(&format!("{{type: VisualizationHook, {wrong}}}")).is_err(), "{wrong}");
    }
    let dir = tempfile::tempdir().unwrap();
    let by_program = VisualizationHook::default().interval(0);
    assert!(toy_runner(dir.path(), 1, 2).unwrap().hook(by_program).build().is_err());
}

fn worst(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join("worst_samples.json")).unwrap()).unwrap()
}

/// The largest losses of the last validation, the worst first, with the picture that went into the network.
#[test]
fn the_worst_samples_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let more = [&SHORT[..], &["custom_hooks=[{type: WorstSamplesHook, number: 5}]"]].concat();
    let (builder, seen) = watched(shipped("digits_lenet.yaml", dir.path(), &more).unwrap());
    let mut runner = builder.build().unwrap();
    runner.train().unwrap();
    let seen = seen.lock().unwrap();
    let mut order: Vec<usize> = (0..seen.losses.len()).collect();
    order.sort_by(|a, b| seen.losses[*b].total_cmp(&seen.losses[*a]));
    let kept = worst(&vis_data(&runner));
    assert_eq!((&kept["mode"], &kept["epoch"], &kept["of"]), (&json!("val"), &json!(2), &json!(order.len())));
    let samples = kept["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 5);
    for (sample, at) in samples.iter().zip(order) {
        assert_eq!(sample["name"], format!("sample {at}"));
        assert_eq!(sample["loss"].as_f64(), Some(seen.losses[at]));
        let png = BASE64_STANDARD.decode(sample["png"].as_str().unwrap()).unwrap();
        assert_eq!(pixels(&png), pixels(&seen.drawn[at].png().unwrap()));
        let (truth, said) = (sample["truth"].as_str().unwrap(), sample["prediction"].as_str().unwrap());
        assert_eq!(sample["right"], said.starts_with(&format!("{truth}, ")), "{truth}: {said}");
    }
    assert_eq!(kept["residuals"], json!([]));
}

/// Of numbers all that are predicted are kept beside what is true, each by the name of its column.
#[test]
fn residuals_are_kept_where_numbers_are_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let more = [&SHORT[..], &["custom_hooks=[{type: WorstSamplesHook}]"]].concat();
    let (builder, seen) = watched(shipped("houses_mlp.yaml", dir.path(), &more).unwrap());
    let mut runner = builder.build().unwrap();
    runner.train().unwrap();
    let seen = seen.lock().unwrap();
    let kept = worst(&vis_data(&runner));
    let residuals = &kept["residuals"][0];
    let numbers = |key: &str| -> Vec<f64> {
        residuals[key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    assert_eq!(residuals["of"], seen.pairs.len());
    assert_eq!(numbers("true"), seen.pairs.iter().map(|pair| pair[0]).collect::<Vec<_>>());
    assert_eq!(numbers("predicted"), seen.pairs.iter().map(|pair| pair[1]).collect::<Vec<_>>());
    assert!(kept["samples"][0]["png"].is_null() && kept["samples"][0]["right"].is_null());
    assert!(kept["samples"][0]["name"].as_str().unwrap().contains("houses.csv"), "{kept}");
}

/// Labels that are given or not have no residuals; of several outputs those that are numbers have.
#[test]
fn residuals_are_those_of_numbers() {
    let names = |config: &str| {
        let dir = tempfile::tempdir().unwrap();
        let more = [&SHORT[..], &["custom_hooks=[{type: WorstSamplesHook}]"]].concat();
        let mut runner = shipped(config, dir.path(), &more).unwrap().build().unwrap();
        runner.train().unwrap();
        let kept = worst(&vis_data(&runner));
        let residuals = kept["residuals"].as_array().unwrap().iter();
        residuals.map(|residuals| residuals["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("weather_labels.yaml"), [""; 0]);
    assert_eq!(names("parcels_two_inputs.yaml"), ["postage"]);
}

/// Two names that are alike as files are two pictures.
#[test]
fn pictures_of_odd_names_keep_apart() {
    let dir = tempfile::tempdir().unwrap();
    let mut vis = Visualizer::new(Arc::new(Disk), dir.path(), dir.path(), WallClock::default(), Vec::new());
    vis.begin(VisEvent::new).unwrap();
    let png = fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/images/420_pillow.png")).unwrap();
    let long = "日".repeat(200);
    let names =
        ["a b", "a_b", "a/b", "a.b", "..", ".shanty-tmp-x", "", &long, &format!("{long}x"), "\u{1b}[2J"];
    for name in names {
        vis.add_image(name, &png, 7).unwrap();
    }
    let files: Vec<_> =
        fs::read_dir(dir.path().join("vis_image")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(files.len(), names.len(), "{files:?}");
    let plain = |file: &std::ffi::OsString| {
        let name = file.to_str().unwrap();
        !name.starts_with('.') && !name.contains(char::is_control) && name.ends_with("_7.png")
    };
    assert!(files.iter().all(plain), "{files:?}");
    assert!(files.contains(&"a_b_7.png".into()) && files.contains(&"a.b_7.png".into()), "{files:?}");
}
