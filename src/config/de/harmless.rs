//! Keys of MMEngine's and MMPretrain's configs at the value at which they do nothing. Where no type knows such a key,
//! that value passes; any other one is refused with the reason.

use crate::config::{Kind, Node};

/// What a key may say.
enum Values {
    /// It says how, not what.
    Any,
    /// One of these, as `to_yaml` writes them.
    These(&'static [&'static str]),
}

use Values::{Any, These};

/// Key, harmless values, and why no others.
const KEYS: &[(&str, Values, &str)] = &[
    ("dcn_offset_lr_mult", These(&["null"]), "there are no deformable convolutions"),
    ("foreach", Any, ""),
    ("fused", Any, ""),
    ("capturable", These(&["false"]), "there are no graphs of a GPU to capture"),
    ("differentiable", These(&["false"]), "updates are not differentiated"),
    ("maximize", These(&["false"]), "losses are made small; give the loss a negative weight"),
    ("decoupled_weight_decay", These(&["false"]), "it is AdamW that takes the decay apart from the gradient"),
    ("last_step", These(&["-1"]), "schedules are functions of progress, and resume by themselves"),
    ("verbose", These(&["false"]), "learning rates stand in the log lines"),
    ("padding_mode", These(&["zeros"]), "convolutions pad by zeros"),
    ("scale_factor", These(&["null"]), "pictures of any size are resized to `scale`"),
    (
        "ignore_empty",
        These(&["false"]),
        "a file that is empty is an error, or one of the loader's `max_bad_samples`",
    ),
    ("strides", These(&["[1, 2, 2, 2]"]), "stages make their input smaller as the architecture says"),
    ("dilations", These(&["[1, 1, 1, 1]"]), "the convolutions of the stages are not dilated"),
    ("auto_pad", These(&["false"]), "pad by `Pad` before"),
    ("pad_cfg", Any, ""),
    ("clip_object_border", Any, ""),
    ("swap_seg_labels", These(&["null"]), "masks keep their classes when they are mirrored"),
    ("return_indices", These(&["false"]), "layers give one tensor"),
    ("divisor_override", These(&["null"]), "means are divided by the size of their window"),
    ("published_keys", These(&["null"]), "`ckpt convert` writes the weights alone"),
    ("keep_local", These(&["true"]), "logs stay where they are written"),
    ("out_dir", These(&["null"]), "logs are in the work_dir"),
    ("out_suffix", Any, ""),
    ("save_dir", These(&["null"]), "scalars are in the work_dir"),
    ("img_save_dir", Any, ""),
    ("schedule", These(&["null"]), "the whole of what is asked for is measured"),
    ("on_trace_ready", These(&["null"]), "a trace is a file of the log folder"),
    ("record_shapes", These(&["false"]), "hooks and steps are measured, not tensors"),
    ("profile_memory", These(&["false"]), "time is measured, not memory"),
    ("with_stack", These(&["false"]), "hooks and steps are measured, not calls"),
    ("with_flops", These(&["false"]), "time is measured, not arithmetic"),
    ("meta_keys", Any, ""),
    ("input_key", These(&["img"]), "a sample has one image"),
    ("num_classes", These(&["null"]), "the scores say how many classes there are"),
    ("device", These(&["null", "cpu"]), "there is no GPU"),
    ("dtype", These(&["null"]), "models compute in one type"),
    ("disable_subprocess_warning", Any, ""),
    ("pin_memory_device", Any, ""),
    ("in_order", These(&["true"]), "batches come in their order, whoever makes them"),
    ("multiprocessing_context", These(&["null"]), "workers are threads"),
    ("generator", These(&["null"]), "the order of the data is a function of the seed"),
    ("use_sigmoid", These(&["false"]), "the loss is a softmax over the classes"),
    ("use_soft", These(&["false"]), "the loss takes class numbers"),
    ("reduction", These(&["mean"]), "losses are means over the batch"),
    ("pos_weight", These(&["null"]), "it belongs to a sigmoid"),
    ("worker_init_fn", These(&["null"]), "workers are threads without a state of their own"),
    ("timeout", These(&["0"]), "batches are waited for"),
    ("backend_args", These(&["null", "{}", "{backend: local}"]), "files are read from the disk"),
    ("file_client_args", These(&["null", "{}", "{backend: disk}"]), "files are read from the disk"),
    ("train_cfg", These(&["null", "{}"]), "`augments` of batches are not there"),
    ("test_cfg", These(&["null", "{}"]), "a model is tested as it is validated"),
    ("pretrained", These(&["null"]), "write `init_cfg: {type: Pretrained, checkpoint: …}`"),
    ("out_indices", These(&["-1", "[-1]"]), "the output is that of the last stage"),
    ("with_cp", These(&["false"]), "activations are kept"),
    ("serialize_data", Any, ""),
    ("lazy_init", These(&["false"]), "data sets are read when they are made"),
    ("filter_cfg", These(&["null", "{}"]), "samples are not filtered"),
    ("collect_device", These(&["cpu"]), "the run has one process"),
    ("use_dynamic_scale", These(&["null"]), "the scale of losses is `loss_scale` of the optim_wrapper"),
];

/// Whether a key that nobody knows says nothing.
pub(super) fn passes(key: &str, value: &Node) -> bool {
    KEYS.iter().any(|(known, values, _)| {
        *known == key
            && match values {
                Any => true,
                These(values) => values.contains(&flat(value).as_str()),
            }
    })
}

/// Why such a key cannot say anything else, and what it may say.
pub(super) fn reason(key: &str) -> Option<String> {
    KEYS.iter().find(|(known, ..)| *known == key).and_then(|(_, values, why)| match values {
        Any => None,
        These(values) => Some(format!("`{key}` may only be {}: {why}", values.join(" or "))),
    })
}

/// A small value on one line.
fn flat(value: &Node) -> String {
    match &*value.kind {
        Kind::Map(entries) => {
            let inner: Vec<_> =
                entries.iter().map(|(key, value)| format!("{}: {}", key.text, value.summary())).collect();
            format!("{{{}}}", inner.join(", "))
        }
        Kind::Str(text) => text.clone(),
        _ => value.summary(),
    }
}
