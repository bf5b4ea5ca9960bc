"""A model with the fused kernels of a GPU gives the same numbers, or is left as it is."""
import logging
import os
from pathlib import Path
import subprocess
import sys

import made_up
import pytest
import torch

from zoe_ros.model import cuda, fused
from zoe_ros.model import fuse as fuse_module
from zoe_ros.model.decoder import DptDecoder
from zoe_ros.model.fuse import fuse
from zoe_ros.model.fused_decoder import FusedDecoder
from zoe_ros.model.fused_metric import FusedMetric
from zoe_ros.model.metric import MetricBins
from zoe_ros.model.zoedepth import ZoeDepth

pytestmark = pytest.mark.slow

needs_triton = pytest.mark.skipif(not fused.DEFINED, reason='Triton comes with torch on Linux')
ROOT = Path(__file__).resolve().parents[2]
DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
TOLERANCE = 1e-5 if DEVICE == 'cpu' else 1e-4       # see test_fused
KINDS = {'two heads': {}, 'bounded': {'heads': ('outdoor',), 'bounded': True},
         'one head': {'heads': ('indoor',)}}


def measured(model, pixels):
    """Return depth and deviation by each head, and the router's logits."""
    with torch.inference_mode(), cuda.convolutions(tf32=False):
        shared = model.forward_features(pixels)
        found = [model.predict_depth(shared, [head] * len(pixels), deviation=True)
                 for head in model.config.head_names]
    return [x for pair in found for x in pair], shared.logits


@needs_triton
@pytest.mark.parametrize('kind', KINDS)
def test_whole_model(kind):
    model = made_up.tiny_model(**KINDS[kind]).to(DEVICE)
    pixels = made_up.tensor_for('fuse pixels', (2, 3, 32, 32)).clamp(-1, 1).to(DEVICE)
    expected, logits = measured(model, pixels)
    assert fuse(model, probe=False) == ''
    assert isinstance(model.metric, FusedMetric) and isinstance(model.decoder, FusedDecoder)
    assert model.backbone.fused and (model.router is None or model.router.fused)
    found, found_logits = measured(model, pixels)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape and (a - b).norm() < TOLERANCE * b.norm()
    if logits is not None:
        torch.testing.assert_close(found_logits, logits, rtol=1e-4, atol=1e-5)


@needs_triton
@pytest.mark.parametrize('kind, dtype', [
    ('two heads', torch.bfloat16), ('one head', torch.float16)])
def test_half_precision_is_near_the_plain_model(kind, dtype):
    model = made_up.tiny_model(**KINDS[kind]).to(DEVICE)
    pixels = made_up.tensor_for('fuse pixels', (1, 3, 32, 64)).clamp(-1, 1).to(DEVICE)
    exact, _ = measured(model, pixels)
    model.set_precision(dtype)
    assert fuse(model, probe=False) == ''
    depth, expected = measured(model, pixels)[0][0], exact[0]
    assert depth.dtype == torch.float32
    assert 0 < ((depth - expected).abs() / expected).median() < 0.01


# The probe.

@pytest.fixture
def small_probe(monkeypatch):
    """Let the probe take few pixels: the interpreter is slow."""
    monkeypatch.setattr(fuse_module, '_PROBE', (8, 8))


def assert_plain(model):
    """Nothing of the model has been replaced."""
    assert type(model.metric) is MetricBins and type(model.decoder) is DptDecoder
    assert not model.backbone.fused and not (model.router and model.router.fused)


@needs_triton
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_the_probe_is_content_with_the_same_numbers(small_probe, dtype):
    model = made_up.tiny_model(('indoor',)).to(DEVICE).set_precision(dtype)
    assert fuse(model) == ''
    assert isinstance(model.metric, FusedMetric) and model.backbone.fused


class OffMetric(FusedMetric):
    """Wrong in the attractors of one level of the last head."""

    def __init__(self, metric, tf32):
        """Spoil it."""
        super().__init__(metric, tf32)
        net = list(self.heads.values())[-1].attractors[1]
        net.bias2 = net.bias2 + 0.1             # not in place: the plain form has the same memory


class NoNumber(FusedDecoder):
    """A decoder whose map has a NaN at its end."""

    def fuse(self, skips):
        """Spoil the result."""
        features = super().fuse(skips)
        features.fine[0, -1, -1, -1] = torch.nan
        return features


@needs_triton
@pytest.mark.parametrize('name, wrong, stage', [
    ('FusedMetric', OffMetric, 'the outdoor head is off by 0.'),
    ('FusedDecoder', NoNumber, 'the decoder is off by nan')])
def test_other_numbers_leave_the_model_as_it_is(small_probe, monkeypatch, name, wrong, stage):
    monkeypatch.setattr(fuse_module, name, wrong)
    model = made_up.tiny_model().to(DEVICE)
    reason = fuse(model)
    assert reason.startswith(stage) and len(reason.splitlines()) == 1
    assert_plain(model)


@needs_triton
def test_a_kernel_that_does_not_compile_leaves_the_model_as_it_is(small_probe, monkeypatch):
    monkeypatch.setitem(fused._TILES, 'attract_level', (24, 4))     # no power of two
    model = made_up.tiny_model().to(DEVICE)
    reason = fuse(model)
    assert 'Error: ' in reason and len(reason.splitlines()) == 1
    assert_plain(model)


@needs_triton
def test_an_error_without_a_text_leaves_the_model_as_it_is(small_probe, monkeypatch):
    class Broken(FusedDecoder):
        def forward(self, maps):
            raise AssertionError        # as compilers do

    monkeypatch.setattr(fuse_module, 'FusedDecoder', Broken)
    model = made_up.tiny_model().to(DEVICE)
    assert fuse(model) == 'AssertionError'
    assert_plain(model)


@needs_triton
def test_a_device_that_is_not_there_is_not_probed(monkeypatch, caplog):
    monkeypatch.setattr(fuse_module, '_differences', None)
    with torch.device('meta'):
        model = ZoeDepth(made_up.tiny_config())
    model.requires_grad_(False).eval().pack()
    assert isinstance(model.metric, FusedMetric) and model.router.fused
    assert not caplog.records


def test_a_model_that_is_left_as_it_is_says_so_in_one_line(monkeypatch, caplog):
    monkeypatch.setattr(fused, 'DEFINED', False)
    with torch.device('meta'):
        model = ZoeDepth(made_up.tiny_config())
    with caplog.at_level(logging.WARNING):
        model.requires_grad_(False).eval().pack()
    assert [record.getMessage() for record in caplog.records] == [
        'without fused kernels, which is slower: torch has no Triton here']
    assert_plain(model)


@pytest.mark.skipif(DEVICE == 'cpu', reason='needs a CUDA device')
def test_pack_fuses_on_a_device(caplog):
    model = made_up.tiny_model().to(DEVICE).pack()
    assert isinstance(model.metric, FusedMetric)
    assert not caplog.records


WITHOUT_TRITON = """
import sys
sys.modules['triton'] = None        # importing it fails
import numpy as np
import zoe_ros
from zoe_ros.model import fused
assert not fused.DEFINED and sys.modules['triton'] is None
prediction = zoe_ros.DepthEstimator.load('mobile', device='cpu').predict(
    np.full((48, 64, 3), 128, np.uint8))
assert prediction.depth.shape == (48, 64) and np.isfinite(prediction.depth).all()
"""


def test_without_triton():
    done = subprocess.run([sys.executable, '-c', WITHOUT_TRITON], cwd=ROOT, capture_output=True,
                          text=True, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr
