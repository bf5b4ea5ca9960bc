"""Depth as image_transport compresses it, read back by a reader of its own."""
import compressed_depth
import numpy as np

from zoe_ros.images import is_depth
from zoe_ros.messages import compressed_depth_message


def test_depth_is_read_back_to_half_a_millimetre(family):
    # Smooth depth, a step, and noise: the filters of PNG differ from row to row.
    v, u = np.mgrid[:40, :70]
    depth = (1.5 + 0.01 * u + 0.3 * np.sin(v / 9)).astype(np.float32)
    depth[10:20, 30:] *= 7
    depth[25:30] = np.random.default_rng(0).uniform(0.1, 60, (5, 70))
    depth[35, ::2] = np.nan
    header = family.header(stamp=1_500_000_000)
    message = compressed_depth_message(family.types, header, depth)
    assert message.header == header and is_depth(message)
    found = compressed_depth.read(message)
    assert np.array_equal(np.isnan(found), np.isnan(depth))
    assert np.nanmax(np.abs(found - depth)) <= 0.0005 + 1e-6
    assert len(family.to_bytes(message)) < 0.6 * depth.nbytes


def test_what_is_no_depth_is_invalid(family):
    # By REP 118, 0 is invalid depth; there is no value for "too far".
    values = [np.nan, np.inf, -np.inf, 0, -1, 0.0004, 65.536, 70, 1e30, 0.0006, 65.535, 65.5349]
    depth = np.array([values], np.float32)
    message = compressed_depth_message(family.types, family.header(), depth)
    found = compressed_depth.read(message)[0]
    assert np.isnan(found[:9]).all()
    assert found[9:].tolist() == [0.001, 65.535, 65.535]
