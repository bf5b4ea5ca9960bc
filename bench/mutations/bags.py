"""Mutations of bags and runs: storage files, topics, results."""
from mutations.mutation import Mutation

_BAG = 'zoe_ros/bag.py'
_BYTES = 'zoe_ros/bag_messages.py'
_RECORDING = 'zoe_ros/storage/recording.py'
_SQLITE = 'zoe_ros/storage/sqlite.py'
_MCAP = 'zoe_ros/storage/mcap.py'
_RUN = 'zoe_ros/run.py'
_FIELD = ('test/core/test_field_bags.py', 'test/core/test_field_bag_folders.py')
_READ = ('test/core/test_bag.py',)
_INFO = ('test/core/test_field_camera_info.py',)
_RUN_BAGS = ('test/core/test_run_bags.py',)
_BAD = ('test/core/test_run_bad_input.py',)

MUTATIONS = (
    # --- files ------------------------------------------------------------------------------
    Mutation('folder without metadata: run_10 comes before run_9', _RECORDING,
             "(0, int(part), '') if part.isdigit() else (1, 0, part)", '(1, 0, part)', _FIELD),
    Mutation('metadata: how many messages it announces is not used', _RECORDING,
             'max(held, self._announced.get(topic, 0))', 'held', _FIELD),
    Mutation('metadata: a missing file is not told', _RECORDING,
             'for name, file in zip(names, files) if not file]',
             'for name, file in zip(names, files) if not name]', _FIELD),
    Mutation('metadata: files that were packed since are not found', _RECORDING,
             '(name, _unpacked_name(name), *(name + suffix for suffix in _PACKED))', '(name,)',
             _FIELD),
    Mutation('metadata: one missing file makes it useless', _RECORDING,
             'if not any(files) and present:', 'if not all(files) and present:', _FIELD),
    Mutation('metadata: of a topic named twice the last count holds', _RECORDING,
             'announced.get(topic, 0) + int(', '0 + int(', _FIELD),
    Mutation('SQLite: a journal is not rolled back', _SQLITE, "('-wal', '-journal')", "('-wal',)",
             _FIELD),
    Mutation('SQLite: in the order of writing, not of recording', _SQLITE,
             "('messages', 'timestamp, id')", "('messages', 'id')", _READ),
    Mutation('SQLite: a cut file is read by its index', _SQLITE, "'messages NOT INDEXED'",
             "'messages'", _FIELD),
    Mutation('MCAP: damaged chunks pass', _MCAP,
             'if checksum and crc32(records) != checksum:', 'if False:',
             _READ),
    Mutation('MCAP: chunks in the order of the file', _MCAP,
             'sorted(self._chunks, key=lambda chunk: chunk.start)', 'self._chunks', _FIELD),
    Mutation('MCAP: messages without a chunk in the order of the file', _MCAP,
             'in sorted(self._loose) if channel', 'in self._loose if channel', _FIELD),
    Mutation('MCAP: counts twice as many messages', _MCAP, 'chunk.counts[channel] += 1',
             'chunk.counts[channel] += 2', _FIELD),
    Mutation('MCAP: channels that only a chunk names are not found', _MCAP,
             '                    self._note(kind, bytes(content))', '                    pass',
             _FIELD),
    # --- topics -----------------------------------------------------------------------------
    Mutation('CameraInfo: not found beside compressed images', 'zoe_ros/topic_names.py',
             '    topic = raw_topic(topic)\n', '', _INFO),
    Mutation('CameraInfo: of another camera elsewhere in the bag', _BAG,
             'other_frames=self.info_topic in info_topics_of(self.topic))', 'other_frames=True)',
             _INFO),
    Mutation('CameraInfo: only the last thirty', _BAG, 'capacity=None, other_frames',
             'other_frames', _READ),
    Mutation('CameraInfo: any of several that fit', _BAG,
             'return fitting[0] if len(fitting) == 1 else None',
             'return fitting[0] if fitting else None', _INFO),
    Mutation('bag: images that are missing are not told', _BAG,
             'if defects or given < self.count:', 'if defects:', _FIELD),
    Mutation('bag: packed messages are damaged', _BYTES,
             'zstd.unpack(data) if data.startswith(zstd.MAGIC) else data', 'data', _FIELD),
    Mutation('bag: Ctrl-C while it is written is lost', 'zoe_ros/bag_writer.py',
             '        if waiting:\n            signal.raise_signal(signal.SIGINT)\n', '', _READ),
    Mutation('RGB-D bag: the last image takes a depth, not the nearest',
             'zoe_ros/datasets/bags.py', '(k not in best or gaps[k] < best[k][0])', 'True',
             ('test/core/test_datasets_bags.py',)),
    Mutation('RGB-D bag: only the depth after an image', 'zoe_ros/datasets/bags.py',
             'for k in (right - 1, right) if', 'for k in (right,) if',
             ('test/core/test_datasets_bags.py',)),
    Mutation('RGB-D bag: any image of that time of recording', _BAG,
             'if nanoseconds(item.message.header.stamp) == stamp:', 'if stamp:',
             ('test/core/test_datasets_bags.py',)),
    # --- results ----------------------------------------------------------------------------
    Mutation('zoe run: results are recorded at the stamp', 'zoe_ros/bag_writer.py',
             "self.write(f'/{name}', message, recorded)",
             "self.write(f'/{name}', message, message.header.stamp.sec * 10**9 "
             '+ message.header.stamp.nanosec)',
             ('test/core/test_run_bags.py::test_bags_made_on_the_spot',)),
    Mutation('zoe run: kitchen.jpg and kitchen.png share a result', _RUN,
             "f'{photo.name}.depth.npy'", "f'{photo.stem}.depth.npy'", ('test/core/test_run.py',)),
    Mutation('zoe run: depth of another size ends the run', 'zoe_ros/results.py',
             'if depth.shape != truth.shape:', 'if False:', _RUN_BAGS),
    Mutation('zoe run: an interrupted run is complete', _RUN, 'report.write(complete=False)',
             'report.write(complete=True)', _BAD),
    Mutation('zoe run: a bag of bad images only is a success', _RUN,
             'if not report.statistics.frames:', 'if False:', _BAD),
    Mutation('whole files: the unfinished one stays', 'zoe_ros/files.py',
             '            part.unlink()\n', '            pass\n',
             ('test/core/test_field_command.py',)),
    Mutation('bag: CameraInfo of another content are taken for the same', _BYTES,
             'if not content or content != self._content:',
             'if not content or not self._content:', _READ),
    Mutation('bag: CameraInfo of the other byte order are taken for the same', _BYTES,
             " if data.startswith(_LITTLE_ENDIAN) else b''", '', _READ),
    Mutation('bag: CameraInfo keep the stamp of the first', _BYTES,
             'type(header)(stamp, header.frame_id)', 'header', _READ),
    Mutation('zoe: lost output is a success', 'zoe_ros/cli.py',
             'return 2 if stdout.lost else 0', 'return 0', ('test/core/test_field_command.py',)),
    Mutation('zoe: a lost help text is a success', 'zoe_ros/cli.py',
             '            self.exit(2)\n', '            pass\n',
             ('test/core/test_field_command.py',)),
)
