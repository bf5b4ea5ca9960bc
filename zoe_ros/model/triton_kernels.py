"""
The kernels of a CUDA device, in Triton; :mod:`zoe_ros.model.fused` calls them.

All maps are channels last in memory: (b, h, w, c), one row of channels per pixel. A program works
on a block of pixels, numbered through the whole batch. Channel counts are constants of a kernel,
padded to powers of two for Triton. Map sizes, and whether they are multiples of 16, are not
constants, so that a new image size needs no compilation. Tests run these kernels on a CPU in
Triton's interpreter.
"""
from __future__ import annotations

import triton
import triton.language as tl

# Arguments that count pixels: Triton would compile again for values divisible by 16, or 1.
_SIZES = ['count', 'height', 'width', 'rows', 'columns']


@triton.jit
def _corners(pixel, height, width, scale_y, scale_x, rows, columns):
    """
    Find the four cells of a coarser map around pixels, corners aligned, like torch.

    :return: indices of the cells (upper left, upper right, lower left, lower right), and weights
        of the lower row and of the right column.
    """
    image = pixel // (height * width)
    inner = pixel % (height * width)
    y = (inner // width).to(tl.float32) * scale_y
    x = (inner % width).to(tl.float32) * scale_x
    top = tl.minimum(y.to(tl.int32), rows - 1)
    left = tl.minimum(x.to(tl.int32), columns - 1)
    bottom = tl.minimum(top + 1, rows - 1)
    right = tl.minimum(left + 1, columns - 1)
    above = (image * rows + top) * columns
    below = (image * rows + bottom) * columns
    return (above + left, above + right, below + left, below + right,
            y - top.to(tl.float32), x - left.to(tl.float32))


@triton.jit
def _rows(source, cell, channel, channels, mask):
    """Load channels of cells as float32, (cells, channels)."""
    at = cell.to(tl.int64)[:, None] * channels + channel[None, :]
    return tl.load(source + at, mask=mask, other=0).to(tl.float32)


@triton.jit
def _bilinear(source, a, b, c, d, wy, wx, channel, channels, mask):
    """Interpolate channels between the four cells that :func:`_corners` found."""
    upper = (1 - wx)[:, None] * _rows(source, a, channel, channels, mask) \
        + wx[:, None] * _rows(source, b, channel, channels, mask)
    lower = (1 - wx)[:, None] * _rows(source, c, channel, channels, mask) \
        + wx[:, None] * _rows(source, d, channel, channels, mask)
    return (1 - wy)[:, None] * upper + wy[:, None] * lower


@triton.jit
def _weight(source, row, rows, column, columns):
    """Load a (rows, columns) matrix, padded with zeros."""
    return tl.load(source + row[:, None] * columns + column[None, :],
                   mask=(row < rows)[:, None] & (column < columns)[None, :], other=0)


@triton.jit
def _vector(source, index, count):
    """Load a vector, padded with zeros."""
    return tl.load(source + index, mask=index < count, other=0)


@triton.jit
def _product(x, weight, total, PRECISION: tl.constexpr):
    """
    Return x W, plus ``total`` if given.

    In TF32 mode matrix units truncate float32 to 10 bits, towards zero. So x is rounded here; W
    was rounded when loaded (:func:`zoe_ros.model.fused.round_tf32`).
    """
    if PRECISION == 'tf32':
        x = ((x.to(tl.int32, bitcast=True) + 0x1000) & -0x2000).to(tl.float32, bitcast=True)
    return tl.dot(x, weight, total, input_precision=PRECISION)


@triton.jit
def _softplus(x):
    """Return ln(1 + e^x), accurate for small e^x, and x where torch's softplus returns x."""
    e = tl.exp(tl.minimum(x, 20.0))
    one = 1 + e
    # The factor restores the digits of e that the rounding of 1 + e has lost.
    exact = tl.where(one == 1, e, tl.log(one) * (e / tl.where(one == 1, 1.0, one - 1)))
    return tl.where(x > 20, x, exact)


@triton.jit(do_not_specialize=_SIZES)
def upsample(out, source, bias, count, height, width, scale_y, scale_x, rows, columns,
             CHANNELS: tl.constexpr, STEP: tl.constexpr, BIASED: tl.constexpr,
             BLOCK: tl.constexpr):
    """Resize a map, bilinear with aligned corners, and add a bias to each channel."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < count
    a, b, c, d, wy, wx = _corners(pixel, height, width, scale_y, scale_x, rows, columns)
    for first in range(0, CHANNELS, STEP):
        channel = first + tl.arange(0, STEP)
        mask = inside[:, None] & (channel < CHANNELS)[None, :]
        values = _bilinear(source, a, b, c, d, wy, wx, channel, CHANNELS, mask)
        if BIASED:
            values += _vector(bias, channel, CHANNELS).to(tl.float32)[None, :]
        at = pixel.to(tl.int64)[:, None] * CHANNELS + channel[None, :]
        tl.store(out + at, values.to(out.dtype.element_ty), mask=mask)


@triton.jit
def _hidden(source, previous, a, b, c, d, wy, wx, pixel, inside, weight, bias,
            INPUTS: tl.constexpr, STEP: tl.constexpr, HIDDEN: tl.constexpr,
            HIDDEN_PAD: tl.constexpr, SUMMED: tl.constexpr, PRECISION: tl.constexpr,
            BLOCK: tl.constexpr):
    """Return relu(W x + b) of each pixel; an upsampled map may be added to x first."""
    unit = tl.arange(0, HIDDEN_PAD)
    total = tl.zeros((BLOCK, HIDDEN_PAD), dtype=tl.float32)
    for first in range(0, INPUTS, STEP):
        channel = first + tl.arange(0, STEP)
        mask = inside[:, None] & (channel < INPUTS)[None, :]
        x = _rows(source, pixel, channel, INPUTS, mask)
        if SUMMED:
            x += _bilinear(previous, a, b, c, d, wy, wx, channel, INPUTS, mask)
        total = _product(x, _weight(weight, channel, INPUTS, unit, HIDDEN), total, PRECISION)
    return tl.maximum(total + _vector(bias, unit, HIDDEN)[None, :], 0)


@triton.jit(do_not_specialize=_SIZES)
def pixel_mlp(out, source, weight1, bias1, weight2, bias2, count,
              INPUTS: tl.constexpr, STEP: tl.constexpr, HIDDEN: tl.constexpr,
              HIDDEN_PAD: tl.constexpr, OUTPUTS: tl.constexpr, OUTPUTS_PAD: tl.constexpr,
              PRECISION: tl.constexpr, BLOCK: tl.constexpr):
    """Write W2 relu(W1 x + b1) + b2 of each pixel."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < count
    hidden = _hidden(source, source, pixel, pixel, pixel, pixel, pixel, pixel, pixel, inside,
                     weight1, bias1, INPUTS, STEP, HIDDEN, HIDDEN_PAD, False, PRECISION, BLOCK)
    unit, channel = tl.arange(0, HIDDEN_PAD), tl.arange(0, OUTPUTS_PAD)
    values = _product(hidden, _weight(weight2, unit, HIDDEN, channel, OUTPUTS), None, PRECISION)
    values += _vector(bias2, channel, OUTPUTS)[None, :]
    at = pixel.to(tl.int64)[:, None] * OUTPUTS + channel[None, :]
    tl.store(out + at, values, mask=inside[:, None] & (channel < OUTPUTS)[None, :])


@triton.jit(do_not_specialize=_SIZES)
def attract_level(out, embedding, previous, bins, weight1, bias1, weight2, bias2, count, height,
                  width, scale_y, scale_x, rows, columns, low, high,
                  CHANNELS: tl.constexpr, STEP: tl.constexpr, HIDDEN: tl.constexpr,
                  HIDDEN_PAD: tl.constexpr, ATTRACTORS: tl.constexpr,
                  ATTRACTORS_PAD: tl.constexpr, BINS: tl.constexpr, BINS_PAD: tl.constexpr,
                  BOUNDED: tl.constexpr, EXPONENTIAL: tl.constexpr, MEAN: tl.constexpr,
                  SORTED: tl.constexpr, ALPHA: tl.constexpr, PRECISION: tl.constexpr,
                  BLOCK: tl.constexpr):
    """
    Write the bins of a level: upsample the bins of the previous level and move them by attractors.

    ``previous`` and ``bins`` are maps of (rows, columns), the others of (height, width). SORTED is
    set for the last level of bounded bins, which is written in metres in ascending order.
    """
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < count
    a, b, c, d, wy, wx = _corners(pixel, height, width, scale_y, scale_x, rows, columns)
    hidden = _hidden(embedding, previous, a, b, c, d, wy, wx, pixel, inside, weight1, bias1,
                     CHANNELS, STEP, HIDDEN, HIDDEN_PAD, True, PRECISION, BLOCK)
    unit, index = tl.arange(0, HIDDEN_PAD), tl.arange(0, ATTRACTORS_PAD)
    raw = _product(hidden, _weight(weight2, unit, HIDDEN, index, ATTRACTORS), None, PRECISION)
    raw += _vector(bias2, index, ATTRACTORS)[None, :]
    if BOUNDED:
        points = tl.maximum(raw, 0) + 1e-3
    else:
        points = _softplus(raw)
    k = tl.arange(0, BINS_PAD)
    mask = inside[:, None] & (k < BINS)[None, :]
    centers = _bilinear(bins, a, b, c, d, wy, wx, k, BINS, mask)
    shift = tl.zeros((BLOCK, BINS_PAD), dtype=tl.float32)
    for i in range(ATTRACTORS):
        point = tl.sum(tl.where((index == i)[None, :], points, 0), axis=1)
        distance = point[:, None] - centers
        if EXPONENTIAL:
            shift += distance * tl.exp(-ALPHA * distance * distance)
        else:
            shift += distance / (1 + ALPHA * distance * distance)
    if MEAN:
        shift = shift / ATTRACTORS
    centers += shift
    if SORTED:
        centers = (high - low) * centers + low
        centers = tl.where((k < BINS)[None, :], centers, float('inf'))
        centers = tl.minimum(tl.maximum(tl.sort(centers, dim=1), low), high)
    at = pixel.to(tl.int64)[:, None] * BINS + k[None, :]
    tl.store(out + at, centers, mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def bin_moments(out, fine, share, centers, relative, weight1, weight_relative, bias1, weight2,
                bias2, coefficients, count, height, width, scale_y, scale_x, rows, columns,
                min_temperature, max_temperature,
                FINE: tl.constexpr, FINE_PAD: tl.constexpr, HIDDEN: tl.constexpr,
                HIDDEN_PAD: tl.constexpr, BINS: tl.constexpr, BINS_PAD: tl.constexpr,
                RELATIVE: tl.constexpr, LOG_BINOMIAL: tl.constexpr, DEVIATION: tl.constexpr,
                PRECISION: tl.constexpr, BLOCK: tl.constexpr):
    """
    Write the mean (and deviation) of each pixel's distribution over its bins.

    ``share`` and ``centers`` are maps of (rows, columns), ``fine`` and ``relative`` of (height,
    width). The bins of a pixel are in registers only.
    """
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < count
    a, b, c, d, wy, wx = _corners(pixel, height, width, scale_y, scale_x, rows, columns)
    unit, channel = tl.arange(0, HIDDEN_PAD), tl.arange(0, FINE_PAD)
    x = _rows(fine, pixel, channel, FINE, inside[:, None] & (channel < FINE)[None, :])
    hidden = _product(x, _weight(weight1, channel, FINE, unit, HIDDEN), None, PRECISION)
    hidden += _bilinear(share, a, b, c, d, wy, wx, unit, HIDDEN,
                        inside[:, None] & (unit < HIDDEN)[None, :])
    hidden += _vector(bias1, unit, HIDDEN)[None, :]
    if RELATIVE:
        value = tl.load(relative + pixel, mask=inside, other=0).to(tl.float32)
        hidden += value[:, None] * _vector(weight_relative, unit, HIDDEN)[None, :]
    hidden = 0.5 * hidden * (1 + tl.erf(hidden * 0.7071067811865476))
    k = tl.arange(0, BINS_PAD)
    if LOG_BINOMIAL:
        p0 = _positive(hidden, weight2, bias2, 0, unit, HIDDEN)
        p1 = _positive(hidden, weight2, bias2, 1, unit, HIDDEN)
        p2 = _positive(hidden, weight2, bias2, 2, unit, HIDDEN)
        p3 = _positive(hidden, weight2, bias2, 3, unit, HIDDEN)
        mode = p0 / (p0 + p1)
        temperature = min_temperature + (max_temperature - min_temperature) * (p2 / (p2 + p3))
        odds = tl.log(tl.minimum(tl.maximum(mode, 1e-4), 1.0)) \
            - tl.log(tl.minimum(tl.maximum(1 - mode, 1e-4), 1.0))
        logits = _vector(coefficients, k, BINS)[None, :] + k.to(tl.float32)[None, :] \
            * odds[:, None]
        logits = logits / temperature[:, None]
    else:
        # weight2 is (outputs, hidden): four rows for the log-binomial, all bins for the softmax.
        rows2 = tl.load(weight2 + k[None, :] * HIDDEN + unit[:, None],
                        mask=(k < BINS)[None, :] & (unit < HIDDEN)[:, None], other=0)
        logits = _product(hidden, rows2, None, PRECISION) + _vector(bias2, k, BINS)[None, :]
    logits = tl.where((k < BINS)[None, :], logits, -float('inf'))
    weights = tl.exp(logits - tl.max(logits, axis=1)[:, None])
    weights = weights / tl.sum(weights, axis=1)[:, None]
    values = _bilinear(centers, a, b, c, d, wy, wx, k, BINS,
                       inside[:, None] & (k < BINS)[None, :])
    mean = tl.sum(weights * values, axis=1)
    tl.store(out + pixel, mean, mask=inside)
    if DEVIATION:
        offset = values - mean[:, None]
        variance = tl.sum(weights * offset * offset, axis=1)
        tl.store(out + count + pixel, tl.sqrt(variance), mask=inside)


@triton.jit
def _positive(hidden, weight, bias, row: tl.constexpr, unit, HIDDEN: tl.constexpr):
    """Return one of the four positive outputs that determine mode and temperature."""
    w = tl.load(weight + row * HIDDEN + unit, mask=unit < HIDDEN, other=0)
    return _softplus(tl.sum(hidden * w[None, :], axis=1) + tl.load(bias + row)) + 1e-4


@triton.jit
def add_norm(total, normed, tokens, update, scale, weight, bias, eps,
             CHANNELS: tl.constexpr, CHANNELS_PAD: tl.constexpr, ADDS: tl.constexpr,
             SCALES: tl.constexpr, KEEPS: tl.constexpr):
    """
    Write the layer norm of tokens + scale * update for one token.

    ADDS: there is an update; SCALES: the update has a scale; KEEPS: the sum is written, too.
    """
    channel = tl.arange(0, CHANNELS_PAD)
    mask = channel < CHANNELS
    at = tl.program_id(0).to(tl.int64) * CHANNELS + channel
    x = tl.load(tokens + at, mask=mask, other=0).to(tl.float32)
    if ADDS:
        change = tl.load(update + at, mask=mask, other=0).to(tl.float32)
        if SCALES:
            change = change * tl.load(scale + channel, mask=mask, other=0)
        x += change
    if KEEPS:
        tl.store(total + at, x, mask=mask)
    mean = tl.sum(x, axis=0) / CHANNELS
    centred = tl.where(mask, x - mean, 0)
    variance = tl.sum(centred * centred, axis=0) / CHANNELS
    y = centred / tl.sqrt(variance + eps)
    y = y * tl.load(weight + channel, mask=mask, other=0) + tl.load(
        bias + channel, mask=mask, other=0)
    tl.store(normed + at, y.to(normed.dtype.element_ty), mask=mask)


@triton.jit(do_not_specialize=_SIZES)
def add_residual(total, activated, convolved, bias, skip, path, count,
                 CHANNELS: tl.constexpr, JOINS: tl.constexpr, ACTIVATES: tl.constexpr,
                 BLOCK: tl.constexpr):
    """
    Write the sum of a convolution, its bias, its input, and (JOINS) the path of the coarser block.

    ACTIVATES: write relu of the sum, too, for the next convolution. A program works on a block of
    elements, not of pixels; ``count`` is still the number of pixels.
    """
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < count.to(tl.int64) * CHANNELS
    x = tl.load(convolved + at, mask=mask, other=0).to(tl.float32)
    x += tl.load(bias + at % CHANNELS, mask=mask, other=0).to(tl.float32)
    x += tl.load(skip + at, mask=mask, other=0).to(tl.float32)
    if JOINS:
        x += tl.load(path + at, mask=mask, other=0).to(tl.float32)
    tl.store(total + at, x.to(total.dtype.element_ty), mask=mask)
    if ACTIVATES:
        tl.store(activated + at, tl.maximum(x, 0).to(activated.dtype.element_ty), mask=mask)
