"""
What runs on a GPU; where there is none, followed on torch's fake tensors.

These have shapes and devices, but no numbers. They refuse to mix devices, and to tell an answer
that the host would wait for; what else is on the host is noted here.
"""
import weakref

import bags
import made_up
import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zoe_ros import DepthEstimator
from zoe_ros.anchor.correction import Correction
from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.cloud import Unprojection
from zoe_ros.inference.preprocess import plan_sizes, to_depth, to_pixels
from zoe_ros.inference.runner import by_heads, PositionBiases
from zoe_ros.inference.transfer import to_device, to_host
from zoe_ros.model.calibration import Calibration
from zoe_ros.model.config import RELEASED, VARIANTS
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS, UNCERTAINTY
from zoe_ros.pipeline import Pipeline
from zoe_ros.refine import limit, refine, resize
from zoe_ros.settings import FrameSettings
from zoe_ros.sky import find_sky

CUDA = torch.device('cuda', 0)
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


class Watch(TorchDispatchMode):
    """
    Note which operations see the host, and the most memory that is held [bytes].

    :ivar on_host: names of operations that take or give a tensor of the CPU.
    """

    def __init__(self):
        """Start with nothing."""
        super().__init__()
        self.on_host, self.peak, self._held = [], 0, {}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        """Run an operation and look at what goes in and comes out."""
        results = operation(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, results)) if isinstance(x, torch.Tensor)]
        if any(tensor.device.type == 'cpu' for tensor in tensors):
            self.on_host.append(str(operation))
        for tensor in tree_leaves(results):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._held:
                    self._held[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self._held.pop, storage._cdata)
        self.peak = max(self.peak, sum(self._held.values()))
        return results


@pytest.fixture(autouse=True)
def plain_transformer():
    """Keep torch from its fused encoder layer, of which some versions have no fake form (2.11)."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    yield
    torch.backends.mha.set_fastpath_enabled(before)


@pytest.fixture
def fake():
    """Return the mode of all fake tensors of a test, on for all of it."""
    with FakeTensorMode() as mode, torch.inference_mode():
        yield mode


def on_gpu(model, mode):
    """Return a model without numbers on a GPU that need not exist."""
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                module._parameters[name] = nn.Parameter(
                    FakeTensor(mode, parameter.detach().to('meta'), CUDA), requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                module._buffers[name] = FakeTensor(mode, buffer.to('meta'), CUDA)
    return model


def empty_model(variant, dtype):
    """Return a released model, ready to be brought to a GPU, of no size."""
    with torch.device('meta'):
        model = ZoeDepth(VARIANTS[variant])
    return model.eval().requires_grad_(False).set_precision(dtype).pack()


def run(model, mode, size, deviation, batch=1):
    """Return what a graph would hold, what watched it, and the bytes of biases."""
    with mode, torch.inference_mode():
        pixels = torch.empty(batch, 3, *size, device=CUDA)
        biases = PositionBiases(model, 1.0)
        known = biases.get(pixels)
        with Watch() as watch:
            results = by_heads(model, pixels, known, deviation)
    return results, watch, biases.size


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('deviation', [False, True])
@pytest.mark.parametrize('kind', [{}, {'heads': ('outdoor',), 'bounded': True}])
def test_nothing_in_a_graph_is_on_the_host(kind, deviation, dtype):
    model, mode = made_up.tiny_model(**kind).set_precision(dtype), FakeTensorMode()
    (logits, depths, spreads), watch, _ = run(on_gpu(model, mode), mode, (64, 96), deviation, 3)
    assert watch.on_host == []
    assert (logits is None) == (len(depths) == 1)
    assert len(spreads) == deviation * len(depths)
    for map_ in (*depths.values(), *spreads.values()):
        assert (map_.device, map_.shape, map_.dtype) == (CUDA, (3, 64, 96), torch.float32)


@pytest.mark.parametrize('dtype', DTYPES)
def test_nothing_of_an_odd_grid_is_on_the_host(dtype):
    model, mode = made_up.tiny_depth_anything().set_precision(dtype), FakeTensorMode()
    (_, depths, _), watch, positions = run(on_gpu(model, mode), mode, (70, 98), False, 3)
    assert watch.on_host == []
    assert positions == (1 + 5 * 7) * 32 * 4
    assert (depths['indoor'].shape, depths['indoor'].dtype) == ((3, 70, 98), torch.float32)


@pytest.mark.parametrize('variant', ['mobile', *RELEASED])
def test_nothing_of_a_released_model_is_on_the_host(variant):
    model, mode = empty_model(variant, torch.bfloat16), FakeTensorMode()
    size = VARIANTS[variant].image_size
    (_, depths, _), watch, _ = run(on_gpu(model, mode), mode, size, True)
    assert watch.on_host == []
    assert depths['outdoor' if 'outdoor' in depths else 'indoor'].shape == (1, *size)


def test_memory_of_the_published_model():
    """Less than 1.6 GB for weights, biases and all that lies between them and depth."""
    mode = FakeTensorMode()
    model = on_gpu(empty_model('nk', torch.bfloat16), mode)
    weights = sum(x.untyped_storage().nbytes() for x in (*model.parameters(), *model.buffers()))
    _, watch, biases = run(model, mode, (384, 512), False)
    total = weights + biases + watch.peak
    assert 0.6e9 < weights < 0.75e9
    assert total < 1.6e9


@pytest.mark.parametrize('interpolation', ['edges', 'linear', 'nearest'])
def test_the_way_to_and_from_the_network_stays_on_the_device(fake, interpolation):
    settings = FrameSettings(edge_threshold=0.1, max_relative_uncertainty=0.2,
                             interpolation=interpolation)
    image = torch.empty(480, 640, 3, device=CUDA, dtype=torch.uint8)
    cloud = Unprojection(torch.empty(3, 240, 320, device=CUDA), 2)
    with Watch() as watch:
        for aspect, pad in (('stretch', False), ('keep', True)):
            plan = plan_sizes((480, 640), (384, 512), aspect, pad)
            pixels = to_pixels(image[None], plan)
            correction = Correction(*torch.empty(5, device=CUDA).unbind())
            net, spread = refine(pixels[0, 0], pixels[0, 1], settings, correction)
            assert to_depth(net[None], plan).shape == (1, 480, 640)
            spread = Calibration(0.5, 1.5, 0.1)(spread, net)
            assert find_sky(pixels[0], net).shape == (plan.net[0] // 2, plan.net[1] // 2)
            values = resize(spread, net, plan.padded, interpolation)[:480, :640]
            points = cloud(limit(values, settings))
    assert watch.on_host == []
    assert points.shape == (240, 320, 3)


# What is trusted above.

def test_the_watch_sees_the_host(fake):
    x = torch.empty(3, 4, device=CUDA)
    with Watch() as watch:
        x.cpu()
        torch.tensor([1.0, 2.0], device=CUDA)
        x[[0, 2]]
    assert len(watch.on_host) >= 3
    with pytest.raises(DynamicOutputShapeException):
        x.nonzero()
    with pytest.raises(DataDependentOutputException):
        x.sum().item()
    with pytest.raises(RuntimeError, match='device'):
        x + torch.empty(4)


def test_the_watch_counts_what_is_held_at_a_time(fake):
    with Watch() as watch:
        kept = torch.empty(1000, device=CUDA)
        for _ in range(3):
            torch.empty(2000, device=CUDA).view(50, 40)
    assert watch.peak == 4 * 3000 and len(kept) == 1000


# On a GPU.

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=needs_gpu)])
def test_there_and_back(device):
    image = np.arange(240, dtype=np.uint8).reshape(8, 10, 3)
    there = to_device(image[::-1, ::2], torch.device(device))
    wide = to_device(image, torch.device(device))[..., 0].float()
    image[:] = 0
    back, nothing, column = to_host(there, None, wide.T[3])
    assert there.device.type == device and nothing is None
    assert back.shape == (8, 5, 3) and back[0, 0].tolist() == [210, 211, 212]
    assert column.tolist() == [9 + 30 * row for row in range(8)]


@needs_gpu
@pytest.mark.parametrize('precision, tolerance', [('fp32', 1e-4), ('bf16', 5e-3), ('fp16', 5e-3)])
def test_a_gpu_gives_the_depth_of_the_cpu(tiny_weights, photos, precision, tolerance):
    host, device = (DepthEstimator.load('tiny', tiny_weights, device=name, precision=choice)
                    for name, choice in (('cpu', 'fp32'), ('cuda', precision)))
    images = [photos[0], photos[1], photos[0][:, ::-1]]
    for a, b in zip(host.predict_batch(images), device.predict_batch(images)):
        assert np.median(abs(a.depth - b.depth) / a.depth) < tolerance
        assert (a.head, a.depth.shape) == (b.head, b.depth.shape)


@needs_gpu
@pytest.mark.parametrize('view, sky', [('as_is', 'keep'), ('training', 'keep'), ('as_is', 'inf')])
def test_a_frame_on_a_gpu_is_that_of_the_cpu(tiny_weights, view, sky):
    frames = []
    for name in ('cpu', 'cuda'):
        infos = CameraInfoBuffer()
        infos.add(bags.ROSBAGS.info(48, 64, k=(50, 0, 30.5, 0, 55, 25.25, 0, 0, 1)))
        settings = FrameSettings(camera_view=view, edge_threshold=0.5, router_time_constant=0,
                                 sky=sky, router='auto' if sky == 'keep' else 'outdoor')
        estimator = DepthEstimator.load('tiny', tiny_weights, device=name, precision='fp32')
        pipeline = Pipeline(estimator,
                            bags.ROSBAGS.types, settings, infos, rectified=False)
        frames.append(pipeline.process(bags.ROSBAGS.photo(bags.picture(48, 64)),
                                       (DEPTH, CAMERA_INFO, POINTS, UNCERTAINTY)))
    host, device = frames
    assert host.head == device.head and set(host.messages) == set(device.messages)
    for name in (DEPTH, UNCERTAINTY):
        a, b = (bags.depth_of(frame.messages[name]) for frame in frames)
        close = np.isclose(a, b, rtol=1e-3, equal_nan=True)
        assert close.mean() > 0.99
    a, b = (bags.cloud_points(frame.messages[POINTS]) for frame in frames)
    assert np.isclose(a, b, rtol=1e-3, equal_nan=True).mean() > 0.99
