"""Numbers with their nouns in messages."""
import json

import pytest

from zoe_ros.counts import counted
from zoe_ros.distill.distill import report


@pytest.mark.parametrize('number, text', [(0, '0 frames'), (1, '1 frame'), (2, '2 frames')])
def test_a_noun_follows_its_number(number, text, tmp_path):
    assert counted(number, 'frame') == text
    (tmp_path / 'summary.json').write_text(json.dumps(
        {'frames': {'learnt': number}, 'before': {}, 'after': {}}))
    assert report(tmp_path).startswith(f'learnt from {text}\n')
