"""Parts of a bag that outlive their fleet: which of them the next one may use."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
import json
from pathlib import Path
import shutil
from typing import Any

from zoe_ros import __version__
from zoe_ros.cuts import Part
from zoe_ros.files import file_sha256, whole_file
from zoe_ros.part_files import FILES
from zoe_ros.provenance import data_digest
from zoe_ros.settings import RunSettings
from zoe_ros.storage.remote import to_path

# In the folder of the parts of a bag: where it is cut. In the folder of a part: what made it.
PLAN, SEAL = 'plan.json', 'seal.json'


def kept_plan(folder: Path, settings: RunSettings, least: int) -> list[Part]:
    """
    Return where an earlier fleet cut a bag; nothing if it would not cut the bag so today.

    :param folder: of the parts of the bag.
    :param least: see :func:`zoe_ros.cuts.plan`.
    """
    try:
        plan = json.loads((folder / PLAN).read_text(encoding='utf-8'))
        if plan['made_of'] == _made_of_plan(settings, least):
            return [Part(**part) for part in plan['parts']]
    except (ValueError, TypeError, KeyError, OSError):
        pass        # damaged, or none
    return []


def keep_plan(folder: Path, settings: RunSettings, least: int, parts: Sequence[Part]) -> None:
    """
    Write where a bag is cut.

    :raises OSError: the file cannot be written.
    """
    folder.mkdir(parents=True)
    with whole_file(folder / PLAN) as file:
        file.write_text(json.dumps({'made_of': _made_of_plan(settings, least),
                                    'parts': [asdict(part) for part in parts]}, indent=1) + '\n')


def _made_of_plan(settings: RunSettings, least: int) -> dict[str, Any]:
    """Return what the places of the cuts depend on; also what all parts have in common."""
    return {**_made_by(settings), 'least': least, 'data': data_digest(to_path(settings.data))}


def made_of(settings: RunSettings, part: Part, inputs: dict[str, str | None],
            device: str) -> dict[str, Any]:
    """
    Return what a part is made of. Parts are joined only if all of this is the same.

    :param settings: with the choices that were made for the defaults.
    :param inputs: hashes of the data and the weights; :param device: kind of the device.
    """
    return {**_made_by(settings), 'part': asdict(part), 'inputs': inputs, 'device': device}


def _made_by(settings: RunSettings) -> dict[str, Any]:
    # Another version may compute other depth, or write other files. As JSON gives it back.
    plain = json.loads(json.dumps(asdict(settings)))
    return {'version': __version__, 'settings': {**plain, 'output': ''}}


def seal(folder: Path, origin: dict[str, Any]) -> None:
    """
    Write what made a part that is complete, and the hashes of its files.

    :param origin: see :func:`made_of`.
    :raises OSError: a file cannot be read or written.
    """
    with whole_file(folder / SEAL) as file:
        file.write_text(json.dumps({'made_of': origin, 'files': _hashes(folder)}, indent=1) + '\n')


def is_usable(folder: Path, origin: dict[str, Any]) -> bool:
    """Tell whether a folder has a whole part that was made of the same; damage is found."""
    try:
        sealed = json.loads((folder / SEAL).read_text(encoding='utf-8'))
        return bool(sealed == {'made_of': origin, 'files': _hashes(folder)})
    except (ValueError, OSError):
        return False


def discard(folder: Path) -> None:
    """
    Remove a folder of parts, if it is there.

    :raises OSError: it cannot be removed; the text names it.
    """
    try:
        if folder.exists():
            shutil.rmtree(folder)
    except OSError as error:
        raise OSError(f'{folder} cannot be replaced ({error.strerror}): remove it, or choose '
                      'another --output') from None


def _hashes(folder: Path) -> dict[str, str]:
    return {name: file_sha256(folder / name) for name in FILES}
