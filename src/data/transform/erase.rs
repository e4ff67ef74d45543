//! A rectangle that is painted over.

use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::base::{Error, Result, Rng};
use crate::config::OneOrMany;
use crate::data::picture::{Canvas, Draw, Pixel};
use crate::data::{FieldSpec, Fields, Sample, Transform, Window};
use crate::registry::BuildCx;

use super::masks::picture_kept;

/// A rectangle of one colour, which a config gives under `key`.
pub(super) struct Rectangle<'a> {
    pub(super) window: Window,
    pub(super) color: &'a [f64],
    pub(super) key: &'a str,
}

impl Draw for Rectangle<'_> {
    fn draw<P: Pixel>(self, canvas: &mut Canvas<'_, P>) -> Result<()> {
        let color = canvas.color(self.color, self.key)?.map(|value| P::cut(value as f32));
        canvas.fill(self.window, |pixel| pixel.iter_mut().zip(color).for_each(|(to, from)| *to = from));
        Ok(())
    }
}

/// What an erased rectangle is filled with.
#[derive(Debug, Clone, PartialEq)]
pub enum Paint {
    /// One colour: one number, or one for each channel.
    Const(Vec<f64>),
    /// A colour for each pixel, drawn of a normal distribution with these means and deviations, and cut off at 0 and 255.
    Normal {
        /// The means: one number, or one for each channel.
        mean: Vec<f64>,
        /// The deviations, likewise.
        std: Vec<f64>,
    },
    /// A colour for each pixel, every value from 0 to 255 being equally likely.
    Uniform,
}

/// Paints over a rectangle of random area, ratio of sides and place (Zhong et al. 2017, as MMPretrain does it).
#[derive(Debug, Clone, PartialEq)]
pub struct RandomErasing {
    /// Probability that there is a rectangle.
    pub prob: f64,
    /// Least and largest area, as part of the image's.
    pub area: [f64; 2],
    /// Least and largest height divided by width.
    pub aspect: [f64; 2],
    /// What it is filled with.
    pub paint: Paint,
}

/// What the rectangle is filled with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// One colour.
    #[default]
    Const,
    /// Another colour for each pixel.
    Rand,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct RandomErasingConfig {
    /// Probability that there is a rectangle.
    #[schemars(range(min = 0.0, max = 1.0))]
    erase_prob: f64,
    /// Least area, as part of the image's.
    #[schemars(range(min = 0.0, max = 1.0))]
    min_area_ratio: f64,
    /// Largest area, as part of the image's.
    #[schemars(range(min = 0.0, max = 1.0))]
    max_area_ratio: f64,
    /// Least and largest height divided by width; one number means it and its inverse.
    aspect_range: OneOrMany<f64>,
    /// const or rand.
    mode: Mode,
    /// The colour of `const`; the mean colour of `rand` with `fill_std`: one number, or one for each channel.
    fill_color: OneOrMany<f64>,
    /// Deviation of the colours of `rand`: one number, or one for each channel. Without it every colour is equally likely.
    fill_std: Option<OneOrMany<f64>>,
}

impl Default for RandomErasingConfig {
    fn default() -> Self {
        Self {
            erase_prob: 0.5,
            min_area_ratio: 0.02,
            max_area_ratio: 0.4,
            aspect_range: OneOrMany(vec![3.0 / 10.0, 10.0 / 3.0]),
            mode: Mode::Const,
            fill_color: OneOrMany(vec![128.0]),
            fill_std: None,
        }
    }
}

crate::register! {
    /// Paints over a rectangle of random area, ratio of sides and place, with one colour or with noise.
    dyn Transform, "RandomErasing" => fn RandomErasing::from_config
}

impl RandomErasing {
    fn from_config(p: RandomErasingConfig, _: &mut BuildCx) -> Result<Self> {
        let aspect = match p.aspect_range[..] {
            [one] => [one.min(1.0 / one), one.max(1.0 / one)],
            [low, high] => [low, high],
            _ => [0.0, 0.0],
        };
        if !(aspect[0] > 0.0 && aspect[0] <= aspect[1] && aspect[1].is_finite()) {
            return Err(Error::config(format!(
                "`aspect_range` is a number above 0 or two, the smaller one first, got {:?}",
                &p.aspect_range[..]
            )));
        }
        let area = [p.min_area_ratio, p.max_area_ratio];
        if area[0] > area[1] {
            return Err(Error::config(format!(
                "`min_area_ratio: {}` is above `max_area_ratio`, {}",
                area[0], area[1]
            )));
        }
        let color = p.fill_color.to_vec();
        let paint = match (p.mode, p.fill_std) {
            (Mode::Const, None) => Paint::Const(color),
            (Mode::Const, Some(_)) => {
                return Err(Error::config(
                    "`fill_std` is for `mode: rand`: with `const` there is one colour",
                ));
            }
            (Mode::Rand, None) => Paint::Uniform,
            (Mode::Rand, Some(std)) => Paint::Normal { mean: color, std: std.to_vec() },
        };
        Ok(Self { prob: p.erase_prob, area, aspect, paint })
    }

    /// A rectangle in an image of `h` × `w`.
    fn window(&self, h: usize, w: usize, rng: &mut Rng) -> Window {
        let between = |low: f64, high: f64, rng: &mut Rng| low + (high - low) * rng.random::<f64>();
        let [low, high] = self.aspect.map(libm::log);
        let aspect = libm::exp(between(low, high, rng));
        let area = between(self.area[0], self.area[1], rng) * (h * w) as f64;
        let side = |square: f64, most: usize| (square.sqrt().round_ties_even() as usize).min(most);
        let (height, width) = (side(area * aspect, h), side(area / aspect, w));
        // 64-bit draws, so that the place is the same on every machine. The last place is left out, as in MMPretrain.
        let mut first = |room: usize| if room > 0 { rng.random_range(0..room as u64) as usize } else { 0 };
        Window { y: first(h - height), x: first(w - width), height, width }
    }
}

/// A rectangle, and what it is filled with.
struct Painting<'a> {
    window: Window,
    paint: &'a Paint,
    rng: &'a mut Rng,
}

impl Draw for Painting<'_> {
    fn draw<P: Pixel>(self, canvas: &mut Canvas<'_, P>) -> Result<()> {
        let Self { window, paint, rng } = self;
        let channels = canvas.channels;
        match paint {
            Paint::Const(color) => Rectangle { window, color, key: "fill_color" }.draw(canvas)?,
            Paint::Uniform => canvas.fill(window, |pixel| {
                pixel.iter_mut().take(channels).for_each(|v| *v = P::of(f32::from(rng.random::<u8>())));
            }),
            Paint::Normal { mean, std } => {
                let (mean, std) = (canvas.color(mean, "fill_color")?, canvas.color(std, "fill_std")?);
                canvas.fill(window, |pixel| {
                    for ((to, mean), std) in pixel.iter_mut().zip(mean).zip(std).take(channels) {
                        let value = mean + std * rng.sample::<f64, _>(StandardNormal);
                        *to = P::cut(value.clamp(0.0, 255.0) as f32);
                    }
                });
            }
        }
        Ok(())
    }
}

impl Transform for RandomErasing {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        if rng.random::<f64>() >= self.prob {
            return Ok(());
        }
        let picture = sample.picture()?;
        let (h, w, _) = picture.dim()?;
        let window = self.window(h, w, rng);
        picture.draw(Painting { window, paint: &self.paint, rng })
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_kept(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::keyed;
    use ndarray::Array3;

    fn erased(config: &str, draw: u64) -> Array3<f32> {
        let spec = crate::registry::Spec::<dyn Transform>::parse(config).unwrap();
        let erasing = spec.build(&mut BuildCx::new(0)).unwrap();
        let mut sample = Sample::of_bytes(Array3::from_elem((40, 30, 3), 1u8), 0);
        erasing.apply(&mut sample, &mut keyed(0, "augment", draw, 0)).unwrap();
        sample.picture().unwrap().values().unwrap().clone()
    }

    #[test]
    fn the_area_is_in_range_and_of_one_colour() {
        let config = "{type: RandomErasing, erase_prob: 1.0, min_area_ratio: 0.1, max_area_ratio: 0.3, fill_color: [7, 8, 9]}";
        for draw in 0..200 {
            let out = erased(config, draw);
            let painted =
                out.outer_iter().flat_map(|row| row.outer_iter().map(|p| p.to_vec()).collect::<Vec<_>>());
            let painted: Vec<Vec<f32>> = painted.filter(|p| p[0] != 1.0).collect();
            assert!(painted.iter().all(|p| *p == [7.0, 8.0, 9.0]));
            // Sides are rounded, and cut off at those of the image.
            let part = painted.len() as f64 / 1200.0;
            assert!((0.08..0.33).contains(&part), "{part}");
        }
    }

    #[test]
    fn it_comes_as_often_as_asked_and_noise_has_its_mean() {
        let config = "{type: RandomErasing, erase_prob: 0.25, mode: rand, fill_color: [100, 110, 120], fill_std: [10, 20, 30]}";
        let (mut times, mut sums, mut pixels) = (0, [0.0f64; 3], 0.0);
        for draw in 0..2000 {
            let out = erased(config, draw);
            let mut any = false;
            for pixel in out.rows().into_iter().filter(|p| p[0] != 1.0 || p[1] != 1.0) {
                sums.iter_mut().zip(pixel).for_each(|(sum, v)| *sum += f64::from(*v));
                (any, pixels) = (true, pixels + 1.0);
            }
            times += usize::from(any);
        }
        // Five standard deviations: sqrt(2000 · 0.25 · 0.75) = 19.4
        assert!((403..=597).contains(&times), "{times}");
        for (sum, mean) in sums.iter().zip([99.5, 109.5, 119.5]) {
            // Values are rounded down.
            assert!((sum / pixels - mean).abs() < 0.5, "{}", sum / pixels);
        }
    }
}
