"""What the commands print where no terminal shows it: no progress bars in a log."""
import logging

import made_up
import pytest
import rgbd_folders
from test_temporal import video

from zoe_ros.cli import main

TINY = '--variant tiny --weights {0}/tiny.safetensors --device cpu --precision fp32'
SMALL = '--frames 2 --height 32 --width 32'
COMMANDS = (
    f'eval {{0}}/rgbd --output {{0}}/out {TINY}',
    f'eval {{0}}/video --temporal --output {{0}}/out {TINY}',
    f'calibrate {{0}}/video --domain indoor {TINY}',
    f'world {{0}}/world --scenes 1 --held-out 1 --workers 1 {SMALL}',
    f'world {{0}}/drive --bag indoor {SMALL}',
    'train --data {0}/rgbd --size 64x96 --steps 2 --batch 1 --workers 0 --device cpu '
    '--checkpoint-steps 1 --output {0}/run')


@pytest.mark.slow
@pytest.mark.parametrize('command', COMMANDS, ids=('eval', 'temporal', 'calibrate', 'world', 'bag',
                                                   'train'))
def test_a_log_has_no_progress_bars(tmp_path, capsys, caplog, command):
    caplog.set_level(logging.INFO)
    made_up.write_tiny(tmp_path / 'tiny.safetensors')
    rgbd_folders.write_folder(tmp_path / 'rgbd')
    video(tmp_path / 'video')
    assert main(command.format(tmp_path).split()) == 0
    assert capsys.readouterr().err == ''
    if command.startswith('train'):     # instead of the bar
        assert 'step 1: loss ' in caplog.text and 'step 2: loss ' in caplog.text
