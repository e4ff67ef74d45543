//! Samples, the order they come in, and the batches they become.
//!
//! A [`Dataset`] gives samples by position, a [`Sampler`] says in which order, a [`DataLoader`] reads them, with or
//! without worker threads, and stacks them. All of it is a pure function of (seed, batch number): a run can resume at
//! any batch without reading those before it, and results do not depend on the number of workers.

mod batch;
mod batch_sampler;
mod buffers;
mod channel_order;
mod class_counts;
pub(crate) mod classes;
mod collate;
mod config;
mod dataset;
mod field;
mod fingerprint;
mod fitted;
mod left_out;
mod loader;
mod options;
mod orders;
mod origin;
mod picture;
mod picture_cache;
mod plan;
mod preview;
mod sample;
mod sampler;
mod scales;
mod sets;
mod shared;
mod stand_in;
mod survey;
mod told;
mod transform;
mod unreadable;
mod workers;

pub use batch::{Batch, Column};
pub use batch_sampler::{AspectRatioBatchSampler, BatchSampler, DefaultBatchSampler, LengthBatchSampler};
pub(crate) use class_counts::{ClassCounts, class_counts, label_range};
pub use collate::{BatchBuilder, Collate, DefaultCollate, ListCollate, PadCollate};
pub use config::DataLoaderConfig;
pub use dataset::{Dataset, Unread};
pub use field::{FieldKind, FieldSpec, Fields, INPUTS, Name, TARGET, field_name};
pub use fingerprint::{Fingerprint, Marks};
pub use fitted::Fitted;
pub use loader::{Batches, DataLoader};
pub use origin::{Origin, SampleId};
pub use picture::{Backend, Bytes, Colors, Filter, Interpolation, Member, Picture, PictureFile, Window};
pub use sample::{Sample, Value};
pub use sampler::{
    ClassAwareSampler, DefaultSampler, GroupSampler, InfiniteSampler, RepeatAugSampler, RepeatFactorSampler,
    SampleWeights, Sampler, SequentialSampler, Shard, ShardPolicy, Subsample, WeightedRandomSampler,
};
pub use scales::TargetScales;
pub use sets::{ArrayData, ArrayDataset, Level, SyntheticTask, Task, TextConfig, TextLines};
pub use sets::{Cifar, CifarSplit, ConcatDataset, RepeatDataset, Smote, Subset, WebDataset};
pub use sets::{Csv, CsvConfig, Delimiter, Encoding, Missing, Part, Split, Unknown};
pub use sets::{Digits, DigitsSplit, ImageFolder, Mnist, MnistSplit, Pixels, SplitBy, Synthetic};
pub(crate) use shared::in_common;
pub(crate) use stand_in::StandIn;
pub use survey::{Surveyed, survey};
pub use transform::{
    AddNoise, Along, Augment, AutoAugment, Border, CachePictures, CenterCrop, ColorJitter, Compose,
    Deviation, Direction, Edge, EfficientNetCenterCrop, EfficientNetRandomCrop, Filling, Lighting,
    LoadImageFromFile, Magnitude, MapLabels, Mask, Masked, Normalize, Op, Outside, PackInputs, Pad, PadTo,
    Paint, Pipeline, RandAugment, RandomApply, RandomChoice, RandomCrop, RandomErasing, RandomFlip,
    RandomGrayscale, RandomResizedCrop, RandomWindow, Resize, ResizeEdge, Transform,
};
pub use unreadable::SampleError;
