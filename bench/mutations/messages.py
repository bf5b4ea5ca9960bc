"""Mutations of what comes in: encodings of images, and CameraInfo."""
from mutations.mutation import Mutation

_IMAGES = 'zoe_ros/images.py'
_COLORS = 'zoe_ros/color_spaces.py'
_CAMERA_INFO = 'zoe_ros/camera_info.py'
_FIELD = ('test/core/test_field_images.py',)
_BRIDGE = ('test/core/test_cv_bridge.py',)
_DEPTHS = ('test/core/test_datasets_bags.py',)
_INFO = ('test/core/test_field_camera_info.py',)

MUTATIONS = (
    Mutation('16 bits: big-endian images are noise', _IMAGES,
             "'>u2' if message.is_bigendian else '<u2'", "'<u2'", _BRIDGE),
    Mutation('16 bits: cut to 8, not rounded', _IMAGES, ' * 255 + 32767)', ' * 255)', _BRIDGE),
    Mutation('8UC3: red and blue are mixed up', _IMAGES,
             "'8UC3': (1, 3, (2, 1, 0))", "'8UC3': (1, 3, (0, 1, 2))",
             ('test/core/test_messages.py',)),
    Mutation('NV12: the colours of padded rows are taken from elsewhere', _IMAGES,
             'data[height * step:height * step + chroma_height',
             'data[height * width:height * width + chroma_height', _FIELD),
    Mutation('NV12: colours without the padding of their rows', _IMAGES,
             'height // rows, step * 2 // columns', 'height // rows, width * 2 // columns',
             _FIELD),
    Mutation('compressed mosaics: a picture in colour is taken for one', _IMAGES,
             "raw in _MOSAICS and picture in ('', raw)", 'raw in _MOSAICS', _FIELD),
    Mutation('compressed depth as a photograph', _IMAGES, ' or encoding in _DEPTHS', '', _FIELD),
    Mutation('depth: 65535 mm is a wall', _IMAGES,
             "far = 65.535 if values.dtype.kind == 'u' else np.inf", 'far = np.inf', _DEPTHS),
    Mutation('mosaics: a difference of rounding to cv_bridge', _COLORS,
             'in_row, in_column = (beside + 1) >> 1', 'in_row, in_column = beside >> 1', _BRIDGE),
    Mutation('mosaics: bright pixels of 16 bits wrap', _COLORS, 'else np.uint32', 'else np.uint16',
             _BRIDGE),
    Mutation('mosaics: the frame around small images is not filled', _COLORS,
             'if height > 2 and width > 2:', 'if height > 3 and width > 3:', _FIELD),
    Mutation('mosaics: two patterns are mixed up', _COLORS,
             "'bayer_grbg': (0, 1), 'bayer_gbrg': (1, 0)",
             "'bayer_grbg': (1, 0), 'bayer_gbrg': (0, 1)", _BRIDGE),
    Mutation('yuv422_yuy2: U and V are mixed up', _COLORS,
             "'yuv422_yuy2': (0, 1, 3)", "'yuv422_yuy2': (0, 3, 1)", _FIELD),
    Mutation('YUV: colours drift where Y is below 16', _COLORS, 'np.maximum(y, 16)', 'y.copy()',
             _FIELD),
    # --- CameraInfo -------------------------------------------------------------------------
    Mutation('CameraInfo: the tolerance is not compared', _CAMERA_INFO,
             'if 0 < self._tolerance < abs(stamp - nearest):', 'if False:',
             ('test/core/test_camera_info.py', 'test/node/test_audit_node.py::'
              'test_a_camera_info_that_is_too_old_is_not_used')),
    Mutation('CameraInfo: the next one, not the last one', _CAMERA_INFO,
             'max(bisect_right(stamps, stamp) - 1, 0)',
             'min(bisect_right(stamps, stamp), len(stamps) - 1)', _INFO),
    Mutation('CameraInfo: stamps that go back are not found', _CAMERA_INFO,
             'self._unsorted.add(frame)', 'pass', _INFO),
    Mutation('CameraInfo: one that is sent again is the first forgotten', _CAMERA_INFO,
             '            self._by_key.move_to_end(key)\n', '',
             ('test/core/test_camera_info.py',)),
    Mutation('CameraInfo: of an unknown frame among several', _CAMERA_INFO,
             'return known[0] if len(known) == 1 and self._other_frames else None',
             'return known[0] if self._other_frames else None', _INFO),
    Mutation('region: its offset is turned', _CAMERA_INFO,
             'matrix[0, 2] -= x\n        matrix[1, 2] -= y',
             'matrix[0, 2] -= y\n        matrix[1, 2] -= x', _INFO),
    Mutation('binning: an odd last row does not fit', _CAMERA_INFO,
             '(height // rows, -(-height // rows))', '(height // rows,)', _INFO),
)
