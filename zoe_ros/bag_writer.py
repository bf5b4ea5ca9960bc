"""Writes rosbags without ROS."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
import shutil
import signal
from threading import current_thread, main_thread
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer

from zoe_ros.bag_messages import BAG_TYPES, TYPESTORE
from zoe_ros.camera import Camera
from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS, SCALE
from zoe_ros.pipeline import Frame


class BagWriter:
    """
    Writes a rosbag2 folder with MCAP storage; a context manager.

    The folder takes its name when the bag is finished, until then ``.part`` is behind the name.
    However the context is left, what was written so far is a complete, readable bag; unless the
    disk is full, which an OSError tells.

    :ivar outputs: of a frame that belong into a bag.
    """

    outputs = (DEPTH, CAMERA_INFO, POINTS, SCALE)

    def __init__(self, path: Path) -> None:
        """
        Create the folder ``path``, which must not exist.

        :raises FileExistsError: it exists.
        """
        if path.exists():
            raise FileExistsError(f'{path} exists, and a bag is never overwritten')
        self._path, self._part = path, path.with_name(path.name + '.part')
        self._connections: dict[str, Any] = {}
        self._failed = False
        with self._named_errors():
            if self._part.exists():     # of a process that was killed
                shutil.rmtree(self._part)
            # A folder within a folder, because the files in it bear its name. Version 8 of the
            # metadata is the last that Iron reads; newer ROS read it as well.
            self._writer = Writer(
                self._part / path.name, version=8, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()

    def __enter__(self) -> BagWriter:
        """Return self; the bag is open already."""
        return self

    def __exit__(self, *error: object) -> None:
        """Finish the bag, also after an error: rosbags' own context manager would abandon it."""
        with uninterrupted():
            if self._failed:    # what follows half of a record could not be read
                with suppress(OSError):
                    self._writer.abort()
                return
            with self._named_errors():
                self._writer.close()
                (self._part / self._path.name).rename(self._path)
                self._part.rmdir()

    def write(self, topic: str, message: Any, recorded: int) -> None:
        """Write a message of :data:`BAG_TYPES` with its time of recording [ns]."""
        kind = message.__msgtype__
        self.write_bytes(topic, kind, TYPESTORE.serialize_cdr(message, kind), recorded)

    def write_bytes(self, topic: str, kind: str, data: bytes | memoryview, recorded: int) -> None:
        """
        Write a message that is serialized already.

        :param kind: its type; :param data: its CDR; :param recorded: time of recording [ns].
        """
        with uninterrupted(), self._named_errors():
            if topic not in self._connections:
                self._connections[topic] = self._writer.add_connection(
                    topic, kind, typestore=TYPESTORE)
            self._writer.write(self._connections[topic], recorded, data)

    def write_frame(self, frame: Frame, recorded: int) -> None:
        """Write all outputs of a frame, with the time of recording of its image [ns]."""
        for name, message in frame.messages.items():
            self.write(f'/{name}', message, recorded)

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._failed = True
            raise OSError(f'{self._path} cannot be written: {error.strerror or error}; '
                          f'"mcap recover" saves what is in {self._part}') from None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait for the end of a record: half of one would spoil the bag."""
    if current_thread() is not main_thread():
        yield
        return
    waiting: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if waiting:
            signal.raise_signal(signal.SIGINT)


def stamped(stamp: int, frame: str) -> Any:
    """Return a std_msgs/Header; ``stamp`` in nanoseconds."""
    time = TYPESTORE.types['builtin_interfaces/msg/Time'](
        sec=stamp // 10 ** 9, nanosec=stamp % 10 ** 9)
    return TYPESTORE.types['std_msgs/msg/Header'](stamp=time, frame_id=frame)


def info_from_camera(camera: Camera, header: Any) -> Any:
    """Return the CameraInfo of a camera, which is not rectified by it."""
    k = np.array([camera.fx, 0, camera.cx, 0, camera.fy, camera.cy, 0, 0, 1], np.float64)
    p = np.insert(k, (3, 6, 9), 0.0)
    roi = TYPESTORE.types['sensor_msgs/msg/RegionOfInterest'](
        x_offset=0, y_offset=0, height=0, width=0, do_rectify=False)
    return BAG_TYPES.camera_info(
        header=header, height=camera.height, width=camera.width, distortion_model=camera.model,
        d=np.array(camera.distortion, np.float64), k=k, r=np.eye(3).ravel(), p=p, binning_x=0,
        binning_y=0, roi=roi)
