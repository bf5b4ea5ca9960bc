"""Messages of bags: from bytes, with the types of ROS 2 as released."""
from __future__ import annotations

import struct
from typing import Any

from rosbags.typesys import get_typestore, Stores

from zoe_ros.errors import first_line
from zoe_ros.images import MessageError
from zoe_ros.messages import MessageTypes, pack_numpy, POSES, PoseTypes
from zoe_ros.storage import zstd

TYPESTORE = get_typestore(Stores.LATEST)
IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
# The start of a message in CDR: byte order, then the stamp of its header [s, ns].
_LITTLE_ENDIAN, _STAMP = b'\0\1\0\0', struct.Struct('<iI')
_CONTENT = len(_LITTLE_ENDIAN) + _STAMP.size

BAG_TYPES = MessageTypes(
    image=TYPESTORE.types['sensor_msgs/msg/Image'],
    compressed_image=TYPESTORE.types['sensor_msgs/msg/CompressedImage'],
    camera_info=TYPESTORE.types[INFO_TYPE],
    point_cloud=TYPESTORE.types['sensor_msgs/msg/PointCloud2'],
    point_field=TYPESTORE.types['sensor_msgs/msg/PointField'],
    pose=PoseTypes(*(TYPESTORE.types[f'geometry_msgs/msg/{name}'] for name in POSES)),
    pack=pack_numpy)


def deserialize(data: bytes, kind: str) -> Any:
    """
    Return the message in the bytes of a bag.

    :param kind: its type, such as 'sensor_msgs/msg/Image'.
    :raises MessageError: they are damaged.
    """
    try:
        # A recorder may have packed each message.
        return TYPESTORE.deserialize_cdr(
            zstd.unpack(data) if data.startswith(zstd.MAGIC) else data, kind)
    except Exception as error:  # damaged bytes surface as errors of many libraries
        raise MessageError('corrupt', f'a damaged message: {first_line(error)}') from None


class InfoDecoder:
    """
    Decodes the CameraInfo of a bag.

    Those of a camera differ in their stamps only: whatever follows the stamp is decoded once, and
    shared. A bag may hold a million.
    """

    def __init__(self) -> None:
        """Start without a CameraInfo to compare with."""
        self._content = b''
        self._info: Any = None

    def __call__(self, data: bytes, kind: str) -> Any:
        """
        Return the message.

        :raises MessageError: its bytes are damaged.
        """
        content = data[_CONTENT:] if data.startswith(_LITTLE_ENDIAN) else b''
        if not content or content != self._content:
            self._info, self._content = deserialize(data, kind), content
            return self._info
        header = self._info.header
        stamp = type(header.stamp)(*_STAMP.unpack_from(data, len(_LITTLE_ENDIAN)))
        return BAG_TYPES.camera_info(
            **{**vars(self._info), 'header': type(header)(stamp, header.frame_id)})
