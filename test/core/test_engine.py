"""The estimator: from photographs to depth, on a tiny model that is real in every part."""
from concurrent.futures import ThreadPoolExecutor

import made_up
import numpy as np
import pytest
import torch

from zoe_ros import DepthEstimator, DepthPrediction
from zoe_ros.inference.defaults import Hardware
from zoe_ros.inference.preprocess import plan_sizes, to_depth, to_pixels
from zoe_ros.inference.routing import HeadChoice

CPU, GPU = Hardware('cpu'), Hardware('cuda', (9, 0))
PHOTO_HEADS = ['indoor', 'indoor', 'outdoor', 'indoor']


@pytest.fixture(scope='module')
def model():
    """Return the tiny model with two heads and a router."""
    return made_up.tiny_model()


@pytest.fixture(scope='module')
def crops(photos):
    """Return images of several sizes, with repetitions, that go to different heads."""
    astronaut, camera, coffee, rocket = photos
    return [coffee, astronaut[:101], rocket, camera, coffee[50:, 70:], astronaut[:101],
            camera[:64, :64], coffee[::-1]]


def assert_same_depth(a, b):
    """
    Compare depth that was summed in another order.

    Made-up weights amplify rounding at a few pixels, see test_golden; another photo or head is
    hundreds of times further away.
    """
    assert a.shape == b.shape
    np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    assert np.linalg.norm(a - b) < 1e-3 * np.linalg.norm(b)
    assert np.mean(np.abs(a - b) > 1e-3 * b) < 0.005


def assert_same(a, b):
    """Compare two predictions."""
    assert a.head == b.head
    assert_same_depth(a.depth, b.depth)
    assert a.head_probabilities == pytest.approx(b.head_probabilities, abs=1e-5)


# Results.

@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
@pytest.mark.parametrize('pad', [False, True])
@pytest.mark.parametrize('flip', [False, True])
def test_depth_of_a_photo(model, photos, aspect, pad, flip):
    estimator = DepthEstimator(model, aspect=aspect, pad=pad, flip=flip)
    for photo, head in zip(photos, PHOTO_HEADS):
        prediction = estimator.predict(photo)
        assert isinstance(prediction, DepthPrediction)
        assert prediction.depth.dtype == np.float32
        assert prediction.depth.shape == photo.shape[:2]
        assert not (prediction.depth <= 0).any()
        assert np.isfinite(prediction.depth).mean() > 0.99
        # Not flat: the photo matters, everywhere.
        assert np.nanstd(prediction.depth) > 0.05
        if aspect == 'stretch' and not pad:
            assert prediction.head == head


def test_depth_is_that_of_the_network(model, photos):
    """The estimator adds the sizes and nothing else."""
    photo = photos[0]
    plan = plan_sizes(photo.shape[:2], (64, 96), 'stretch', pad=False)
    with torch.inference_mode():
        expected = to_depth(model(to_pixels(torch.from_numpy(photo)[None], plan)), plan)[0]
    np.testing.assert_array_equal(DepthEstimator(model).predict(photo).depth, expected.numpy())


def test_different_photos_and_heads_give_different_depth(model, photos):
    by_photo = [DepthEstimator(model).predict(photo).depth for photo in photos[:2]]
    assert np.abs(by_photo[0] - by_photo[1]).mean() > 0.1
    by_head = [DepthEstimator(model, router=head).predict(photos[0]).depth
               for head in ('indoor', 'outdoor')]
    assert np.abs(by_head[0] - by_head[1]).mean() > 0.1


@pytest.mark.parametrize('value', [-1.0, 0.0, float('inf'), float('nan')])
def test_what_is_no_depth_is_nan(photos, value):
    """A network all of whose bins lie at ``value``."""
    model = made_up.tiny_model(('outdoor',), bounded=True)
    head = model.metric.heads['outdoor']
    head.min_depth = head.max_depth = value
    assert np.isnan(DepthEstimator(model).predict(photos[0]).depth).all()


@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
def test_only_what_is_no_depth_is_nan(photos, aspect):
    """A network that is made to predict depth on both sides of zero."""
    photo, model = photos[0], made_up.tiny_model(('outdoor',), bounded=True)
    model.metric.heads['outdoor'].min_depth, model.metric.heads['outdoor'].max_depth = -4, 4
    plan = plan_sizes(photo.shape[:2], (64, 96), aspect, pad=False)
    with torch.inference_mode():
        raw = to_depth(model(to_pixels(torch.from_numpy(photo)[None], plan)), plan)[0].numpy()
    assert 0.02 < np.mean(raw > 0) < 0.98
    depth = DepthEstimator(model, aspect=aspect).predict(photo).depth
    np.testing.assert_array_equal(depth, np.where(raw > 0, raw, np.nan))


@pytest.mark.parametrize('pad', [False, True])
@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
def test_flip_is_the_mean_with_the_mirrored_photo(model, photos, aspect, pad):
    choices = {'aspect': aspect, 'pad': pad, 'router': 'indoor'}
    for photo in photos:
        one = DepthEstimator(model, **choices)
        straight, mirrored = one.predict(photo).depth, one.predict(photo[:, ::-1]).depth[:, ::-1]
        both = DepthEstimator(model, flip=True, **choices).predict(photo).depth
        known = np.isfinite(straight) & np.isfinite(mirrored)
        assert known.mean() > 0.99
        assert_same_depth(both[known], ((straight + mirrored) / 2)[known])


def test_flip_averages_the_deviation_as_well(model, photos):
    def deviation(image, **choices):
        net, = DepthEstimator(model, router='indoor', **choices).infer([image], deviation=True)
        return net.deviation.numpy()

    alone, mirrored = deviation(photos[0]), deviation(photos[0][:, ::-1].copy())[:, ::-1]
    assert_same_depth(deviation(photos[0], flip=True), (alone + mirrored) / 2)
    assert not np.allclose(alone, mirrored, rtol=0.01)


def test_both_passes_of_flip_take_the_head_of_their_image(model, photos):
    choosers = [HeadChoice(head, {head: 1.0}) for head in ('outdoor', 'indoor')]
    nets = DepthEstimator(model, flip=True).infer([photos[0]] * 2, choosers)
    for net, chooser in zip(nets, choosers):
        alone, = DepthEstimator(model, flip=True, router=chooser.head).infer([photos[0]])
        assert net.head == chooser.head
        assert_same_depth(net.depth.numpy(), alone.depth.numpy())


def test_flip_makes_the_depth_of_a_mirrored_photo_the_mirrored_depth(model, photos):
    estimator = DepthEstimator(model, flip=True, router='outdoor')
    for photo in photos:
        straight = estimator.predict(photo).depth
        mirrored = estimator.predict(photo[:, ::-1]).depth
        assert_same_depth(mirrored[:, ::-1], straight)


# Batches.

@pytest.mark.parametrize('choices', [
    {}, {'aspect': 'keep'}, {'aspect': 'keep', 'pad': True, 'flip': True}, {'flip': True},
    {'router': 'outdoor'}], ids=str)
def test_batch_equals_one_by_one(model, crops, choices):
    estimator = DepthEstimator(model, **choices)
    batch = estimator.predict_batch(crops)
    alone = [estimator.predict(image) for image in crops]
    assert len(batch) == len(crops)
    for together, single in zip(batch, alone):
        assert_same(together, single)
    if 'router' not in choices:
        assert {prediction.head for prediction in batch} == {'indoor', 'outdoor'}


def test_order_of_a_batch_is_kept(model, crops):
    estimator = DepthEstimator(model, aspect='keep')
    forward = estimator.predict_batch(crops)
    backward = estimator.predict_batch(crops[::-1])
    for a, b in zip(forward, backward[::-1]):
        assert_same(a, b)


def test_empty_batch(tiny_estimator):
    assert tiny_estimator.predict_batch([]) == []


def test_one_bad_image_stops_a_batch_before_it_runs(tiny_estimator, photos):
    with pytest.raises(ValueError, match=r'not \(240, 320\)'):
        tiny_estimator.predict_batch([photos[0], photos[0][..., 0]])


# The choice of the head.

def test_router_decides_for_each_photo(tiny_estimator, photos):
    predictions = tiny_estimator.predict_batch(photos)
    assert [prediction.head for prediction in predictions] == PHOTO_HEADS
    for prediction in predictions:
        probabilities = prediction.head_probabilities
        assert list(probabilities) == ['indoor', 'outdoor']
        assert sum(probabilities.values()) == pytest.approx(1)
        assert probabilities[prediction.head] == max(probabilities.values())
        assert 0.5 < probabilities[prediction.head] < 1


@pytest.mark.parametrize('first', [True, False])
def test_a_head_that_is_known_does_not_spare_the_router_the_other_photos(
        tiny_estimator, photos, first):
    known = HeadChoice('outdoor', {'indoor': 0.0, 'outdoor': 1.0})
    choosers = [known, tiny_estimator.chooser()] if first else [tiny_estimator.chooser(), known]
    nets = tiny_estimator.infer([photos[0], photos[0]], choosers)
    assert [net.head for net in nets] == (
        ['outdoor', 'indoor'] if first else ['indoor', 'outdoor'])


def test_probabilities_are_those_of_the_logits(model, photos):
    plan = plan_sizes(photos[2].shape[:2], (64, 96), 'stretch', pad=False)
    with torch.inference_mode():
        pixels = to_pixels(torch.from_numpy(photos[2])[None], plan)
        logits = model.forward_features(pixels).logits[0]
    expected = dict(zip(('indoor', 'outdoor'), torch.softmax(logits, 0).tolist()))
    assert DepthEstimator(model).predict(photos[2]).head_probabilities == pytest.approx(expected)


@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
def test_forced_head(model, photos, head):
    predictions = DepthEstimator(model, router=head).predict_batch(photos)
    auto = DepthEstimator(model).predict_batch(photos)
    other = {'indoor': 'outdoor', 'outdoor': 'indoor'}[head]
    for prediction, free in zip(predictions, auto):
        assert prediction.head == head
        assert prediction.head_probabilities == {head: 1.0, other: 0.0}
        if free.head == head:
            assert_same_depth(prediction.depth, free.depth)


@pytest.mark.parametrize('head', ['indoor', 'outdoor'])
@pytest.mark.parametrize('router', ['auto', 'own'])
def test_model_of_a_single_head(photos, head, router):
    model = made_up.tiny_model((head,))
    estimator = DepthEstimator(model, router=head if router == 'own' else 'auto')
    prediction = estimator.predict(photos[0])
    assert prediction.head == head
    assert prediction.head_probabilities == {head: 1.0}


@pytest.mark.parametrize('head, other', [('indoor', 'outdoor'), ('outdoor', 'indoor')])
def test_head_that_the_model_does_not_have(head, other):
    with pytest.raises(ValueError, match=f'^ZoeD-tiny has no {other} head, only {head}$'):
        DepthEstimator(made_up.tiny_model((head,)), router=other)


# Images.

@pytest.mark.parametrize('dress', [
    lambda photo: np.asfortranarray(photo),
    lambda photo: np.repeat(photo, 2, axis=1)[:, ::2],
    lambda photo: photo[:, ::-1].copy()[:, ::-1],
    lambda photo: photo[..., ::-1].copy()[..., ::-1],
    lambda photo: np.frombuffer(photo.tobytes(), np.uint8).reshape(photo.shape),
    lambda photo: photo.view(np.recarray)],
    ids=['columns first', 'strided', 'mirrored', 'from BGR', 'read-only', 'subclass'])
def test_any_array_of_the_same_values_gives_the_same(tiny_estimator, photos, dress):
    expected = tiny_estimator.predict(photos[0])
    image = dress(photos[0])
    before = image.tobytes()
    prediction = tiny_estimator.predict(image)
    assert image.tobytes() == before
    np.testing.assert_array_equal(prediction.depth, expected.depth)


@pytest.mark.parametrize('choices', [{}, {'aspect': 'keep', 'pad': True, 'flip': True}], ids=str)
def test_image_and_result_do_not_share_memory_with_the_next(model, photos, choices):
    estimator, image = DepthEstimator(model, **choices), photos[0].copy()
    first = estimator.predict(image)
    kept = first.depth.copy()
    assert np.array_equal(image, photos[0])
    first.depth[:] = -1
    image[:] = 0
    assert not np.array_equal(estimator.predict(image).depth, kept)
    np.testing.assert_array_equal(estimator.predict(photos[0]).depth, kept)


@pytest.mark.parametrize('size', [(1, 1), (1, 300), (300, 1), (33, 31)])
@pytest.mark.parametrize('aspect', ['stretch', 'keep'])
def test_small_images(model, size, aspect):
    image = np.full((*size, 3), 99, np.uint8)
    prediction = DepthEstimator(model, aspect=aspect).predict(image)
    assert prediction.depth.shape == size
    assert np.isfinite(prediction.depth).any()


def test_image_too_small_for_a_border(model):
    with pytest.raises(ValueError, match=r'^a 4 x 2 image is too small to be padded: '):
        DepthEstimator(model, pad=True).predict(np.zeros((2, 4, 3), np.uint8))


@pytest.mark.parametrize('image, words', [
    (np.zeros((8, 8, 3), np.float32), 'an image is an array of uint8, not of float32'),
    (np.zeros((8, 8, 3), np.int8), 'an image is an array of uint8, not of int8'),
    (np.zeros((8, 8, 3), bool), 'an image is an array of uint8, not of bool'),
    ([[[0, 0, 0]]], 'an image is an array of uint8, not of list'),
    (torch.zeros(8, 8, 3, dtype=torch.uint8), 'an image is an array of uint8, not of Tensor'),
    (None, 'an image is an array of uint8, not of NoneType')])
def test_image_of_another_type(tiny_estimator, image, words):
    with pytest.raises(TypeError) as error:
        tiny_estimator.predict(image)
    assert str(error.value) == words


@pytest.mark.parametrize('shape', [
    (8, 8), (8, 8, 1), (8, 8, 4), (3, 8, 8), (1, 8, 8, 3), (0, 8, 3), (8, 0, 3), ()])
def test_image_of_another_shape(tiny_estimator, shape):
    with pytest.raises(ValueError) as error:
        tiny_estimator.predict(np.zeros(shape, np.uint8))
    assert str(error.value) == f'an image has the shape (height, width, 3), not {shape}'


# Sharing.

def test_threads_share_an_estimator(tiny_estimator, crops):
    expected = [tiny_estimator.predict(image) for image in crops]
    with ThreadPoolExecutor(6) as pool:
        results = list(pool.map(tiny_estimator.predict, crops * 3))
    for prediction, alone in zip(results, expected * 3):
        assert_same(prediction, alone)


def test_estimator_leaves_no_gradients(tiny_estimator, photos):
    tiny_estimator.predict(photos[0])
    assert all(p.grad is None and not p.requires_grad for p in tiny_estimator.model.parameters())


def test_estimator_ends_training_mode(photos):
    """A router in training mode would drop features at random (T7)."""
    model = made_up.tiny_model().train()
    estimator = DepthEstimator(model)
    first, second = (estimator.predict(photos[0]) for _ in range(2))
    np.testing.assert_array_equal(first.depth, second.depth)
    assert first.head_probabilities == second.head_probabilities
