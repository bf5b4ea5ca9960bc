"""Labels of ``zoe distill``: which frames, which pixels, at which scale, and never twice."""
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
import json
import os
import shutil

import bags
import made_up
import numpy as np
import pytest
from robot_messages import odometry_of
import stereo

from zoe_ros import DepthEstimator
from zoe_ros.anchor.correction import Correction
from zoe_ros.bag import BagError
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera import Camera
from zoe_ros.datasets import DatasetError
from zoe_ros.datasets.labels import find_labels, open_labels
from zoe_ros.datasets.open import open_datasets
from zoe_ros.distill.choice import FrameChooser
from zoe_ros.distill.label import check_bags, label_bags
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.teacher import MOST_DISAGREEMENT, Opinion, Teacher, trusted
from zoe_ros.evaluate import evaluate
from zoe_ros.messages import cloud_message
from zoe_ros.model.calibration import Calibration, save_calibration
from zoe_ros.run_many import results_folder

SETTINGS = DistillSettings(difference=0.0, device='cpu', precision='fp32')
IMAGE = '/camera/image_raw'


@pytest.fixture(scope='module')
def teacher():
    """Return the small model of the package as the teacher."""
    return Teacher('mobile-lite', 'cpu', 'fp32')


def camera_of(size):
    """Return the camera that :meth:`Family.info` describes."""
    height, width = size
    return Camera(width, height, width * 0.9, width * 0.8, width / 2 - 0.5, height / 2 + 0.5)


def write(path, images, info=True, extra=()):
    """Write a bag with images and their CameraInfo, and other messages beside each image."""
    messages = []
    for i, image in enumerate(images):
        stamp = bags.stamps(len(images))[i]
        if info:
            messages.append(('/camera/camera_info', bags.ROSBAGS.info(
                *image.shape[:2], stamp=stamp), stamp))
        messages += [(topic, make(i), stamp) for topic, make in extra]
        messages.append((IMAGE, bags.ROSBAGS.photo(image, stamp=stamp), stamp + 1))
    return bags.write_bag(path, messages)


# --- which frames ---------------------------------------------------------------------------


def test_a_camera_that_stands_still_gives_one_frame():
    random, image = np.random.default_rng(0), made_up.photo('nk_astronaut')
    chooser = FrameChooser(0.5)
    taken = 0
    for gain in np.linspace(0.6, 1.0, 12):      # the exposure changes, and there is noise
        seen = image * gain + random.normal(0, 8, image.shape)
        taken += chooser.takes(seen.clip(0, 255).astype(np.uint8))
    assert taken == 1
    dark = FrameChooser(0.5)
    noise = [random.normal(8, 3, image.shape).clip(0, 255).astype(np.uint8) for _ in range(5)]
    assert [dark.takes(seen) for seen in noise] == [True] + [False] * 4


def test_a_camera_that_moves_gives_frames_by_its_way_not_by_time():
    image = made_up.photo('nk_astronaut')
    ways = {}
    for step in (2, 4, 16):
        chooser = FrameChooser(0.5)
        ways[step] = [x for x in range(0, 160, step) if chooser.takes(image[:, x:x + 300])]
    assert 4 <= len(ways[16]) <= len(ways[2]) < 20
    assert abs(len(ways[2]) - len(ways[4])) <= 1    # twice as fast, but not half as many


def test_a_frame_is_compared_with_the_last_chosen_one():
    # A slow motion, whose every step is too small.
    image, chooser = made_up.photo('nk_astronaut'), FrameChooser(0.5)
    taken = [chooser.takes(image[:, x:x + 300]) for x in range(160)]
    assert 2 < sum(taken) < 20 and not any(a and b for a, b in pairwise(taken))


# --- which pixels ---------------------------------------------------------------------------


def test_pixels_of_which_the_teacher_is_not_sure():
    depths = np.full((2, 4, 6), 3.0)
    relative = np.full((4, 6), 0.25)
    depths[1, 0, 0] = 3 * np.exp(MOST_DISAGREEMENT + 0.01)
    depths[1, 0, 1] = 3 * np.exp(-MOST_DISAGREEMENT - 0.01)
    depths[1, 0, 2] = 3 * np.exp(MOST_DISAGREEMENT - 0.01)
    relative[1, 0], relative[1, 1] = 0.51, 0.49
    depths[:, 2, 0] = relative[2, 0] = np.nan
    assert np.argwhere(~trusted(depths, relative)).tolist() == [[0, 0], [0, 1], [1, 0], [2, 0]]


def test_a_label_is_the_mean_of_image_and_mirror_image_without_unsure_pixels(teacher, tmp_path):
    image = np.ascontiguousarray(made_up.photo('nk_camera')[:240, :320])
    bag = write(tmp_path / 'bag', [image])
    folder, = label_bags([bag], SETTINGS, tmp_path / 'labels', teacher)
    data, = open_labels([folder], 'train')
    sample = data[0]
    camera = camera_of(image.shape[:2])
    estimator = DepthEstimator.load('mobile-lite', device='cpu', precision='fp32')
    one, other = (estimator.predict(np.ascontiguousarray(seen), camera).depth
                  for seen in (image, image[:, ::-1]))
    other = other[:, ::-1]
    assert sample.image.shape == image.shape and np.abs(
        sample.image.astype(int) - image).mean() < 5
    assert (sample.camera.fx, sample.camera.cy) == (camera.fx, camera.cy)
    known = sample.valid
    assert 0.3 < known.mean() < 1
    np.testing.assert_allclose(sample.depth[known], ((one + other) / 2)[known], rtol=3e-3)
    assert not known[np.abs(np.log(one / other)) > MOST_DISAGREEMENT + 0.01].any()
    assert sample.head_probabilities.keys() == {'indoor', 'outdoor'}
    assert sum(sample.head_probabilities.values()) == pytest.approx(1)


def test_large_images_are_stored_small_with_their_camera(teacher, tmp_path):
    image = np.kron(made_up.photo('nk_astronaut')[:240, :320], np.ones((3, 3, 1), np.uint8))
    bag = write(tmp_path / 'bag', [image])
    folder, = label_bags([bag], SETTINGS, tmp_path / 'labels', teacher)
    data, = open_labels([folder], 'train')
    sample = data[0]
    height, width = sample.depth.shape
    assert height * width == pytest.approx(288 * 384, rel=0.01)
    assert width / height == pytest.approx(320 / 240, rel=0.01)
    assert sample.camera.fx / width == pytest.approx(camera_of(image.shape[:2]).fx / 960)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 6 * height * width


def test_bags_without_camera_info_have_labels(teacher, tmp_path):
    image = made_up.photo('nk_astronaut')
    path = write(tmp_path / 'bag', [image], info=False)
    folder, = label_bags([path], SETTINGS, tmp_path / 'labels', teacher)
    data, = open_datasets([str(folder)], 'train')
    assert data[0].camera is None and data[0].valid.any()


# --- at which scale -------------------------------------------------------------------------


def test_an_opinion_at_the_scale_of_an_anchor():
    opinion = Opinion(np.array([[2.0, 4.0]]), np.array([[0.2, 0.8]]), np.ones((1, 2), bool),
                      'indoor', {'indoor': 1.0})
    scaled = opinion.corrected(Correction(factor=1.5))
    np.testing.assert_allclose([scaled.depth, scaled.deviation], [[[3, 6]], [[0.3, 1.2]]])
    shifted = opinion.corrected(Correction(1.5, 0.1, 3.0, 1.0, 10.0))
    np.testing.assert_allclose(shifted.depth, [[3, 6 / 1.3]])
    np.testing.assert_allclose(shifted.deviation, [[0.3, 1.2 / 1.3]])


def test_labels_come_to_the_scale_of_a_lidar(teacher, tmp_path):
    image = np.ascontiguousarray(made_up.photo('nk_astronaut')[:240, :320])
    plain, = label_bags([write(tmp_path / 'a', [image] * 3)], SETTINGS, tmp_path / 'l', teacher)
    before, = open_datasets([str(plain)], 'train')
    camera = camera_of(image.shape[:2])
    opinion = teacher.look(image, camera)
    rays = camera.rays[::4, ::4]
    z = 1.3 * opinion.depth[::4, ::4, None]

    def cloud(index):
        points = np.concatenate([rays * z, z], axis=-1).astype(np.float32)
        header = bags.ROSBAGS.header(stamp=bags.stamps(3)[index], frame='lidar')
        return cloud_message(BAG_TYPES, header, points, None)

    path = write(tmp_path / 'b', [image] * 3, extra=[('/lidar', cloud)])
    anchored = replace(SETTINGS, anchor='points', anchor_topic=('/lidar',),
                       anchor_transform='0 0 0 0 0 0 1')
    folder, = label_bags([path], anchored, tmp_path / 'l', teacher)
    after, = open_datasets([str(folder)], 'train')
    known = before[1].valid
    np.testing.assert_allclose(after[1].depth[known], 1.3 * before[1].depth[known], rtol=0.03)
    with pytest.raises(BagError, match="anchor 'points' needs a topic of sensor_msgs"):
        check_bags([tmp_path / 'a'], anchored)


def test_motion_on_several_topics_is_told_while_labels_are_made(teacher, tmp_path, caplog):
    image = np.ascontiguousarray(made_up.photo('nk_astronaut')[:48, :64])
    depth = bags.ROSBAGS.image(bytes(2 * 48 * 64), 48, 64, 128, '16UC1', frame=bags.FRAME)
    path = write(tmp_path / 'bag', [image], extra=[
        ('/sparse', lambda index: depth), *((topic, lambda index: odometry_of(
            0.0, [0, 0, 0, 0, 0, 0, 1])) for topic in ('/visual', '/wheels'))])
    anchored = replace(SETTINGS, anchor='depth', anchor_topic=('/sparse',))
    with caplog.at_level('WARNING', 'zoe_ros'), pytest.raises(DatasetError):
        label_bags([path], anchored, tmp_path / 'labels', teacher)
    told = 'the motion of the robot is not used, because it is on /visual, /wheels: choose'
    assert sum(message.startswith(told) for message in caplog.messages) == 1


@pytest.mark.skipif(find_spec('cv2') is None, reason='features are matched by OpenCV')
def test_a_pair_whose_left_images_are_not_rectified_gives_no_scale(teacher, tmp_path):
    def camera(prefix, pixels, **changes):
        info = stereo.info(baseline=stereo.BASELINE * (prefix == 'right'))
        vars(info).update(changes)
        return [(f'/{prefix}/camera_info', info, bags.START),
                (f'/{prefix}/image_raw', bags.ROSBAGS.photo(pixels), bags.START + 1)]

    image = stereo.texture()
    depth = teacher.look(image, stereo.CAMERA).depth
    right = camera('right', stereo.right_view(image, 1.3 * depth))
    settings = replace(SETTINGS, anchor='stereo', topic='/left/image_raw')
    for distortion, reasons in ((0.0, {}), (-0.2, {'the anchor knows no scale': 1})):
        left = camera('left', image, d=np.array([distortion, 0, 0, 0, 0]))
        path = bags.write_bag(tmp_path / f'bag{distortion}', [*left, *right])
        # Both bags; the one without a label alone would end the command.
        label_bags([path, tmp_path / 'bag0.0'], settings, tmp_path / 'l', teacher)
        folder = results_folder(tmp_path / 'l', path)
        assert json.loads((folder / 'labels.json').read_text())['left_out'] == reasons


# --- the folder -----------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path):
    """Return two bags of ten and five images."""
    image = made_up.photo('nk_astronaut')
    views = [np.ascontiguousarray(image[:240, x:x + 320]) for x in range(0, 150, 15)]
    return [write(tmp_path / name, views[:count]) for name, count in (('a', 10), ('b', 5))]


def test_the_last_fifth_is_held_out_and_zoe_eval_measures_it(teacher, two, tmp_path):
    label_bags(two, SETTINGS, tmp_path / 'labels', teacher)
    learnt, held_out = (open_datasets([str(tmp_path / 'labels')], split)
                        for split in ('train', 'test'))
    names = [[data[i].name for data in part for i in range(len(data))]
             for part in (learnt, held_out)]
    assert len(names[0]) == 12
    stamps = list(map(str, bags.stamps(10)))
    assert sorted(names[1]) == sorted([*stamps[8:], stamps[4]])
    estimator = DepthEstimator.load('mobile-lite', device='cpu', precision='fp32')
    figures = [evaluate(estimator, data).figures for data in held_out]
    # The mirrored average and the JPEG differ a little from what the model predicts.
    assert all(0 < row['REL'] < 0.12 and row['router accuracy'] == 1 for row in figures)


def test_labelling_goes_on_where_it_ended(teacher, two, tmp_path):
    labels = tmp_path / 'labels'
    first, = label_bags(two[:1], SETTINGS, labels, teacher)
    (labels / f'{first.name}.part').mkdir()     # of a process that was killed
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    folders = label_bags(two, SETTINGS, labels, teacher)
    assert folders[0] == first and find_labels(labels) == sorted(folders)
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before


def test_a_failure_leaves_nothing_half_labelled(two, tmp_path):
    class Interrupted(Teacher):
        looks = 0

        def look(self, image, camera):
            self.looks += 1
            if self.looks > 12:
                raise KeyboardInterrupt
            return super().look(image, camera)

    labels = tmp_path / 'labels'
    with pytest.raises(KeyboardInterrupt):
        label_bags(two, SETTINGS, labels, Interrupted('mobile-lite', 'cpu', 'fp32'))
    folder, = labels.iterdir()
    assert len(json.loads((folder / 'labels.json').read_text())['frames']) == 10


@pytest.mark.parametrize('change, words', [
    ({'difference': 0.1}, 'another difference'), ({'topic': IMAGE}, 'another topic')])
def test_labels_of_other_settings_are_refused(teacher, two, tmp_path, change, words):
    label_bags(two[1:], SETTINGS, tmp_path / 'labels', teacher)
    with pytest.raises(DatasetError, match=f'labels that were made with {words}: choose'):
        label_bags(two, replace(SETTINGS, **change), tmp_path / 'labels', teacher)
    assert len(list((tmp_path / 'labels').iterdir())) == 1      # before any bag is labelled


def test_labels_of_another_teacher_are_refused(teacher, two, tmp_path, tiny_weights):
    label_bags(two[1:], SETTINGS, tmp_path / 'labels', teacher)
    with pytest.raises(DatasetError, match='labels that were made with another teacher'):
        label_bags(two[1:], SETTINGS, tmp_path / 'labels',
                   Teacher(str(tiny_weights), 'cpu', 'fp32'))


def test_labels_of_a_bag_that_was_recorded_again_are_refused(teacher, two, tmp_path):
    folder, *_ = label_bags(two, SETTINGS, tmp_path / 'labels', teacher)
    for file in two[1].iterdir():
        os.utime(file, (0, 0))      # no change
    label_bags(two, SETTINGS, tmp_path / 'labels', teacher)
    shutil.rmtree(two[0])
    write(two[0], [made_up.photo('nk_astronaut')[:240, :320]])
    with pytest.raises(DatasetError) as refused:
        label_bags(two, SETTINGS, tmp_path / 'labels', teacher)
    assert str(refused.value) == (
        f'{folder} has labels that were made before {two[0]} changed: choose another --labels or '
        '--output, or remove the folder')


def test_labels_of_another_calibration_are_refused(two, tmp_path):
    weights = made_up.write_tiny(tmp_path / 'tiny.safetensors', heads=('indoor',))
    label_bags(two[1:], SETTINGS, tmp_path / 'labels', Teacher(str(weights), 'cpu', 'fp32'))
    save_calibration(weights, {'indoor': Calibration(2.0, 1.0, 0.01)}, [])
    with pytest.raises(DatasetError, match='made with another calibration of the teacher: choose'):
        label_bags(two[1:], SETTINGS, tmp_path / 'labels', Teacher(str(weights), 'cpu', 'fp32'))


def test_labels_of_an_earlier_version_are_labels(teacher, two, tmp_path):
    folder, = label_bags(two[1:], SETTINGS, tmp_path / 'labels', teacher)
    path = folder / 'labels.json'
    about = json.loads(path.read_text())
    del about['inputs'], about['made_with']['anchor']       # were not known then
    path.write_text(json.dumps(about))
    assert label_bags(two[1:], SETTINGS, tmp_path / 'labels', teacher) == [folder]
    with pytest.raises(DatasetError, match='made with another anchor: choose'):
        label_bags(two[1:], replace(SETTINGS, anchor='depth'), tmp_path / 'labels', teacher)
    del about['made_with']['teacher']
    path.write_text(json.dumps(about))
    with pytest.raises(DatasetError, match='made with another teacher: choose'):
        label_bags(two[1:], SETTINGS, tmp_path / 'labels', teacher)


def test_a_teacher_that_is_never_sure_leaves_no_frame(two, tmp_path):
    class Unsure(Teacher):
        def look(self, image, camera):
            opinion = super().look(image, camera)
            few = np.arange(opinion.depth.size).reshape(opinion.depth.shape) % 10 == 0
            return replace(opinion, trusted=few)

    with pytest.raises(DatasetError, match=r'no frame of 1 bag is left to learn from; 5 left '
                                           'out: the teacher is not sure'):
        label_bags(two[1:], SETTINGS, tmp_path / 'labels', Unsure('mobile-lite', 'cpu', 'fp32'))


def test_a_damaged_label_is_told(teacher, two, tmp_path):
    folder, = label_bags(two[1:], SETTINGS, tmp_path / 'labels', teacher)
    for file in folder.glob('*.npy'):
        file.write_bytes(file.read_bytes()[:50])
    data = open_datasets([str(folder)], 'train')[0]
    with pytest.raises(DatasetError, match=r'\.label\.npy cannot be read .* label the bag again'):
        data[0]
    about = json.loads((folder / 'labels.json').read_text())
    first = about['frames'][0]
    for frame in ({}, 'x', {**first, 'camera': [1.0]}, {**first, 'probabilities': {}},
                  {**first, 'probabilities': 1}, {**first, 'name': 7}):
        (folder / 'labels.json').write_text(json.dumps({**about, 'frames': [first, frame]}))
        with pytest.raises(DatasetError, match=r'labels\.json cannot be read'):
            open_datasets([str(folder)], 'train')
    (folder / 'labels.json').write_text('{}')
    with pytest.raises(DatasetError, match=r'labels\.json cannot be read'):
        open_datasets([str(folder)], 'train')


def test_a_bag_that_is_cut_off_gives_the_frames_before(teacher, tmp_path):
    path, before = bags.damaged_in_the_middle(tmp_path / 'bag')
    folder, = label_bags([path], SETTINGS, tmp_path / 'labels', teacher)
    about = json.loads((folder / 'labels.json').read_text())
    assert len(about['frames']) + sum(about['left_out'].values()) == before
    assert about['frames']
