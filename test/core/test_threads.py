"""Threads of a frame: as many as cores are free, unless the user has chosen; never other depth."""
from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import subprocess
import sys
from threading import active_count
from time import perf_counter, process_time, sleep

import made_up
import numpy as np
import pytest
import torch

from zoe_ros import DepthEstimator
from zoe_ros.inference import threads
from zoe_ros.inference.threads import Crowd, quota, ThreadBudget, TrainingThreads, Usage

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = 4     # threads that torch would take


@pytest.fixture
def budget(monkeypatch):
    """Return a budget of four threads that measures only when a test says so."""
    monkeypatch.setattr(threads, '_DEFAULT', DEFAULT)
    monkeypatch.setattr(threads, '_WINDOW', float('inf'))
    for name in threads._CHOICES:
        monkeypatch.delenv(name, raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(DEFAULT)
    yield ThreadBudget()
    torch.set_num_threads(before)


def until(condition):
    """Wait until a condition holds."""
    end = perf_counter() + 60
    while not condition():
        assert perf_counter() < end
        sleep(0.01)


def used(budget):
    """Return the threads of torch in a frame."""
    with budget.frame():
        return torch.get_num_threads()


@pytest.mark.parametrize('free, expected', [
    (0.0, 1), (0.6, 1), (1.0, 1), (1.6, 1), (1.7, 2), (2.0, 2), (3.6, 2), (3.7, 4), (4.0, 4),
    (64.0, 4)])
def test_a_frame_gets_the_cores_that_are_free(budget, free, expected):
    for _ in range(3):
        budget._follow(free)
    assert used(budget) == expected
    assert torch.get_num_threads() == DEFAULT       # outside of the frame


def test_fewer_threads_at_once_and_more_when_it_lasts(budget):
    budget._follow(1.0)
    assert used(budget) == 1
    budget._follow(4.0)
    assert used(budget) == 1
    budget._follow(1.0)
    budget._follow(4.0)
    assert used(budget) == 1
    budget._follow(4.0)
    assert used(budget) == 4
    budget._follow(2.0)
    assert used(budget) == 2


def test_what_is_chosen_is_logged_once(budget, caplog):
    with caplog.at_level('INFO', 'zoe_ros'):
        for free in (1.0, 4.0, 4.0, 1.0, 2.0, 2.0):
            budget._follow(free)
    text, = (record.getMessage() for record in caplog.records)
    assert text.startswith('1 of 4 threads, because other processes leave 1.0 cores')


@pytest.mark.parametrize('name', ['OMP_NUM_THREADS', 'OMP_WAIT_POLICY', 'GOMP_SPINCOUNT',
                                  'KMP_BLOCKTIME', 'MKL_NUM_THREADS'])
def test_the_users_environment_stands(budget, monkeypatch, name):
    monkeypatch.setenv(name, '2')
    own = ThreadBudget()
    own._follow(0.0)
    assert used(own) == DEFAULT


@pytest.mark.parametrize('own', [1, 3, 5])
def test_the_users_threads_stand(budget, own):
    used(budget)
    budget._follow(2.0)
    torch.set_num_threads(own)
    assert used(budget) == own
    assert torch.get_num_threads() == own


def test_a_thread_that_begins_within_the_frame_of_another_gets_its_own(budget):
    budget._follow(1.0)
    with budget.frame(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1     # what torch makes of it
        assert pool.submit(used, budget).result() == 1
        budget._follow(4.0)
        budget._follow(4.0)
        assert pool.submit(used, budget).result() == DEFAULT


def long_frame(budget, network=True):
    """Let a frame take long enough for threads that sleep."""
    with budget.frame(network=network):
        begin = process_time()
        while process_time() - begin < 0.6:
            pass


def test_a_long_frame_keeps_its_threads_and_they_sleep(budget, caplog):
    crowds = active_count()
    with caplog.at_level('INFO', 'zoe_ros'):
        budget._follow(1.0)
        assert used(budget) == 1        # nobody knows yet how long a frame is
        long_frame(budget)
        for _ in range(3):
            budget._follow(1.0)
        assert used(budget) == DEFAULT and active_count() == crowds + 1
        budget._follow(4.0)
        assert used(budget) == DEFAULT and active_count() == crowds + 1
        budget._follow(4.0)
    assert used(budget) == DEFAULT
    until(lambda: active_count() == crowds)
    assert [record.getMessage().partition(',')[0] for record in caplog.records] == [
        '1 of 4 threads', '4 threads that sleep while they wait']


def test_the_network_decides_whether_a_frame_is_long(budget):
    long_frame(budget, network=False)
    budget._follow(1.0)
    assert used(budget) == 1
    long_frame(budget)
    with budget.frame(network=True):
        pass                            # the first one had to wait for something else
    budget._follow(1.0)
    assert used(budget) == 1


def test_a_crowd_ends_with_its_budget(budget):
    crowds, own = active_count(), ThreadBudget()
    long_frame(own)
    own._follow(1.0)
    assert active_count() == crowds + 1
    del own
    until(lambda: active_count() == crowds)


def test_the_threads_of_a_training_sleep_while_others_want_the_cores(
        budget, processors, monkeypatch):
    monkeypatch.setattr(threads, '_WINDOW', 0)
    processors(0)
    monkeypatch.setattr(threads, '_AT_IMPORT', Usage.now())
    crowds, training = active_count(), TrainingThreads()
    for idle, expected in ((10 ** 6, 0), (10 ** 6, 1), (10 ** 6, 1), (10 ** 7, 0)):
        processors(idle)
        training.follow()
        until(lambda expected=expected: active_count() == crowds + expected)
        assert torch.get_num_threads() == DEFAULT
    monkeypatch.setenv('OMP_WAIT_POLICY', 'active')
    own = TrainingThreads()
    own.follow()
    own.follow()
    assert active_count() == crowds


@pytest.mark.parametrize('text, helps', [
    ('7f0 r-xp /x/torch.libs/libgomp-1a2b.so.1\n', True), ('/x/libc.so.6\n', False),
    ('/x/libgomp.so.1\n/x/libiomp5.so\n', False), ('/x/libgomp.so.1\n/x/libomp.so.5\n', False)])
def test_only_the_openmp_of_gnu_counts_threads(budget, monkeypatch, tmp_path, text, helps):
    (tmp_path / 'maps').write_text(text)
    monkeypatch.setattr(threads, '_LIBRARIES', tmp_path / 'maps')
    assert Crowd.helps() == helps
    own = ThreadBudget()
    long_frame(own)
    own._follow(1.0)
    own._follow(1.0)
    assert used(own) == (DEFAULT if helps else 1)
    monkeypatch.setattr(threads, '_LIBRARIES', tmp_path / 'none')
    assert not Crowd.helps()


SPIN = """
import os
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
from time import process_time, sleep
import torch
from zoe_ros.inference.threads import Crowd

def burnt():
    values, start = torch.zeros(1 << 17), process_time()
    for _ in range(60):
        values.add_(1)      # two threads
        sleep(0.01)         # the second one waits for more
    return process_time() - start

torch.set_num_threads(2)
burnt()
before = burnt()
crowd = Crowd(2)
assert torch.get_num_threads() == 2
within = burnt()
del crowd
sleep(0.1)
after, had = burnt(), len(os.listdir('/proc/self/task'))
crowd = Crowd(1)        # where torch takes half of the cores
print(before, within, after, len(os.listdir('/proc/self/task')) - had)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason='threads need two cores')
@pytest.mark.skipif(not Crowd.helps(), reason='torch has another OpenMP')
def test_in_a_crowd_a_thread_that_waits_sleeps():
    done = subprocess.run(
        [sys.executable, '-c', SPIN], cwd=ROOT, capture_output=True, text=True, check=True,
        env={**os.environ, 'PYTHONPATH': str(ROOT)})
    before, within, after, more = map(float, done.stdout.split())
    assert within < 0.5 * min(before, after), (before, within, after)
    assert more == 3        # with the one of torch more than two cores


def test_a_measurement_sees_what_others_leave():
    cores = len(os.sched_getaffinity(0))
    before = Usage.now()
    end = perf_counter() + 0.5
    while perf_counter() < end:
        pass
    after = Usage.now()
    mine = (after.own - before.own) / (after.wall - before.wall)
    assert 0 < mine <= after.free_cores(before) + 0.05 <= cores + 0.3
    busy = [subprocess.Popen([sys.executable, '-c', 'while True: pass']) for _ in range(2 * cores)]
    try:
        sleep(0.5)
        before = Usage.now()
        sleep(1)
        assert Usage.now().free_cores(before) < 0.5
    finally:
        for process in busy:
            process.kill()
            process.wait()


@pytest.fixture
def processors(tmp_path, monkeypatch):
    """Return a function that says how long [s] each core of this process and another was idle."""
    file = tmp_path / 'stat'
    monkeypatch.setattr(threads, '_PROCESSORS', file)
    ticks = os.sysconf('SC_CLK_TCK')

    def write(idle, waiting=0, foreign=0):
        rows = [(f'cpu{core}', idle, waiting) for core in sorted(os.sched_getaffinity(0))]
        rows += [('cpu', 10 ** 6, 10 ** 6), ('cpu4321', foreign, foreign)]
        file.write_text(''.join(f'{name} 5 6 7 {a * ticks} {b * ticks} 8 9 0 0 0\n'
                                for name, a, b in rows) + 'intr 1 2 3\n')

    return write


def test_idle_are_the_cores_of_this_process_also_while_a_disk_works(processors):
    cores = len(os.sched_getaffinity(0))
    for idle, waiting, foreign in ((100, 0, 0), (100, 20, 0), (0, 20, 50)):
        processors(idle, waiting, foreign)
        assert Usage.now().idle == cores * (idle + waiting)


def test_each_measurement_counts_from_the_one_before(budget, processors, monkeypatch):
    monkeypatch.setattr(threads, '_WINDOW', 0)
    processors(0)
    budget._cores.before = Usage.now()
    processors(10 ** 6)
    assert used(budget) == DEFAULT
    assert used(budget) == 1        # since then no core was idle


def test_a_container_gives_no_more_than_its_quota(budget, processors, tmp_path, monkeypatch):
    monkeypatch.setattr(threads, '_WINDOW', 0)
    monkeypatch.setattr(threads, '_QUOTA', tmp_path / 'cpu.max')
    (tmp_path / 'cpu.max').write_text('200000 100000\n')
    processors(0)
    budget._cores.before = Usage.now()
    processors(10 ** 6)
    assert used(budget) == 2


@pytest.mark.parametrize('text, cores', [
    ('200000 100000\n', 2), ('50000 100000\n', 0.5), ('max 100000\n', np.inf), ('', np.inf)])
def test_quota_of_a_container(tmp_path, monkeypatch, text, cores):
    file = tmp_path / 'cpu.max'
    file.write_text(text)
    monkeypatch.setattr(threads, '_QUOTA', file)
    assert quota() == cores
    monkeypatch.setattr(threads, '_QUOTA', tmp_path / 'none')
    assert quota() == np.inf


BITS = """
import sys

import bags
import torch
from zoe_ros import DepthEstimator

options = {options!r}
estimator = DepthEstimator.load({variant!r}, {weights!r}, device='cpu', **options)
for size in ((48, 64), (111, 87), (480, 640)):
    for count in (1, 2, 4, 8):
        estimator.threads._chosen = 'this test'
        torch.set_num_threads(count)
        for router in ('indoor', 'outdoor', 'auto'):
            estimator.router = router
            net, = estimator.infer([bags.picture(*size)], deviation=True)
            depth = estimator.predict(bags.picture(*size)).depth
            found = (net.depth, net.deviation, torch.from_numpy(depth))
            if count == 1:
                first = {{**(first if router != 'indoor' else {{}}), router: found}}
            for a, b in zip(found, first[router], strict=True):
                assert torch.equal(a.nan_to_num(), b.nan_to_num()), (size, count, router)
"""


@pytest.mark.parametrize('options', [
    {'precision': 'fp32'}, {'precision': 'bf16'},
    {'precision': 'fp32', 'aspect': 'keep', 'pad': True, 'flip': True}], ids=str)
@pytest.mark.parametrize('variant', ['mobile', 'tiny'])
def test_depth_does_not_depend_on_the_number_of_threads(variant, options, tiny_weights):
    weights = str(tiny_weights) if variant == 'tiny' else None
    code = BITS.format(variant=variant, weights=weights, options=options)
    done = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
        # Eight threads on few cores would spin while they wait for each other.
        env={**os.environ, 'PYTHONPATH': f'{ROOT}:{ROOT / "test" / "support"}',
             'OMP_WAIT_POLICY': 'PASSIVE'})
    assert done.returncode == 0, done.stderr


@pytest.mark.full
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_full_model_does_not_depend_on_the_number_of_threads(dtype):
    from zoe_ros.benchmark import made_up_model
    from zoe_ros.model.config import VARIANTS

    image = (255 * made_up.tensor_for('image', (12, 16, 3)).sigmoid()).byte().numpy()
    image = np.kron(image, np.ones((40, 40, 1), np.uint8))
    estimator = DepthEstimator(made_up_model(VARIANTS['nk']).set_precision(dtype).pack())
    estimator.threads._chosen = 'this test'
    before = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 4, 8):
            torch.set_num_threads(count)
            found.append(estimator.predict(image).depth)
    finally:
        torch.set_num_threads(before)
    assert all(np.array_equal(depth, found[0]) for depth in found)
