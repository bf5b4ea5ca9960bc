"""The mailbox with one slot."""
from threading import Event
import time

from zoe_ros.ros.worker import Worker


def wait_for_two(done):
    """Wait until a list has two items, or for half a minute."""
    end = time.monotonic() + 30
    while len(done) < 2 and time.monotonic() < end:
        time.sleep(0.01)


def test_the_newest_item_wins_and_the_rest_is_told():
    begun, go, done = Event(), Event(), []

    def work(items):
        begun.set()
        go.wait(30)
        done.append(items['camera'])

    worker = Worker(work)
    worker.start()
    worker.put('camera', 0)
    assert begun.wait(30)
    replaced = [worker.put('camera', item) for item in range(1, 6)]
    go.set()
    wait_for_two(done)
    assert done == [0, 5]
    assert replaced == [False, True, True, True, True]
    assert worker.stop(30)


def test_what_waits_of_several_senders_is_one_batch():
    begun, go, done = Event(), Event(), []

    def work(items):
        begun.set()
        go.wait(30)
        done.append(items)

    worker = Worker(work)
    worker.start()
    worker.put('front', 0)
    assert begun.wait(30)
    for item in (1, 2, 3):
        worker.put('front', item)
    worker.put('rear', 1)
    go.set()
    wait_for_two(done)
    assert done == [{'front': 0}, {'front': 3, 'rear': 1}]
    assert worker.stop(30)


def test_stop_says_whether_the_work_has_ended():
    begun, go = Event(), Event()

    def work(items):
        begun.set()
        go.wait(30)

    worker = Worker(work)
    worker.start()
    worker.put('camera', 'long')
    assert begun.wait(30)
    assert not worker.stop(0.05)
    go.set()
    assert worker.stop(30)


def test_a_rest_forgets_what_waits_and_says_whether_the_work_has_ended():
    begun, go, done = Event(), Event(), []

    def work(items):
        begun.set()
        go.wait(30)
        done.append(items)

    worker = Worker(work)
    worker.start()
    worker.put('front', 1)
    assert begun.wait(30)
    worker.put('rear', 2)
    assert not worker.rest(0.05)
    worker.start()      # it goes on: the next item waits for the first one
    worker.put('front', 3)
    assert done == []
    go.set()
    wait_for_two(done)
    assert worker.rest(30)
    assert done == [{'front': 1}, {'front': 3}]
    assert worker.stop(30)


def test_a_worker_that_never_started_rests_and_stops():
    assert Worker(print).rest(1)
    assert Worker(print).stop(1)


def test_nothing_is_lost_by_who_asks_for_room_first():
    room, done = Event(), []
    room.set()

    def work(items):
        time.sleep(0.01)
        done.append(items['camera'])

    worker = Worker(work, on_room=room.set)
    worker.start()
    for item in range(20):
        while not worker.has_room('camera'):
            assert room.wait(30), 'nobody was told of the room'
            room.clear()
        assert not worker.put('camera', item)
    end = time.monotonic() + 30
    while len(done) < 20 and time.monotonic() < end:
        time.sleep(0.01)
    assert done == list(range(20))
    assert worker.stop(30)


def test_there_is_room_for_the_next_image_while_one_is_worked_on():
    room, finish = Event(), Event()
    worker = Worker(lambda items: finish.wait(20), on_room=room.set)
    worker.start()
    worker.put('camera', 1)
    assert room.wait(10) and worker.has_room('camera') and not finish.is_set()
    finish.set()
    assert worker.stop(30)


def test_the_slot_of_one_sender_is_no_concern_of_another():
    worker = Worker(print)
    worker.put('front', 1)
    assert not worker.has_room('front')
    assert worker.has_room('rear')
