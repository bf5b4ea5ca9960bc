"""What runs the model: kept position biases, graphs, threads; all as the plain model."""
from concurrent.futures import ThreadPoolExecutor
from threading import current_thread, Event, main_thread

import made_up
from plain import assert_close, choose_by, KINDS, pixels_of, plain_depth
import pytest
import torch

from zoe_ros import DepthEstimator
from zoe_ros.inference.graphs import Graphs
from zoe_ros.inference.preprocess import plan_sizes, to_pixels
from zoe_ros.inference.runner import ModelRunner, PositionBiases
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import load_model


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('size', [(64, 96), (96, 160)])
def test_float32_is_that_of_the_plain_model(kind, size):
    model = made_up.tiny_model(**KINDS[kind])
    pixels = pixels_of(size, 2)
    expected, _ = plain_depth(model, pixels)
    network = ModelRunner(model.pack(), 1.0)
    for _ in range(2):          # the second call finds the biases
        depth, spread = network(pixels, choose_by(model, 2))
        assert spread is None
        assert_close(depth, expected)


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_near_the_plain_model(kind, dtype):
    model = made_up.tiny_model(**KINDS[kind])
    pixels = pixels_of((64, 96), 2)
    expected, heads = plain_depth(model, pixels)
    depth, _ = ModelRunner(model.set_precision(dtype).pack(), 1.0)(pixels, lambda logits: heads)
    difference = (depth - expected).abs() / expected
    assert torch.isfinite(depth).all()
    assert 0 < difference.median() < 0.005


@pytest.mark.full
def test_full_size_is_that_of_the_plain_model(official):
    """The released architecture; the network in bfloat16 against it, too."""
    config = VARIANTS['nk']
    image = made_up.photo('nk_astronaut')
    plan = plan_sizes(image.shape[:2], config.image_size, 'stretch', pad=False)
    pixels = to_pixels(torch.from_numpy(image)[None], plan)
    path = official('nk')
    model = load_model(config, path)
    narrow = load_model(config, path, dtype=torch.bfloat16)
    expected, heads = plain_depth(model, pixels)
    assert_close(ModelRunner(model.pack(), 1.0)(pixels, lambda logits: heads)[0], expected)
    depth, _ = ModelRunner(narrow.pack(), 1.0)(pixels, lambda logits: heads)
    difference = ((depth - expected).abs() / expected).flatten()
    assert torch.isfinite(depth).all()
    assert difference.median() < 0.005
    # Made-up weights amplify rounding at some pixels, see test_golden: features that are 1 % off
    # move a few of them by far more.
    assert (difference > 0.03).float().mean() < 0.02
    assert (depth - expected).norm() < 0.02 * expected.norm()


# Position biases.

def test_biases_are_made_once_and_shared_by_threads():
    model = made_up.tiny_model()
    biases, pixels = PositionBiases(model, 1.0), pixels_of((64, 96))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(biases.get, [pixels] * 8))
    assert len(found[0]) == 4
    assert all(list(map(id, other)) == list(map(id, found[0])) for other in found)
    assert biases.size == 4 * 2 * 25 * 32 * 4       # blocks, heads, tokens, tokens in rows, bytes


def test_memory_of_biases_is_bounded():
    model = made_up.tiny_model()
    one = 2 * 25 * 32 * 4
    biases = PositionBiases(model, 2.5 * one / 2 ** 30)
    assert len(biases.get(pixels_of((64, 96)))) == 2
    assert biases.size == 2 * one
    # Another resolution takes the place of the first.
    assert len(biases.get(pixels_of((64, 64)))) == 4
    assert biases.size == 4 * 2 * 17 * 24 * 4 <= 2.5 * one
    assert len(biases.get(pixels_of((256, 256)))) == 0


@pytest.mark.parametrize('memory', [0.0, 2.5 * 6400 / 2 ** 30])
def test_depth_does_not_depend_on_what_is_kept(memory, photos):
    model = made_up.tiny_model()
    whole = DepthEstimator(model).predict(photos[0])
    partly = DepthEstimator(model, position_memory=memory).predict(photos[0])
    assert_close(torch.from_numpy(partly.depth), torch.from_numpy(whole.depth), 1e-5)


def test_warm_up_leaves_nothing_to_the_first_frame(photos):
    estimator = DepthEstimator(made_up.tiny_model())
    estimator.warm_up()
    kept = estimator.runner.biases.size
    assert kept
    estimator.predict(photos[0])
    assert estimator.runner.biases.size == kept


def test_biases_that_graphs_read_stay_and_new_ones_get_what_is_left():
    model = made_up.tiny_model()
    sizes = [(64, 96), (96, 64), (64, 64)]
    # Memory for the four blocks of the first grid and two of the second, which is as large.
    each = model.backbone.bias_bytes((4, 6))
    biases = PositionBiases(model, 6.5 * each / 2 ** 30, evict=False)
    first, second, third = (biases.get(pixels_of(size)) for size in sizes)
    assert [len(first), len(second)] == [4, 2]
    assert biases.size <= 6.5 * each
    assert biases.get(pixels_of(sizes[0])) is first      # nothing was thrown away
    assert len(third) == int(0.5 * each // model.backbone.bias_bytes((4, 4)))
    # Fewer are kept, the others are made: the same depth.
    network = ModelRunner(model, 1.0)
    for size, kept in zip(sizes, (first, second, third)):
        found = model.forward_features(pixels_of(size), kept)
        depth = model.predict_depth(found, ['indoor'])[0]
        expected, _ = network(pixels_of(size), lambda logits: ['indoor'])
        assert_close(depth, expected, 1e-5)


# A head that is forced.

@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_a_forced_head_asks_no_router(head):
    model, pixels = made_up.tiny_model(), pixels_of((64, 96), 2)
    network = ModelRunner(model, 1.0)
    expected, _ = network(pixels, lambda logits: [head] * 2)
    asked = []
    for module in (model.router, *(other for name, other in model.metric.heads.items()
                                   if name != head)):
        module.register_forward_pre_hook(lambda *_: pytest.fail('was run'))
    depth, _ = network(pixels, lambda logits: asked.append(logits) or [head] * 2, heads=[head])
    assert asked == [None] and torch.equal(depth, expected)


# Graphs.

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(),
                               reason='CUDA graphs need a CUDA device')


@needs_gpu
@pytest.mark.parametrize('deviation', [False, True])
def test_a_graph_replays_what_the_model_computes(deviation):
    model = made_up.tiny_model()
    expected = ModelRunner(model, 1.0)(pixels_of((64, 96), 2), choose_by(model, 2), deviation)
    network = ModelRunner(model.cuda().pack(), 1.0)
    for _ in range(3):
        network(pixels_of((64, 64)).cuda(), choose_by(model))       # another shape between
        depth, spread = network(pixels_of((64, 96), 2).cuda(), choose_by(model, 2), deviation)
        assert_close(depth.cpu(), expected[0], 1e-3)
        assert (spread is None) == (not deviation)
    assert len(network.graphs) == 2


@needs_gpu
def test_a_forced_head_has_a_graph_of_its_own():
    model = made_up.tiny_model()
    pixels = pixels_of((64, 96))
    expected, _ = ModelRunner(model, 1.0)(pixels, lambda logits: ['outdoor'])
    network = ModelRunner(model.cuda().pack(), 1.0)
    asked = []
    depth, _ = network(pixels.cuda(), lambda logits: asked.append(logits) or ['outdoor'],
                       heads=['outdoor'])
    assert_close(depth.cpu(), expected, 1e-3)
    assert asked == [None]


@needs_gpu
def test_what_cannot_be_recorded_runs_as_it_is_and_costs_no_other_its_graph(caplog):
    graphs = Graphs(torch.device('cuda'))
    x = torch.arange(6.0).pin_memory()
    for _ in range(2):
        # It waits for the device, which no graph can.
        assert graphs.run('bad', lambda t: t * t.sum().item(), [x], torch.Tensor.tolist) == [
            0, 15, 30, 45, 60, 75]
        assert graphs.run('good', lambda t: t + 1, [x], torch.Tensor.tolist)[0] == 1
    assert len(graphs) == 1
    assert caplog.text.count('without a CUDA graph') == 1


@needs_gpu
def test_nobody_waits_for_a_recording_in_the_background():
    graphs = Graphs(torch.device('cuda'))
    graphs.in_background = True
    recording, go_on = Event(), Event()

    def slow(x):
        if current_thread() is not main_thread():
            recording.set()
            go_on.wait(10)
        return x * 2

    x = torch.ones(3, device='cuda')
    assert graphs.run('slow', slow, [x], torch.Tensor.tolist) == [2, 2, 2]
    assert recording.wait(10) and len(graphs) == 0
    assert graphs.run('slow', slow, [x], torch.Tensor.tolist) == [2, 2, 2]
    go_on.set()
    graphs.wait()
    assert len(graphs) == 1
    assert graphs.run('slow', slow, [x + 1], torch.Tensor.tolist) == [4, 4, 4]


@needs_gpu
def test_callers_on_streams_of_their_own_do_not_disturb_each_other():
    graphs = Graphs(torch.device('cuda'))

    def work(x):
        for _ in range(200):
            x = x + 1
        return x

    def call(value):
        with torch.cuda.stream(torch.cuda.Stream()):
            x = torch.full((1 << 20,), float(value), device='cuda')
            found = graphs.run('work', work, [x], torch.Tensor.clone)
            return float(found.min()), float(found.max())

    with ThreadPoolExecutor(4) as pool:
        for value, found in enumerate(pool.map(call, range(40))):
            assert found == (value + 200, value + 200)
