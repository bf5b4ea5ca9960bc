"""Kills and full disks leave nothing half under a final name: bench/attack in small."""
import json
import os
import resource

from bench.attack import child, kills, results
import made_up
import pytest
import short_training
import yaml

from zoe_ros import export as exporting
from zoe_ros.command_settings import ExportSettings, WorldSettings
from zoe_ros.evaluate import evaluate, TABLE, write_results
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.results import link_latest
from zoe_ros.training.trainer import MODEL, SETTINGS, STATE, train
from zoe_ros.world.make import make_world


def limited(size, function, *arguments):
    """Call a function while no file may become larger [bytes], as on a full disk; its error."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    try:
        function(*arguments)
    except (ValueError, OSError, RuntimeError) as error:
        return f'{error}'
    return None


def error_on_a_full_disk(size, function, *arguments):
    """Call in a child, whose limits are its own; return the text of the error."""
    end = child.call(limited, size, function, *arguments)
    assert end.kind == 'returned', end
    return end.value


@pytest.mark.slow
def test_kills_at_random_moments(tmp_path):
    judged = list(kills.attack(tmp_path, runs=2, trainings=2, seed=5))
    assert [kind for _, _, kind, _ in judged] == ['same'] * 4, judged


@pytest.mark.slow
def test_a_training_killed_between_its_last_files_is_finished(tmp_path):
    settings = short_training.settings(tmp_path / 'run', steps=2, checkpoint_steps=1)

    def stopped():
        # No room for the picture of the curves, which is written after the model.
        (tmp_path / 'run' / 'curves.png.part').mkdir(parents=True)
        (tmp_path / 'run' / SETTINGS).write_text(yaml.safe_dump(
            json.loads(json.dumps(settings.__dict__))))
        train(settings, short_training.DATA, config=short_training.CONFIG)

    assert child.call(stopped).kind == 'raised'
    assert (tmp_path / 'run' / MODEL).is_file() and not (tmp_path / 'run' / STATE).exists()
    (tmp_path / 'run' / 'curves.png.part').rmdir()
    end = child.call(train, settings, short_training.DATA, (), short_training.CONFIG)
    assert end == child.End('returned', tmp_path / 'run' / MODEL)
    assert not results.unreadable(tmp_path / 'run')


def test_a_training_killed_while_it_wrote_its_settings(tmp_path):
    (tmp_path / f'{SETTINGS}.part').write_text('variant: ti')
    end = child.call(train, short_training.settings(tmp_path, steps=1), short_training.DATA, (),
                     short_training.CONFIG)
    assert end == child.End('returned', tmp_path / MODEL)


@pytest.mark.slow
@pytest.mark.parametrize('name', [MODEL, STATE])
def test_a_training_on_a_full_disk_names_the_file(tmp_path, tiny_weights, name):
    # The state holds the model and twice as much of the optimizer.
    size = tiny_weights.stat().st_size * (0.5 if name == MODEL else 1.5)
    settings = short_training.settings(tmp_path, steps=1)
    said = error_on_a_full_disk(int(size), train, settings, short_training.DATA, (),
                                short_training.CONFIG)
    assert said.startswith(f'{tmp_path / name} cannot be written: ') and '\n' not in said
    assert said.count(name) == 1 and 'make room' in said
    assert not (tmp_path / name).exists() and not results.unreadable(tmp_path)


def test_weights_on_a_full_disk_name_the_file(tmp_path):
    path = tmp_path / 'a.safetensors'
    said = error_on_a_full_disk(100_000, made_up.write_tiny, path)
    assert said.startswith(f'{path} cannot be written: ') and 'File too large' in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('size, name', [(100, TABLE), (7000, 'planes-indoor.png')])
def test_an_evaluation_on_a_full_disk_names_the_file(tmp_path, tiny_weights, size, name):
    def evaluation():
        estimator = DepthEstimator.load('tiny', tiny_weights, 'cpu', 'fp32')
        write_results([evaluate(estimator, short_training.DATA[0])], {}, tmp_path)

    said = error_on_a_full_disk(size, evaluation)
    assert said == f'{tmp_path / name} cannot be written: File too large'
    assert not (tmp_path / name).exists() and not results.unreadable(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize('size', [100, 1000, 6000])
def test_a_world_on_a_full_disk(tmp_path, size):
    """A write to memory that has no room on the disk would end the process."""
    settings = WorldSettings(folder=str(tmp_path / 'world'), scenes=1, held_out=1, frames=1,
                             height=32, width=64, workers=1)
    said = error_on_a_full_disk(size, make_world, settings)
    assert said == f'{tmp_path}/world/train/indoor cannot be written: File too large'
    assert not [path for path in tmp_path.rglob('*') if path.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize('largest', [exporting.LARGEST_FILE, 100_000])
def test_an_export_to_a_full_disk(tmp_path, tiny_weights, monkeypatch, largest):
    """With the weights within the graph, and in a file of their own."""
    for package in ('onnx', 'onnxscript', 'onnxruntime'):
        pytest.importorskip(package, reason="needs pip install '.[export]'")
    monkeypatch.setattr(exporting, 'LARGEST_FILE', largest)
    settings = ExportSettings(folder=str(tmp_path / 'out'), weights=str(tiny_weights))
    said = error_on_a_full_disk(200_000, exporting.export, settings)
    assert said == f'{tmp_path / "out"} cannot be written: File too large'
    assert not list(tmp_path.iterdir())


def test_the_link_after_a_kill_of_a_process_of_the_same_number(tmp_path):
    (tmp_path / f'.latest-{os.getpid()}').symlink_to('gone')
    (tmp_path / 'now').mkdir()
    link_latest(tmp_path / 'now')
    assert (tmp_path / 'latest').resolve() == tmp_path / 'now'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['latest', 'now']
