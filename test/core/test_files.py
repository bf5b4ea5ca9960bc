"""The SHA-256 of a file."""
import hashlib

from zoe_ros.files import file_sha256


def test_a_file_that_changes_has_another_sha256(tmp_path):
    path = tmp_path / 'weights'
    for content in (b'first', b'second', b'', b'x' * 3_000_000):
        path.write_bytes(content)
        assert file_sha256(path) == file_sha256(path) == hashlib.sha256(content).hexdigest()
    other = tmp_path / 'other'
    other.write_bytes(b'replaced')
    other.replace(path)
    assert file_sha256(path) == hashlib.sha256(b'replaced').hexdigest()
