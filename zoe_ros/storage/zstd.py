"""Zstandard, which Python has from 3.14 on."""
import sys

if sys.version_info >= (3, 14):
    from compression.zstd import open as open_zstd
    from compression.zstd import ZstdDecompressor, ZstdError
else:
    from backports.zstd import open as open_zstd
    from backports.zstd import ZstdDecompressor, ZstdError

__all__ = ['MAGIC', 'ZstdError', 'open_zstd', 'unpack']

MAGIC = b'\x28\xb5\x2f\xfd'


def unpack(data: bytes, size: int = -1) -> bytes:
    """
    Return what ``data`` holds, ``size`` bytes at most; of data cut off, what can be had.

    :raises ZstdError: it is damaged.
    """
    return bytes(ZstdDecompressor().decompress(data, size))
