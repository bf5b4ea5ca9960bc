"""The files of a part of a bag: records of its images, and the messages that were made of them."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

from zoe_ros.bag_messages import TYPESTORE

FILES = _RECORDS, _MESSAGES = 'records.jsonl', 'messages.cdr'


@dataclass
class Record:
    """
    An image of a part; a line of JSON.

    :param recorded: when it was recorded [ns].
    :param place: its number among the images that were recorded at this time, from 0.
    :param routed: stamp [s] and logits for each choice of the router: a mirrored image has its
        own.
    :param heads: the choices.
    :param dropped: cause and text, if the image cannot be used.
    :param statistics: of the frame, see :meth:`.results.Statistics.as_record`.
    :param remarks: what the user should know.
    :param messages: topic, type and size [bytes] of each message.
    """

    recorded: int
    place: int
    routed: list[tuple[float, list[float]]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    dropped: list[str] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    messages: list[tuple[str, str, int]] = field(default_factory=list)


class PartWriter:
    """Writes the files of a part; a context manager."""

    def __init__(self, folder: Path) -> None:
        """
        Create the files.

        :param folder: exists, and is empty.
        """
        self._folder = folder
        with self._named_errors(), ExitStack() as stack:
            self._records = stack.enter_context((folder / _RECORDS).open('w', encoding='utf-8'))
            self._messages = stack.enter_context((folder / _MESSAGES).open('wb'))
            self._files = stack.pop_all()

    def __enter__(self) -> PartWriter:
        """Return self; the files are open already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Close the files."""
        with self._named_errors():
            self._files.close()

    def write(self, record: Record, messages: dict[str, Any]) -> None:
        """
        Write an image.

        :param record: without its messages, which are added.
        :param messages: topic -> message, in the order of writing.
        """
        with self._named_errors():
            for topic, message in messages.items():
                data = TYPESTORE.serialize_cdr(message, message.__msgtype__)
                self._messages.write(data)
                record.messages.append((topic, message.__msgtype__, len(data)))
            self._records.write(json.dumps(vars(record)) + '\n')

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(f'{self._folder} cannot be written: {error.strerror or error}') from None


def read_records(folder: Path) -> Iterator[Record]:
    """Give the records of a part in their order."""
    with (folder / _RECORDS).open(encoding='utf-8') as lines:
        for line in lines:
            yield Record(**json.loads(line))


def read_part(folder: Path) -> Iterator[tuple[Record, list[bytes]]]:
    """Give the records of a part in their order, each with the CDR of its messages."""
    with (folder / _MESSAGES).open('rb') as file:
        for record in read_records(folder):
            yield record, [file.read(size) for _, _, size in record.messages]
