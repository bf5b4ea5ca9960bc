"""From frame to frame: settings that change, and the head of a video."""
from dataclasses import replace

import bags
from frames import ALL, buffer_of, K, OUTPUTS, photo, PUBLISHED, SIZE
import numpy as np
import pytest

from zoe_ros import DepthEstimator
from zoe_ros.outputs import DEPTH, POINTS
from zoe_ros.pipeline import infer_together


def test_settings_may_be_replaced_between_frames(pipeline):
    infos = buffer_of(bags.ROSBAGS.info(*SIZE, k=K))
    pipe = pipeline(infos=infos)
    first = pipe.process(photo(), ALL)
    for change in ({'depth_scale': 2.0}, {'min_depth': 1.0, 'max_depth': 3.0},
                   {'interpolation': 'nearest'}, {'output_decimation': 2},
                   {'point_cloud_downsample': 4, 'point_cloud_color': False},
                   {'color_max_depth': 3.0}, {'focal_correction': True}, {'router': 'outdoor'}):
        pipe.settings = replace(PUBLISHED, **change)
        changed = pipe.process(photo(), ALL)
        fresh = pipeline(**change, infos=infos).process(photo(), ALL)
        for name in ALL:
            assert bags.ROSBAGS.to_bytes(changed.messages[name]) == bags.ROSBAGS.to_bytes(
                fresh.messages[name])
        assert any(bags.ROSBAGS.to_bytes(changed.messages[name]) != bags.ROSBAGS.to_bytes(
            first.messages[name]) for name in ALL)
    pipe.settings = PUBLISHED
    last = pipe.process(photo(), ALL)
    assert bytes(last.messages[POINTS].data) == bytes(first.messages[POINTS].data)


def test_a_frame_keeps_the_settings_with_which_it_began(pipeline, tiny_estimator):
    pipe = pipeline()
    expected = pipe.process(photo(), (DEPTH,))
    prepared = pipe.prepare(photo(), (DEPTH,))
    net = infer_together(tiny_estimator, [prepared])[0]
    pipe.settings = replace(PUBLISHED, depth_scale=2.0)      # while the network works
    assert np.array_equal(pipe.finish(prepared, net, 0.0).depth, expected.depth)


def test_a_head_may_be_forced_between_frames(pipeline, tiny_estimator):
    pipe = pipeline()
    for router in ('auto', 'outdoor', 'indoor', 'auto', 'outdoor'):
        pipe.settings = replace(PUBLISHED, router=router)
        frame = pipe.process(photo(), OUTPUTS)
        expected = DepthEstimator(tiny_estimator.model, router=router).predict(
            bags.picture(*SIZE))
        assert frame.head == expected.head == ('indoor' if router == 'auto' else router)
        assert frame.depth.tobytes() == expected.depth.tobytes()
        if router != 'auto':
            assert frame.head_probabilities == {
                name: float(name == router) for name in ('indoor', 'outdoor')}


@pytest.fixture
def video(tiny_estimator, photos):
    """Return a function: letters and settings -> heads; 'i' is a photo indoor, 'o' one outdoor."""
    pictures = {'i': bags.picture(*SIZE), 'o': next(
        p for p in photos if tiny_estimator.predict(p).head == 'outdoor')}

    def heads(pipe, letters, start=bags.START, step=bags.SECOND // 10):
        found = ''
        for i, letter in enumerate(letters):
            message = bags.ROSBAGS.photo(pictures[letter], stamp=start + i * step)
            frame = pipe.process(message, (DEPTH,))
            assert sum(frame.head_probabilities.values()) == pytest.approx(1)
            alone = DepthEstimator(tiny_estimator.model, router=frame.head).predict(
                pictures[letter])
            assert frame.depth.tobytes() == alone.depth.tobytes()
            found += frame.head[0]
        return found

    return heads


@pytest.mark.parametrize('usual, odd', ['io', 'oi'])
def test_the_head_of_a_video_does_not_flicker(pipeline, video, usual, odd):
    letters = 5 * usual + odd + 4 * usual
    assert video(pipeline(), letters) == letters
    assert video(pipeline(router_time_constant=1), letters) == 10 * usual


@pytest.mark.slow
def test_the_head_of_a_video_follows_a_lasting_change(pipeline, video):
    found = video(pipeline(router_time_constant=1), 'i' * 10 + 'o' * 40)
    assert found[:10] == 'i' * 10 and found.endswith('o' * 20) and found.count('io') == 1
    assert 'oi' not in found
    # Twice the time constant, twice the frames.
    took = found.index('o') - 10
    slower = video(pipeline(router_time_constant=2), 'i' * 10 + 'o' * 60).index('o') - 10
    assert slower == pytest.approx(2 * took, abs=2) and took > 0


def test_the_head_of_a_video_starts_anew_when_time_jumps(pipeline, video):
    pipe = pipeline(router_time_constant=1)
    assert video(pipe, 'i' * 10) == 'i' * 10
    assert video(pipe, 'oo') == 'oo'                                    # the bag loops
    assert video(pipe, 'ii', start=bags.START + 60 * bags.SECOND) == 'ii'   # a long gap
    assert video(pipeline(router_time_constant=1), 'o') == 'o'          # another camera


def test_photographs_have_no_history(pipeline, tiny_estimator, photos):
    pipe = pipeline(router_time_constant=3600)
    pictures = [bags.picture(*SIZE), *photos, bags.picture(*SIZE)]
    heads = set()
    for image in pictures:
        depth, head = pipe.predict_image(image)
        expected = tiny_estimator.predict(image)
        assert head == expected.head and depth.tobytes() == expected.depth.tobytes()
        heads.add(head)
    assert heads == {'indoor', 'outdoor'}


def test_the_depth_of_photographs_is_scaled_too(pipeline, tiny_estimator, photos):
    depth, _ = pipeline(depth_scale=2.0).predict_image(photos[0])
    assert np.array_equal(depth, 2 * tiny_estimator.predict(photos[0]).depth)
