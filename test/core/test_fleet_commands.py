"""``zoe distill --fleet`` and ``zoe eval --fleet`` with a real Ray: the results of one process."""
from dataclasses import replace
import os
from pathlib import Path
import signal
import subprocess
import sys

import bags
import made_up
import pytest
from test_datasets_bags import rgbd_bag
from test_fleet import needs_ray, processes_below, ROOT, wait_until
from test_temporal import video

from zoe_ros.bag import BagReader
from zoe_ros.cli import main
from zoe_ros.datasets import DatasetError
from zoe_ros.distill.label import label_bags
from zoe_ros.distill.label_fleet import label_in_fleet
from zoe_ros.distill.recipe import DistillSettings
from zoe_ros.distill.teacher import Teacher
from zoe_ros.fleet import Fleet, Worker
from zoe_ros.jobs import Done
from zoe_ros.model.weights import save_model
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.run_many import results_folder

PATIENCE = 240      # [s]


@pytest.fixture
def start():
    """Return a function that starts a command in a process group of its own."""
    started = []

    def begun(arguments):
        started.append(subprocess.Popen(
            [sys.executable, '-m', 'zoe_ros.cli', *map(str, arguments)], cwd=ROOT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, 'OMP_WAIT_POLICY': 'PASSIVE'}))
        return started[-1]

    yield begun
    for process in started:
        if process.poll() is None:
            process.kill()


def kill_worker_with(command, file, begun=lambda: True):
    """Kill the worker that reads a file, as soon as a function returns something true."""
    def tried():
        assert command.poll() is None, 'the command has ended before'
        for process in processes_below(command.pid) if begun() else ():
            try:
                opened = {os.readlink(path) for path in Path(f'/proc/{process}/fd').iterdir()}
            except OSError:     # it has ended, or closes files
                continue
            if str(file) in opened:
                os.kill(process, signal.SIGKILL)
                return True
        return False

    wait_until(tried)


def tree(folder):
    """Return the content of all files of a folder: path -> bytes."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob('*')
            if path.is_file()}


# --- labels ---------------------------------------------------------------------------------


@pytest.fixture
def one_head(tmp_path):
    """Return a file with a tiny model of one head, so that no router leaves out frames."""
    path = tmp_path / 'one.safetensors'
    config = replace(made_up.tiny_config(('indoor',)), canonical_focal=True)
    save_model(made_up.fill(ZoeDepth(config)), path)
    return path


@needs_ray
@pytest.mark.slow
def test_labels_by_a_fleet(start, one_head, tmp_path, monkeypatch):
    labels, output = tmp_path / 'labels', tmp_path / 'out'
    long, blocked, *_ = paths = [
        bags.write_bag(tmp_path / f'bag{i}', bags.camera_messages(count))
        for i, count in enumerate((150, 4, 4, 4, 4))]
    options = {'teacher': one_head, 'from': one_head, 'difference': 0, 'device': 'cpu',
               'precision': 'fp32', 'world-share': 0, 'steps': 1, 'batch': 2, 'workers': 0,
               'labels': labels, 'output': output, 'fleet-workers': 2}
    command = ['distill', *map(str, paths), '--fleet', *(
        str(text) for name, value in options.items() for text in (f'--{name}', value))]
    half = {path: results_folder(labels, path).with_name(
        f'{results_folder(labels, path).name}.part') for path in (long, blocked)}
    labels.mkdir()
    half[blocked].write_text('in the way of the folder')
    run = start(command)
    kill_worker_with(run, bags.storage_file(long), lambda: list(half[long].glob('*.npy')))
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2, err
    assert err.splitlines()[-1] == (
        'zoe: there are no labels of 1 of 5 bags, the first one because: '
        f'{results_folder(labels, blocked)} cannot be written: File exists; the same command '
        'tries them again')
    assert 'labels of 150 frames' in out and out.count('labels of 4 frames') == 3
    before = {path: path.stat().st_mtime_ns for path in labels.rglob('*.npy')}
    half[blocked].unlink()
    assert main(command) == 0
    assert (output / 'model.safetensors').is_file()
    assert {path: path.stat().st_mtime_ns for path in before} == before     # not made again
    # The files of one process, and nothing is left to do: not even Ray is needed.
    settings = DistillSettings(teacher=str(one_head), difference=0.0, device='cpu',
                               precision='fp32')
    teacher = Teacher(str(one_head), 'cpu', 'fp32')
    label_bags(paths, settings, tmp_path / 'serial', teacher)
    assert tree(labels) == tree(tmp_path / 'serial') and len(tree(labels)) > 2 * 166
    monkeypatch.setitem(sys.modules, 'ray', None)
    assert len(label_in_fleet(paths, settings, labels, teacher, Fleet())) == 5


@needs_ray
@pytest.mark.slow
def test_workers_that_find_other_weights_under_the_path_are_told(one_head, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3))
    settings = DistillSettings(teacher=str(one_head), difference=0.0, device='cpu',
                               precision='fp32')
    teacher = Teacher(str(one_head), 'cpu', 'fp32')
    save_model(made_up.fill(ZoeDepth(made_up.tiny_config(('indoor',))), 'other'), one_head)
    with pytest.raises(DatasetError, match='labels that were made with another teacher'):
        label_in_fleet([path], settings, tmp_path / 'labels', teacher, Fleet(1))


# --- evaluation -----------------------------------------------------------------------------


@pytest.fixture
def evaluation(tiny_weights, tmp_path):
    """Return the arguments of ``zoe eval`` that all tests have in common."""
    return ['eval', '--variant', 'tiny', '--weights', str(tiny_weights), '--device', 'cpu',
            '--precision', 'fp32', '--output', str(tmp_path / 'results')]


def latest(tmp_path):
    """Return the files of the last evaluation: name -> bytes."""
    return {path.name: path.read_bytes()
            for path in (tmp_path / 'results' / 'latest').resolve().iterdir()}


@needs_ray
@pytest.mark.slow
def test_an_evaluation_by_a_fleet(start, evaluation, tmp_path):
    # Not in the order of their names.
    names = ['street', 'hall', 'yard', 'attic']
    paths = [rgbd_bag(tmp_path / name, 70 if name == 'hall' else 3 + i)
             for i, name in enumerate(names)]
    common = [*evaluation, *map(str, paths), '--domain', 'outdoor']
    run = start([*common, '--fleet', '--fleet-workers', '2'])
    kill_worker_with(run, bags.storage_file(paths[1]))
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    by_fleet = latest(tmp_path)
    assert by_fleet['table.txt'].decode() in out
    assert main(common) == 0
    assert latest(tmp_path) == by_fleet
    assert set(by_fleet) == {'table.txt', 'evaluation.json', *(f'{name}.png' for name in names)}


@needs_ray
@pytest.mark.slow
def test_a_bag_that_fails_does_not_hinder_an_evaluation(start, evaluation, tmp_path, capsys):
    good = [rgbd_bag(tmp_path / name) for name in ('a', 'c')]
    bad = bags.write_bag(tmp_path / 'b', bags.camera_messages(2))
    common = [*evaluation, '--domain', 'indoor']
    fleet = ['--fleet', '--fleet-workers', '1']
    run = start([*common, *fleet, tmp_path / '[abc]'])
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 2 and f'failed: {bad} has no depth: ' in out
    folder = (tmp_path / 'results' / 'latest').resolve()
    assert err.splitlines()[-1] == (
        f'zoe: 1 of 3 bags failed; {folder} has the metrics of the others')
    table = latest(tmp_path)['table.txt'].decode()
    assert table in out
    assert main([*common, *map(str, good)]) == 0
    assert latest(tmp_path)['table.txt'].decode() == table
    made = list((tmp_path / 'results').iterdir())
    assert main([*common, *fleet, str(bad)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(
        f'zoe: none of 1 bag was measured, the first one because: {bad} has no depth: ')
    assert list((tmp_path / 'results').iterdir()) == made
    # Of two bags of one name the second stays the second.
    assert main([*common, *fleet, str(bad), str(rgbd_bag(tmp_path / 'other' / 'b'))]) == 2
    assert '\nb (2) ' in latest(tmp_path)['table.txt'].decode()


@needs_ray
@pytest.mark.slow
def test_videos_by_a_fleet(evaluation, tmp_path):
    common = [*evaluation, '--temporal', *(str(video(tmp_path / name)) for name in 'ba')]
    assert main([*common, '--fleet', '--fleet-workers', '2']) == 0
    by_fleet = latest(tmp_path)
    assert main(common) == 0
    assert latest(tmp_path) == by_fleet and 'temporal.json' in by_fleet


def test_what_a_fleet_cannot_evaluate_is_one_sentence(evaluation, tmp_path, capsys):
    def refused(*arguments):
        assert main([*evaluation, *map(str, arguments)]) == 2
        assert not (tmp_path / 'results').exists()
        said, = capsys.readouterr().err.splitlines()
        return said

    path = rgbd_bag(tmp_path / 'bag')
    assert refused(path, '--fleet') == (
        f'zoe: {path} is a bag, whose domain is unknown: add --domain indoor or --domain outdoor')
    (tmp_path / 'photos').mkdir()
    assert refused(path, tmp_path / 'photos', '--fleet', '--domain', 'indoor') == (
        f'zoe: {tmp_path / "photos"} is no bag: --fleet shares bags between workers; leave it out '
        'for other data')
    assert refused(tmp_path / 'x', '--fleet') == (
        f'zoe: nothing at {tmp_path / "x"}: --fleet needs bags')
    assert refused(path, '--address', 'auto') == 'zoe: --address needs --fleet'
    assert refused(path, '--fleet-workers', '2') == 'zoe: --fleet-workers needs --fleet'


# --- a worker -------------------------------------------------------------------------------


def test_errors_of_a_bag_are_told_and_others_are_not_hidden(tmp_path):
    several = bags.write_bag(tmp_path / 'two', [
        *bags.camera_messages(1), *bags.camera_messages(1, name='/right', info='/info')])

    def work(model, path):
        assert path.parent == tmp_path, 'a mistake of ours'
        with BagReader(path) as bag:
            return model, bag.count

    worker = Worker(lambda: 'model', str(tmp_path), True)
    one = bags.write_bag(tmp_path / 'one', bags.camera_messages(3))
    assert worker.do(work, one) == (Done(('model', 3)), [])
    assert worker.do(work, several)[0].error == (
        f'{several} has several image topics: name one with --topic: /camera/image_raw, /right')
    with pytest.raises(AssertionError):
        worker.do(work, Path('/elsewhere'))
