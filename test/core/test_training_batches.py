"""The batches of a training: their order, their shares, and augmentation."""
import json

import numpy as np
from PIL import Image
import pytest
from scenes import Planes, SIZE
from short_training import DATA
import torch

from zoe_ros.datasets.labels import open_labels
from zoe_ros.inference.choices import input_size
from zoe_ros.model.config import VARIANTS
from zoe_ros.training.augment import augment
from zoe_ros.training.batches import Batches

pytestmark = pytest.mark.slow


def test_batches_take_turns_and_cover_every_sample():
    batches = Batches(DATA, (64, 96), 4, seed=1)
    seen = {'indoor': [], 'outdoor': []}
    for step in range(6):
        batch = batches[step]
        assert set(batch.domains) == {['indoor', 'outdoor'][step % 2]}
        assert batch.pixels.shape == (4, 3, 64, 96)
        seen[batch.domains[0]] += batch.names
    assert len(set(seen['indoor'])) == 12       # an epoch
    again = Batches(DATA, (64, 96), 4, seed=1)[3]
    assert again.names == batches[3].names and torch.equal(again.pixels, batches[3].pixels)
    assert Batches(DATA, (64, 96), 4, seed=2)[3].names != again.names


def test_mixed_batches_of_odd_size_repeat_no_sample():
    batches = Batches(DATA, (64, 96), 3, seed=1, mixed=True)
    indoor = [name for step in range(6)
              for name, domain in zip(batches[step].names, batches[step].domains)
              if domain == 'indoor']
    assert len(set(indoor)) == len(indoor) == 12        # an epoch


def test_shares_of_a_batch_make_up_the_batch():
    whole = Batches(DATA, (64, 96), 4, seed=1, mixed=True)[5]
    parts = [Batches(DATA, (64, 96), 4, seed=1, mixed=True, rank=r, world=2)[5] for r in (0, 1)]
    assert whole.names == parts[0].names + parts[1].names
    assert torch.equal(whole.pixels, torch.cat([part.pixels for part in parts]))
    assert sorted(whole.domains) == ['indoor', 'indoor', 'outdoor', 'outdoor']
    with pytest.raises(ValueError, match='cannot be divided evenly'):
        Batches(DATA, (64, 96), 3, seed=1, world=2)


@pytest.mark.parametrize('share', [0.75, 0.6, 1.0])
def test_labels_of_a_teacher_have_their_share(share, tmp_path):
    labels = labelled(tmp_path / 'drive-1', 7)
    batches = Batches([*DATA, *labels], SIZE, 4, seed=1, labelled=share)
    names = [name for step in range(10) for name in batches[step].names]
    mine = [name for name in names if name.startswith('drive-1')]
    assert len(mine) == round(40 * share)
    assert len(set(mine)) == 6      # those that are not held out, of both domains
    assert {mine.count(name) for name in mine} <= {len(mine) // 6, -(-len(mine) // 6)}
    if share < 1:
        assert {name.split('/')[0] for name in names} >= {'planes-indoor', 'planes-outdoor'}
    batch = batches[0]
    for name, given in zip(batch.names, batch.head_probabilities):
        assert (given is None) == name.startswith('planes')
    parts = [Batches([*DATA, *labels], SIZE, 4, seed=1, labelled=share, rank=r, world=2)[3]
             for r in (0, 1)]
    assert batches[3].names == parts[0].names + parts[1].names


def labelled(folder, count):
    """Write labels of a bag by hand; every third frame is outdoors."""
    folder.mkdir()
    frames = []
    for index in range(count):
        sample = DATA[0][index]
        Image.fromarray(sample.image).save(folder / f'{index}.jpg')
        values = np.log(np.stack([sample.depth, sample.depth / 4])).astype(np.float16)
        np.save(folder / f'{index}.label.npy', values)
        outdoor = 0.9 * (index % 3 == 0)
        frames.append({'name': str(index), 'camera': None, 'probabilities': {
            'indoor': 1 - outdoor, 'outdoor': outdoor}})
    (folder / 'labels.json').write_text(json.dumps({'version': 1, 'frames': frames}))
    return open_labels([folder], 'train')


def test_samples_without_depth_are_passed_over():
    class Holes(Planes):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            if index % 2:
                sample.depth[:] = np.nan
            return sample

    batch = Batches([Holes('indoor', 10)], (64, 96), 8, seed=0)[0]
    assert all(int(name[-1]) % 2 == 0 for name in batch.names)

    class Nothing(Planes):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            sample.depth[:] = np.nan
            return sample

    with pytest.raises(ValueError, match='planes-indoor: no depth in 20 samples in a row'):
        Batches([Nothing('indoor', 30)], (64, 96), 8, seed=0)[0]


def test_augmentation_moves_image_and_depth_alike():
    """Depth written into the image as well stays where the image is."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:64, :96]
    depth = (1 + x + y / 2).astype(np.float32)
    image = np.stack([(1 + x + y / 2).astype(np.uint8)] * 3, axis=-1)
    mirrored = 0
    for _ in range(20):
        new_image, new_depth = augment(image, depth, 'indoor', random)
        assert new_image.shape == (*SIZE, 3) and new_image.dtype == np.uint8
        valid = np.isfinite(new_depth)
        assert valid[8:-8, 8:-8].all()
        mirrored += new_depth[32, 20] > new_depth[32, 70]
        correlation = np.corrcoef(new_image[8:-8, 8:-8, 0].ravel(),
                                  new_depth[8:-8, 8:-8].ravel())[0, 1]
        assert correlation > 0.995
    assert 3 < mirrored < 17
    assert (image[..., 0] == (1 + x + y / 2).astype(np.uint8)).all()    # its own copy


def test_augmentation_makes_no_depth_between_two_surfaces():
    depth = np.full(SIZE, 2.0, np.float32)
    depth[20:40, 30:60] = 9.0
    depth[50, 10] = np.nan
    random = np.random.default_rng(0)
    for _ in range(10):
        _, moved = augment(np.zeros((*SIZE, 3), np.uint8), depth, 'indoor', random)
        assert set(moved[np.isfinite(moved)].tolist()) == {2.0, 9.0}
        assert np.isnan(moved).any()


def test_sizes():
    plain, vit = VARIANTS['mobile'], VARIANTS['da-n']
    assert input_size('', plain) == plain.image_size
    assert input_size('192x256', plain) == (192, 256)
    assert input_size('14x70', vit) == (14, 70)
    with pytest.raises(ValueError, match="'192x256' is not HEIGHTxWIDTH in multiples of 14, like "
                                         '84x112'):
        input_size('192x256', vit)
