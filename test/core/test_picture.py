"""The picture at the end of a run: what it shows, for all sorts of frames."""
import numpy as np
from PIL import Image
import pytest

from zoe_ros.camera import Camera
from zoe_ros.cloud_picture import BACKGROUND, draw_cloud
from zoe_ros.colormap import colorize, NO_VALUE, PAPER
from zoe_ros.picture import frame_row, RunPicture, View

RED = (200, 30, 30)
NEAR, FAR = 1.0, 8.0


def view(height=48, width=64, depth=2.0, color=RED, calibrated=True):
    """Return a wall of one colour in front of the camera."""
    camera = Camera(width, height, width, width, (width - 1) / 2, (height - 1) / 2)
    return View(np.full((height, width, 3), color, np.uint8),
                np.full((height, width), depth, np.float32), camera if calibrated else None)


def count(picture, color):
    """Return how many pixels of a picture have a colour, nearly."""
    return int((np.abs(np.asarray(picture).astype(int) - color).max(axis=-1) < 4).sum())


def drawn(tmp_path, views, total=None):
    """Return the picture of a run, or None."""
    picture = RunPicture(total or len(views))
    for i, one in enumerate(views):
        picture.add(i, one)
    picture.save(tmp_path / 'picture.png', NEAR, FAR)
    if not (tmp_path / 'picture.png').is_file():
        return None
    with Image.open(tmp_path / 'picture.png') as file:
        return file.convert('RGB')


# --- rows -----------------------------------------------------------------------------------


def test_a_row_shows_image_depth_and_cloud():
    row = frame_row(view(), NEAR, FAR, (320, 320))
    assert count(row, RED) > 320 * 240
    assert count(row, colorize(np.float32(2), NEAR, FAR)) == 320 * 240
    assert count(row, BACKGROUND) > 5000


def test_without_a_camera_there_is_no_cloud():
    row = frame_row(view(calibrated=False), NEAR, FAR, (320, 320))
    assert count(row, RED) == 320 * 240 and count(row, BACKGROUND) == 0
    assert row.width < 2 * 340


def test_depth_without_a_value_is_grey():
    row = frame_row(view(depth=np.nan), NEAR, FAR, (320, 320))
    assert 0 <= count(row, NO_VALUE) - 320 * 240 < 100      # letters have greys too
    assert count(row, BACKGROUND) >= 320 * 240


@pytest.mark.parametrize('size', [(64, 48), (48, 64), (1, 1), (1, 50), (3, 700), (1080, 1920)])
def test_images_of_any_shape_fit(size):
    row = frame_row(view(*size), NEAR, FAR, (300, 200))
    assert row.width <= 3 * 300 + 20 and row.height <= 230
    assert count(row, RED) > 0


# --- clouds ---------------------------------------------------------------------------------


def test_a_cloud_shows_near_before_far():
    """Of two walls, one behind the other, the near one hides part of the far one."""
    both = view(96, 128, depth=4.0)
    both.depth[48:, 32:96] = 2.0
    both.image[48:, 32:96] = (30, 30, 200)
    picture = draw_cloud(both.image, both.depth, both.camera, (200, 150))
    alone = draw_cloud(both.image, np.where(both.depth > 3, np.nan, both.depth), both.camera,
                       (200, 150))
    assert count(picture, RED) > 500 and count(picture, (30, 30, 200)) > 500
    assert count(alone, RED) == 0


def test_what_is_above_the_camera_is_left_out():
    """A floor alone fills the picture; with the ceiling of a room the floor is still seen."""
    camera = Camera(128, 96, 90, 90, 63.5, 47.5)
    down = camera.rays[..., 1]
    with np.errstate(divide='ignore'):
        floor = np.where(down > 0.1, 1.2 / down, np.nan).astype(np.float32)
        room = np.where(down < -0.1, -1.8 / down, floor).astype(np.float32)
    image = np.where((down > 0)[..., None], RED, (30, 200, 30)).astype(np.uint8)
    seen = draw_cloud(image, floor, camera, (200, 150))
    assert count(seen, RED) > 3000
    with_ceiling = draw_cloud(image, room, camera, (200, 150))
    assert count(with_ceiling, RED) > 0.8 * count(seen, RED)


def test_a_cloud_without_points_is_empty():
    blank = view(depth=np.nan)
    picture = draw_cloud(blank.image, blank.depth, blank.camera, (100, 80))
    assert picture.size == (100, 80) and count(picture, BACKGROUND) == 100 * 80


# --- runs -----------------------------------------------------------------------------------


def test_a_run_without_frames_has_no_picture(tmp_path):
    assert drawn(tmp_path, [], total=5) is None


def test_one_frame_has_no_contact_sheet(tmp_path):
    picture = drawn(tmp_path, [view(calibrated=False)])
    assert count(picture, RED) == 640 * 480


@pytest.mark.parametrize('frames', [2, 12, 100])
def test_a_contact_sheet_shows_up_to_twelve_frames(tmp_path, frames):
    """Each frame has a colour of its own; the middle one is also shown large."""
    colors = [(0, 2 * i, 250 - 2 * i) for i in range(frames)]
    picture = drawn(tmp_path, [view(color=color) for color in colors])
    exact = {color for _, color in picture.getcolors(1 << 24)}
    assert len(exact & set(colors)) == min(frames, 12) + (frames > 12)
    assert colors[0] in exact and colors[-1] in exact and colors[frames // 2] in exact
    assert picture.width < 1500 and picture.height < 1500


def test_a_run_that_ends_early_shows_its_last_frame_large(tmp_path):
    picture = drawn(tmp_path, [view(), view(color=(0, 0, 250))], total=100)
    assert count(picture, (0, 0, 250)) > 470 * 352


def test_portraits_stand_side_by_side(tmp_path):
    picture = drawn(tmp_path, [view(64, 48) for _ in range(12)])
    assert picture.width < 1500 and picture.height < 2000
    assert count(picture, PAPER) < 0.5 * picture.width * picture.height
