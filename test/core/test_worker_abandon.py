"""The worker at the end of a process: work that takes long is given up."""
from threading import Event
import time

import pytest

from zoe_ros.ros.worker import Worker


# The thread ends by SystemExit, of which threading makes no word and pytest a warning.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnhandledThreadExceptionWarning')
def test_work_of_many_steps_is_given_up():
    begun, finished = Event(), []

    def work(items):
        begun.set()
        for _ in range(100_000):        # a network on a slow CPU: many short calls
            time.sleep(0.01)
        finished.append(items)

    worker = Worker(work)
    worker.start()
    worker.put('camera', 0)
    assert begun.wait(60)
    assert not worker.stop(0.1)
    assert worker.abandon(60)
    assert not finished


def test_a_worker_that_was_never_started_is_given_up_at_once():
    assert Worker(print).abandon(60)
