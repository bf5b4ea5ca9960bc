"""Mutations of what drivers, recorders and users do otherwise than the standards say."""
from mutations.mutation import Mutation

_BAG = 'zoe_ros/bag.py'
_BAGS = 'zoe_ros/datasets/bags.py'
_CAMERA_INFO = 'zoe_ros/camera_info.py'
_NAMES_OF_TOPICS = 'zoe_ros/topic_names.py'
_RANGES = 'zoe_ros/range_messages.py'
_ANCHOR = 'zoe_ros/range_anchor.py'
_BAG_ANCHOR = 'zoe_ros/bag_anchor.py'
_RECORDING = 'zoe_ros/storage/recording.py'
_REMARKS = 'zoe_ros/remarks.py'
_STREAM = 'zoe_ros/ros/camera_stream.py'
_FOLDERS = ('test/core/test_field_bag_folders.py',)
_DOUBTS = ('test/core/test_doubts.py',)
_REFUSALS = ('test/core/test_anchor_refusals.py',)
_RGBD = ('test/core/test_datasets_bags.py',)
_OF_PHOTOS = ('test/core/test_field_photos.py',)
_PAIRS = ('test/core/test_datasets_pairs.py',)
_NAMES = ('test/node/test_node_names.py',)
_FILES = ('test/node/test_node_parameter_files.py',)

MUTATIONS = (
    Mutation('photos: an animation is taken for one picture', 'zoe_ros/run.py',
             'if holds_several(photo):', 'if False:', _OF_PHOTOS),
    Mutation('mono16: depth of its topic is not read', _BAG,
             'or raw_first(filter(says_depth, readable)))', 'or [])', _RGBD),
    Mutation('mono16: what a user names is not read', _BAG,
             'if name in chosen or name in named}', 'if name in chosen}', _RGBD),
    Mutation('mono16: infrared images beside depth count as depth', _BAG,
             'raw_first(name for name in readable if is_depth(readable[name]))',
             'raw_first(name for name in readable if says_depth(name))', _RGBD),
    Mutation('remarks: images without stamps are taken without a word', _REMARKS,
             'if self._unstamped > 1:', 'if False:', _DOUBTS),
    Mutation('RGB-D bag: depth of another frame is taken without a word', _BAGS,
             '    if frame and camera:', '    if False:', _RGBD),
    Mutation('photos: a preview counts as a second picture', 'zoe_ros/photos.py',
             'return picture.size == size', 'return True', _OF_PHOTOS),
    Mutation('field: matrices of another resolution are taken without a word', _REMARKS,
             'elif off > _OFF_CENTRE:', 'elif off > 0.9:', _DOUBTS),
    Mutation('field: focal lengths of another unit are taken without a word', _REMARKS,
             'if not _NARROW < min(extents) <= max(extents) < _WIDE:',
             'if not _NARROW < min(extents):', _DOUBTS),
    Mutation('field: a camera whose centre is a little off is doubted', _REMARKS,
             '_OFF_CENTRE = 0.15', '_OFF_CENTRE = 0.05', _DOUBTS),
    Mutation('field: a region of an image is doubted', _REMARKS,
             'if info is None or camera is None or (info.width, info.height) not in (\n'
             '            (camera.width, camera.height), (0, 0)):',
             'if info is None or camera is None:', _DOUBTS),
    Mutation('field: images of 12 bits are black without a word', _REMARKS, '_DARK = 16',
             '_DARK = 8', _DOUBTS),
    Mutation('field: CameraInfo without a size gives no cloud', _CAMERA_INFO,
             'if stated != (0, 0) and size not in', 'if size not in',
             ('test/core/test_field_camera_info.py',)),
    Mutation('field: half a size is taken for none', _CAMERA_INFO, 'if stated != (0, 0) and',
             'if all(stated) and', ('test/core/test_field_camera_info.py',)),
    Mutation('field: a bag must have the suffix of its storage', _BAG,
             ' or path.name == METADATA or starts_as_storage(path))',
             ' or path.name == METADATA)', _FOLDERS),
    Mutation('field: a pipe is waited for', _RECORDING,
             'if not (isinstance(path, Path) and path.is_file()):',
             'if not isinstance(path, Path):', _FOLDERS),
    Mutation('field: files packed by zstd are not found by metadata', _RECORDING,
             "_PACKED = ('.zstd', '.zst')", "_PACKED = ('.zstd',)", _FOLDERS),
    Mutation('field: raw images of one camera hide another camera', _NAMES_OF_TOPICS,
             'if name == raw_topic(name) or raw_topic(name) not in names]',
             'if name == raw_topic(name)]', _FOLDERS),
    Mutation('field: thermal images are taken for depth', _NAMES_OF_TOPICS,
             "return 'depth' in topic.lower()", 'return True', _FOLDERS),
    Mutation('field: images without stamps are one pair', _BAGS,
             'return self.stamp or self.recorded, self.recorded',
             'return self.stamp, self.stamp', _PAIRS),
    Mutation('field: images of one stamp are paired in any order', _BAGS,
             'return self.stamp or self.recorded, self.recorded',
             'return self.stamp or self.recorded, self.stamp', _PAIRS),
    Mutation('field: a wrong row_step loses the cloud', _RANGES,
             'if step and len(data) == cloud.height * width * step:', 'if False:', _REFUSALS),
    Mutation('field: padding of clouds is read as points', _RANGES,
             'len(data) == cloud.height * width * step:',
             'len(data) >= cloud.height * width * step:', _REFUSALS),
    Mutation('field: a refused sensor is called silent', _ANCHOR,
             "if scale.reason.startswith(('silent', 'no points')):", 'if not scale.reason:',
             _REFUSALS),
    Mutation('field: transforms of another robot are used', _BAG_ANCHOR,
             "return fitting[0] if len(fitting) == 1 else ''",
             "return fitting[0] if fitting else ''", _REFUSALS),
    Mutation('field: transforms of the own robot do not count', _BAG_ANCHOR,
             'fitting = own or topics', 'fitting = topics', _REFUSALS),
    Mutation('field: CameraInfo beside the images takes the place of a named one', _STREAM,
             "'' if remapped else f'{base.rpartition", "f'{base.rpartition", _NAMES),
    Mutation('field: CameraInfo beside the images takes the place of a published one', _STREAM,
             'or not self._beside or published(self._info_input.topic)\n',
             'or not self._beside\n', _NAMES),
    Mutation('field: a topic of another type is called silent', 'zoe_ros/ros/silence.py',
             'if any(_TYPES[name] in types[name] for name in topics):',
             'if any(types[name] for name in topics):', _NAMES),
    Mutation('field: a section for no namespace is taken for one of any',
             'zoe_ros/ros/parameter_files.py', 'any(re.fullmatch(_pattern(name), node)',
             'any(re.search(_pattern(name), node)', _FILES),
    Mutation('field: two stars of a parameter file are one part', 'zoe_ros/ros/parameter_files.py',
             "'**': r'(?:/[^/]+)*'", "'**': '/[^/]+'", _FILES),
)
