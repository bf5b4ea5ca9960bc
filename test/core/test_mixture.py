"""Mixtures of datasets in training: repetition, and depth that is true up to scale."""
from collections import Counter

import pytest
from rgbd_folders import write_folder
from scenes import Planes
from short_training import CONFIG, losses, settings
import torch

from zoe_ros.datasets.folders import RgbdFolder
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.batches import Batches
from zoe_ros.training.mixture import Mixture
from zoe_ros.training.objective import Objective
from zoe_ros.training.trainer import train

SIZE = (64, 96)


@pytest.fixture
def data(tmp_path):
    """Return four planes, and three RGB-D folders with one or two images each."""
    return [Planes('indoor', 4),
            RgbdFolder(write_folder(tmp_path / 'desk', count=1, group='room')),
            RgbdFolder(write_folder(tmp_path / 'shelf', count=2, group='room')),
            RgbdFolder(write_folder(tmp_path / 'road', 'outdoor', count=1, group='street'))]


def test_repeated_images_come_as_often_as_asked(data):
    mixture = Mixture.parse(['room=3', 'desk=8'], [], data)
    epoch = 4 + 8 * 1 + 3 * 2
    batches = Batches(data, SIZE, epoch, seed=1, mixture=mixture)
    indoor, outdoor = batches[0], batches[1]
    assert Counter(indoor.names) == {
        **{f'planes-indoor/{i:03}': 1 for i in range(4)}, 'desk/frame0': 8,
        'shelf/frame0': 3, 'shelf/frame1': 3}
    assert Counter(outdoor.names) == {'road/frame0': epoch}
    plain = Batches(data, SIZE, 7, seed=1)[0]
    assert set(Counter(plain.names).values()) == {1} and plain.metric == [True] * 7


def test_each_image_tells_whether_its_metres_are_used(data):
    mixture = Mixture.parse([], ['shelf', 'street'], data)
    batches = Batches(data, SIZE, 8, seed=1, mixed=True, mixture=mixture)
    batch = batches[0].to(torch.device('cpu'))
    assert batch.metric == [not name.startswith(('shelf', 'road')) for name in batch.names]
    assert 0 < sum(batch.metric) < 8


def test_without_metres_the_scale_of_the_truth_does_not_count(data):
    torch.manual_seed(0)
    objective = Objective(ZoeDepth(CONFIG).eval(), 'metric', 'labeled', 1.0, 'fp32')

    def loss(factor, up_to_scale):
        mixture = Mixture.parse([], up_to_scale, data)
        batch = Batches(data, SIZE, 4, seed=1, mixture=mixture)[1]     # the road
        batch.depths[:] = [factor * depth for depth in batch.depths]
        return objective(batch)['loss'].item()

    assert loss(1, ['road']) == pytest.approx(loss(3, ['road']), rel=1e-4)
    assert loss(1, ['road']) < loss(1, []) - 0.1
    assert loss(1, []) != pytest.approx(loss(3, []), rel=1e-2)


def test_the_settings_of_a_run(data, tmp_path):
    for name, changes in (('plain', {}), ('repeated', {'repeat': ('road=2', 'desk=9')}),
                          ('scaled', {'up_to_scale': ('room',)})):
        train(settings(tmp_path / name, steps=4, **changes), data, config=CONFIG)
    plain = losses(tmp_path / 'plain')
    assert losses(tmp_path / 'repeated') != plain
    assert losses(tmp_path / 'scaled') != plain


@pytest.mark.parametrize('repeat, up_to_scale, words', [
    (['room'], [], "'room' is not NAME=TIMES with 1 to 100000 times, like street=20"),
    (['room=0'], [], "'room=0' is not NAME=TIMES"),
    (['room=1.5'], [], "'room=1.5' is not NAME=TIMES"),
    (['room=2', 'road=3', 'room=4'], [], "'room' is repeated twice, 2 and 4 times: say it once"),
    (['=2'], [], "no training data has the name or group ''"),
    (['attic=2'], [], "no training data has the name or group 'attic', only planes-indoor, desk, "
                      'room, shelf, road, street$'),
    ([], ['attic'], "no training data has the name or group 'attic'")])
def test_refusals(data, repeat, up_to_scale, words):
    with pytest.raises(ValueError, match=words):
        Mixture.parse(repeat, up_to_scale, data)


def test_the_shape_of_disparity_is_learnt_beside_silog(data):
    torch.manual_seed(0)
    model = ZoeDepth(CONFIG).eval()
    batch = Batches(data, SIZE, 4, seed=1)[0]
    plain, shaped = (Objective(model, 'metric', 'labeled', 1.0, 'fp32', weight)(batch)
                     for weight in (0.0, 2.0))
    assert 'shape' not in plain
    assert shaped['silog'] == plain['loss']
    assert shaped['loss'].item() == pytest.approx(
        (plain['loss'] + 2 * shaped['shape']).item(), rel=1e-5)
    # Neither scale nor shift of the true disparity changes it.
    batch.depths[:] = [(3 / depth + 0.5).reciprocal() for depth in batch.depths]
    again = Objective(model, 'metric', 'labeled', 1.0, 'fp32', 2.0)(batch)
    assert again['shape'].item() == pytest.approx(shaped['shape'].item(), rel=1e-3)
    assert again['silog'].item() != pytest.approx(shaped['silog'].item(), rel=1e-2)
