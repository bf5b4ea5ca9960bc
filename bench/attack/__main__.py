"""Attack the package and report inputs, wrong results, crashes and hangs; exit with 1 if any."""
from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
import sys
from tempfile import TemporaryDirectory

from bench.attack import damaged, disk, infos, kills, stamps
import torch

BAD = ('wrong', 'crash', 'hang', 'memory')
INFOS = (10_000, 100_000, 1_000_000)


def attacks(part: str, folder: Path, seed: int) -> Iterator[tuple[str, str, str, str]]:
    """
    Attack in one way.

    :return: of each input its kind, details, the class of the result and a remark.
    """
    if part == 'bags':
        yield from damaged.attack(folder, 1100, seed)
    elif part == 'kills':
        yield from kills.attack(folder, 70, 30, seed)
    elif part == 'disk':
        yield from disk.attack(folder, 12)
    elif part == 'stamps':
        from bench.attack import live  # here: it needs ROS

        yield from stamps.attack(folder, 50, seed)
        yield from live.attack(folder, 100, seed)
    else:
        for found in infos.measure(folder, INFOS):
            yield (f'{found.count} CameraInfo, {found.order} stamps',
                   f'{found.opening:.1f} s to open, {1e6 * found.look_up:.1f} us to look one up, '
                   f'{found.memory:.0f} bytes each', 'wrong' if found.wrong else 'same', '')


def main() -> int:
    """Run the parts, print what goes wrong and a table; return the exit code."""
    parts = ('bags', 'kills', 'disk', 'stamps', 'infos')
    parser = argparse.ArgumentParser(prog='attack', description=__doc__)
    parser.add_argument('parts', nargs='*', metavar='PART', help=f'of {", ".join(parts)}')
    parser.add_argument('--seed', type=int, default=1)
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(parts))
    if unknown:
        parser.error(f'no part {", ".join(unknown)}: there are {", ".join(parts)}')
    # Before the forks: a fork may use torch as long as no thread has.
    torch.set_num_threads(1)
    failed = False
    for part in options.parts or parts:
        found: dict[str, Counter[str]] = {}
        with TemporaryDirectory() as folder:
            for name, how, kind, remark in attacks(part, Path(folder), options.seed):
                found.setdefault(name, Counter())[kind] += 1
                if part == 'infos' or kind in BAD:
                    print(f'{kind}: {name}, {how} {remark}', flush=True)
        for name, kinds in found.items():
            print(f'{part:7} {name:40} ' + ', '.join(
                f'{count} {kind}' for kind, count in sorted(kinds.items())), flush=True)
            failed |= any(kind in BAD for kind in kinds)
    return int(failed)


if __name__ == '__main__':
    sys.exit(main())
