"""Mutations of the ROS node."""
from mutations.mutation import Mutation

_STREAM = 'zoe_ros/ros/camera_stream.py'
_INPUT = 'zoe_ros/ros/image_input.py'
_SUBSCRIPTION = 'zoe_ros/ros/subscription.py'
_SILENCE = 'zoe_ros/ros/silence.py'
_WORKER = 'zoe_ros/ros/worker.py'
_DIAGNOSTICS = 'zoe_ros/ros/diagnostics.py'
_PARAMETERS = 'zoe_ros/ros/parameters.py'
_NODE = 'test/node/test_audit_node.py'
_COUNTS = ('test/node/test_diagnostics.py',)
_MAILBOX = ('test/core/test_worker.py',)
_SLOW = ('test/node/test_node_slow.py',)
_VIEWS = ('test/node/test_node_views.py',)
_FOLLOWS = 'test/node/test_node_follows.py'
_RATES = 'test/node/test_node_parameters.py'
_BETWEEN = (f'{_RATES}::'
            'test_an_image_between_two_clouds_is_not_computed_unless_something_learns_from_it')

MUTATIONS = (
    Mutation('clouds: a camera without stamps gets one cloud', 'zoe_ros/ros/camera_stream.py',
             'return nanoseconds(header.stamp) or monotonic_ns()',
             'return nanoseconds(header.stamp)',
             ('test/node/test_node_parameters.py::'
              'test_clouds_of_a_camera_without_stamps_go_by_the_time',)),
    # --- topics -----------------------------------------------------------------------------
    Mutation('node: camera_info_tolerance is ignored', _STREAM,
             'CameraInfoBuffer(tolerance=parameters.camera_info_tolerance)', 'CameraInfoBuffer()',
             (f'{_NODE}::test_a_camera_info_that_is_too_old_is_not_used',)),
    Mutation('node: age from publishing, not from the stamp', 'zoe_ros/ros/node.py',
             'age = (now - nanoseconds(header.stamp)) / 1e9 if now else None',
             'age = 0.1 if now else None',
             (f'{_NODE}::test_the_age_of_an_output_counts_from_the_stamp_of_its_image',)),
    Mutation('node: frames of the end of a bag are younger than new', 'zoe_ros/ros/node.py',
             'return None if simulated and age is not None and age < 0 else age',
             'return age',
             ('test/node/test_node_sim_time.py::test_a_frame_of_before_a_jump_back_has_no_age',)),
    Mutation("node: with policy 'every' CameraInfo runs ahead", _STREAM,
             'self._node, CameraInfo, topic, add_info, 10, info_gate)',
             'self._node, CameraInfo, topic, add_info, 10, None)',
             (f'{_NODE}::test_with_policy_every_each_image_has_its_own_camera_info',)),
    Mutation('node: no cloud after a bag has started again', _STREAM,
             'and 0 <= now - self._last_cloud < 1e9 / rate',
             'and now - self._last_cloud < 1e9 / rate',
             (f'{_RATES}::test_clouds_come_at_most_as_often_as_they_may_by_the_stamps',)),
    Mutation('node: a lost image uses up the turn of a cloud', _STREAM,
             '            wanted.remove(POINTS)\n        return wanted if',
             '            wanted.remove(POINTS)\n        elif POINTS in wanted:\n'
             '            self._last_cloud = now\n        return wanted if',
             (f'{_RATES}::test_a_lost_image_does_not_use_up_the_turn_of_a_cloud',)),
    Mutation('node: images between two clouds are computed for nothing', _STREAM,
             'return wanted if wanted or self._learns else None', 'return wanted', (_BETWEEN,)),
    Mutation('node: an anchor sees the images with a cloud alone', _STREAM,
             'anchor is not None or parameters.scale_time_constant > 0',
             'parameters.scale_time_constant > 0', (_BETWEEN,)),
    Mutation('node: the steady scale sees the images with a cloud alone', _STREAM,
             'anchor is not None or parameters.scale_time_constant > 0', 'anchor is not None',
             (_BETWEEN,)),
    Mutation('node: compressed images are preferred', _INPUT, 'chosen = published[0]',
             'chosen = published[-1]',
             (f'{_FOLLOWS}::test_raw_images_are_preferred_and_the_change_is_logged',)),
    Mutation('node: a camera that publishes both is taken twice', _INPUT,
             '            if len(self._open) > 1:\n                self._choose()\n'
             '            if name in self._open:\n                self._callback(message)',
             '            self._callback(message)',
             (f'{_FOLLOWS}::test_a_camera_that_publishes_both_is_taken_once',)),
    Mutation('node: raw images of a topic that ends in /compressed', _INPUT,
             "if transport == 'raw' or not resolved", 'if not resolved',
             (f'{_FOLLOWS}::test_raw_images_may_have_a_topic_that_ends_in_compressed',)),
    Mutation('node: reliable if one of several publishers is', _SUBSCRIPTION,
             'reliable = all(', 'reliable = any(',
             ('test/node/test_node_qos.py::'
              'test_a_reliable_and_a_best_effort_publisher_are_both_heard',)),
    Mutation('node: never transient local', _SUBSCRIPTION,
             'durability = _LATCHED if latched else _VOLATILE', 'durability = _VOLATILE',
             (f'{_FOLLOWS}::test_a_camera_info_that_was_sent_once_arrives',)),
    Mutation('node: a durability that a user sets is changed', _SUBSCRIPTION,
             'self._follows_durability = self._qos.durability == _OPEN_DURABILITY',
             'self._follows_durability = True',
             (f'{_FOLLOWS}::test_a_durability_that_a_user_chooses_stands',)),
    Mutation('silence: names what it subscribes to as the other transport', _SILENCE,
             'other = [topic for topic, name in found.items() if name not in topics]',
             'other = [topic for topic, name in found.items() if name in topics]',
             (f'{_FOLLOWS}::test_images_of_the_other_transport_are_named',)),
    Mutation('silence: a clock at zero has no publisher', _SILENCE,
             "if node.count_publishers(topic):\n        return f'use_sim_time",
             "if not node.count_publishers(topic):\n        return f'use_sim_time",
             ('test/node/test_node_sim_time.py::test_a_clock_that_stands_at_zero_is_told',)),
    Mutation('views: two drivers on one topic of CameraInfo are not told', 'zoe_ros/remarks.py',
             'pairwise(left))', 'pairwise(left[9:]))', ('test/core/test_views.py',)),
    Mutation('views: a zoom is taken for two drivers', 'zoe_ros/remarks.py',
             'sum(views[k].same_view(views[i - 1]) for i, k', 'sum(1 for i, k',
             ('test/core/test_views.py',)),
    Mutation('diagnostics: two drivers on one topic of CameraInfo are not told', _DIAGNOSTICS,
             "return DiagnosticStatus.WARN, f'the view changes: {alternating}'", 'pass', _VIEWS),
    # --- the worker -------------------------------------------------------------------------
    Mutation('worker: replaced images are not counted', _WORKER,
             'replaced = sender in self._items', 'replaced = False', _MAILBOX),
    Mutation('worker: one camera fills the slots of all', _WORKER,
             'return sender not in self._items', 'return not self._items', _MAILBOX),
    Mutation('worker: room is told only after the work', _WORKER,
             '        self._on_room()\n        self._work(items)',
             '        self._work(items)\n        self._on_room()', _MAILBOX),
    Mutation('worker: a stopped one has always ended', _WORKER,
             '            self._thread.join(timeout)\n        return not self._thread.is_alive()',
             '            self._thread.join(timeout)\n        return True', _MAILBOX),
    Mutation('worker: what waits is not forgotten', _WORKER,
             'self._items.clear()', 'pass', _MAILBOX),
    Mutation('worker: a rest does not wait', _WORKER,
             'return self._changed.wait_for(lambda: not self._working, timeout)', 'return True',
             _MAILBOX),
    Mutation('node: each activation has a thread of its own', 'zoe_ros/ros/node.py',
             '        self._worker.start()\n',
             '        self._worker = Worker(self._process, self._wake)\n'
             '        self._worker.start()\n', _SLOW),
    Mutation('node: a model is loaded while the last one is at work', 'zoe_ros/ros/node.py',
             'if not self._worker.rest(_FRAME_PATIENCE):', 'if False:', _SLOW),
    Mutation('node: a frame of before a deactivation is published', 'zoe_ros/ros/node.py',
             'for (stream, pipeline, prepared), result in zip(batch, results):\n',
             'for (stream, _, prepared), result in zip(batch, results):\n'
             '            pipeline = stream.pipeline\n', _SLOW),
    # --- diagnostics ------------------------------------------------------------------------
    Mutation('diagnostics: an error stands for ever', _DIAGNOSTICS,
             '            self._failing = False\n            self._not_made',
             '            self._not_made', _COUNTS),
    Mutation('diagnostics: cameras and anchors of before the cleanup stay', 'zoe_ros/ros/node.py',
             '        self._stats.restart()\n', '',
             ('test/node/test_node_again.py',)),
    Mutation('diagnostics: a restart forgets that frames fail', _DIAGNOSTICS,
             '            self._heads: dict[str, str] = {}\n',
             '            self._heads: dict[str, str] = {}\n            self._failing = False\n',
             _COUNTS),
    Mutation('diagnostics: another percentile than it says', _DIAGNOSTICS,
             'np.percentile(seconds, (50, 95))', 'np.percentile(seconds, (50, 99))', _COUNTS),
    Mutation('diagnostics: older images that were dropped are damaged ones', _DIAGNOSTICS,
             "sum(n for cause, n in self._dropped.items() if cause != 'newer')",
             'sum(n for cause, n in self._dropped.items())', _COUNTS),
    Mutation('diagnostics: rates of all periods together', _DIAGNOSTICS,
             '                **facts}\n            self._clear()', '                **facts}',
             _COUNTS),
    Mutation('diagnostics: an output that nobody wants is missing', _DIAGNOSTICS,
             'if text and camera in listening)', 'if text)', _COUNTS),
    Mutation('diagnostics: a camera of several is silent unseen', _DIAGNOSTICS,
             'silent = [camera for camera in listening if not self._received[camera]]',
             'silent = [] if self._received else list(listening)', _COUNTS),
    # --- parameters, transport --------------------------------------------------------------
    Mutation('parameters: the model is changed without effect', _PARAMETERS,
             "if configured and name in kinds and not kinds[name]['runtime']:", 'if False:',
             (f'{_RATES}::test_what_is_read_at_configure_cannot_change_afterwards',)),
    Mutation('parameters: a bare n means no', _PARAMETERS,
             "if values['variant'] is False:", 'if False:',
             ('test/node/test_node_start.py::test_a_bare_n_on_the_command_line_means_the_variant',
              )),
    Mutation('parameters: two cameras of one name', _PARAMETERS,
             ' or len(set(self.cameras)) < len(self.cameras)', '',
             ('test/core/test_parameters.py',)),
    Mutation('parameters: a misspelled name is only told', _PARAMETERS, 'if nearest:', 'if False:',
             ('test/node/test_node_parameter_kinds.py::test_a_slip_in_a_name_is_refused',)),
    Mutation('transport: a transport of the user is overruled', 'zoe_ros/ros/transport.py',
             "(*_NAMES, 'FASTDDS_BUILTIN_TRANSPORTS')", '_NAMES',
             ('test/node/test_node_transport.py::test_any_choice_of_the_user_is_seen',)),
    Mutation('transport: Jazzy reads another name', 'zoe_ros/ros/transport.py',
             "('humble', 'iron', 'jazzy')", "('humble', 'iron')",
             ('test/node/test_node_transport.py::'
              'test_the_name_is_the_one_that_the_distribution_reads',)),
)
