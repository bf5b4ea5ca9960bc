"""``zoe fleet`` with a real Ray: the results of ``zoe run``, whatever happens to a worker."""
import csv
from functools import partial
from importlib.util import find_spec
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import bags
import pytest
import raw_mcap
import robot_messages

from zoe_ros.cli import main
from zoe_ros.fleet import RETRIES, team, Worker
from zoe_ros.run import load_estimator
from zoe_ros.run_many import results_folder
from zoe_ros.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 240      # [s]
has_ray = pytest.mark.skipif(find_spec('ray') is None, reason="needs pip install '.[fleet]'")


def needs_ray(test):
    """Mark a test that starts Ray, whose processes come and go: it has two tries."""
    for mark in (has_ray, pytest.mark.usefixtures('ray_runs'), pytest.mark.flaky(reruns=1)):
        test = mark(test)
    return test


@pytest.fixture
def arguments(tiny_weights, tmp_path):
    """Return what all commands of these tests have in common."""
    return ['--variant', 'tiny', '--weights', str(tiny_weights), '--device', 'cpu',
            '--precision', 'fp32', '--output', str(tmp_path / 'fleet')]


@pytest.fixture
def start(arguments):
    """Return a function that starts ``zoe fleet`` in a process group of its own."""
    started = []

    def begun(*data):
        started.append(subprocess.Popen(
            [sys.executable, '-m', 'zoe_ros.cli', 'fleet', *map(str, data), *arguments,
             '--workers', '2'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, cwd=ROOT,
            # A shell that runs pytest in its background has SIGINT ignored, which is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler)))
        return started[-1]

    yield begun
    for process in started:
        if process.poll() is None:
            process.kill()


def write_bags(folder, counts):
    """Write a bag for each number of frames; return their paths."""
    folder.mkdir()
    return [bags.write_bag(folder / f'bag{i:02}', bags.camera_messages(count))
            for i, count in enumerate(counts)]


def processes_below(parent):
    """Return the numbers of the processes that a process has started, and of theirs."""
    children = {}
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            above = int(path.read_text().rpartition(')')[2].split()[1])
        except OSError:     # it has ended
            continue
        children.setdefault(above, []).append(int(path.parent.name))
    found, waiting = [], [parent]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def holds(process, folder):
    """Tell whether a process has a file in the unfinished results of a bag open."""
    part = f'{folder}.part/'
    try:
        return any(os.readlink(path).startswith(part)
                   for path in Path(f'/proc/{process}/fd').iterdir())
    except OSError:
        return False


def kill_worker_of(fleet, folder):
    """Kill the worker that writes the results of a bag, or a part; tell whether there was one."""
    process = next((process for process in processes_below(fleet.pid)
                    if holds(process, folder)), None)
    if process is None:
        return False
    os.kill(process, signal.SIGSTOP)
    if not holds(process, folder):      # it has finished in between
        os.kill(process, signal.SIGCONT)
        return False
    os.kill(process, signal.SIGKILL)
    wait_until(lambda: not holds(process, folder))
    return True


def states(output):
    """Return the state of each bag in the table."""
    with (output / 'summary.csv').open(encoding='utf-8') as file:
        return {Path(row['data']): row['state'] for row in csv.DictReader(file)}


def depth_bags(output, paths):
    """Return the bytes of the results of each bag."""
    return [next((results_folder(output, path) / 'bag').glob('*.mcap')).read_bytes()
            for path in paths]


def wait_until(condition):
    """Wait until a function returns something true, and return that."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.002)
    raise TimeoutError


@needs_ray
@pytest.mark.slow
def test_killed_workers_lose_only_their_bags(start, zoe, tmp_path, arguments, capsys):
    output, serial = tmp_path / 'fleet', tmp_path / 'serial'
    deadly, *good = write_bags(tmp_path / 'bags', [150, *[4] * 16, 40, 4])
    broken = tmp_path / 'bags' / 'broken.mcap'
    broken.write_bytes(b'no bag')
    fleet = start(tmp_path / 'bags' / '*')
    deaths = {results_folder(output, deadly): RETRIES + 1, results_folder(output, good[-2]): 1}

    def kill():
        for folder, times in deaths.items():
            deaths[folder] -= bool(times) and kill_worker_of(fleet, folder)
        return not any(deaths.values()) or fleet.poll() is not None

    wait_until(kill)
    out, err = fleet.communicate(timeout=PATIENCE)
    assert (fleet.returncode, err) == (2, 'zoe: 2 of 20 failed; the same command tries them '
                                          'again\n'), out
    assert states(output) == {**dict.fromkeys(good, 'done'), deadly: 'failed', broken: 'failed'}
    assert 'failed: 3 workers died while they ran this bag' in out
    assert 'broken.mcap cannot be read as a rosbag' in out
    assert out.count(': done, ') == len(good)
    folders = {path.name for path in output.iterdir() if path.is_dir()}
    assert folders == {*(results_folder(output, path).name for path in good),
                       f'{results_folder(output, deadly).name}.part'}
    assert zoe(*good, to=serial).code == 0
    assert depth_bags(output, good) == depth_bags(serial, good)
    # Nothing is left to do: not even Ray is started.
    before = {path: path.stat().st_mtime_ns for path in output.rglob('bag/*')}
    assert main(['fleet', *map(str, good), *arguments]) == 0
    assert 'workers:' not in capsys.readouterr().out
    assert set(states(output).values()) == {'done earlier'}
    assert {path: path.stat().st_mtime_ns for path in output.rglob('bag/*')} == before


def write_drive(path, photos, count, *more):
    """
    Write a bag of which the router is unsure: every seventh image is of another photograph.

    :param more: messages beside each image.
    """
    frames = []
    for i, stamp in enumerate(bags.stamps(count)):
        image = photos[i // 7 % len(photos)][::2, ::2].copy()
        image[:8, :8] = i
        frames.append([('/camera/camera_info', bags.ROSBAGS.info(*image.shape[:2], stamp=stamp)),
                       ('/camera/image_raw', bags.ROSBAGS.photo(image, stamp=stamp)),
                       *((topic, made(stamp / bags.SECOND)) for topic, made in more)])
    return bags.write_bag(path, [(*message, stamp) for stamp, frame in zip(
        bags.stamps(count), frames) for message in frame])


@needs_ray
@pytest.mark.slow
def test_workers_share_a_long_bag(start, zoe, tmp_path, photos, arguments, capsys):
    output, serial = tmp_path / 'fleet', tmp_path / 'serial'
    drive = write_drive(tmp_path / 'drive', photos, 100)
    short, = write_bags(tmp_path / 'bags', [4])
    memory = ('--router-time-constant', '20')
    folder = results_folder(output, drive)
    parts = folder.with_name(f'{folder.name}.cut')
    fleet = start(short, drive, '--cut', '5', *memory)
    wait_until(lambda: kill_worker_of(fleet, parts / '2'))
    out, err = fleet.communicate(timeout=PATIENCE)
    assert (fleet.returncode, err) == (0, ''), out
    assert zoe(drive, short, *memory, to=serial).code == 0
    assert depth_bags(output, [drive, short]) == depth_bags(serial, [drive, short])
    assert (folder / 'overview.png').read_bytes() == (
        results_folder(serial, drive) / 'overview.png').read_bytes()
    summary = json.loads((folder / 'summary.json').read_text())
    assert summary['parts'] == 4 and summary['frames_run_again'] > 10
    assert {path.name for path in output.iterdir() if path.is_dir()} == {
        path.name for path in serial.iterdir() if path.is_dir()}
    # Nothing is left to do.
    capsys.readouterr()
    assert main(['fleet', str(drive), str(short), *memory, *arguments]) == 0
    assert 'workers:' not in capsys.readouterr().out


def kill_all_of(fleet):
    """Kill a fleet with all processes of its Ray, as the end of the machine does."""
    for process in [fleet.pid, *processes_below(fleet.pid)]:
        os.kill(process, signal.SIGKILL)


def interrupt(fleet):
    """Press Ctrl-C."""
    os.killpg(fleet.pid, signal.SIGINT)


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize('end', [kill_all_of, interrupt])
def test_a_fleet_goes_on_from_the_parts_of_one_that_ended(start, zoe, tmp_path, photos, end):
    output, serial = tmp_path / 'fleet', tmp_path / 'serial'
    drive = write_drive(tmp_path / 'drive', photos, 100)
    command = (drive, '--cut', '5', '--router-time-constant', '20')
    folder = results_folder(output, drive)
    parts = folder.with_name(f'{folder.name}.cut')
    fleet = start(*command)
    wait_until(lambda: any((parts / f'{number}').exists() for number in range(1, 5)))
    below = processes_below(fleet.pid)
    end(fleet)
    out, _ = fleet.communicate(timeout=PATIENCE)
    wait_until(lambda: not any(Path(f'/proc/{process}').exists() for process in below))
    kept = {number: (parts / number / 'records.jsonl').stat().st_ino for number in '1234'
            if (parts / number).exists()}
    assert kept and len(kept) < 4 and not folder.exists()
    if end is interrupt:
        assert f'complete parts that are kept in {parts}: {len(kept)}; the command' in out

    fleet, seen = start(*command), set()

    def watch():
        seen.update((number, path.stat().st_ino) for number in kept
                    if (path := parts / number / 'records.jsonl').exists())
        assert not any((parts / f'{number}.part').exists() for number in kept)
        return fleet.poll() is not None

    wait_until(watch)
    out, err = fleet.communicate()
    assert (fleet.returncode, err) == (0, ''), out
    assert f'is cut into 4 parts, of which {len(kept)} are there' in out
    assert seen == set(kept.items())
    assert zoe(*command[:1], *command[3:], to=serial).code == 0
    assert depth_bags(output, [drive]) == [(next(serial.glob('*/bag/*.mcap'))).read_bytes()]
    assert [path.name for path in output.iterdir() if path.is_dir()] == [folder.name]


@needs_ray
@pytest.mark.slow
def test_a_bag_with_an_anchor_is_not_cut(start, zoe, tmp_path, photos):
    scan = ('/scan', partial(robot_messages.scan_of, robot_messages.room()))
    drive = write_drive(tmp_path / 'drive', photos, 12, scan)
    damaged = tmp_path / 'damaged.mcap'
    data = bytearray(raw_mcap.whole(raw_mcap.camera_records(40)))
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    options = ('--anchor', 'scan', '--anchor-transform', '0 0 0 0.5 -0.5 0.5 0.5')
    out, err = start(drive, '--cut', '1', *options).communicate(timeout=PATIENCE)
    assert err == '' and "long bags are not cut: anchor 'scan' filters the scale" in out
    serial = zoe(drive, *options, to=tmp_path / 'serial').folder
    assert depth_bags(tmp_path / 'fleet', [drive]) == [
        (serial / 'bag' / 'bag.mcap').read_bytes()]
    # A part that fails is the end of its bag.
    _, err = start(damaged, '--cut', '1').communicate(timeout=PATIENCE)
    assert err == 'zoe: 1 of 1 failed; the same command tries them again\n'
    assert states(tmp_path / 'fleet') == {damaged: 'failed'}
    assert [path.name for path in (tmp_path / 'fleet').iterdir() if path.is_dir()] == [
        results_folder(tmp_path / 'fleet', drive).name]


def listening(processes):
    """Return the addresses, in the form of /proc, on which processes listen for TCP."""
    rows = [line.split() for name in ('tcp', 'tcp6')
            for line in Path(f'/proc/net/{name}').read_text().splitlines()[1:]]
    sockets = {f'socket:[{row[9]}]': row[1].rpartition(':')[0] for row in rows if row[3] == '0A'}
    return {sockets.get(os.readlink(path)) for process in processes
            for path in Path(f'/proc/{process}/fd').iterdir() if path.is_symlink()} - {None}


@needs_ray
@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(start, tmp_path):
    output = tmp_path / 'fleet'
    paths = write_bags(tmp_path / 'bags', [4, 4, 4, *[150] * 5])
    fleet = start(*paths)
    wait_until(lambda: results_folder(output, paths[2]).exists())
    others = processes_below(fleet.pid)
    # Ray listens on loopback only: 127.0.0.1, and the same as an address of IPv6.
    assert listening([fleet.pid, *others]) == {'0100007F', '0000000000000000FFFF00000100007F'}
    os.killpg(fleet.pid, signal.SIGINT)
    _, err = fleet.communicate(timeout=PATIENCE)
    # Ray itself may have a line before, about the calls that end.
    assert fleet.returncode == 130
    assert err.splitlines()[-1] == 'zoe: interrupted; results so far are kept'
    assert 'Traceback' not in err
    assert set(states(output).values()) == {'done'} and len(states(output)) < len(paths)
    assert len(depth_bags(output, states(output))) == len(states(output))
    wait_until(lambda: not any(Path(f'/proc/{process}').exists() for process in others))


@pytest.mark.parametrize(('nodes', 'workers', 'bags', 'expected'), [
    ([(2, 0)], 0, 20, (1, 2)),
    ([(2, 0)], 2, 20, (2, 1)),
    ([(2, 0)], 9, 20, (2, 1)),                  # no more than processors
    ([(1, 0)], 0, 20, (1, 1)),
    ([(12, 0)], 1, 20, (1, 8)),                 # a power of two
    ([(12, 0)], 0, 3, (3, 4)),                  # no more than bags
    ([(64, 8)], 0, 100, (8, 8)),
    ([(64, 8)], 3, 100, (3, 8)),
    ([(64, 8)], 20, 100, (8, 8)),               # no more than GPUs
    ([(64, 0), (8, 1), (24, 2)], 0, 100, (3, 8)),      # as many as the machines of GPUs have
    ([(64, 0), (2, 0)], 4, 100, (4, 2)),        # fits on each machine
])
def test_size_of_a_team(nodes, workers, bags, expected):
    assert team(nodes, workers, bags) == expected


@pytest.mark.parametrize('chosen', [False, True])
def test_only_threads_that_the_user_has_chosen_are_fixed(monkeypatch, tmp_path, chosen):
    monkeypatch.setenv('OMP_NUM_THREADS', '2')      # by Ray, or by the user
    Worker(dict, str(tmp_path), chosen)
    assert ('OMP_NUM_THREADS' in os.environ) == chosen


def test_warnings_come_with_the_outcome(monkeypatch, tmp_path, tiny_weights):
    monkeypatch.chdir(tmp_path)
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3), cut=[3])
    settings = RunSettings(data=str(path), output='out', variant='tiny', device='cpu',
                           weights=os.path.relpath(tiny_weights))
    monkeypatch.chdir('/')
    outcome, remarks = Worker(partial(load_estimator, settings), str(tmp_path), True).run(settings)
    assert (outcome.state, outcome.figures['frames']) == ('done', 2)
    assert (tmp_path / outcome.folder / 'bag').is_dir()
    assert [remark for remark in remarks if 'is dropped' in remark]


@pytest.fixture
def refused(arguments, tmp_path, capsys):
    """Return a function: more arguments -> the one line on stderr; nothing has been written."""
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(1))

    def said(*more):
        assert main(['fleet', str(path), *arguments, *more]) == 2
        err = capsys.readouterr().err
        assert err.startswith('zoe: ') and err.count('\n') == 1
        assert not (tmp_path / 'fleet').exists()
        return err.strip()

    return said


def test_without_ray(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)       # as if it were not installed
    assert refused() == "zoe: a fleet needs ray: pip install 'zoe_ros[fleet]'"


@has_ray
@pytest.mark.slow
def test_no_cluster_runs_on_this_machine(refused, no_ray_runs):
    assert refused('--address', 'auto').startswith(
        "zoe: no Ray cluster at 'auto': Could not find any running Ray instance")


@needs_ray
@pytest.mark.slow
def test_what_cannot_be_used_is_one_sentence(refused, tmp_path):
    assert refused('--address', '127.0.0.1:9').startswith(
        "zoe: no Ray cluster at '127.0.0.1:9': Connection refused")
    assert refused('--workers', '-1') == (
        'zoe: -1 workers: give a positive number, or 0 for one on each GPU')
    assert refused('--device', 'cuda:1') == (
        "zoe: device 'cuda:1' names one GPU, and a fleet gives each worker another one: say "
        "'cuda' or 'auto'")
    assert refused('--weights', str(tmp_path / 'none.pt')).startswith('zoe: ')
