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
    pace.image(130 * SECOND + 2)
    assert pace.is_behind() and not pace.is_behind(slack=2)


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
    # Images a little out of order are no other recording.
    pace.image(SECOND // -2)
    assert not pace.is_behind()
