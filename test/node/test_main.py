"""The spinning of the node's process: what ends it, and what must not."""
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor

from zoe_ros.ros.main import spin

pytestmark = pytest.mark.timeout(60)    # what fails here hangs


@pytest.fixture
def executor():
    """Return an executor with a node in a context of its own."""
    context = rclpy.Context()
    rclpy.init(context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(rclpy.create_node('spun', context=context))
    yield executor
    context.try_shutdown()


def when_spun(executor, callback):
    """Call back once the executor spins."""
    executor.get_nodes()[0].create_timer(0.01, callback)


def test_a_shutdown_ends_it(executor):
    when_spun(executor, executor.context.shutdown)
    spin(executor)


def test_what_fails_because_of_a_shutdown_is_not_an_error(executor):
    def use_after_shutdown():
        executor.context.shutdown()
        with pytest.raises(RuntimeError):
            executor.get_nodes()[0].create_timer(1.0, print)
        executor.get_nodes()[0].create_timer(1.0, print)

    when_spun(executor, use_after_shutdown)
    spin(executor)


def test_another_error_is_not_hidden(executor):
    def fail():
        raise RuntimeError('not of the context')

    when_spun(executor, fail)
    with pytest.raises(RuntimeError, match='not of the context'):
        spin(executor)
