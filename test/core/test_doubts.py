"""What is said, once, of images and CameraInfo that are probably wrong."""
import bags
from frames import buffer_of, SIZE
import numpy as np
import pytest

from zoe_ros.outputs import DEPTH
from zoe_ros.remarks import BLACK

HEIGHT, WIDTH = SIZE


def remarks_of(pipe, message=None):
    """Return the remarks on two frames of a pipeline."""
    message = message or bags.ROSBAGS.photo(bags.picture(*SIZE))
    return [text for _ in range(2) for text in pipe.process(message, (DEPTH,)).remarks]


def info(scale=1.0, centre=(0.5, 0.5), size=SIZE):
    """
    Return CameraInfo of a camera as in training.

    :param scale: of its matrices; :param centre: in widths and heights of the image.
    """
    k = np.array([WIDTH * 0.9, 0, WIDTH * centre[0] - 0.5, 0, WIDTH * 0.9,
                  HEIGHT * centre[1] - 0.5, 0, 0, 1]) * scale
    k[8] = 1
    return bags.ROSBAGS.info(*size, k=k)


def focal(fx, fy):
    """Return CameraInfo with focal lengths [px] and its centre in the middle."""
    return bags.ROSBAGS.info(*SIZE, k=(fx, 0, WIDTH / 2, 0, fy, HEIGHT / 2, 0, 0, 1))


def test_images_without_stamps(pipeline):
    text, = remarks_of(pipeline(infos=buffer_of(info()), focal_correction=True),
                       bags.ROSBAGS.photo(bags.picture(*SIZE), stamp=0))
    assert text.startswith('the images have stamps of 0, and so have the outputs: ')


# Matrices of 1280 x 960 pixels or of 44 x 33.
@pytest.mark.parametrize('wrong', [
    info(20), info(0.75 / 1.1), info(centre=(0.3, 0.5)), info(centre=(0.5, 0.7)),
    info(centre=(0.5, 1.2)), info(20, size=(0, 0))])
def test_matrices_of_another_resolution(pipeline, wrong):
    text, = remarks_of(pipeline(infos=buffer_of(wrong), focal_correction=True))
    assert text.startswith(f'the optical centre ({wrong.k[2]:g}, {wrong.k[5]:g}) by CameraInfo is '
                           'far from the middle of an image of 64 x 48 pixels: ')


# In millimetres, in widths of the image, of the identity, of 165 degrees, and far too long.
@pytest.mark.parametrize('fx, fy', [
    (4.2, 4.2), (0.9, 1.2), (1, 1), (60, 6), (57600, 57600), (60, 4000)])
def test_focal_lengths_of_no_lens(pipeline, fx, fy):
    text, = remarks_of(pipeline(infos=buffer_of(focal(fx, fy)), focal_correction=True))
    assert text.startswith(f'focal lengths of {fx:g} and {fy:g} pixels by CameraInfo belong to no '
                           'lens for an image of 64 x 48 pixels: ')


@pytest.mark.parametrize('right', [
    info(), info(centre=(0.6, 0.4)), info(centre=(0.37, 0.63)), info(size=(0, 0)), focal(10, 10),
    focal(1000, 2000)])
def test_an_ordinary_camera_is_not_doubted(pipeline, right):
    assert remarks_of(pipeline(infos=buffer_of(right), focal_correction=True)) == []


def test_the_optical_centre_of_a_region_may_be_anywhere(pipeline):
    whole = info(2, size=(2 * HEIGHT, 2 * WIDTH))
    whole.roi.x_offset, whole.roi.y_offset = WIDTH, HEIGHT
    whole.roi.width, whole.roi.height = WIDTH, HEIGHT
    assert remarks_of(pipeline(infos=buffer_of(whole), focal_correction=True)) == []


@pytest.mark.parametrize('bits, said', [(10, True), (12, True), (14, False), (16, False)])
def test_bits_that_do_not_fill_16_bits_make_a_black_image(pipeline, bits, said):
    grey = bags.picture(*SIZE)[..., 0] / 255 * (2 ** bits - 1)
    message = bags.ROSBAGS.image(grey.astype('<u2').tobytes(), *SIZE, 2 * WIDTH, 'mono16')
    texts = remarks_of(pipeline(infos=buffer_of(info()), focal_correction=True), message)
    assert [text.partition(':')[0] for text in texts] == ['the images are almost black'] * said


def test_black_image_files_are_counted(zoe, tmp_path):
    for name, bits in (('a.png', 16), ('b.png', 12), ('c.png', 10)):
        grey = bags.picture(*SIZE)[..., 0] / 255 * (2 ** bits - 1)
        (tmp_path / name).write_bytes(bags.encoded(grey.astype(np.uint16)))
    ran = zoe(tmp_path)
    assert ran.code == 0
    assert ran.out.count('almost black') == 1
    assert f'2 image(s) {BLACK}; the first is {tmp_path / "b.png"}' in ran.out


def test_a_dark_image_in_which_something_shines(pipeline):
    night = np.full((*SIZE, 3), 3, np.uint8)
    night[8:24, 8:24] = 200
    message = bags.ROSBAGS.photo(night)
    assert remarks_of(pipeline(infos=buffer_of(info()), focal_correction=True), message) == []
