"""The mailbox with one slot."""
from threading import Event
import time

from zoe_ros.ros.worker import NewestWorker


def test_the_newest_item_wins_and_the_rest_is_counted():
    begun, go, done = Event(), Event(), []

    def work(item):
        begun.set()
        go.wait(30)
        done.append(item)

    worker = NewestWorker(work)
    worker.start()
    worker.put(0)
    assert begun.wait(30)
    for item in range(1, 6):
        worker.put(item)
    go.set()
    end = time.monotonic() + 30
    while len(done) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert done == [0, 5]
    assert worker.dropped == 4
    assert worker.stop(30)


def test_stop_says_whether_the_work_has_ended():
    begun, go = Event(), Event()

    def work(item):
        begun.set()
        go.wait(30)

    worker = NewestWorker(work)
    worker.start()
    worker.put('long')
    assert begun.wait(30)
    assert not worker.stop(0.05)
    go.set()
    assert worker.stop(30)


def test_a_worker_that_never_started_stops():
    assert NewestWorker(print).stop(1)
