//! Pascal VOC as a data set of several labels at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::ArrayD;
use schemars::JsonSchema;
use serde::Deserialize;

use super::fields;
use crate::base::{Error, Result, Rng, text};
use crate::data::sets::keys::{Indices, with_common_keys};
use crate::data::{
    Dataset, FieldKind, FieldSpec, Fields, Marks, Origin, Picture, PictureFile, Pipeline, Sample, TARGET,
    Unread,
};
use crate::registry::BuildCx;

/// A part of the pictures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum VocSplit {
    Train,
    Val,
    #[default]
    Trainval,
    Test,
}

/// Folders of pictures and annotations.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(default)]
struct VocPrefix {
    /// Of the pictures.
    img_path: PathBuf,
    /// Of the annotations.
    ann_path: PathBuf,
}

impl Default for VocPrefix {
    fn default() -> Self {
        Self { img_path: "JPEGImages".into(), ann_path: "Annotations".into() }
    }
}

with_common_keys! {
    struct VocConfig {
        /// Folder of the data: `JPEGImages`, `Annotations` and `ImageSets`.
        data_root: PathBuf,
        /// train, val, trainval or test: the list `ImageSets/Main/NAME.txt`.
        #[serde(default)]
        split: VocSplit,
        /// Another list, within `data_root` unless it is absolute.
        #[serde(default)]
        image_set_path: PathBuf,
        /// Folders of pictures and annotations, within `data_root` unless they are absolute.
        #[serde(default)]
        data_prefix: VocPrefix,
        /// Accepted for MMPretrain's configs; `split` alone decides.
        #[serde(default)]
        #[allow(dead_code)]
        test_mode: bool,
    }
}

crate::register! {
    /// Pascal VOC 2007 or 2012 as its archives unpack, with which of 20 classes are in a picture.
    ///
    /// A class of which only difficult objects are there is -1. Feature `images`.
    ///
    /// ```yaml
    /// {type: VOC, data_root: data/VOC2007, split: trainval, pipeline: [{type: LoadImageFromFile}]}
    /// ```
    dyn Dataset, "VOC" => fn Voc::from_config
}

const CLASSES: [&str; 20] = [
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
];

/// Pictures, and for each class 1 where it is in the picture, -1 where that is in doubt, else 0.
struct Voc {
    folder: PathBuf,
    files: Vec<(PathBuf, Vec<f32>)>,
    classes: Vec<String>,
    pipeline: Arc<Pipeline>,
}

impl Voc {
    fn from_config(p: VocConfig, cx: &mut BuildCx) -> Result<Box<dyn Dataset>> {
        let classes = p.names()?.unwrap_or_else(|| CLASSES.map(str::to_owned).to_vec());
        let pipeline = Pipeline::build_for(&several(&classes), &p.pipeline, cx)?.into();
        let root = &p.data_root;
        let [folder, notes] = [&p.data_prefix.img_path, &p.data_prefix.ann_path].map(|path| root.join(path));
        let mut set = Self { folder, files: Vec::new(), classes, pipeline };
        if Unread::is_enough(cx) {
            return Indices::cut(p.indices.as_ref(), set, cx);
        }
        let list = match p.image_set_path.as_os_str().is_empty() {
            true => root.join("ImageSets/Main").join(match p.split {
                VocSplit::Train => "train.txt",
                VocSplit::Val => "val.txt",
                VocSplit::Trainval => "trainval.txt",
                VocSplit::Test => "test.txt",
            }),
            false => root.join(&p.image_set_path),
        };
        if let Some(absent) = [&set.folder, &notes, &list].into_iter().find(|path| !path.exists()) {
            let what = "no Pascal VOC here. In `data_root` JPEGImages, Annotations and ImageSets/Main are looked for. They are \
                        what VOCtrainval_06-Nov-2007.tar and its kind unpack to, in VOCdevkit/VOC2007";
            return Err(Error::Missing { path: absent.clone(), what: what.to_owned() });
        }
        for line in text::read(&list)?.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let labels = labels(&notes.join(format!("{line}.xml")), &set.classes)?;
            set.files.push((PathBuf::from(format!("{line}.jpg")), labels));
        }
        if set.files.is_empty() {
            return Err(Error::invalid(format!("{}: it names no picture", list.display())));
        }
        Indices::cut(p.indices.as_ref(), set, cx)
    }

    fn path(&self, index: usize) -> PathBuf {
        self.folder.join(&self.files[index].0)
    }
}

/// What a sample begins with: its picture, and a number for each class.
fn several(classes: &[String]) -> Fields<FieldSpec> {
    let mut all = fields(true);
    all.set(TARGET, FieldSpec::new(FieldKind::Float, &[classes.len()]).named(classes.iter().cloned()));
    all
}

impl Dataset for Voc {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn get(&self, index: usize, rng: &mut Rng) -> Result<Sample> {
        self.get_through(index, rng, &self.pipeline)
    }

    fn get_through(&self, index: usize, rng: &mut Rng, pipeline: &Pipeline) -> Result<Sample> {
        let path = self.path(index);
        text::regular(&path)?;
        let labels = ArrayD::from_shape_vec(vec![self.classes.len()], self.files[index].1.clone());
        let labels = labels.map_err(|e| Error::Other(e.into()))?;
        pipeline.apply(Sample::new(Picture::File(PictureFile::new(path)), labels), rng)
    }

    fn has_pipeline(&self) -> bool {
        true
    }

    fn mark(&self, marks: &mut Marks) {
        for (path, labels) in &self.files {
            marks.name(path.as_os_str().as_encoded_bytes());
            labels.iter().for_each(|label| marks.name(&label.to_le_bytes()));
        }
    }

    fn fields(&self) -> Option<Fields<FieldSpec>> {
        Some(self.pipeline.fields(several(&self.classes)))
    }

    fn picture_size(&self, index: usize) -> Result<Option<[usize; 2]>> {
        PictureFile::new(self.path(index)).size().map(Some)
    }

    fn origin(&self, index: usize) -> Origin {
        if index < self.files.len() { Origin::File(self.path(index)) } else { Origin::Position }
    }
}

/// What an annotation says of each class. Objects of other classes are left out.
fn labels(file: &Path, classes: &[String]) -> Result<Vec<f32>> {
    let mut labels = vec![0.0f32; classes.len()];
    for (name, difficult) in
        objects(&text::read(file)?).map_err(|what| Error::invalid(format!("{}: {what}", file.display())))?
    {
        if let Some(at) = classes.iter().position(|class| *class == name) {
            let label = &mut labels[at];
            *label = if difficult && *label == 0.0 {
                -1.0
            } else if difficult {
                *label
            } else {
                1.0
            };
        }
    }
    Ok(labels)
}

/// Names of the objects of an annotation, and whether they are difficult: the `name` and `difficult` of each `object` below
/// the root, but not those of its parts.
fn objects(xml: &str) -> Result<Vec<(String, bool)>, String> {
    let (mut path, mut found, mut rest): (Vec<&str>, Vec<(String, bool)>, _) = (Vec::new(), Vec::new(), xml);
    while let Some(start) = rest.find('<') {
        let (before, tag) = rest.split_at(start);
        if let ([_, "object", field], Some((name, difficult))) = (&path[..], found.last_mut()) {
            match *field {
                "name" => name.push_str(before.trim()),
                "difficult" => *difficult = !matches!(before.trim(), "0" | ""),
                _ => {}
            }
        }
        let end = if tag.starts_with("<!--") {
            tag.find("-->").map(|end| end + 3)
        } else {
            tag.find('>').map(|end| end + 1)
        };
        let Some(end) = end else {
            return Err(format!("a tag has no end: {:?}", tag.chars().take(20).collect::<String>()));
        };
        let inner = &tag[1..end - 1];
        rest = &tag[end..];
        if inner.starts_with(['!', '?']) || inner.ends_with('/') {
            continue;
        }
        match inner.strip_prefix('/') {
            Some(name) if path.last() == Some(&name.trim()) => drop(path.pop()),
            Some(name) => return Err(format!("`</{name}>` closes what is not open")),
            None => {
                path.push(inner.split_whitespace().next().unwrap_or_default());
                if matches!(path[..], [_, "object"]) {
                    found.push((String::new(), false));
                }
            }
        }
    }
    match path.last() {
        Some(open) => Err(format!("`<{open}>` is not closed")),
        None => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An object that is not difficult makes a yes of one that is; parts and other classes do not count.
    #[test]
    fn annotations_are_read_as_mmpretrain_reads_them() {
        let xml = "<?xml version=\"1.0\"?><annotation><!-- a <b> --><filename>1.jpg</filename>\
            <object><name>dog</name><difficult>1</difficult></object>\
            <object><name>cat</name><difficult>1</difficult></object>\
            <object><part><name>horse</name></part><difficult>0</difficult><name>dog</name></object>\
            <object><name>car</name><truncated/></object><object><name>dragon</name></object></annotation>\n";
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("1.xml");
        std::fs::write(&file, xml).unwrap();
        let classes = ["car", "cat", "dog", "horse"].map(str::to_owned);
        assert_eq!(labels(&file, &classes).unwrap(), [1.0, -1.0, 1.0, 0.0]);
        for (xml, wanted) in
            [("<a><b></a>", "closes what is not open"), ("<a>", "is not closed"), ("<a", "has no end")]
        {
            assert!(objects(xml).unwrap_err().contains(wanted), "{xml}");
        }
    }
}
