//! Pictures that are decoded and resized once, and kept on the disk.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::Compose;
use super::masks::{no_masks, picture_alone};
use crate::base::{Error, Result, Rng, durable};
use crate::config::{Diag, Diags};
use crate::data::picture_cache::PictureCache;
use crate::data::{FieldSpec, Fields, Picture, Sample, StandIn, Transform};
use crate::registry::{BuildCx, Spec};

/// Keeps what transforms make of picture files in a folder. Where pictures are in memory there is no file to go by, and
/// the transforms are all that happens.
pub struct CachePictures {
    transforms: Compose,
    /// The transforms as the config writes them: others make something else of a file.
    made: String,
    cache: PictureCache,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct CacheConfig {
    /// What is done to a picture before it is kept, without chance: LoadImageFromFile, Resize, ResizeEdge, CenterCrop,
    /// Pad, Normalize and EfficientNetCenterCrop can stand here.
    transforms: Vec<Spec<dyn Transform>>,
    /// The folder, which any number of runs and configs may share. Take one that lies outside of the pictures' own.
    cache_dir: PathBuf,
    /// How many GiB of files may be in the folder; what finds no room is decoded anew each time.
    #[schemars(range(min = 0.0, max = 1e9))]
    max_gib: f64,
}

crate::register! {
    /// Keeps what `transforms` make of picture files on the disk, up to `max_gib`: files are decoded and resized once.
    ///
    /// ```yaml
    /// {type: CachePictures, transforms: [{type: LoadImageFromFile}, {type: ResizeEdge, scale: 256}], cache_dir: work_dirs/pictures, max_gib: 20}
    /// ```
    dyn Transform, "CachePictures" => fn CachePictures::from_config
}

const GIB: f64 = (1u64 << 30) as f64;

impl CachePictures {
    fn from_config(p: CacheConfig, cx: &mut BuildCx) -> Result<Self> {
        let transforms = Compose::build(&p.transforms, cx)?;
        if let Some(spec) = transforms.loose().and_then(|at| p.transforms.get(at)) {
            let text = format!(
                "`{}` makes something else of a picture each time, or not a picture alone: it stands behind CachePictures",
                spec.name()
            );
            return Err(Diags::from(Diag::error(text).on(spec.node())).into());
        }
        if p.transforms.is_empty() {
            return Err(Error::config("`transforms` are what is done before a picture is kept: name some"));
        }
        if p.cache_dir.as_os_str().is_empty() {
            return Err(Error::config("`cache_dir` is the folder of the pictures: name one"));
        }
        if let Some(why) = durable::unusable(&p.cache_dir) {
            return Err(Error::config(format!("`cache_dir`: {}: {why}", p.cache_dir.display())));
        }
        let nodes: Vec<_> = p.transforms.iter().map(Spec::node).collect();
        let made = serde_json::to_string(&nodes).map_err(|e| Error::Other(e.into()))?;
        // What is built to be looked at leaves nothing on the disk.
        let cache = PictureCache::new(p.cache_dir, (p.max_gib * GIB) as u64, StandIn::is_asked(cx));
        Ok(Self { transforms, made, cache })
    }
}

impl Transform for CachePictures {
    fn apply(&self, sample: &mut Sample, rng: &mut Rng) -> Result<()> {
        no_masks(sample)?;
        let key = match sample.picture()? {
            Picture::File(file) => PictureCache::key(file, &self.made),
            Picture::Bytes(_) | Picture::Values(_) => None,
        };
        let Some(key) = key else { return self.transforms.apply(sample, rng) };
        if let Some(kept) = self.cache.get(key) {
            *sample.picture()? = kept;
            return Ok(());
        }
        self.transforms.apply(sample, rng)?;
        let picture = sample.picture()?;
        // Whoever reads it from the cache has it decoded.
        picture.bytes()?;
        self.cache.put(key, picture);
        Ok(())
    }

    fn declare(&self, fields: &mut Fields<FieldSpec>) -> Result<()> {
        picture_alone(&mut fields.clone())?;
        self.transforms.declare(fields)
    }
}
