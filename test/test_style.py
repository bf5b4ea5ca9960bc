"""Style and types, by the tools that everybody runs."""
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [str(ROOT / name)
           for name in ('zoe_ros', 'launch', 'docs', 'experiments', 'bench', 'test', 'setup.py')]


@pytest.mark.parametrize('command', [['ruff', 'check', '.'], ['mypy']], ids=['ruff', 'mypy'])
def test_ruff_and_mypy(command):
    pytest.importorskip(command[0], reason='comes with the extra "dev"')
    done = subprocess.run([sys.executable, '-m', *command], cwd=ROOT, capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ament_flake8():
    flake8 = pytest.importorskip('ament_flake8.main', reason='comes with ROS or the extra "dev"')
    code, errors = flake8.main_with_errors(argv=SOURCES)
    assert code == 0, '\n'.join(errors)


def test_ament_pep257():
    pep257 = pytest.importorskip('ament_pep257.main', reason='comes with ROS or the extra "dev"')
    folders = ('zoe_ros', 'launch', 'docs', 'experiments', 'bench')
    assert pep257.main(argv=[str(ROOT / name) for name in folders]) == 0
