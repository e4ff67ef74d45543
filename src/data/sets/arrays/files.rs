//! `{type: Npy, …}` and `{type: Npz, …}` of a config.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use zip::ZipArchive;

use super::{ArrayData, ArrayDataset, npy};
use crate::base::error::IoContext;
use crate::base::suggest::nearest;
use crate::base::{Error, Result, text};
use crate::data::sets::{Part, Split};
use crate::data::{
    ConcatDataset, Dataset, FieldKind, Fields, INPUTS, Pipeline, TARGET, Transform, Unread, field_name,
};
use crate::registry::{BuildCx, Spec};

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NpyConfig {
    /// The file of each field: `{inputs: x.npy, target: y.npy}`. The first axis of each array is that of the samples.
    files: BTreeMap<String, PathBuf>,
    /// Fields that are pictures for the transforms: height, width and channels, or height and width.
    #[serde(default)]
    pictures: Vec<String>,
    /// Names of the classes in `target`, in the order of their numbers.
    #[serde(default)]
    classes: Option<Vec<String>>,
    /// Which samples are for what: shares, chosen by a seed.
    #[serde(default)]
    split: Option<Split>,
    /// Which of the parts: train, val, test or all. Needed where there is a `split`.
    #[serde(default)]
    part: Option<Part>,
    /// What is done to each sample.
    #[serde(default)]
    pipeline: Vec<Spec<dyn Transform>>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
struct NpzConfig {
    /// The file.
    file: PathBuf,
    /// The array of each field: `{inputs: x_train, target: y_train}`. If not given, every array is the field of its
    /// own name.
    #[serde(default)]
    fields: BTreeMap<String, String>,
    /// Fields that are pictures for the transforms: height, width and channels, or height and width.
    #[serde(default)]
    pictures: Vec<String>,
    /// Names of the classes in `target`, in the order of their numbers.
    #[serde(default)]
    classes: Option<Vec<String>>,
    /// Which samples are for what: shares, chosen by a seed.
    #[serde(default)]
    split: Option<Split>,
    /// Which of the parts: train, val, test or all. Needed where there is a `split`.
    #[serde(default)]
    part: Option<Part>,
    /// What is done to each sample.
    #[serde(default)]
    pipeline: Vec<Spec<dyn Transform>>,
}

crate::register! {
    /// Arrays from NumPy's .npy files, one file a field.
    ///
    /// ```yaml
    /// {type: Npy, files: {inputs: x.npy, target: y.npy}, split: {val: 0.2, seed: 0}, part: train}
    /// ```
    dyn Dataset, "Npy" => fn ArrayDataset::from_npy
}

crate::register! {
    /// Arrays from a .npz file of NumPy's, compressed or not.
    ///
    /// ```yaml
    /// {type: Npz, file: signals.npz, fields: {inputs: x, target: y}, split: {val: 0.2, seed: 0}, part: train}
    /// ```
    dyn Dataset, "Npz" => fn ArrayDataset::from_npz
}

impl ArrayDataset {
    fn from_npy(p: NpyConfig, cx: &mut BuildCx) -> Result<Self> {
        let source = Source { pictures: p.pictures, classes: p.classes, npz: None };
        if Unread::is_enough(cx) {
            return source.unread(&p.pipeline, cx);
        }
        let read = p.files.iter().map(|(name, file)| Ok((name.clone(), of_npy(file)?)));
        let arrays = read.collect::<Result<Vec<_>>>()?;
        let file = p.files.get(INPUTS).or(p.files.values().next()).cloned();
        let set = source.set(arrays, p.split.as_ref(), p.part)?;
        ArrayDataset { file, ..set }.through(&p.pipeline, cx)
    }

    fn from_npz(p: NpzConfig, cx: &mut BuildCx) -> Result<Self> {
        let source = Source { pictures: p.pictures, classes: p.classes, npz: Some(p.fields.clone()) };
        if Unread::is_enough(cx) {
            return source.unread(&p.pipeline, cx);
        }
        let arrays = of_npz(&p.file, &p.fields, false)?;
        let set = source.set(arrays, p.split.as_ref(), p.part)?;
        ArrayDataset { file: Some(p.file), ..set }.through(&p.pipeline, cx)
    }

    fn through(self, specs: &[Spec<dyn Transform>], cx: &mut BuildCx) -> Result<Self> {
        let pipeline = Pipeline::build_for(&self.raw_fields(), specs, cx)?;
        Ok(self.with_pipeline(pipeline))
    }
}

/// How files are read, so that others can be read in the same way.
pub(super) struct Source {
    pictures: Vec<String>,
    classes: Option<Vec<String>>,
    /// The array of each field, where all are in one file.
    npz: Option<BTreeMap<String, String>>,
}

impl Source {
    /// No sample, to read other files.
    fn unread(self, specs: &[Spec<dyn Transform>], cx: &mut BuildCx) -> Result<ArrayDataset> {
        let classes = self.classes.clone();
        let set = ArrayDataset { classes, source: Some(self), ..ArrayDataset::of(Fields::default(), 0) };
        Ok(set.with_pipeline(Pipeline::build(specs, cx)?))
    }

    fn set(
        self,
        arrays: Vec<(String, ArrayData)>,
        split: Option<&Split>,
        part: Option<Part>,
    ) -> Result<ArrayDataset> {
        let part = Split::part(split, part)?;
        let set = joined(arrays)?;
        let is_number = |target: &&ArrayData| {
            target.kind() == FieldKind::Float && target.shape().iter().skip(1).all(|length| *length == 1)
        };
        if self.classes.is_some() && set.arrays.get(TARGET).filter(is_number).is_some() {
            return Err(Error::config(
                "`classes` names classes, and `target` holds numbers (floats): leave it out, or save `target` as integers",
            ));
        }
        let rows = Split::of(split, set.len, part, || set.strata())?;
        let set = match part {
            Part::All => set,
            _ => ArrayDataset { arrays: set.arrays.select(&rows), len: rows.len(), rows: Some(rows), ..set },
        };
        let set = self.pictures.iter().try_fold(set, |set, name| set.picture(field_name(name)))?;
        Ok(ArrayDataset { classes: self.classes.clone(), source: Some(self), ..set })
    }

    /// The samples of other files: the array of an .npy file is `inputs`; targets may be missing in an .npz file.
    pub(super) fn of_files(&self, files: &[PathBuf], pipeline: &Arc<Pipeline>) -> Result<Box<dyn Dataset>> {
        let sets = files.iter().map(|file| {
            let set = joined(match &self.npz {
                None => vec![(INPUTS.to_owned(), of_npy(file)?)],
                Some(fields) => of_npz(file, fields, true)?,
            })?;
            let names = self.pictures.iter().map(|name| field_name(name));
            let pictures: Vec<&str> = names.filter(|name| set.arrays.get(name).is_some()).collect();
            let set = pictures.into_iter().try_fold(set, |set, name| set.picture(name))?;
            let (classes, pipeline, file) = (self.classes.clone(), Arc::clone(pipeline), Some(file.clone()));
            let set = ArrayDataset { classes, pipeline, file, ..set };
            Ok(Box::new(set) as Box<dyn Dataset>)
        });
        Ok(Box::new(ConcatDataset::new(sets.collect::<Result<_>>()?)?))
    }
}

fn joined(arrays: Vec<(String, ArrayData)>) -> Result<ArrayDataset> {
    let mut arrays = arrays.into_iter().map(|(name, array)| (field_name(&name).to_owned(), array));
    let (name, first) = arrays.next().ok_or_else(|| Error::config("there is no array: name one"))?;
    let first = ArrayDataset::first(name.into(), first)?;
    arrays.try_fold(first, |set, (name, array)| set.further(name.into(), array))
}

fn of_npy(file: &Path) -> Result<ArrayData> {
    text::regular(file)?;
    let open = File::open(file).at(file)?;
    let length = open.metadata().at(file)?.len();
    let array = npy::read(&mut BufReader::new(open), length).map_err(|why| wrong(file, None, &why))?;
    array.finite().map_err(|why| wrong(file, None, &why)).map(|()| array)
}

/// The arrays of these fields, or all; `lenient`: those of them that there are.
fn of_npz(file: &Path, fields: &BTreeMap<String, String>, lenient: bool) -> Result<Vec<(String, ArrayData)>> {
    text::regular(file)?;
    let open = BufReader::new(File::open(file).at(file)?);
    let mut archive =
        ZipArchive::new(open).map_err(|e| wrong(file, None, &format!("it is no .npz file: {e}")))?;
    let names: Vec<String> =
        archive.file_names().filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned())).collect();
    let wanted: Vec<(String, String)> = match fields.is_empty() {
        true => names.iter().map(|name| (name.clone(), name.clone())).collect(),
        false => fields.iter().map(|(field, array)| (field.clone(), array.clone())).collect(),
    };
    let mut arrays = Vec::new();
    for (field, array) in wanted {
        if !names.contains(&array) {
            if lenient && field_name(&field) != INPUTS {
                continue;
            }
            let hint = nearest(&array, names.iter().map(String::as_str));
            let hint = hint.map_or(String::new(), |near| format!(" (did you mean `{near}`?)"));
            let known = names.join(", ");
            return Err(wrong(file, None, &format!("there is no array `{array}`: there are {known}{hint}")));
        }
        let mut entry = archive
            .by_name(&format!("{array}.npy"))
            .map_err(|e| wrong(file, Some(&array), &format!("it cannot be read: {e}")))?;
        let length = entry.size();
        let read = npy::read(&mut entry, length).and_then(|read| read.finite().map(|()| read));
        arrays.push((field, read.map_err(|why| wrong(file, Some(&array), &why))?));
    }
    Ok(arrays)
}

fn wrong(file: &Path, array: Option<&str>, why: &str) -> Error {
    let array = array.map_or(String::new(), |name| format!(", array `{name}`"));
    Error::invalid(format!("{}{array}: {why}", file.display()))
}
