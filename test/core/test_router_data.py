"""Images without depth: sources that teach the router alone."""
from dataclasses import replace

import pytest
from rgbd_folders import read_json, write_folder, write_json
from scenes import Planes
from short_training import CONFIG, settings
import torch

from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.folders import ImageFolder, RgbdFolder
from zoe_ros.datasets.open import open_datasets
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.training.batches import Batches
from zoe_ros.training.objective import Objective
from zoe_ros.training.trainer import train

SIZE = (64, 96)


def without_depth(folder, domain='indoor', **about):
    """Write a source without depth and without intrinsics; return its path."""
    write_folder(folder, domain, **about)
    for path in folder.glob('*.depth.png'):
        path.unlink()
    about = read_json(folder)
    for frame in about['frames']:
        for key in ('fx', 'fy', 'cx', 'cy'):
            del frame[key]
    write_json(folder, {**about, 'depth': False})
    return folder


def test_a_source_without_depth_opens_for_training(tmp_path):
    path = without_depth(tmp_path / 'street', 'outdoor', count=2, group='tagged')
    source, = open_datasets([str(path)], 'train')
    assert type(source) is ImageFolder
    assert (len(source), source.name, source.group) == (2, 'street', 'tagged')
    sample = source[1]
    assert sample.image.shape == (64, 96, 3) and sample.domain == 'outdoor'
    assert sample.camera is None and not sample.valid.any()
    with pytest.raises(DatasetError, match="'street' has no depth: zoe eval"):
        open_datasets([str(path)], 'test')


def test_a_source_without_depth_among_others_is_left_out_of_an_evaluation(tmp_path, caplog):
    caplog.set_level('INFO')
    without_depth(tmp_path / 'street', 'outdoor')
    write_folder(tmp_path / 'room')
    found, = open_datasets([str(tmp_path)], 'test')
    assert found.name == 'room'
    assert 'left out, because they have no depth: street' in caplog.text


@pytest.mark.parametrize('canonical', [False, True])
def test_its_images_teach_the_router_and_nothing_else(tmp_path, canonical):
    source = ImageFolder(without_depth(tmp_path / 'a', 'outdoor'))
    config = replace(CONFIG, canonical_focal=canonical)
    batch = Batches([source], SIZE, 4, seed=1, canonical=config if canonical else None)[0]
    torch.manual_seed(0)
    objective = Objective(ZoeDepth(config), 'metric', 'trained', 1.0, 'fp32', 0.5)
    parts = objective(batch)
    assert parts['silog'] == parts['shape'] == 0
    assert parts['loss'] == parts['routing'] > 0
    parts['loss'].backward()
    moved = {name for name, parameter in objective.model.named_parameters()
             if parameter.grad is not None and (parameter.grad != 0).any()}
    assert any(name.startswith('router.') for name in moved)
    assert not any(name.startswith('metric.heads.') for name in moved)


def test_beside_images_with_depth_the_loss_of_depth_is_theirs(tmp_path):
    mixed = [ImageFolder(without_depth(tmp_path / 'a')), Planes('indoor', 3)]
    batch = Batches(mixed, SIZE, 6, seed=1)[0]
    known = [not name.startswith('a/') for name in batch.names]
    assert 0 < sum(known) < 6
    torch.manual_seed(0)
    objective = Objective(ZoeDepth(CONFIG).eval(), 'metric', 'trained', 1.0, 'fp32', 0.5)
    parts = objective(batch)
    alone = objective(replace(
        batch, pixels=batch.pixels[known], **{
            field: [value for value, keep in zip(getattr(batch, field), known) if keep]
            for field in ('depths', 'domains', 'names', 'metric')}))
    for name in ('silog', 'shape'):
        assert parts[name].item() == pytest.approx(alone[name].item(), rel=1e-4)


def test_a_run_with_both(tmp_path):
    data = [Planes('indoor', 4), Planes('outdoor', 4),
            ImageFolder(without_depth(tmp_path / 'a', 'outdoor'))]
    assert train(settings(tmp_path / 'run', steps=4), data, config=CONFIG).is_file()


@pytest.mark.parametrize('changes', [{'routing': 'labeled'}, {'routing': 'auto'},
                                     {'stage': 'relative'}, {'heads': ('indoor',)}])
def test_without_a_router_that_learns_they_are_refused(tmp_path, changes):
    data = [Planes('indoor', 4), ImageFolder(without_depth(tmp_path / 'a'))]
    heads = changes.pop('heads', None)
    config = CONFIG if heads is None else replace(CONFIG, router=None, metric=replace(
        CONFIG.metric, heads=CONFIG.metric.heads[:1]))
    with pytest.raises(ValueError, match="source 'a' has no depth, so that it teaches a router"):
        train(settings(tmp_path / 'run', **changes), data, config=config)


@pytest.mark.parametrize('depth', ['no', 0, None])
def test_depth_is_true_or_false(tmp_path, depth):
    path = write_folder(tmp_path / 'a', depth=depth)
    with pytest.raises(DatasetError, match=r'"depth" is .*, not true or false'):
        RgbdFolder(path)


def test_depth_files_beside_a_description_without_depth(tmp_path):
    path = write_folder(tmp_path / 'a', depth=False)
    with pytest.raises(DatasetError, match=r'which source\.json does not name'):
        ImageFolder(path)
