"""
The cost of an operation of torch on a CUDA device, derived from shapes only.

The rules:

* A view and an allocation cost nothing. Every other operation is at least one kernel, also a copy
  within the device and a fill, which a CUDA graph may hold as a node of its own.
* An operation that torch's C++ code composes of others counts as these others.
* An elementwise operation, reduction, concatenation, interpolation, softmax or norm is one kernel.
  The kernel reads each input and writes each output once. A broadcast input is read at its own
  size, a repeated input once. Caches are ignored: a kernel reads the output of the previous one
  from memory.
* A matrix product and fused attention are one kernel each, whatever kernels the library runs. The
  bias of a product and a fused activation are added in the same kernel (cuBLASLt); a mask of
  attention is read once for the whole batch. Where torch chooses the kernel of attention, it first
  pads a mask whose rows do not start at multiples of eight numbers.
* A convolution by cuDNN is one kernel, with a copy before it if input or weight are in another
  layout than the one that torch chooses, and a kernel after it that adds the bias (`_convolution`
  in ATen/native/Convolution.cpp). Kernels that cuDNN itself starts beside are not known.
* Padding by a constant is a fill and a copy, sorting is a fill of indices, a copy and the sort
  (ATen/native/cuda/Sort.cpp), a layer of nn.TransformerEncoder is nine kernels
  (ATen/native/transformers): four products, attention, two sums, two norms.
* A gather reads the elements that it selects, at most the whole tensor.
* An operator of this project (`zoe_ros::`) is one kernel.
* FLOPs are those of products, convolutions and attention, by the registry of
  torch.utils.flop_counter. Those of our operators are registered there below.
* An unknown operation counts as one kernel that reads and writes all its tensors, and is listed.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from math import prod
from typing import Any, NamedTuple

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, register_flop_formula, sdpa_flop_count

from zoe_ros.model import fused

OURS = 'zoe_ros'
PRODUCTS = {'mm', 'addmm', '_addmm_activation', 'bmm', '_scaled_mm', 'convolution'}
ATTENTION = 'scaled_dot_product_attention'
FREE = {'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', '_unsafe_view'}
ONE_KERNEL = PRODUCTS - {'convolution'} | {
    'sum', 'mean', 'amax', 'argmax', 'cumsum', '_softmax', 'native_layer_norm',
    'upsample_bilinear2d', 'upsample_bicubic2d', 'upsample_nearest2d', 'cat', 'stack', 'repeat',
    'roll', '_to_copy', 'copy_'}
# These read no memory, although some of them get a tensor.
FILLS = {'arange', 'scalar_tensor', 'fill_', 'zero_', *(
    f'{name}{kind}' for name in ('full', 'ones', 'zeros') for kind in ('', '_like')), *(
    f'new_{name}' for name in ('full', 'ones', 'zeros'))}
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd


class Kernel(NamedTuple):
    """
    One launch.

    :param reads, writes: tensors.
    :param flops: of products, see the rules.
    """

    name: str
    reads: list[torch.Tensor]
    writes: list[torch.Tensor]
    flops: int = 0


class Watch(TorchDispatchMode):
    """
    Passes every kernel of the operations in its context to a function.

    :ivar unknown: names of operations that no rule knows, and how often they ran.
    :ivar without_flops: operators of ours that no formula of FLOPs is registered for.
    :ivar host: operations that copy between host and device.
    """

    def __init__(self, launch: Callable[[Kernel], None]) -> None:
        """Pass each kernel to ``launch``."""
        super().__init__()
        self._launch = launch
        self.unknown: Counter[str] = Counter()
        self.without_flops: Counter[str] = Counter()
        self.host: Counter[str] = Counter()

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation on fake tensors and report its kernels."""
        kwargs = kwargs or {}
        name = op.overloadpacket.__name__
        if op.namespace == 'prim' or name in FREE:
            return op(*args, **kwargs)
        if op.namespace == 'aten' and name in SPECIAL:
            result, kernels = SPECIAL[name](op, *args, **kwargs)
        elif torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), _COMPOSITE):
            with self:
                # Not op.decompose, which prefers decompositions that only compilers use.
                return op._op_dk(_COMPOSITE, *args, **kwargs)
        else:
            result = op(*args, **kwargs)
            if op.is_view:
                return result
            kernels = [self._one_kernel(op, args, kwargs, result)]
        if any(tensor.is_cuda for tensor in _tensors((args, kwargs, result))):
            self._note(op, args, kwargs, result)
            for kernel in kernels:
                self._launch(kernel)
        return result

    def _one_kernel(self, op: Any, args: Any, kwargs: Any, result: Any) -> Kernel:
        name = op.overloadpacket.__name__
        reads, writes = [], _tensors(result)
        for argument, value in _named(op, args, kwargs):
            written = argument.alias_info is not None and argument.alias_info.is_write
            writes += _tensors(value) if written else []
            replaced = written and (argument.is_out or name == 'copy_')
            reads += [] if replaced or name in FILLS else _tensors(value)
        formula = flop_registry.get(op.overloadpacket)
        flops = formula(*args, **kwargs, out_val=result) if formula else 0
        return Kernel(_name(op), reads, writes, flops)

    def _note(self, op: Any, args: Any, kwargs: Any, result: Any) -> None:
        name, tensors = op.overloadpacket.__name__, _tensors((args, kwargs, result))
        if op.namespace == OURS:
            if op.overloadpacket not in flop_registry:
                self.without_flops[_name(op)] += 1
        elif op.namespace != 'aten' or not (
                name in ONE_KERNEL | FILLS or name in SPECIAL
                or torch.Tag.pointwise in op.tags):
            self.unknown[_name(op)] += 1
        # A scalar argument of a kernel may be a host tensor without dimensions.
        if any(not t.is_cuda and (t.dim() or name == '_to_copy') for t in tensors):
            self.host[_name(op)] += 1


def size_of(tensor: torch.Tensor) -> int:
    """Return the bytes of a tensor; what is broadcast counts once."""
    sizes = [size for size, stride in zip(tensor.shape, tensor.stride()) if stride or not size]
    return prod(sizes) * tensor.element_size()


def distinct(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """Return the tensors of a device, without those that share their memory."""
    found = {(t.untyped_storage()._cdata, t.storage_offset(), t.shape, t.stride()): t
             for t in tensors if t.is_cuda}
    return list(found.values())


def _convolution(op: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None,
                 *geometry: Any) -> Any:
    """Return result and kernels of a convolution of (b, c, h, w) by cuDNN."""
    last = torch.channels_last
    layout = last if last in (_layout(x), _layout(weight)) else torch.contiguous_format
    # Fake tensors do not always have the layout of cuDNN's result.
    result = torch.empty_like(op(x, weight, bias, *geometry), memory_format=layout)
    flops = flop_registry[op.overloadpacket](x, weight, bias, *geometry, out_val=result)
    copies = [(t, torch.empty_like(t, memory_format=layout)) for t in (x, weight)
              if not t.is_contiguous(memory_format=layout)]
    kernels = [Kernel('aten.clone (before convolution)', [old], [new]) for old, new in copies]
    inputs = [*(t for t in (x, weight) if t.is_contiguous(memory_format=layout)),
              *(new for _, new in copies)]
    kernels.append(Kernel('aten.convolution', inputs, [result], flops))
    if bias is not None:
        kernels.append(Kernel('aten.add_ (bias of convolution)', [result, bias], [result]))
    return result, kernels


def _layout(x: torch.Tensor) -> torch.memory_format:
    """Return the memory layout of a tensor by the rule of torch's suggest_memory_format."""
    return torch._prims_common.suggest_memory_format(x)


def _attention(op: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
               attn_mask: torch.Tensor | None = None, *rest: Any, **options: Any) -> Any:
    """Return result and kernels of fused attention over (b, heads, n, d)."""
    b, heads, n, _ = q.shape
    # The fused kernels store the heads of a token side by side.
    result = q.new_empty(b, n, heads, v.shape[3]).transpose(1, 2)
    flops = sdpa_flop_count(q.shape, k.shape, v.shape)
    kernels, inputs = [], [q, k, v]
    if attn_mask is not None:
        if any(stride % 8 for stride in attn_mask.stride()[:-1]) or attn_mask.stride(-1) != 1:
            own, rows = attn_mask, -(-attn_mask.shape[-1] // 8) * 8
            attn_mask = own.new_empty(*own.shape[:-1], rows)
            kernels = _padding_kernels(own, attn_mask)
        inputs.append(attn_mask)
    return result, [*kernels, Kernel(f'aten.{ATTENTION}', inputs, [result], flops)]


def _chosen_attention(op: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
                      mask: torch.Tensor | None, *rest: Any, **options: Any) -> Any:
    """Return result and kernel of fused attention that is called by its own name."""
    result = op(q, k, v, mask, *rest, **options)
    flops = sdpa_flop_count(q.shape, k.shape, v.shape)
    return result, [Kernel(f'aten.{ATTENTION}', _tensors([q, k, v, mask]), [result[0]], flops)]


def _padding(op: Any, x: torch.Tensor, *rest: Any) -> Any:
    result = op(x, *rest)
    return result, _padding_kernels(x, result)


def _padding_kernels(x: torch.Tensor, padded: torch.Tensor) -> list[Kernel]:
    return [Kernel('aten.fill_ (padding)', [], [padded]),
            Kernel('aten.copy_ (padding)', [x], [torch.empty_like(x)])]


def _sort(op: Any, x: torch.Tensor, *rest: Any, **options: Any) -> Any:
    values, indices = op(x, *rest, **options)
    return (values, indices), [
        Kernel('aten.fill_ (indices)', [], [indices]), Kernel('aten.copy_ (sort)', [x], [values]),
        Kernel('aten.sort', [values, indices], [values, indices])]


def _gather(op: Any, x: torch.Tensor, indices: Any) -> Any:
    result = op(x, indices)
    taken = x if size_of(x) <= size_of(result) else x.as_strided([result.numel()], [1])
    return result, [Kernel('aten.index', [taken, *_tensors(indices)], [result])]


def _encoder_layer(op: Any, x: torch.Tensor, width: int, heads: int, qkv: torch.Tensor,
                   qkv_bias: torch.Tensor, mix: torch.Tensor, mix_bias: torch.Tensor,
                   gelu: bool, norm_first: bool, eps: float, *rest: torch.Tensor) -> Any:
    """Return result and kernels of a layer of nn.TransformerEncoder over (b, n, d)."""
    scale1, shift1, scale2, shift2, up, up_bias, down, down_bias = rest[:8]

    def product(source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        out = x.new_empty(*x.shape[:2], len(weight))
        kernels.append(Kernel('aten.addmm (encoder layer)', [source, weight, bias], [out],
                              2 * out.numel() * weight.shape[1]))
        return out

    kernels: list[Kernel] = []
    token = product(x, qkv, qkv_bias)
    mixed = torch.empty_like(x)
    flops = 4 * x.shape[0] * x.shape[1] ** 2 * width
    kernels.append(Kernel('attention (encoder layer)', [token], [mixed], flops))
    for scale, shift in ((scale1, shift1), (scale2, shift2)):
        hidden = (product(mixed, mix, mix_bias) if scale is scale1
                  else product(product(mixed, up, up_bias), down, down_bias))
        kernels.append(Kernel('aten.add_ (encoder layer)', [hidden, x], [hidden]))
        mixed = x = torch.empty_like(x)
        kernels.append(Kernel('norm (encoder layer)', [hidden, scale, shift], [mixed]))
    return mixed, kernels


SPECIAL: dict[str, Callable[..., Any]] = {
    'convolution': _convolution, ATTENTION: _attention,
    '_scaled_dot_product_efficient_attention': _chosen_attention,
    '_scaled_dot_product_cudnn_attention': _chosen_attention,
    'constant_pad_nd': _padding, 'sort': _sort, 'index': _gather,
    '_transformer_encoder_layer_fwd': _encoder_layer}


def _name(op: Any) -> str:
    return f'{op.namespace}.{op.overloadpacket.__name__}'


def _tensors(values: Any) -> list[torch.Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]


def _named(op: Any, args: Any, kwargs: Any) -> list[tuple[Any, Any]]:
    """Return the arguments of a call with their entries in the schema."""
    arguments = op._schema.arguments
    return [*zip(arguments, args),
            *((argument, kwargs[argument.name]) for argument in arguments
              if argument.name in kwargs)]


# FLOP formulas get shapes instead of tensors.

@register_flop_formula(torch.ops.aten._addmm_activation)
def _addmm_activation_flops(bias: Any, x: Any, weight: Any, *_: Any, **__: Any) -> int:
    return 2 * prod(x) * weight[1]


def _layers_flops(x: Any, weight1: Any, outputs: int) -> int:
    """Return the FLOPs of two products for each row of x (..., i); weight1: (i, hidden)."""
    inputs, hidden = weight1
    return 2 * prod(x[:-1]) * hidden * (inputs + outputs)


def _register() -> None:
    """Register the FLOPs of our operators."""
    ours = torch.ops.zoe_ros

    @register_flop_formula(ours.pixel_mlp)
    def _pixel_mlp(x: Any, weight1: Any, bias1: Any, weight2: Any, *_: Any, **__: Any) -> int:
        return _layers_flops(x, weight1, weight2[1])

    @register_flop_formula(ours.attract_level)
    def _attract_level(embedding: Any, previous: Any, bins: Any, weight1: Any, bias1: Any,
                       weight2: Any, *_: Any, **__: Any) -> int:
        return _layers_flops(embedding, weight1, weight2[1])

    @register_flop_formula(ours.bin_moments)
    def _bin_moments(fine: Any, share: Any, centers: Any, relative: Any, weight1: Any,
                     weight_relative: Any, bias1: Any, weight2: Any, *_: Any, **__: Any) -> int:
        return _layers_flops(fine, weight1, weight2[0])

    @register_flop_formula(ours.conv_relu)
    def _conv_relu(x: Any, weight: Any, *_: Any, out_shape: Any, **__: Any) -> int:
        return 2 * prod(out_shape) * prod(weight[1:])

    @register_flop_formula([ours.upsample, ours.add_norm, ours.add_residual])
    def _none(*_: Any, **__: Any) -> int:
        return 0


if fused.DEFINED:
    _register()
