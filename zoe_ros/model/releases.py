"""The weights files that authors publish: where they are, what they hold, and their licences."""
from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoe_ros.files import file_sha256


@dataclass(frozen=True)
class Release:
    """
    A file of a repository on the Hugging Face hub.

    :param repository: owner and name.
    :param licence: of the weights, as far as the publisher states one.
    :param file: path in the repository.
    :param kind: of the repository, 'model' or 'space'.
    :param sha256: of the file in hexadecimal; empty where only the hub states one.
    """

    repository: str
    licence: str
    file: str = 'model.safetensors'
    kind: str = 'model'
    sha256: str = ''


def _depth_anything(domain: str, sha256: str) -> Release:
    return Release(
        'LiheYoung/Depth-Anything',
        'none stated with the file; its author names Apache-2.0 '
        '(github.com/LiheYoung/Depth-Anything/issues/15)',
        f'checkpoints_metric_depth/depth_anything_metric_depth_{domain}.pt', 'space', sha256)


RELEASES: dict[str, Release] = {
    'n': Release('Intel/zoedepth-nyu', 'MIT'),
    'k': Release('Intel/zoedepth-kitti', 'MIT'),
    'nk': Release('Intel/zoedepth-nyu-kitti', 'MIT'),
    'da-n': _depth_anything(
        'indoor', 'e25a96605a2ea2dbbe57308d024e89a803fa87fe981bd51d4cee245f1de57977'),
    'da-k': _depth_anything(
        'outdoor', '50a33976a4c909bd2284395d686bd644ce06c5c1c70f870d032b0eee93bdc56e')}


def released_as(path: Path) -> str | None:
    """Return the variant whose released file has the content of ``path``, by its SHA-256."""
    digest = file_sha256(path)
    return next((variant for variant, release in RELEASES.items() if release.sha256 == digest),
                None)
