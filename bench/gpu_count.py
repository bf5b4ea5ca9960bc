"""
Count kernels, bytes and FLOPs of one frame on a CUDA device, by part, without a GPU.

The real code runs on tensors with shapes but without values (torch's fake tensors); gpu_rules.py
defines the cost of each operation. The time is an estimate from these counts and four ceilings,
not a measurement: each kernel takes a fixed time, plus the longer of two times: its traffic at the
speed of a large copy, and its FLOPs at the speed of a large product.

Not counted: copies between host and device, and the node's work after predict().
"""
from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
import json
from operator import attrgetter
from typing import Any, NamedTuple

from gpu_rules import ATTENTION, distinct, Kernel, PRODUCTS, size_of, Watch
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from zoe_ros.inference.choices import DTYPES
from zoe_ros.inference.preprocess import plan_sizes, to_depth, to_pixels
from zoe_ros.inference.runner import by_heads, PositionBiases
from zoe_ros.model.config import VARIANTS, ZoeConfig
from zoe_ros.model.zoedepth import ZoeDepth

CUDA = torch.device('cuda', 0)
# (height, width) of the input image [px], and the memory for position biases [GiB], the default of
# the estimator.
IMAGE, POSITION_MEMORY = (480, 640), 1.0
# Operations inside these functions of a model belong to that part; the innermost function counts.
PARTS = {
    'encode': 'encoder', 'decoder.skips': 'decoder', 'decoder.fuse': 'decoder',
    'metric.project': 'embeddings', 'metric.embed': 'embeddings',
    'router.forward': 'router', 'predict_depth': 'heads'}
ENCODER = ('encoder: products', 'encoder: attention', 'encoder: norms, casts, elementwise')
NETWORK = (*ENCODER, 'decoder', 'embeddings', 'router', 'heads', 'elsewhere')
AROUND = 'way in and out'


class Ceilings(NamedTuple):
    """Limits of a device: copy [TB/s], products in half and single [TFLOP/s], kernel [us]."""

    copy: float = 3.0
    half: float = 700.0
    single: float = 60.0
    kernel: float = 2.2


@dataclass
class Cost:
    """
    The cost of several kernels.

    :ivar weights, biases: reads of the model's weights and of cached position biases [bytes].
    :ivar rest: all other reads and writes [bytes].
    :ivar estimate: estimated time [ms].
    :ivar operations: name -> number of kernels, and their traffic without weights and biases.
    """

    kernels: int = 0
    flops: int = 0
    weights: int = 0
    biases: int = 0
    rest: int = 0
    estimate: float = 0.0
    operations: dict[str, list[int]] = field(default_factory=dict)


NUMBERS = [number.name for number in fields(Cost) if number.name != 'operations']


class Count:
    """
    The costs of a frame by part.

    :ivar parts: name -> cost.
    :ivar watch: see :class:`Watch`; lists operations that could not be counted exactly.
    """

    def __init__(self, ceilings: Ceilings, weights: Iterable[torch.Tensor],
                 biases: Iterable[torch.Tensor]) -> None:
        """Start at zero; reads of the given tensors are counted separately."""
        self.parts: dict[str, Cost] = {}
        self.watch = Watch(self._add)
        self._ceilings = ceilings
        self._part = 'elsewhere'
        self._weights = {tensor.untyped_storage()._cdata for tensor in weights}
        self._biases = {tensor.untyped_storage()._cdata for tensor in biases}

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Count the following operations as a part."""
        before, self._part = self._part, part
        yield
        self._part = before

    def enclose(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Return a function that does the same, counted as a part."""
        def enclosed(*args: Any, **kwargs: Any) -> Any:
            with self.within(part):
                return function(*args, **kwargs)
        return enclosed

    def total(self, *names: str) -> dict[str, float]:
        """Return the sum over several parts."""
        costs = [self.parts[name] for name in names if name in self.parts]
        return {number: sum(getattr(cost, number) for cost in costs) for number in NUMBERS}

    def _add(self, kernel: Kernel) -> None:
        cost = self.parts.setdefault(self._row(kernel.name), Cost())
        reads = {'weights': 0, 'biases': 0, 'rest': 0}
        for tensor in distinct(kernel.reads):
            reads[self._kind(tensor)] += size_of(tensor)
        rest = reads['rest'] + sum(size_of(tensor) for tensor in distinct(kernel.writes))
        cost.kernels += 1
        cost.flops += kernel.flops
        cost.weights += reads['weights']
        cost.biases += reads['biases']
        cost.rest += rest
        copy, half, single, launch = self._ceilings
        product = half if any(t.element_size() == 2 for t in kernel.reads) else single
        moved = reads['weights'] + reads['biases'] + rest
        cost.estimate += launch / 1e3 + max(moved / copy, kernel.flops / product) / 1e9
        entry = cost.operations.setdefault(kernel.name, [0, 0])
        entry[0] += 1
        entry[1] += rest

    def _row(self, operation: str) -> str:
        """Return the name of the row of the table: the encoder has three."""
        if self._part != 'encoder':
            return self._part
        name = operation.removeprefix('aten.')
        return ENCODER[0 if name in PRODUCTS else 1 if name == ATTENTION else 2]

    def _kind(self, tensor: torch.Tensor) -> str:
        storage = tensor.untyped_storage()._cdata
        return ('weights' if storage in self._weights else
                'biases' if storage in self._biases else 'rest')


def empty_model(config: ZoeConfig, dtype: torch.dtype, mode: FakeTensorMode) -> ZoeDepth:
    """Return a model in the estimator's form for a GPU, with fake weights."""
    with torch.device('meta'):
        model = ZoeDepth(config)
    model.eval().requires_grad_(False).set_precision(dtype).pack()
    for module in model.modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is None:
                continue
            there: Any = FakeTensor(mode, tensor.detach(), CUDA)
            if name in module._parameters:
                there = nn.Parameter(there, requires_grad=False)
            setattr(module, name, there)
    return model


def count_frame(config: ZoeConfig, dtype: torch.dtype, batch: int, deviation: bool,
                ceilings: Ceilings) -> Count:
    """Count what the estimator does from uint8 images on the device to depth on the device."""
    mode = FakeTensorMode()
    model = empty_model(config, dtype, mode)
    with mode, torch.inference_mode():
        pixels = torch.empty(batch, 3, *config.image_size, device=CUDA)
        biases = PositionBiases(model, POSITION_MEMORY).get(pixels)
        # Cached tensors of a model are computed before a graph is recorded.
        run_frame(Count(ceilings, (), ()), model, biases, batch, deviation)
        count = Count(ceilings, [*model.parameters(), *model.buffers()], biases)
        for path, part in PARTS.items():
            owner, _, name = path.rpartition('.')
            inner = attrgetter(owner)(model) if owner else model
            if inner is not None:               # models with one head have no router
                setattr(inner, name, count.enclose(getattr(inner, name), part))
        with count.watch:
            run_frame(count, model, biases, batch, deviation)
    return count


def run_frame(count: Count, model: ZoeDepth, biases: Sequence[torch.Tensor], batch: int,
              deviation: bool) -> None:
    """
    Run the functions that the estimator runs on a GPU; no other code here knows them.

    Follows `DepthEstimator.predict_batch` and the replay of a graph in
    zoe_ros/inference/runner.py.
    """
    plan = plan_sizes(IMAGE, model.config.image_size, 'stretch', False)
    images = torch.empty(batch, *IMAGE, 3, dtype=torch.uint8, device=CUDA)
    with count.within(AROUND):
        # Copies between the memory of one graph and of the next.
        pixels = to_pixels(images, plan).clone().clone()
    found = by_heads(model, pixels, biases, deviation)
    depths, spreads = list(found.depth.values()), list(found.deviation.values())
    with count.within(AROUND):
        for maps in (depths, spreads):
            if maps:
                torch.stack([maps[0][i] for i in range(batch)])
        depth = to_depth(depths[0].clone(), plan)
        torch.where(torch.isfinite(depth) & (depth > 0), depth, torch.nan)


def report(count: Count) -> dict[str, Any]:
    """Return all counts for JSON: bytes, FLOPs, and estimates in ms."""
    beside = [name for name in NETWORK if name not in ENCODER]
    sums = {'encoder': count.total(*ENCODER), 'beside the encoder': count.total(*beside),
            'network': count.total(*NETWORK), 'network, in and out': count.total(*NETWORK, AROUND)}
    return {
        'parts': {name: asdict(count.parts[name]) for name in (*NETWORK, AROUND)
                  if name in count.parts},
        'sums': sums,
        'unknown operations': dict(count.watch.unknown),
        'without FLOPs': dict(count.watch.without_flops),
        'between host and device': dict(count.watch.host)}


def table(result: dict[str, Any]) -> str:
    """Return the counts in Markdown."""
    lines = ['| part | kernels | GFLOP | weights [MB] | biases [MB] | other traffic [MB] | '
             'estimate [ms] |', '|---|---|---|---|---|---|---|']
    for name, cost in [*result['parts'].items(), *result['sums'].items()]:
        bold = '**' if name in result['sums'] else ''
        lines.append(
            f'| {bold}{name}{bold} | {cost["kernels"]} | {cost["flops"] / 1e9:.1f} | '
            f'{cost["weights"] / 1e6:.0f} | {cost["biases"] / 1e6:.0f} | {cost["rest"] / 1e6:.0f} '
            f'| {cost["estimate"]:.2f} |')
    lines += [f'{title}: ' + ', '.join(f'{name} ({times})' for name, times in listed.items())
              for title, listed in list(result.items())[2:] if listed]
    return '\n'.join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Count as the options say; print a table and a last line of JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--variant', choices=VARIANTS, default='nk')
    parser.add_argument('--precision', choices=DTYPES, default='bf16')
    parser.add_argument('--batch', type=int, default=1, help='number of images')
    parser.add_argument('--deviation', action='store_true', help='also the deviation of depth')
    parser.add_argument('--ceilings', type=float, nargs=4, default=Ceilings(),
                        metavar=('COPY', 'HALF', 'SINGLE', 'KERNEL'),
                        help='copy [TB/s], products in half and single [TFLOP/s], kernel [us]')
    parser.add_argument('--json', action='store_true', help='print the JSON alone')
    options = parser.parse_args(arguments)
    ceilings = Ceilings(*options.ceilings)
    count = count_frame(VARIANTS[options.variant], DTYPES[options.precision], options.batch,
                        options.deviation, ceilings)
    asked = {'variant': options.variant, 'precision': options.precision, 'batch': options.batch,
             'deviation': options.deviation, 'ceilings': ceilings._asdict(),
             'torch': torch.__version__}
    result = report(count)
    if not options.json:
        print(', '.join(f'{key} {value}' for key, value in asked.items() if key != 'ceilings'))
        print(f'estimate, not measured: {ceilings.copy} TB/s, {ceilings.half} TFLOP/s in half and '
              f'{ceilings.single} in single precision, {ceilings.kernel} us a kernel\n')
        print(table(result) + '\n')
    print(json.dumps({**asked, **result}))


if __name__ == '__main__':
    main()
