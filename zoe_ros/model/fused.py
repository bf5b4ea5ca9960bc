"""
Operators that a CUDA device computes in one Triton kernel where torch needs many.

Each operator has a fake implementation, so that torch's fake tensors work without a GPU. Maps
are (b, h, w, c) here: the channels are last, as in memory.
"""
from __future__ import annotations

import torch
from torch.nn import functional as F

try:
    import triton

    from zoe_ros.model import triton_kernels as kernels
except ImportError:         # torch without Triton: macOS, Windows, some builds for the CPU
    triton = None

# Whether operators can be defined: custom_op exists since torch 2.4.
DEFINED = triton is not None and hasattr(torch.library, 'custom_op')

# Kernel -> pixels per program, and warps.
_TILES = {'upsample': (16, 4), 'pixel_mlp': (32, 4), 'attract_level': (32, 4),
          'bin_moments': (64, 4)}
# Elements per program of an elementwise kernel.
_NUMBERS = 1024

if DEFINED:
    _op = torch.library.custom_op

    @_op('zoe_ros::upsample', mutates_args=(),
         schema='(Tensor x, int height, int width, Tensor? bias) -> Tensor')
    def upsample(x: torch.Tensor, height: int, width: int,
                 bias: torch.Tensor | None) -> torch.Tensor:
        """Resize (b, h, w, c), bilinear with aligned corners, and add a bias (c,)."""
        x = x.contiguous()
        out = _upsample_fake(x, height, width, bias)
        count = out.shape[0] * height * width
        channels = x.shape[3]
        step = min(256, _pad(channels))
        block, warps = _TILES['upsample']
        kernels.upsample[_grid(count, block)](
            out, x, x if bias is None else bias, count, *_scales(x, height, width),
            CHANNELS=channels, STEP=step, BIASED=bias is not None, BLOCK=block,
            num_warps=warps)
        return out

    @upsample.register_fake
    def _upsample_fake(x: torch.Tensor, height: int, width: int,
                       bias: torch.Tensor | None) -> torch.Tensor:
        return x.new_empty(x.shape[0], height, width, x.shape[3])

    @_op('zoe_ros::pixel_mlp', mutates_args=(),
         schema='(Tensor x, Tensor weight1, Tensor bias1, Tensor weight2, Tensor bias2, '
                'bool tf32=False) -> Tensor')
    def pixel_mlp(x: torch.Tensor, weight1: torch.Tensor, bias1: torch.Tensor,
                  weight2: torch.Tensor, bias2: torch.Tensor, tf32: bool = False) -> torch.Tensor:
        """Return W2 relu(W1 x + b1) + b2 of each pixel (b, h, w, o) float32; W1 is (i, hidden)."""
        x = x.contiguous()
        out = _pixel_mlp_fake(x, weight1, bias1, weight2, bias2, tf32)
        count = out.numel() // out.shape[3]
        inputs, hidden = weight1.shape
        block, warps = _TILES['pixel_mlp']
        if weight1.shape[1] >= 128:
            warps *= 2      # a wide layer needs the registers of more threads
        kernels.pixel_mlp[_grid(count, block)](
            out, x, weight1, bias1, weight2, bias2, count,
            INPUTS=inputs, STEP=_step(inputs), HIDDEN=hidden, HIDDEN_PAD=_pad(hidden),
            OUTPUTS=out.shape[3], OUTPUTS_PAD=_pad(out.shape[3]), PRECISION=_precision(tf32),
            BLOCK=block, num_stages=2, num_warps=warps)
        return out

    @pixel_mlp.register_fake
    def _pixel_mlp_fake(x: torch.Tensor, weight1: torch.Tensor, bias1: torch.Tensor,
                        weight2: torch.Tensor, bias2: torch.Tensor,
                        tf32: bool = False) -> torch.Tensor:
        return weight2.new_empty(*x.shape[:3], weight2.shape[1])

    @_op('zoe_ros::attract_level', mutates_args=(),
         schema='(Tensor embedding, Tensor previous, Tensor bins, Tensor weight1, Tensor bias1, '
                'Tensor weight2, Tensor bias2, bool bounded, bool exponential, bool mean, '
                'float[] span, float alpha, bool tf32=False) -> Tensor')
    def attract_level(embedding: torch.Tensor, previous: torch.Tensor, bins: torch.Tensor,
                      weight1: torch.Tensor, bias1: torch.Tensor, weight2: torch.Tensor,
                      bias2: torch.Tensor, bounded: bool, exponential: bool, mean: bool,
                      span: list[float], alpha: float, tf32: bool = False) -> torch.Tensor:
        """
        Return the bins (b, h, w, k) of a level, from the bins of the previous level.

        :param embedding: (b, h, w, c); :param previous, bins: of the previous, coarser level.
        :param span: (min, max) depth [m], to return bounded bins sorted and in metres; else empty.
        """
        embedding, previous, bins = (x.contiguous() for x in (embedding, previous, bins))
        out = embedding.new_empty(*embedding.shape[:3], bins.shape[3])
        count = embedding.numel() // embedding.shape[3]
        (channels, hidden), attractors = weight1.shape, weight2.shape[1]
        low, high = span or (0.0, 1.0)
        block, warps = _TILES['attract_level']
        kernels.attract_level[_grid(count, block)](
            out, embedding, previous, bins, weight1, bias1, weight2, bias2, count,
            *_scales(bins, *embedding.shape[1:3]), low, high,
            CHANNELS=channels, STEP=_step(channels), HIDDEN=hidden, HIDDEN_PAD=_pad(hidden),
            ATTRACTORS=attractors, ATTRACTORS_PAD=_pad(attractors), BINS=bins.shape[3],
            BINS_PAD=_pad(bins.shape[3]), BOUNDED=bounded, EXPONENTIAL=exponential, MEAN=mean,
            SORTED=bool(span), ALPHA=alpha, PRECISION=_precision(tf32), BLOCK=block,
            num_stages=2, num_warps=warps)
        return out

    @attract_level.register_fake
    def _attract_level_fake(embedding: torch.Tensor, previous: torch.Tensor, bins: torch.Tensor,
                            *_: object) -> torch.Tensor:
        return embedding.new_empty(*embedding.shape[:3], bins.shape[3])

    @_op('zoe_ros::bin_moments', mutates_args=(),
         schema='(Tensor fine, Tensor share, Tensor centers, Tensor? relative, Tensor weight1, '
                'Tensor? weight_relative, Tensor bias1, Tensor weight2, Tensor bias2, '
                'Tensor? coefficients, float[] temperatures, bool deviation, bool tf32=False) '
                '-> Tensor')
    def bin_moments(fine: torch.Tensor, share: torch.Tensor, centers: torch.Tensor,
                    relative: torch.Tensor | None, weight1: torch.Tensor,
                    weight_relative: torch.Tensor | None, bias1: torch.Tensor,
                    weight2: torch.Tensor, bias2: torch.Tensor,
                    coefficients: torch.Tensor | None, temperatures: list[float],
                    deviation: bool, tf32: bool = False) -> torch.Tensor:
        """
        Return (1 or 2, b, H, W): mean and (if asked) deviation of each pixel's bins.

        :param fine: (b, H, W, f); :param share: (b, h, w, hidden), contribution of the coarser map
            to the first layer; :param centers: (b, h, w, k); :param relative: (b, 1, H, W).
        :param weight1: (f, hidden); :param weight2: (4 or k, hidden).
        :param coefficients: (k,) of the log-binomial; None for a softmax over k numbers.
        """
        fine, share, centers = (x.contiguous() for x in (fine, share, centers))
        batch, height, width, channels = fine.shape
        out = centers.new_empty(1 + deviation, batch, height, width)
        hidden, bins, count = weight1.shape[1], centers.shape[3], batch * height * width
        block, warps = _TILES['bin_moments']
        if not tf32:
            block //= 2     # products in three parts need more registers
        kernels.bin_moments[_grid(count, block)](
            out, fine, share, centers, fine if relative is None else relative.contiguous(),
            weight1, weight1 if weight_relative is None else weight_relative, bias1, weight2,
            bias2, bias2 if coefficients is None else coefficients, count,
            *_scales(centers, height, width), *temperatures,
            FINE=channels, FINE_PAD=_pad(channels), HIDDEN=hidden, HIDDEN_PAD=_pad(hidden),
            BINS=bins, BINS_PAD=_pad(bins), RELATIVE=relative is not None,
            LOG_BINOMIAL=coefficients is not None, DEVIATION=deviation,
            PRECISION=_precision(tf32), BLOCK=block, num_warps=warps)
        return out

    @bin_moments.register_fake
    def _bin_moments_fake(fine: torch.Tensor, share: torch.Tensor, centers: torch.Tensor,
                          relative: torch.Tensor | None, weight1: torch.Tensor,
                          weight_relative: torch.Tensor | None, bias1: torch.Tensor,
                          weight2: torch.Tensor, bias2: torch.Tensor,
                          coefficients: torch.Tensor | None, temperatures: list[float],
                          deviation: bool, tf32: bool = False) -> torch.Tensor:
        return centers.new_empty(1 + deviation, *fine.shape[:3])

    @_op('zoe_ros::add_norm', mutates_args=(),
         schema='(Tensor tokens, Tensor? update, Tensor? scale, Tensor weight, Tensor bias, '
                'float eps, ScalarType dtype, bool keep) -> (Tensor, Tensor)')
    def add_norm(tokens: torch.Tensor, update: torch.Tensor | None, scale: torch.Tensor | None,
                 weight: torch.Tensor, bias: torch.Tensor, eps: float, dtype: torch.dtype,
                 keep: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """
        Return tokens + scale * update (if ``keep``), and the layer norm of this sum in ``dtype``.

        :param tokens: (b, n, c) float32; :param update: the same in any precision, or None.
        :param scale, weight, bias: (c,) float32.
        """
        tokens = tokens.contiguous()
        total, normed = _add_norm_fake(tokens, update, scale, weight, bias, eps, dtype, keep)
        channels = tokens.shape[-1]
        kernels.add_norm[tokens.numel() // channels,](
            total, normed, tokens, tokens if update is None else update.contiguous(),
            weight if scale is None else scale, weight, bias, eps,
            CHANNELS=channels, CHANNELS_PAD=_pad(channels), ADDS=update is not None,
            SCALES=scale is not None, KEEPS=keep)
        return total, normed

    @add_norm.register_fake
    def _add_norm_fake(tokens: torch.Tensor, update: torch.Tensor | None,
                       scale: torch.Tensor | None, weight: torch.Tensor, bias: torch.Tensor,
                       eps: float, dtype: torch.dtype,
                       keep: bool) -> tuple[torch.Tensor, torch.Tensor]:
        total = torch.empty_like(tokens) if keep else tokens.new_empty(0)
        return total, torch.empty_like(tokens, dtype=dtype)

    @_op('zoe_ros::add_residual', mutates_args=(),
         schema='(Tensor convolved, Tensor bias, Tensor skip, Tensor? path, bool activate) '
                '-> (Tensor, Tensor)')
    def add_residual(convolved: torch.Tensor, bias: torch.Tensor, skip: torch.Tensor,
                     path: torch.Tensor | None,
                     activate: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the sum of maps (b, h, w, c) and a bias (c,), and (if ``activate``) its relu."""
        convolved, skip = convolved.contiguous(), skip.contiguous()
        total, activated = _add_residual_fake(convolved, bias, skip, path, activate)
        channels = convolved.shape[3]
        kernels.add_residual[_grid(convolved.numel(), _NUMBERS)](
            total, activated, convolved, bias, skip,
            skip if path is None else path.contiguous(), convolved.numel() // channels,
            CHANNELS=channels, JOINS=path is not None, ACTIVATES=activate, BLOCK=_NUMBERS)
        return total, activated

    @add_residual.register_fake
    def _add_residual_fake(convolved: torch.Tensor, bias: torch.Tensor, skip: torch.Tensor,
                           path: torch.Tensor | None,
                           activate: bool) -> tuple[torch.Tensor, torch.Tensor]:
        return (torch.empty_like(convolved),
                torch.empty_like(convolved) if activate else convolved.new_empty(0))

    @_op('zoe_ros::conv_relu', mutates_args=(),
         schema='(Tensor x, Tensor weight, Tensor bias, int padding) -> Tensor')
    def conv_relu(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
                  padding: int) -> torch.Tensor:
        """Return relu of a convolution (b, c, h, w) of stride 1, in one call of cuDNN."""
        if not x.is_cuda:
            return F.relu(F.conv2d(x, weight, bias, padding=padding))
        return torch.cudnn_convolution_relu(
            x, weight, bias, (1, 1), (padding, padding), (1, 1), 1)

    @conv_relu.register_fake
    def _conv_relu_fake(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor,
                        padding: int) -> torch.Tensor:
        return torch.empty_like(F.conv2d(x, weight, None, padding=padding),
                                memory_format=torch.channels_last)


def last(x: torch.Tensor) -> torch.Tensor:
    """Return a map (b, c, h, w) as (b, h, w, c), contiguous."""
    return x.permute(0, 2, 3, 1).contiguous()


def first(x: torch.Tensor) -> torch.Tensor:
    """Return a map (b, h, w, c) as (b, c, h, w), channels last in memory."""
    return x.permute(0, 3, 1, 2)


def _grid(count: int, block: int) -> tuple[int]:
    return (-(-count // block),)


def _pad(count: int) -> int:
    """Return the power of two that holds ``count`` channels, at least 16 for products."""
    return max(16, triton.next_power_of_2(count))


def _step(channels: int) -> int:
    """Return the number of product inputs per load: 32 fit the smallest GPUs."""
    return min(32, _pad(channels))


def _precision(tf32: bool) -> str:
    """Return the mode of float32 products: TF32, or three TF32 products of full accuracy."""
    return 'tf32' if tf32 else 'tf32x3'


def round_tf32(values: torch.Tensor) -> torch.Tensor:
    """Round float32 to the 10 bits of TF32, because matrix units truncate instead of round."""
    bits = values.contiguous().view(torch.int32) + 0x1000
    return (bits & ~0x1FFF).view(torch.float32)


def _scales(coarse: torch.Tensor, height: int,
            width: int) -> tuple[int, int, float, float, int, int]:
    """Return the arguments by which kernels find a pixel of (height, width) in a coarser map."""
    rows, columns = coarse.shape[1:3]
    return (height, width, (rows - 1) / max(height - 1, 1), (columns - 1) / max(width - 1, 1),
            rows, columns)
