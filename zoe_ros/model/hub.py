"""Sources of weights: the package, or the Hugging Face hub with its cache."""
from __future__ import annotations

import errno
import logging
from pathlib import Path
import re

from huggingface_hub import hf_hub_download, try_to_load_from_cache
from huggingface_hub.utils import logging as hub_logging
from huggingface_hub.utils import tqdm

from zoe_ros.files import file_sha256
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.layouts import NATIVE
from zoe_ros.model.releases import RELEASES
from zoe_ros.model.weights import open_checkpoint, WeightsError

# Small models trained by this project are in the package; each file is named after the variant.
SHIPPED = Path(__file__).resolve().parents[1] / 'data' / 'weights'
SHIPPED_LICENCE = 'Apache-2.0'
SHIPPED_LIMITS = {'mobile-lite': 'has seen few photographs', 'mobile': 'has seen no real image'}
_STORAGE_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
_SMALL = "choose variant 'mobile-lite', which comes with the package"

log = logging.getLogger(__name__)


def cached_weights(variant: str) -> Path | None:
    """Return the path of the released weights of ``variant`` if they are in the cache."""
    release = RELEASES[variant]
    path = try_to_load_from_cache(release.repository, release.file, repo_type=release.kind)
    return Path(path) if isinstance(path, str) else None


def find_weights(variant: str) -> Path:
    """
    Return the path of the weights of a variant, from the package or the hub.

    :raises WeightsError: no such weights are published, or they cannot be downloaded.
    """
    path = SHIPPED / f'{variant}.safetensors'
    return path if path.is_file() else fetch_weights(variant)


def fetch_weights(variant: str) -> Path:
    """
    Return the path of the released weights of ``variant``; download them if necessary.

    The hub's client resumes broken transfers, shows the progress, and stores complete files only.
    A new file is also checked against the SHA-256 of the release or, where that is not known
    here, the one that the hub states.

    :raises WeightsError: the weights are neither in the cache nor can they be downloaded.
    """
    if variant not in RELEASES:
        raise WeightsError(f"no weights are published for variant '{variant}': give a weights "
                           f"file, or use {', '.join(RELEASES)}")
    path = cached_weights(variant)
    if path is not None:
        return path
    title, release = VARIANTS[variant].title, RELEASES[variant]
    log.info('fetching the weights of %s (1.4 GB, once) from %s', title, release.repository)
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()   # errors are reported once, below
    try:
        path = Path(hf_hub_download(release.repository, release.file, repo_type=release.kind,
                                    tqdm_class=_Progress))
    except Exception as error:  # the client also passes on errors of its HTTP library
        if getattr(error, 'errno', None) in _STORAGE_ERRORS:
            raise WeightsError(f'the weights of {title} could not be stored ({error}): make '
                               'room, set HF_HOME to a folder with 1.5 GB free, or '
                               f'{_SMALL}') from None
        raise WeightsError(
            f'the weights of {title} are not on this machine and could not be fetched from the '
            f'Hugging Face hub ({type(error).__name__}): connect once to fetch {release.file} '
            f'of {release.repository} (1.4 GB), name a file that you have as weights, or '
            f'{_SMALL}') from None
    finally:
        hub_logging.set_verbosity(verbosity)
    _verify(path, release.sha256)
    return path


def licence_of(path: Path, variant: str) -> str:
    """Return the licence of the weights in a file of a publisher or of the package; else ''."""
    if path.parent == SHIPPED:
        return SHIPPED_LICENCE
    if variant not in RELEASES or open_checkpoint(path).layout is NATIVE:
        return ''
    return RELEASES[variant].licence


class _Progress(tqdm):
    """The progress bar of the client on a terminal; else, as under launch, a line per tenth."""

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more bytes."""
        if self.disable and self.total and n:
            tenths = 10 * self.n // self.total
            self.n += n
            if 10 * self.n // self.total > tenths:
                log.info('fetched %.0f of %.0f MB', self.n / 1e6, self.total / 1e6)
        return super().update(n)


def _verify(path: Path, sha256: str) -> None:
    """
    Check a new file; remove it if it differs.

    :param sha256: of the release; empty: take the one in the name of the file's blob, which the
        hub has stated.
    """
    blob = path.resolve()
    stated = re.fullmatch('[0-9a-f]{64}', blob.name)
    expected = sha256 or (blob.name if stated else '')
    if expected and file_sha256(blob) != expected:
        path.unlink()
        blob.unlink(missing_ok=True)
        who = 'of the release' if sha256 else 'that the hub states'
        raise WeightsError(f'the downloaded {path.name} does not have the SHA-256 {who}; '
                           'the file was removed: try again')
