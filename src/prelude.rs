//! What a program that trains needs: `use shanty::prelude::*;`. Crates with parts of their own take
//! [`shanty::plugin::prelude`].

pub use crate::base::{Error, Result};
pub use crate::data::{
    ArrayDataset, Batch, Csv, CsvConfig, DataLoader, Dataset, DefaultSampler, Digits, DigitsSplit,
    ImageFolder, InfiniteSampler, Mnist, MnistSplit, Part, Split, SplitBy, TextConfig, TextLines,
};
pub use crate::hook::Point;
pub use crate::hook::builtin::{
    CheckInvalidLossHook, CheckpointHook, EMAHook, EarlyStoppingHook, LoggerHook, PreciseBNHook,
};
pub use crate::metric::{
    Accuracy, AveragePrecision, BalancedAccuracy, ConfusionMatrix, IoUMetric, MAE, MSE, MultiLabelMetric, R2,
    RMSE, ROCAUC, SingleLabelMetric,
};
pub use crate::model::{
    ClsHead, ImageClassifier, LeNet5, LinearClsHead, MLP, Model, Objective, ResNet, ResNetConfig, Supervised,
};
pub use crate::nn::{
    AvgPool2d, BCEWithLogitsLoss, BatchNorm1d, BatchNorm2d, Conv2d, CrossEntropyLoss, Dropout, Flatten, GELU,
    GlobalAveragePooling, Identity, L1Loss, LayerNorm, LeakyReLU, Linear, MSELoss, MaxPool2d, Module, ReLU,
    Residual, Sequential, SiLU, Sigmoid, SmoothL1Loss, Tanh,
};
pub use crate::optim::schedule::{ScheduledParam, Totals};
pub use crate::optim::{Adam, ClipGrad, OptimWrapper, Sgd};
pub use crate::run::{
    EpochBasedTrainLoop, IterBasedTrainLoop, Limits, Outcome, Predictor, Runner, RunnerBuilder,
};
