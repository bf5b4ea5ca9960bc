"""The changes that bench/mutate makes, and the tests that should notice each of them."""
from typing import NamedTuple


class Mutation(NamedTuple):
    """
    One change of the package.

    :param title: the harm to a user.
    :param file: relative to the root of the repository.
    :param old: text that occurs once in it; :param new: what takes its place.
    :param tests: arguments of pytest.
    """

    title: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


_PIPELINE = 'zoe_ros/pipeline.py'
_DEPTH = 'zoe_ros/camera_depth.py'
_EVALUATE = 'zoe_ros/evaluate.py'
_TRAINER = 'zoe_ros/training/trainer.py'
_BATCHES = 'zoe_ros/training/batches.py'
_VIEW = ('test/core/test_audit_view.py',)
_COMMANDS = 'test/core/test_audit_commands.py'
_BAG_DATA = 'test/core/test_datasets_bags.py'
_NODE = 'test/node/test_audit_node.py'

MUTATIONS = (
    # --- the frame --------------------------------------------------------------------------
    Mutation('focal correction: by the camera of the first head', _PIPELINE,
             'self._config.head(net.head), self._config.image_size)',
             'self._config.metric.heads[0], self._config.image_size)',
             ('test/core/test_pipeline_depth.py::'
              'test_focal_correction_takes_the_training_camera_of_the_head',)),
    Mutation('training view: of the first head, whichever is forced', _PIPELINE,
             "self._head if settings.router == 'auto' else settings.router", 'self._head', _VIEW),
    Mutation('training view: always of the first head', _PIPELINE,
             'return tables.view(self._head if',
             'return tables.view(self._config.head_names[0] if', _VIEW),
    Mutation('training view: the last head is not remembered', _PIPELINE,
             '        self._head = net.head\n', '', _VIEW),
    Mutation('training view: always linear', _DEPTH,
             "values, settings.interpolation == 'linear')", 'values, True)', _VIEW),
    Mutation('training view: never linear', _DEPTH,
             "values, settings.interpolation == 'linear')", 'values, False)', _VIEW),
    Mutation('training view: the first one made serves all heads', 'zoe_ros/camera_tables.py',
             'if head not in self._views:', 'if not self._views:', _VIEW),
    Mutation('tables: kept over a new CameraInfo of the same size', _PIPELINE,
             'self._tables is None or self._tables.camera != camera',
             'self._tables is None or self._tables.camera.width != camera.width', _VIEW),
    Mutation('uncertainty: resized by its own edges', _DEPTH,
             'resize(values, depth, plan.padded', 'resize(values, values, plan.padded', _VIEW),
    Mutation('fisheye: projected without k3 and k4', 'zoe_ros/camera.py',
             'distorted = theta * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))',
             'distorted = theta * (1 + t2 * (k1 + t2 * k2))',
             ('test/core/test_training_camera.py',)),
    # --- evaluation -------------------------------------------------------------------------
    Mutation('zoe eval: measures what was learnt', _EVALUATE,
             "open_datasets(settings.data, 'test', settings)",
             "open_datasets(settings.data, 'train', settings)", (_COMMANDS,)),
    Mutation('zoe eval: --flip is ignored', _EVALUATE, 'flip=settings.flip, ', '', (_COMMANDS,)),
    Mutation('zoe eval: --router is ignored', _EVALUATE, ', router=settings.router)', ')',
             (_COMMANDS,)),
    Mutation('zoe eval: the Eigen crop as shares of the size', 'zoe_ros/datasets/__init__.py',
             '(slice(45, 471), slice(41, 601))',
             '(slice(45 * h // 480, 471 * h // 480), slice(41 * w // 640, 601 * w // 640))',
             ('test/core/test_evaluate.py::test_crops',)),
    Mutation('zoe eval: the mean over pixels, not over images', _EVALUATE,
             'figures, group = mean_metrics(rows, names)',
             'figures, group = mean_metrics([row for i, row in enumerate(rows) '
             'for _ in range(int(dataset[i].valid.sum()))], names)',
             ('test/core/test_evaluate.py::'
              'test_images_count_alike_whatever_their_depth_covers',)),
    Mutation('zoe eval: pixels without a prediction are passed over', _EVALUATE,
             'where = protocol.pick(sample.depth)',
             'where = protocol.pick('
             'np.where(np.isfinite(prediction.depth), sample.depth, np.nan))',
             ('test/core/test_evaluate.py::test_a_prediction_without_depth_is_an_error',)),
    Mutation('zoe eval: the baselines of a source know the source', 'zoe_ros/baselines.py',
             ' and other is not source', '', ('test/core/test_evaluate_folders.py',)),
    Mutation('zoe eval: predictions on RGB-D folders are clamped', 'zoe_ros/datasets/folders.py',
             'clamps=False', 'clamps=True', ('test/core/test_evaluate_folders.py',)),
    Mutation('zoe eval: the worst image is the best', _EVALUATE, 'order[-1]', 'order[0]',
             ('test/core/test_evaluate_folders.py',)),
    # --- bags -------------------------------------------------------------------------------
    Mutation('zoe run: results are recorded at the stamp', 'zoe_ros/run.py',
             "out.write(f'/{name}', message, image.recorded)",
             "out.write(f'/{name}', message, message.header.stamp.sec * 10**9 "
             '+ message.header.stamp.nanosec)',
             ('test/core/test_run_bags.py::test_bags_made_on_the_spot',)),
    Mutation('RGB-D bag: the last image takes a depth, not the nearest',
             'zoe_ros/datasets/bags.py', '(k not in best or gap < best[k][0])', 'True',
             (_BAG_DATA,)),
    Mutation('RGB-D bag: any image of that time of recording', 'zoe_ros/bag.py',
             'if nanoseconds(item.message.header.stamp) == stamp:', 'if stamp:', (_BAG_DATA,)),
    # --- training ---------------------------------------------------------------------------
    Mutation('zoe train: learns from the held-out split', _TRAINER,
             "open_datasets(settings.data, 'train', settings)",
             "open_datasets(settings.data, 'test', settings)", (_COMMANDS,)),
    Mutation('zoe train: measures what it learns from', _TRAINER,
             "open_datasets(settings.held_out, 'test', settings)",
             "open_datasets(settings.held_out, 'train', settings)", (_COMMANDS,)),
    Mutation('zoe train: gradients are not clipped', _TRAINER,
             '        nn.utils.clip_grad_norm_(trained, self.settings.clip)\n', '', (_COMMANDS,)),
    Mutation('zoe train: --repeat by the group before the source', 'zoe_ros/training/mixture.py',
             'return dataset.name, dataset.group', 'return dataset.group, dataset.name',
             ('test/core/test_mixture.py',)),
    Mutation('zoe train: --up-to-scale is ignored', 'zoe_ros/training/objective.py',
             'if not metric:', 'if False:', ('test/core/test_mixture.py',)),
    Mutation('zoe train: the same augmentation in every step', _BATCHES,
             '(self._seed, step, slot)', '(self._seed, slot)', (_COMMANDS,)),
    Mutation('zoe train: the same augmentation in every slot', _BATCHES,
             '(self._seed, step, slot)', '(self._seed, step)', (_COMMANDS,)),
    Mutation('zoe train: the same order in every epoch', _BATCHES,
             'np.random.default_rng((seed, turn, epoch))', 'np.random.default_rng((seed, turn))',
             (_COMMANDS,)),
    # --- the node ---------------------------------------------------------------------------
    Mutation('CameraInfo: the tolerance is not compared', 'zoe_ros/messages.py',
             'if 0 < self._tolerance < abs(stamp - nearest):', 'if False:',
             ('test/core/test_camera_info.py', f'{_NODE}::'
              'test_a_camera_info_that_is_too_old_is_not_used')),
    Mutation('node: camera_info_tolerance is ignored', 'zoe_ros/ros/camera_stream.py',
             'CameraInfoBuffer(tolerance=parameters.camera_info_tolerance)', 'CameraInfoBuffer()',
             (f'{_NODE}::test_a_camera_info_that_is_too_old_is_not_used',)),
    Mutation('node: age from publishing, not from the stamp', 'zoe_ros/ros/node.py',
             'age = (now - nanoseconds(prepared.header.stamp)) / 1e9 if now else None',
             'age = perf_counter() - begin if now else None',
             (f'{_NODE}::test_the_age_of_an_output_counts_from_the_stamp_of_its_image',)),
    Mutation("node: with policy 'every' CameraInfo runs ahead", 'zoe_ros/ros/camera_stream.py',
             "f'{self._prefix}camera_info', add_info, 10, gate)",
             "f'{self._prefix}camera_info', add_info, 10, None)",
             (f'{_NODE}::test_with_policy_every_each_image_has_its_own_camera_info',)),
)
