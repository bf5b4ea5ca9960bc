"""The long run of soak.py in short: memory, age, threads. ``make soak`` runs it at full length."""
import pytest
from soak import growth, soak_cycles, soak_frames

pytestmark = pytest.mark.slow


def check(rows):
    """Fail with the whole table if a limit is exceeded."""
    assert all(row.good for row in rows), '\n'.join(map(str, rows))


@pytest.mark.parametrize(('leak', 'burst'), [(0.0, 0.0), (0.0, 9.0), (0.004, 0.0), (0.004, 9.0)])
def test_growth_is_that_of_the_floor(leak, burst):
    samples = [(i, 100 + leak * i + burst * (i % 7 == 3)) for i in range(0, 500, 5)]
    assert growth(samples) == pytest.approx(leak, abs=1e-4)


def test_memory_stays_flat_and_results_stay_fresh(tiny_weights):
    check(soak_frames(tiny_weights, 400, warm_up=100))


def test_a_hundred_lifecycle_cycles(tiny_weights):
    check(soak_cycles(tiny_weights, 100))
