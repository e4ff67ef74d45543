//! Images that are not square, through transforms as configs write them: which number is the height, and how sizes are
//! rounded. The laws are those of mmcv 2.1 (`imresize`, `imrescale`, `Resize`, `CenterCrop`, `Pad` in
//! mmcv/image/geometric.py and mmcv/transforms/processing.py) and of mmpretrain 1.2 (`RandomResizedCrop`, `ResizeEdge`,
//! `RandomCrop` in mmpretrain/datasets/transforms/processing.py); the values are theirs in closed form.
#![allow(clippy::unwrap_used)] // helpers of tests

use ndarray::Array3;
use shanty::base::keyed;
use shanty::config::parse;
use shanty::data::{Sample, Transform};
use shanty::registry::{BuildCx, Spec};

/// What becomes of an image whose two channels say where a pixel was: its row and its column.
fn transformed(yaml: &str, height: usize, width: usize) -> Array3<f32> {
    let img = Array3::from_shape_fn((height, width, 2), |(y, x, c)| if c == 0 { y as f32 } else { x as f32 });
    let spec: Spec<dyn Transform> = parse("c.yaml", yaml).unwrap().read_checked().unwrap();
    let mut sample = Sample::image(img, 0);
    let transform = spec.build(&mut BuildCx::new(0)).unwrap();
    transform.apply(&mut sample, &mut keyed(0, "augment", 0, 0)).unwrap();
    sample.picture().unwrap().values().unwrap().clone()
}

fn size(yaml: &str, height: usize, width: usize) -> (usize, usize) {
    let (height, width, _) = transformed(yaml, height, width).dim();
    (height, width)
}

/// The places of a line of `from` pixels that begins at `start`, resized to `to`: pixel centres lie at halves, and what
/// lies outside is the rim.
fn line(start: usize, from: usize, to: usize) -> Vec<f32> {
    let place = |i: usize| (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    (0..to).map(|i| (start as f64 + place(i).clamp(0.0, from as f64 - 1.0)) as f32).collect()
}

/// `start` and length of the rows and of the columns that were taken, and what they became.
#[track_caller]
fn is_window(out: &Array3<f32>, rows: (usize, usize, usize), columns: (usize, usize, usize)) {
    assert_eq!(out.dim(), (rows.2, columns.2, 2));
    let (rows, columns) = (line(rows.0, rows.1, rows.2), line(columns.0, columns.1, columns.2));
    for ((y, x, c), value) in out.indexed_iter() {
        let expected = if c == 0 { rows[y] } else { columns[x] };
        assert!((value - expected).abs() < 1e-4, "row {y}, column {x}, channel {c}: {value}, not {expected}");
    }
}

/// `scale: [20, 14]` was read as width and height; mmpretrain's (h, w) becomes `imresize(img, scale[::-1])`.
#[test]
fn random_resized_crop_has_the_height_first() {
    let crop = |scale: &str, h, w| {
        transformed(&format!("{{type: RandomResizedCrop, scale: {scale}, max_attempts: 0}}"), h, w)
    };
    // The ratio 40 / 33 is in range: the whole image.
    is_window(&crop("[20, 14]", 33, 40), (0, 33, 20), (0, 40, 14));
    is_window(&crop("[14, 20]", 33, 40), (0, 33, 14), (0, 40, 20));
    // 4 is above 4/3: int(round(10 * 4/3)) = 13 columns from (40 - 13) // 2 = 13.
    is_window(&crop("[5, 26]", 10, 40), (0, 10, 5), (13, 13, 26));
    // 1/4 is below 3/4: int(round(10 / 0.75)) = 13 rows from 13.
    is_window(&crop("[26, 5]", 40, 10), (13, 13, 26), (0, 10, 5));
    is_window(&crop("7", 33, 40), (0, 33, 7), (0, 40, 7));
}

/// Windows of one size: the area and the ratio of 18 rows and 27 columns leave only their place to chance.
#[test]
fn random_resized_crop_draws_width_and_height_the_right_way_round() {
    // sqrt(area * ratio) = 27 columns, sqrt(area / ratio) = 18 rows.
    let area = 18.0 * 27.0 / (30.0 * 47.0);
    let yaml = format!(
        "{{type: RandomResizedCrop, scale: [18, 27], crop_ratio_range: [{area}, {area}], aspect_ratio_range: [1.5, 1.5]}}"
    );
    let out = transformed(&yaml, 30, 47);
    let (y, x) = (out[[0, 0, 0]] as usize, out[[0, 0, 1]] as usize);
    is_window(&out, (y, 18, 18), (x, 27, 27));
}

/// mmpretrain: `int(scale * h / w)` for the side that follows.
#[test]
fn resize_edge_gives_the_other_side_its_ratio() {
    let edge = |edge: &str, h, w| size(&format!("{{type: ResizeEdge, scale: 16, edge: {edge}}}"), h, w);
    // 16 * 47 / 30 = 25.07 and 16 * 30 / 47 = 10.2
    assert_eq!((edge("short", 30, 47), edge("short", 47, 30)), ((16, 25), (25, 16)));
    assert_eq!((edge("long", 30, 47), edge("long", 47, 30)), ((10, 16), (16, 10)));
    assert_eq!((edge("width", 30, 47), edge("width", 47, 30)), ((10, 16), (25, 16)));
    assert_eq!((edge("height", 30, 47), edge("height", 47, 30)), ((16, 25), (16, 10)));
    // 16 * 59 / 32 = 29.5 is cut off, not rounded.
    assert_eq!((edge("short", 32, 59), edge("short", 59, 32)), ((16, 29), (29, 16)));
    is_window(&transformed("{type: ResizeEdge, scale: 16}", 30, 47), (0, 30, 16), (0, 47, 25));
}

/// mmcv: `scale` is (w, h). With `keep_ratio` it is the longer and the shorter length, whichever comes first, and
/// `int(side * factor + 0.5)` rounds.
#[test]
fn resize_has_the_width_first() {
    let resize = |keys: &str, h, w| transformed(&format!("{{type: Resize, {keys}}}"), h, w);
    is_window(&resize("scale: [14, 20]", 30, 47), (0, 30, 20), (0, 47, 14));
    is_window(&resize("scale: [20, 14]", 30, 47), (0, 30, 14), (0, 47, 20));
    let kept = |scale: &str, h, w| size(&format!("{{type: Resize, scale: {scale}, keep_ratio: true}}"), h, w);
    for scale in ["[40, 25]", "[25, 40]"] {
        // min(40 / 47, 25 / 30) = 0.8333; 47 * 0.8333 + 0.5 = 39.67
        assert_eq!((kept(scale, 30, 47), kept(scale, 47, 30)), ((25, 39), (39, 25)), "{scale}");
    }
    // min(8 / 15, 8 / 16) = 0.5; 15 * 0.5 + 0.5 = 8, though 7.5 is rounded to even elsewhere, too; 13 * 0.5 + 0.5 = 7,
    // not 6.
    assert_eq!((kept("[8, 8]", 15, 16), kept("[8, 8]", 13, 16)), ((8, 8), (7, 8)));
    assert_eq!((kept("[1333, 800]", 480, 640), kept("[800, 1333]", 640, 480)), ((800, 1067), (1067, 800)));
}

/// mmcv: `crop_size` is (w, h); `int(round((height - crop_height) / 2.))` goes to the even number, and a side that is
/// smaller stays.
#[test]
fn center_crop_has_the_width_first() {
    let crop = |size: &str, h, w| transformed(&format!("{{type: CenterCrop, crop_size: {size}}}"), h, w);
    // 25 / 2 = 12.5 and 39 / 2 = 19.5
    is_window(&crop("[8, 5]", 30, 47), (12, 5, 5), (20, 8, 8));
    is_window(&crop("[5, 8]", 30, 47), (11, 8, 8), (21, 5, 5));
    is_window(&crop("[50, 5]", 30, 47), (12, 5, 5), (0, 47, 47));
    is_window(&crop("[5, 50]", 30, 47), (0, 30, 30), (21, 5, 5));
}

/// mmpretrain's `RandomCrop.crop_size` is (h, w), mmcv's `Pad.size` (w, h).
#[test]
fn a_random_crop_has_the_height_first_and_a_pad_the_width() {
    let out = transformed("{type: RandomCrop, crop_size: [5, 8]}", 30, 47);
    let (y, x) = (out[[0, 0, 0]] as usize, out[[0, 0, 1]] as usize);
    is_window(&out, (y, 5, 5), (x, 8, 8));
    assert_eq!(size("{type: Pad, size: [50, 33]}", 30, 47), (33, 50));
}
