#!/bin/bash
# What CachePictures gains: pictures a second of one pass on one core without it, of the first pass with it, and of the
# second. scripts/bench_cache.sh FOLDER [ROUNDS], with a folder of pictures for each class.
set -eu
folder=$1
rounds=${2:-3}
shanty=${SHANTY:-target/release/shanty}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# config NAME TRANSFORMS
config() {
    cat > "$work/$1.yaml" <<YAML
model: {type: Supervised, network: [{type: GlobalAveragePooling}, {type: Linear, in_features: 3, out_features: 2}], loss: {type: CrossEntropyLoss}}
train_dataloader:
  batch_size: 8
  num_workers: 1
  dataset:
    type: ImageFolder
    data_root: $folder
    pipeline: [$2, {type: RandomCrop, crop_size: 224}, {type: RandomFlip, prob: 0.5}, {type: PackInputs}]
  sampler: {type: DefaultSampler, shuffle: true}
optim_wrapper: {optimizer: {type: SGD, lr: 0.01}}
train_cfg: {by_epoch: true, max_epochs: 1}
randomness: {seed: 0}
work_dir: $work/run
YAML
}
# pass NAME LABEL
pass() {
    echo "$2: $(taskset -c 1 "$shanty" train "$work/$1.yaml" --overwrite --no-sanity 2>&1 | grep -o '[0-9.,]* samples/s')"
}
plain='{type: LoadImageFromFile}, {type: ResizeEdge, scale: 256, backend: pillow}'
config without "$plain"
config with "{type: CachePictures, transforms: [$plain], cache_dir: $work/kept, max_gib: 100}"
for _ in $(seq "$rounds"); do
    rm -rf "$work/kept"
    pass without "without"
    pass with "first pass"
    pass with "second pass"
done
du -sh "$folder" "$work/kept"
