"""Whether messages of a sensor keep up with images."""
from zoe_ros.pace import Pace

SECOND = 10 ** 9


def test_messages_follow_images():
    pace = Pace()
    assert not pace.is_behind(), 'there is no image yet'
    pace.image(100 * SECOND)
    assert pace.is_behind()
    for stamp, behind in ((99, True), (100, False), (130, False)):
        pace.hear(stamp * SECOND)
        assert pace.is_behind() is behind
    for later in (1, 2):
        pace.image(130 * SECOND + later)
        assert pace.is_behind() and not pace.is_behind(slack=later)


def test_the_end_of_a_bag_is_not_ahead_of_its_start():
    pace = Pace()
    pace.image(100 * SECOND)
    pace.hear(100 * SECOND)
    pace.image(0)
    assert pace.is_behind()
    pace.hear(101 * SECOND)
    assert pace.is_behind()
    pace.hear(0)
    assert not pace.is_behind()
    # One that goes back before the images do is not forgotten.
    pace.image(100 * SECOND)
    pace.hear(100 * SECOND)
    pace.hear(0)
    pace.image(0)
    assert not pace.is_behind()
    # A recording may start at any time, also near the end of the one before.
    pace.image(70 * SECOND)
    pace.hear(70 * SECOND)
    pace.image(50 * SECOND)
    assert pace.is_behind()
    pace.hear(71 * SECOND)
    assert pace.is_behind()
    pace.hear(50 * SECOND)
    assert not pace.is_behind()


def test_images_a_little_out_of_order_are_no_other_recording():
    pace = Pace()
    pace.image(100 * SECOND)
    pace.hear(100 * SECOND)
    pace.image(99 * SECOND)
    assert not pace.is_behind()
