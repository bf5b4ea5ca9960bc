"""Pairs of image and depth in bags whose stamps tell little."""
import logging

import bags
import numpy as np
import pytest
from test_datasets_bags import depth_image, EVERY, HEIGHT, metres, MS, RAW, WIDTH

from zoe_ros.datasets.bags import RgbdBag

COUNT = 4


def camera(index, stamp, recorded):
    """Return an image of a camera with its CameraInfo before it, and its depth 5 ms later."""
    image = bags.ROSBAGS.photo(bags.picture(HEIGHT, WIDTH, index), stamp=stamp)
    return [('/camera/camera_info', bags.ROSBAGS.info(HEIGHT, WIDTH, stamp=stamp), recorded),
            (RAW, image, recorded),
            ('/depth/image_raw', depth_image(metres(index), stamp=stamp), recorded + 5 * MS)]


@pytest.mark.parametrize('stamp', [0, bags.START])
def test_stamps_that_are_all_the_same(tmp_path, stamp):
    messages = [message for index in range(COUNT)
                for message in camera(index, stamp, bags.START + index * EVERY)]
    dataset = RgbdBag(bags.write_bag(tmp_path / 'bag', messages), 'indoor')
    assert len(dataset) == COUNT
    for index in range(COUNT):
        sample = dataset[index]
        assert np.array_equal(sample.image, bags.picture(HEIGHT, WIDTH, index))
        assert sample.depth == pytest.approx(metres(index), nan_ok=True)
    if not stamp:
        assert [dataset[index].name for index in range(COUNT)] == [
            str(bags.START + index * EVERY) for index in range(COUNT)]


def test_depth_that_was_recorded_at_another_time_is_no_pair_of_images_without_stamps(tmp_path):
    messages = camera(0, 0, bags.START)[:2] + [
        message for index in range(COUNT)
        for message in camera(index, 0, bags.START + bags.SECOND + index * EVERY)]
    assert len(RgbdBag(bags.write_bag(tmp_path / 'bag', messages), 'indoor')) == COUNT


@pytest.mark.parametrize('unpaired', [0, 3])
def test_images_without_depth_are_counted_in_the_log(tmp_path, unpaired):
    messages = [message for index in range(COUNT + unpaired)
                for message in camera(index, bags.START + index * EVERY,
                                      bags.START + index * EVERY)
                if index < COUNT or message[0] != '/depth/image_raw']
    path = bags.write_bag(tmp_path / 'bag', messages)
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    log = logging.getLogger('zoe_ros.datasets.bags')
    log.addHandler(handler)
    before = log.level
    log.setLevel(logging.INFO)
    try:
        assert len(RgbdBag(path, 'indoor')) == COUNT
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
    assert [record.getMessage() for record in records] == [
        f'{path}: 4 of 7 images of {RAW} have depth on /depth/image_raw within 0.02 s'
    ] * bool(unpaired)
