//! Layers of images and sequences.

use shanty::nn::{
    AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveMaxPool1d, AdaptiveMaxPool2d, AvgPool1d, ChannelShuffle,
    ChannelSplit, Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d, DropPath, Dropout2d, GroupNorm,
    InstanceNorm1d, InstanceNorm2d, LayerNorm2d, MaxPool1d, PixelShuffle, PixelUnshuffle, RMSNorm, Upsample,
};

use super::probe::{check, random, spaced};

/// Groups of few channels have kernels of their own: with and without a stride, of one channel and of several.
#[test]
fn grouped_convolutions() {
    let depthwise = |kernel: usize| Conv2d::new(4, 4, kernel).padding(kernel / 2).groups(4);
    for kernel in [3, 5, 7] {
        check("depthwise", random(&[2, 4, 5, 7]), true, depthwise(kernel));
        check("depthwise by two", random(&[1, 4, 6, 5]), true, depthwise(kernel).stride(2));
    }
    check("dilated", random(&[1, 3, 7, 6]), true, Conv2d::new(3, 3, 3).padding(2).dilation(2).groups(3));
    check("multiplied", random(&[2, 3, 4, 5]), true, Conv2d::new(3, 6, 3).padding([1, 0]).groups(3));
    check("by three", random(&[1, 2, 7, 8]), true, Conv2d::new(2, 2, [2, 4]).stride(3).padding(1).groups(2));
    check("several channels", random(&[2, 6, 4, 4]), true, Conv2d::new(6, 15, 3).padding(1).groups(3));
}

#[test]
fn convolutions_of_sequences() {
    check("plain", random(&[2, 3, 7]), true, Conv1d::new(3, 4, 3));
    let all = Conv1d::new(4, 6, 3).stride(2).padding(2).dilation(2).groups(2).bias(false);
    check("everything", random(&[1, 4, 9]), true, all);
}

#[test]
fn transposed_convolutions() {
    check("plain", random(&[2, 3, 3, 4]), true, ConvTranspose2d::new(3, 2, 3));
    let strided = ConvTranspose2d::new(2, 3, [3, 4]).stride([2, 3]).padding([1, 2]).output_padding([1, 2]);
    check("strided", random(&[2, 2, 3, 3]), true, strided);
    let grouped = ConvTranspose2d::new(4, 6, 3).groups(2).dilation(2).output_padding(1).bias(false);
    check("more than its stride", random(&[1, 4, 3, 4]), true, grouped);
    check(
        "depthwise",
        random(&[2, 3, 4, 4]),
        true,
        ConvTranspose2d::new(3, 3, 4).stride(2).padding(1).groups(3),
    );
    check("sequences", random(&[2, 3, 5]), true, ConvTranspose1d::new(3, 2, 4).stride(2).padding(1));
}

#[test]
fn pooling_of_sequences_and_parts() {
    check("max", spaced(&[2, 3, 8]), true, MaxPool1d::new(3).stride(2).padding(1).ceil_mode(true));
    check("mean", random(&[2, 3, 8]), true, AvgPool1d::new(3).stride(2).padding(1).count_include_pad(false));
    check("parts", random(&[2, 2, 7, 5]), true, AdaptiveAvgPool2d::new([3, 4]));
    check("more parts than pixels", random(&[1, 2, 3, 2]), true, AdaptiveAvgPool2d::new([5, 3]));
    check("largest of parts", spaced(&[2, 2, 7, 5]), true, AdaptiveMaxPool2d::new([3, 4]));
    check("largest of whole parts", spaced(&[1, 2, 6, 4]), true, AdaptiveMaxPool2d::new([3, 2]));
    check("sequences", random(&[2, 3, 7]), true, AdaptiveAvgPool1d::new(3));
    check("largest of sequences", spaced(&[2, 3, 7]), true, AdaptiveMaxPool1d::new(3));
}

#[test]
fn sizes_and_places() {
    check("nearest", random(&[2, 2, 3, 4]), true, Upsample::size([7, 3]));
    check("bilinear", random(&[2, 2, 3, 4]), true, Upsample::scale(2.0).bilinear(false));
    check("smaller", random(&[1, 2, 7, 6]), true, Upsample::size([3, 4]).bilinear(false));
    check("corners", random(&[1, 2, 3, 4]), true, Upsample::size([5, 9]).bilinear(true));
    check("pixels", random(&[2, 8, 2, 3]), true, PixelShuffle::new(2));
    check("channels", random(&[2, 2, 4, 6]), true, PixelUnshuffle::new(2));
    check("groups", random(&[2, 6, 3]), true, ChannelShuffle::new(3));
    check("split", random(&[2, 6, 3]), true, ChannelSplit::new(3, 1));
}

#[test]
fn norms_of_groups() {
    check("groups", random(&[2, 6, 3, 2]), true, GroupNorm::new(3, 6));
    check("one group", random(&[3, 4]), true, GroupNorm::new(1, 4).affine(false));
    check("instances", random(&[2, 3, 3, 4]), true, InstanceNorm2d::new(3));
    let tracking = || InstanceNorm1d::new(2).affine(true).track_running_stats(true);
    check("running statistics", random(&[2, 2, 5]), true, tracking());
    check("fixed statistics", random(&[2, 2, 5]), false, tracking());
    check("pixels", random(&[2, 5, 3, 4]), true, LayerNorm2d::new(5));
    check("RMS", random(&[3, 4, 5]), true, RMSNorm::new(5));
    check("RMS of two axes", random(&[3, 4, 10]), true, RMSNorm::over(&[4, 10]).affine(false));
}

#[test]
fn dropouts_of_blocks() {
    check("channels", random(&[3, 4, 2, 2]), true, Dropout2d::new(0.4));
    check("samples", random(&[6, 3, 2]), true, DropPath::new(0.4));
}
