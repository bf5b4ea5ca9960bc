"""The training in a given time, dry: on the CPU, with a scene of each domain and a few steps."""
from pathlib import Path
import sys

from PIL import Image
import pytest
from rgbd_folders import write_folder

from zoe_ros.model.config import VARIANTS
from zoe_ros.model.weights import open_checkpoint

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def script(monkeypatch):
    """Return the module of the script, which times runs of one and of two steps."""
    monkeypatch.syspath_prepend(str(ROOT / 'experiments'))
    import train_on_gpu
    monkeypatch.setattr(train_on_gpu, 'SHORT', 1)
    monkeypatch.setattr(train_on_gpu, 'LONG', 2)
    return train_on_gpu


def run(script, monkeypatch, tmp_path, *more):
    """Run the command."""
    (tmp_path / 'textures' / 'wall').mkdir(parents=True)
    Image.new('RGB', (64, 64), 'olive').save(tmp_path / 'textures' / 'wall' / 'olive.png')
    write_folder(tmp_path / 'real' / 'kitchen')
    monkeypatch.setattr(sys, 'argv', [
        'train_on_gpu.py', str(tmp_path / 'work'), str(tmp_path / 'real'), '--textures',
        str(tmp_path / 'textures'), '--scenes', '1', '--batch', '2', '--device', 'cpu', *more])
    script.main()


@pytest.mark.slow
def test_the_model_of_a_run(script, monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(script, 'steps_in', lambda seconds, a_step: 3 if a_step < seconds else 0)
    run(script, monkeypatch, tmp_path, '--minutes', '60')
    model = open_checkpoint(tmp_path / 'work' / 'mobile-lite.safetensors')
    assert model.config == VARIANTS['mobile-lite']
    log = (tmp_path / 'work' / 'run' / 'log.jsonl').read_text().splitlines()
    assert len(log) == 3
    printed = capfd.readouterr().out
    assert 'ms a step: 3 steps' in printed and 'world-outdoor' in printed


@pytest.mark.slow
def test_a_time_that_is_too_short_is_said(script, monkeypatch, tmp_path, capfd):
    with pytest.raises(SystemExit) as ended:
        run(script, monkeypatch, tmp_path, '--minutes', '0.01')
    assert ended.value.code == 1
    assert 'say more --minutes or fewer --scenes' in capfd.readouterr().err


def test_steps_that_fit(script):
    assert script.steps_in(60, 0.5) == 120
    assert script.steps_in(-5, 0.5) < 0
    assert script.steps_in(1, -0.1) == 1000
