"""Standard output of a command, which may end before the command does."""
from __future__ import annotations

import logging
import os
import sys


class Stdout(logging.Handler):
    """
    Standard output, for log lines and results; a command goes on when it cannot be written.

    :ivar lost: text could not be written, for example because the disk is full. It stays false
        after ``zoe run ... | head``, whose reader has left.
    """

    lost = False

    def emit(self, record: logging.LogRecord) -> None:
        """Print a log record."""
        try:
            self.say(self.format(record))
        except Exception:
            self.handleError(record)

    def say(self, text: str) -> None:
        """Print at once."""
        try:
            print(text, flush=True)
        except OSError as error:
            self._discard(error)

    def _discard(self, error: OSError) -> None:
        """Send stdout nowhere from now on, also what Python would flush when it ends."""
        if not isinstance(error, BrokenPipeError):
            self.lost = True
            print(f'zoe: stdout cannot be written: {error.strerror}; the printed text is lost, '
                  'files are written all the same', file=sys.stderr)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
