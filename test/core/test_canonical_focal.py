"""A model that predicts the depth of its training camera: the focal length makes the metres."""
import copy
from dataclasses import replace

import bags
from frames import buffer_of, photo
import numpy as np
import pytest

from zoe_ros import DepthEstimator
from zoe_ros.camera import Camera
from zoe_ros.model.config import VARIANTS, ZoeConfig
from zoe_ros.model.hub import SHIPPED
from zoe_ros.model.weights import open_checkpoint
from zoe_ros.outputs import DEPTH

SIZE = (60, 200)
CAMERA = Camera(SIZE[1], SIZE[0], 90, 80, 99.5, 30)
# By hand, see test_focal_correction_takes_the_training_camera_of_the_head.
FACTORS = {'indoor': 0.82572, 'outdoor': 0.70711}


@pytest.fixture
def canonical(tiny_estimator):
    """Return a function: head -> estimator with the tiny model's weights, canonical focal."""
    def made(head):
        model = copy.copy(tiny_estimator.model)
        model.config = replace(model.config, canonical_focal=True)
        return DepthEstimator(model, router=head)

    return made


def infos():
    """Return a buffer with the CameraInfo of CAMERA."""
    return buffer_of(bags.ROSBAGS.info(
        *SIZE, k=(CAMERA.fx, 0, CAMERA.cx, 0, CAMERA.fy, CAMERA.cy, 0, 0, 1)))


@pytest.mark.parametrize('head', FACTORS)
def test_the_camera_gives_the_same_metres_in_python_and_in_a_frame(canonical, pipeline, head):
    estimator, image = canonical(head), bags.picture(*SIZE)
    plain = estimator.predict(image).depth
    by_camera = estimator.predict(image, CAMERA)
    mixed, without = estimator.predict_batch([image, image], [CAMERA, None])
    # A batch of two is rounded another way than an image alone.
    assert np.array_equal(without.depth, estimator.predict_batch([image, image])[1].depth)
    assert np.allclose(mixed.depth, FACTORS[head] * without.depth, rtol=1e-4)
    assert np.allclose(by_camera.depth, FACTORS[head] * plain, rtol=1e-4)
    for corrected in (False, True):     # the factor acts once
        frame = pipeline(estimator=estimator, router=head, infos=infos(),
                         focal_correction=corrected).process(photo(size=SIZE), (DEPTH,))
        assert np.allclose(frame.depth, by_camera.depth, rtol=1e-5)
        assert frame.remarks == ()


def test_other_models_ignore_the_camera(tiny_estimator):
    image = bags.picture(*SIZE)
    assert np.array_equal(tiny_estimator.predict(image, CAMERA).depth,
                          tiny_estimator.predict(image).depth)


def test_the_view_of_the_training_camera_has_its_focal_length(canonical, pipeline, tiny_estimator):
    settings = {'router': 'indoor', 'infos': infos(), 'camera_view': 'training'}
    depths = [pipeline(estimator=estimator, **settings).process(photo(size=SIZE), (DEPTH,)).depth
              for estimator in (canonical('indoor'), tiny_estimator)]
    assert np.isfinite(depths[0]).any()
    assert np.array_equal(*depths, equal_nan=True)


def test_a_frame_without_camera_says_once_for_which_camera_its_metres_are(canonical, pipeline):
    pipe = pipeline(estimator=canonical('auto'))
    said = [text for _ in range(2) for text in pipe.process(photo(size=SIZE), (DEPTH,)).remarks]
    # The tiny model's cameras: 0.8 and 0.6 widths.
    assert said == ['depth is in metres for a horizontal field of view of 64 degrees (indoor), '
                    '80 degrees (outdoor) only: there is no CameraInfo']


def test_a_usual_lens_is_assumed_where_none_is_known(canonical, pipeline):
    """Indoors that of training, outdoors another one: 0.7 of the tiny model's focal length."""
    image = bags.picture(*SIZE)
    for head, factor in {'indoor': 1, 'outdoor': 0.7}.items():
        estimator = canonical(head)
        trained, by_camera = estimator.predict(image).depth, estimator.predict(image, CAMERA).depth
        metric = estimator.model.config.metric
        fx, fy = metric.heads[1].training_camera[:2]
        estimator.model.config = replace(estimator.model.config, metric=replace(metric, heads=(
            metric.heads[0], replace(metric.heads[1], assumed_focal=(0.7 * fx, 0.7 * fy)))))
        assumed = estimator.predict(image).depth
        assert np.allclose(assumed, factor * trained, rtol=1e-5)
        assert np.array_equal(estimator.predict(image, CAMERA).depth, by_camera)
        live = pipeline(estimator=estimator, router=head)
        frame = live.process(photo(size=SIZE), (DEPTH,))
        assert np.allclose(frame.depth, assumed, rtol=1e-5)
        # The tiny model's outdoor camera is 0.6 widths.
        assert '64 degrees (indoor), 100 degrees (outdoor)' in frame.remarks[0]
        assert np.allclose(live.predict_image(image)[0], assumed, rtol=1e-5)


def test_the_shipped_weights_assume_what_their_variant_assumes():
    """Weights that were copied elsewhere, and are named by their path, give the same metres."""
    assert open_checkpoint(SHIPPED / 'mobile-lite.safetensors').config == VARIANTS['mobile-lite']
    indoor, outdoor = VARIANTS['mobile-lite'].metric.heads
    assert round(indoor.field_of_view) == 61
    assert round(outdoor.field_of_view) == 67


def test_a_camera_of_another_size_is_refused(canonical):
    with pytest.raises(ValueError, match='the camera has 200 x 60 pixels, the image 64 x 48'):
        canonical('indoor').predict(bags.picture(48, 64), CAMERA)


def test_a_model_keeps_its_kind_in_its_file():
    config = replace(VARIANTS['mobile'], canonical_focal=True)
    assert ZoeConfig.from_dict(config.as_dict()) == config
    old = VARIANTS['mobile'].as_dict()
    del old['canonical_focal']
    assert not ZoeConfig.from_dict(old).canonical_focal
