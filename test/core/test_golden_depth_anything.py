"""
Every field of the golden files of Depth Anything's metric models, from the official code.

The made-up weights are well conditioned: the official code in float32 is up to 8e-5 of the spread
of a field away from itself in float64. Each trap of docs/depth_anything.md exceeds the bounds.
"""
from golden import INFERENCES, inferences, models, network_fields, STAGES
import made_up
import numpy as np
import pytest

from zoe_ros import DepthEstimator

pytestmark = pytest.mark.full

# Of the differences, in units of the standard deviation of the field.
ROOT_MEAN_SQUARE, LARGEST = 5e-5, 5e-4


@pytest.fixture(scope='module', params=sorted(made_up.DEPTH_ANYTHING))
def case(request, official):
    """Return the golden fields of a photo, and ours under the same names."""
    golden = made_up.golden_fields(request.param)
    model = models(official)(made_up.DEPTH_ANYTHING[request.param][0])
    ours = {**network_fields(model, golden, correction=0), **inferences(model, golden['image'])}
    if 'eval_flip_net' in golden:
        ours['eval_flip_net'] = published_evaluation(model, golden['image'])
    return golden, ours


def published_evaluation(model, image):
    """Stretch to the training size and average with the mirror; every 2nd row and column."""
    net, = DepthEstimator(model, flip=True).infer([image])
    return net.depth[::2, ::2].numpy()


def test_every_field(case):
    golden, ours = case
    given = {'image', 'net_input_hw', 'sample_rows', 'sample_cols'}
    names = set(golden) - given
    assert names == set(ours) - given
    assert names >= {*INFERENCES, *(f'feature_{stage}_channel_std' for stage in STAGES)}
    assert ours['net_input_hw'].tolist() == golden['net_input_hw'].tolist()
    for name in sorted(names):
        assert ours[name].shape == golden[name].shape, name
        difference = np.abs(ours[name].astype(np.float64) - golden[name]) / golden[name].std()
        assert np.sqrt(np.mean(difference ** 2)) < ROOT_MEAN_SQUARE, name
        assert difference.max() < LARGEST, name


def test_the_photos_try_what_is_special():
    """A grid with an odd number of rows and columns, depth beyond the indoor range."""
    rocket = made_up.golden_fields('da-k_rocket')
    assert (rocket['net_input_hw'] // 14).tolist() == [11, 37]
    assert rocket['infer_plain'].max() > 10
    assert 'eval_flip_net' in rocket
