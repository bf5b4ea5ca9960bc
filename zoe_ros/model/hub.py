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
from zoe_ros.model.weights import WeightsError

REPOSITORIES = {
    'n': 'Intel/zoedepth-nyu', 'k': 'Intel/zoedepth-kitti', 'nk': 'Intel/zoedepth-nyu-kitti'}
FILE = 'model.safetensors'
# Small models trained by this project are in the package; each file is named after the variant.
SHIPPED = Path(__file__).resolve().parents[1] / 'data' / 'weights'
SHIPPED_LIMITS = {'mobile-lite': 'has seen few photographs', 'mobile': 'has seen no real image'}
_STORAGE_ERRORS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS)
_SMALL = "choose variant 'mobile-lite', which comes with the package"

log = logging.getLogger(__name__)


def cached_weights(variant: str) -> Path | None:
    """Return the path of the released weights of ``variant`` if they are in the cache."""
    path = try_to_load_from_cache(REPOSITORIES[variant], FILE)
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
    A new file is also checked against the SHA-256 that the hub states.

    :raises WeightsError: the weights are neither in the cache nor can they be downloaded.
    """
    if variant not in REPOSITORIES:
        raise WeightsError(f"no weights are published for variant '{variant}': give a weights "
                           f"file, or use {', '.join(REPOSITORIES)}")
    path = cached_weights(variant)
    if path is not None:
        return path
    title, repository = VARIANTS[variant].title, REPOSITORIES[variant]
    log.info('fetching the weights of %s (1.4 GB, once) from %s', title, repository)
    verbosity = hub_logging.get_verbosity()
    hub_logging.set_verbosity_error()   # errors are reported once, below
    try:
        path = Path(hf_hub_download(repository, FILE, tqdm_class=_Progress))
    except Exception as error:  # the client also passes on errors of its HTTP library
        if getattr(error, 'errno', None) in _STORAGE_ERRORS:
            raise WeightsError(f'the weights of {title} could not be stored ({error}): make '
                               'room, set HF_HOME to a folder with 1.5 GB free, or '
                               f'{_SMALL}') from None
        raise WeightsError(
            f'the weights of {title} are not on this machine and could not be fetched from the '
            f'Hugging Face hub ({type(error).__name__}): connect once to fetch {FILE} of '
            f'{repository} (1.4 GB), name a file that you have as weights, or {_SMALL}') from None
    finally:
        hub_logging.set_verbosity(verbosity)
    _verify(path)
    return path


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


def _verify(path: Path) -> None:
    """Check a new file against the SHA-256 in the name of its blob; remove it if it differs."""
    blob = path.resolve()
    if not re.fullmatch('[0-9a-f]{64}', blob.name):
        return
    if file_sha256(blob) != blob.name:
        path.unlink()
        blob.unlink(missing_ok=True)
        raise WeightsError(f'the downloaded {path.name} does not have the SHA-256 that the hub '
                           'states; the file was removed: try again')
