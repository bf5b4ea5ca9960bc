"""Whether the messages of a sensor keep up with the images of a camera, by their stamps."""
from __future__ import annotations

BACK = 1_000_000_000    # stamps of images that go back so far begin another recording [ns]


class Pace:
    """
    Compares the stamps of a sensor's messages with those of the images, all in nanoseconds.

    :ivar newest: stamp of the last message, None before the first one of a recording.
    """

    def __init__(self) -> None:
        """Start without an image and without a message."""
        self.newest: int | None = None
        self._image: int | None = None
        self._ended: int | None = None      # last image before a bag started again

    def image(self, stamp: int) -> None:
        """Remember that an image has come."""
        before, self._image = self._image, stamp
        if before is not None and stamp < before - BACK:
            self._ended = before
            if self.newest is not None and self._is_of_the_end(self.newest):
                self.newest = None

    def hear(self, stamp: int) -> None:
        """Remember a message, unless it belongs to the end of a bag that has started again."""
        if not self._is_of_the_end(stamp):
            self._ended, self.newest = None, stamp

    def is_behind(self, slack: int = 0) -> bool:
        """Tell whether a message that is as new as the last image is still to come."""
        return self._image is not None and (
            self.newest is None or self.newest < self._image - slack)

    def _is_of_the_end(self, stamp: int) -> bool:
        return (self._ended is not None and self._image is not None
                and abs(stamp - self._ended) < abs(stamp - self._image))
