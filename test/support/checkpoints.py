"""Checkpoints of the tiny model: written, compared, and the words of a refusal."""
from dataclasses import replace

import made_up
import pytest
import torch

from zoe_ros.model.layouts import DEPTH_ANYTHING
from zoe_ros.model.weights import load_model, save_model, WeightsError

TINY = made_up.tiny_config()
# In the layouts of others it passes for what its structure is.
TINY_NK = replace(TINY, variant='nk')


def saved(content, folder, name='made_up.pt'):
    """Save ``content`` as torch does; return the path."""
    torch.save(content, folder / name)
    return folder / name


def write_tiny(tiny, state, path):
    """Write the tiny model: its official ``state`` if ``path`` ends in .pt, else our own file."""
    if path.suffix == '.pt':
        torch.save(state, path)
    else:
        save_model(tiny, path)


def refusal(path, config=TINY_NK):
    """Return the words of the refusal, without the path."""
    with pytest.raises(WeightsError) as error:
        load_model(config, path)
    text = str(error.value)
    assert str(path) in text
    assert '\n' not in text
    return text.replace(str(path), 'FILE')


def assert_equal_models(a, b):
    """Compare all tensors."""
    states = a.state_dict(), b.state_dict()
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def depth_anything_state(model):
    """Return the tensors of a model under the names of the released files of Depth Anything."""
    return {DEPTH_ANYTHING.sources(name, 1)[0]: tensor
            for name, tensor in model.state_dict().items()}
