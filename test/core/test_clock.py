"""The stopwatch of the stages of a frame."""
from time import perf_counter, sleep

from zoe_ros.clock import Clock


def test_the_blocks_of_a_stage_add_up():
    clock, start = Clock(), perf_counter()
    for stage, seconds in (('decode', 0.03), ('cloud', 0.0), ('decode', 0.02)):
        with clock(stage):
            sleep(seconds)
    assert list(clock.seconds) == ['decode', 'cloud']
    assert clock.seconds['decode'] >= 0.05 and clock.seconds['cloud'] >= 0
    assert sum(clock.seconds.values()) <= perf_counter() - start
