"""The operators that an exported network of images may call; every other one is refused by its name.

They are what `torch.export.export` writes for torchvision's families of classifiers, for some of timm's, and their near
relatives. Each checks its arguments' sizes itself and gives a result whose size does not depend on values. Left out are
backward operators and the parts that `run_decompositions` makes of a network: they trust their caller to have checked,
and some read or write beyond a tensor's end (as `max_pool2d_with_indices_backward` does).
"""

from __future__ import annotations

_NAMES = """
_assert_tensor_metadata.default abs.default adaptive_avg_pool2d.default adaptive_max_pool2d.default add.Scalar
add.Tensor add_.Scalar add_.Tensor addcmul.default addmm.default alias.default alpha_dropout.default amax.default
arange.default arange.start arange.start_step avg_pool1d.default avg_pool2d.default baddbmm.default batch_norm.default
bmm.default broadcast_to.default cat.default chunk.default clamp.default clamp_.default clamp_max.default
clamp_min.default clone.default concat.default constant_pad_nd.default contiguous.default conv1d.default conv2d.default
conv2d.padding conv_transpose2d.input copy_.default cos.default cumsum.default detach.default detach_.default
div.Scalar div.Tensor div.Tensor_mode div_.Tensor dropout.default dropout_.default einsum.default elu.default
elu_.default eq.Scalar erf.default exp.default expand.default expand_as.default feature_dropout.default fill_.Scalar
fill_.Tensor flatten.using_ints flip.default floor_divide.default full.default full_like.default ge.Scalar gelu.default
gelu_.default group_norm.default gt.Scalar hardsigmoid.default hardsigmoid_.default hardswish.default
hardswish_.default hardtanh.default hardtanh_.default index.Tensor index_select.default instance_norm.default
layer_norm.default le.Scalar leaky_relu.default leaky_relu_.default lift_fresh_copy.default linalg_vector_norm.default
linear.default linspace.default log.default log_sigmoid.default log_softmax.int logical_not.default lt.Scalar
masked_fill.Scalar masked_fill_.Scalar matmul.default max.dim max_pool2d.default maximum.default mean.default mean.dim
meshgrid.default meshgrid.indexing minimum.default mish.default mm.default moveaxis.int movedim.int mul.Scalar
mul.Tensor mul_.Scalar mul_.Tensor ne.Scalar neg.default new_full.default new_ones.default new_zeros.default
norm.ScalarOpt_dim ones.default ones_like.default pad.default permute.default pixel_shuffle.default
pixel_unshuffle.default pow.Scalar pow.Tensor_Scalar prelu.default reciprocal.default relu.default relu6.default
relu6_.default relu_.default repeat.default repeat_interleave.self_int reshape.default reshape_as.default
rms_norm.default roll.default rsqrt.default rsub.Scalar scalar_tensor.default scaled_dot_product_attention.default
select.int selu.default sigmoid.default sigmoid_.default silu.default silu_.default sin.default slice.Tensor
softmax.int softplus.default split.Tensor split.sizes split_with_sizes.default sqrt.default square.default
squeeze.default squeeze.dim squeeze.dims stack.default std.dim sub.Scalar sub.Tensor sub_.Tensor sum.default
sum.dim_IntList swapaxes.default sym_size.int t.default tanh.default tanh_.default threshold.default tile.default
to.device to.dtype to.dtype_layout transpose.int type_as.default unbind.int unflatten.int unfold.default
unsqueeze.default unsqueeze_.default upsample_bicubic2d.vec upsample_bilinear2d.vec upsample_nearest2d.vec
var.correction var.dim var_mean.correction view.default where.ScalarOther where.ScalarSelf where.self zero_.default
zeros.default zeros_like.default
"""

ON_TENSORS = frozenset(_NAMES.split())

ON_SIZES = frozenset(
    ("getitem", "add", "sub", "mul", "floordiv", "truediv", "mod", "neg", "eq", "ne", "lt", "le", "gt", "ge")
)
