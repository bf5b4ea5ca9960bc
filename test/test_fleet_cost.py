"""Bags in an hour and the cost of video, from the ends of bags."""
from fleet_cost import cost, ends_of
import pytest


def test_cost():
    # Two workers; after the start, two bags of 300 frames every 20 s: 30 frames a second.
    ends = [(100.0, 300), (101.0, 300), (120.0, 300), (121.0, 300), (140.0, 300), (141.0, 300)]
    found = cost(ends, workers=2, video_rate=10, price=0.5)
    assert (found.bags_per_hour, found.frames_per_s) == (360, 30)
    assert found.video_hours == 3       # of an hour at 10 Hz
    assert found.cost == pytest.approx(1000 / 3 * 0.5)


def test_too_few_bags():
    with pytest.raises(ValueError, match='2 bags for 2 workers: give several for each'):
        cost([(1.0, 3), (2.0, 3)], workers=2, video_rate=10, price=1)


def test_ends(tmp_path):
    for i, name in enumerate(('late', 'early')):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'summary.json').write_text(f'{{"frames": {5 + i}}}')
    early, late = ends_of(tmp_path)
    assert early[0] <= late[0] and {early[1], late[1]} == {5, 6}
