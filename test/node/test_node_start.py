"""How the node starts, refuses to, follows a lifecycle manager, and ends."""
from concurrent.futures import ThreadPoolExecutor
import inspect
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from interrupted_node import INTERRUPT
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from node_messages import SAMPLE
import pytest
from ros_support import bag_frames, Client, NodeProcess, PATIENCE, READY, ROOT, running_node, tiny
import torch

from zoe_ros.inference.defaults import default_precision, describe
from zoe_ros.ros import main

INTERRUPTED = (str(ROOT / 'test' / 'support' / 'interrupted_node.py'),)
REFUSED = [
    ({'precision': 'fp64'},
     "parameter 'precision' is 'fp64', not one of auto, fp32, fp16, bf16"),
    ({'point_cloud_downsample': 0}, 'point_cloud_downsample out of range. Min: 1, Max: 64'),
    ({'point_cloud_downsample': 'four'}, "is 'four', not of type int"),
    ({'device': 'cuda:77'}, "no device 'cuda:77'"),
    ({'device': 'abacus'}, "no device 'abacus'"),
    ({'weights': '/nowhere/zoe.pt'}, 'no weights file at /nowhere/zoe.pt'),
    ({'weights': str(Path(__file__))}, 'delete the file and download it again'),
    ({'variant': 'xxl'}, "ask for variant 'tiny', not 'xxl'"),
]


@pytest.fixture(scope='module')
def refusals(tiny_weights):
    """Return (exit code, output) of a node for each of REFUSED; two start at a time."""
    def start(parameters):
        process = NodeProcess(**{**tiny(tiny_weights), **parameters})
        return process.process.wait(90), process.output

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(start, [parameters for parameters, _ in REFUSED]))


@pytest.mark.parametrize('i', range(len(REFUSED)),
                         ids=['-'.join(parameters) for parameters, _ in REFUSED])
def test_the_node_refuses_at_start(i, refusals):
    code, output = refusals[i]
    assert code == 1
    assert REFUSED[i][1] in output
    assert 'Traceback' not in output


def test_without_weights_and_network_the_node_says_what_to_do(tmp_path):
    done = subprocess.run(
        [sys.executable, '-m', 'zoe_ros.ros.main', '--ros-args', '-p', 'device:=cpu', '-p',
         'variant:=nk'], cwd=ROOT,
        env={**os.environ, 'HF_HUB_OFFLINE': '1', 'HF_HOME': str(tmp_path)},
        capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    text = done.stdout + done.stderr
    assert 'the weights of ZoeD-M12-NK are not on this machine' in text
    assert 'Traceback' not in text


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
def test_signals_end_the_node_cleanly(sign, tiny_weights):
    with running_node(fresh=True, **tiny(tiny_weights)) as node:
        node.wait_for(READY)
        assert node.end(sign) == 0, node.output
        assert 'Traceback' not in node.output


@pytest.mark.parametrize('sign', [signal.SIGINT, signal.SIGTERM], ids=['SIGINT', 'SIGTERM'])
@pytest.mark.parametrize('seconds', [0.6, 1.5, 2.5, 3.5])
def test_signals_during_imports_and_loading_end_the_node_cleanly(sign, seconds, tiny_weights):
    with running_node(fresh=True, **tiny(tiny_weights)) as node:
        time.sleep(seconds)
        assert node.end(sign) == 0, node.output
        assert 'Traceback' not in node.output


def lines_of_run():
    """Return the line numbers, from the first, of what _run does from its node to its spinning."""
    lines, _ = inspect.getsourcelines(main._run)
    first, = (i for i, line in enumerate(lines) if 'node = DepthNode()' in line)
    last, = (i for i, line in enumerate(lines) if 'spin(executor)' in line)
    return range(first, last + 1)


@pytest.mark.parametrize('offset', lines_of_run())
def test_a_signal_at_any_line_of_the_start_ends_the_node_cleanly(offset):
    with running_node('-p', 'autostart:=false', '--', offset, program=INTERRUPTED) as node:
        assert node.process.wait(PATIENCE) == 0, node.output
        assert INTERRUPT in node.output
        assert 'Traceback' not in node.output


def test_a_lifecycle_manager_can_drive_it(tiny_weights):
    (image, info), *_ = bag_frames(SAMPLE)
    states = {Transition.TRANSITION_CONFIGURE: 'inactive',
              Transition.TRANSITION_ACTIVATE: 'active',
              Transition.TRANSITION_DEACTIVATE: 'inactive',
              Transition.TRANSITION_CLEANUP: 'unconfigured'}
    parameters = tiny(tiny_weights, image_transport='compressed', autostart=False)
    with running_node(**parameters) as node, Client(node) as client:
        def change(transition):
            request = ChangeState.Request(transition=Transition(id=transition))
            assert client.call(ChangeState, 'change_state', request).success
            state = client.call(GetState, 'get_state', GetState.Request())
            assert state.current_state.label == states[transition]

        for _ in range(2):
            change(Transition.TRANSITION_CONFIGURE)
            assert client.images.get_subscription_count() == 0
            for _ in range(2):
                change(Transition.TRANSITION_ACTIVATE)
                client.wait_for_match()
                client.ask(image, info)
                change(Transition.TRANSITION_DEACTIVATE)
                client.wait_until(lambda: client.images.get_subscription_count() == 0,
                                  what='the end of the subscription')
            change(Transition.TRANSITION_CLEANUP)
        assert node.end() == 0, node.output
        assert 'Traceback' not in node.output


def test_a_failed_configure_is_a_failure_with_its_reason(tiny_weights):
    with running_node(**tiny('/nowhere.pt', autostart=False)) as node, Client(node) as client:
        request = ChangeState.Request(
            transition=Transition(id=Transition.TRANSITION_CONFIGURE))
        assert not client.call(ChangeState, 'change_state', request).success
        state = client.call(GetState, 'get_state', GetState.Request())
        assert state.current_state.label == 'unconfigured'
        node.wait_for('cannot configure: no weights file at /nowhere.pt')
        assert node.process.poll() is None


def test_the_precision_that_is_chosen_is_told(tiny_weights):
    precision, reason = default_precision(describe(torch.device('cpu')))
    parameters = tiny(tiny_weights, precision='auto', diagnostics_period=0.3)
    with running_node(**parameters) as node, Client(node, outputs=()) as client:
        node.wait_for(READY)
        assert node.output.count(f'precision {precision}: {reason}') == 1
        assert client.next_report()['model'] == f'ZoeD-tiny in {precision}'


def test_a_bare_n_on_the_command_line_means_the_variant(tiny_weights):
    process = NodeProcess('-p', 'variant:=n', '-p', f"weights:='{tiny_weights}'")
    assert process.process.wait(90) == 1
    assert "ask for variant 'tiny', not 'n'" in process.output
