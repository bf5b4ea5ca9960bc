"""SQLite files, with the log of a recording that was cut off."""
from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
import shutil
import sqlite3
from tempfile import TemporaryDirectory

from zoe_ros.errors import first_line
from zoe_ros.storage import Channel, EVER, ros_type, StorageError

MAGIC = b'SQLite format 3\0'
# Beside the file: what the recorder had not yet brought into it.
_LOGS = ('-wal', '-journal')


class SqliteFile:
    """The messages of a .db3 file; see :class:`zoe_ros.storage.Storage`."""

    def __init__(self, path: Path) -> None:
        """
        Open a file.

        :raises StorageError: it cannot be read, or is no recording.
        """
        self.defects: list[str] = []
        self._name = path.name
        self._copy: TemporaryDirectory[str] | None = None
        try:
            self._database = self._open(path)
            self.channels = self._read_channels()
        except sqlite3.Error as error:
            self.close()
            raise StorageError(f'{path.name}: {first_line(error)}') from None

    def close(self) -> None:
        """Close the file."""
        if hasattr(self, '_database'):
            self._database.close()
        if self._copy is not None:
            self._copy.cleanup()

    def verify(self) -> None:
        """Look for pages that are damaged or used twice; SQLite has no checksum of contents."""
        try:
            found, = self._database.execute('PRAGMA quick_check(1)').fetchone()
        except sqlite3.Error as error:
            self._add_defect(error)
        else:
            if found != 'ok':
                self._add_defect(sqlite3.DatabaseError(str(found).splitlines()[-1]))

    def messages(self, channels: Collection[int], start: int = 0,
                 stop: int = EVER) -> Iterator[tuple[int, bytes]]:
        """Give messages in the order of recording; see :class:`zoe_ros.storage.Storage`."""
        marks = ', '.join('?' * len(channels))
        # The index of times is at the end of a file, and is lost with that. Rows come in the
        # order of recording, too, as long as one recorder writes them.
        rows, order = (('messages NOT INDEXED', 'id') if self.defects
                       else ('messages', 'timestamp, id'))
        try:
            # The casts are for damaged rows: nothing but numbers and bytes comes out.
            yield from self._database.execute(
                "SELECT IFNULL(CAST(timestamp AS INTEGER), 0), IFNULL(CAST(data AS BLOB), x'') "
                f'FROM {rows} WHERE topic_id IN ({marks}) AND timestamp >= ? AND timestamp <= ? '
                f'ORDER BY {order}', (*channels, start, min(stop - 1, 2 ** 63 - 1)))
        except sqlite3.Error as error:
            self._add_defect(error)

    def span(self, channels: Collection[int]) -> tuple[int, int] | None:
        """Return the first and the last time; see :class:`zoe_ros.storage.Storage`."""
        marks = ', '.join('?' * len(channels))
        try:
            first, last = self._database.execute(
                'SELECT MIN(timestamp), MAX(timestamp) FROM messages '
                f'WHERE topic_id IN ({marks})', tuple(channels)).fetchone()
        except sqlite3.Error as error:
            self._add_defect(error)
            return None
        return None if first is None else (int(first), int(last))

    def _add_defect(self, error: sqlite3.Error) -> None:
        text = f'{self._name}: {first_line(error)}'
        if text not in self.defects:
            self.defects.append(text)

    def _read_channels(self) -> dict[int, Channel]:
        query = 'SELECT id, name, type, serialization_format FROM topics'
        try:
            topics = list(self._database.execute(query))
        except sqlite3.DatabaseError as error:
            # Of a file that is cut off SQLite reads nothing, unless this is set.
            self._database.execute('PRAGMA writable_schema = ON')
            topics = list(self._database.execute(query))
            self._add_defect(error)
        try:
            counts = dict(self._database.execute(
                'SELECT topic_id, COUNT(*) FROM messages GROUP BY topic_id'))
        except sqlite3.DatabaseError as error:
            self._add_defect(error)
            counts = {number: 1 for number, *_ in topics}   # at least, perhaps
        return {number: Channel(str(topic), ros_type(str(kind)), str(encoding),
                                counts.get(number, 0))
                for number, topic, kind, encoding in topics}

    def _open(self, path: Path) -> sqlite3.Connection:
        logs = [log for log in (path.with_name(path.name + end) for end in _LOGS)
                if log.is_file() and log.stat().st_size]
        if not logs:
            # Nobody writes to the file, wherever it lies: no locks, no files beside it.
            return _connect(path, 'immutable=1')
        try:
            return _connect(path, 'mode=ro')
        except sqlite3.OperationalError:
            # SQLite must write beside the file to read its log: in a copy, then.
            self._copy = TemporaryDirectory(prefix='zoe_ros_')
        for file in (path, *logs):
            shutil.copyfile(file, Path(self._copy.name, file.name))
        return _connect(Path(self._copy.name, path.name), 'mode=rw')


def _connect(path: Path, how: str) -> sqlite3.Connection:
    """
    Open a database.

    :raises sqlite3.OperationalError: it cannot be opened in this way.
    """
    database = sqlite3.connect(f'{path.absolute().as_uri()}?{how}', uri=True,
                               check_same_thread=False)
    database.text_factory = lambda text: text.decode(errors='replace')
    try:
        database.execute('PRAGMA schema_version').fetchone()
    except sqlite3.OperationalError:
        database.close()
        raise
    except sqlite3.DatabaseError:
        pass    # damaged, but there is something
    return database
