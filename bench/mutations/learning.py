"""Mutations of evaluation, training and datasets."""
from mutations.mutation import Mutation

_EVALUATE = 'zoe_ros/evaluate.py'
_TRAINER = 'zoe_ros/training/trainer.py'
_BATCHES = 'zoe_ros/training/batches.py'
_OBJECTIVE = 'zoe_ros/training/objective.py'
_AUGMENT = 'zoe_ros/training/augment.py'
_DATASETS = 'zoe_ros/datasets/__init__.py'
_CANONICAL = 'zoe_ros/training/canonical.py'
_MIXTURE = 'zoe_ros/training/mixture.py'
_PUBLISHED = 'zoe_ros/datasets/published.py'
_LAYOUTS = 'zoe_ros/datasets/layouts.py'
_COMMANDS = ('test/core/test_audit_commands.py',)
_FIGURES = ('test/core/test_evaluate.py',)
_TRAINING = ('test/core/test_training.py',)
_TEST_BATCHES = 'test/core/test_training_batches.py'
_FOLDERS = ('test/core/test_evaluate_folders.py',)
_MIXED = ('test/core/test_mixture.py',)
_ZOOMED = ('test/core/test_training_canonical.py',)
_LOSS = ('test/core/test_objective.py',)
_CHOICE = 'zoe_ros/distill/choice.py'
_TEACHER = 'zoe_ros/distill/teacher.py'
_LABEL = 'zoe_ros/distill/label.py'
_PANORAMA = 'zoe_ros/world/panorama.py'
_TEXTURES = 'experiments/fetch_textures.py'
_FETCHED = ('test/test_fetch_textures.py',)
_WORLD_SKY = ('test/core/test_world_sky.py',)
_DATA = ('test/core/test_datasets_published.py',)


def _training(*names: str) -> tuple[str, ...]:
    """Return tests of test_training.py, which is slow as a whole."""
    return tuple(f'{_TRAINING[0]}::test_{name}' for name in names)


def _labels(*names: str) -> tuple[str, ...]:
    """Return tests of test_distill_labels.py."""
    return tuple(f'test/core/test_distill_labels.py::test_{name}' for name in names)


MUTATIONS = (
    Mutation('extras: a training starts without what it needs at its first save',
             'zoe_ros/distill/distill.py', "require('a training', 'train', 'matplotlib')", '',
             ('test/core/test_extras.py',)),
    Mutation('extras: the world is imported without what it needs', 'zoe_ros/cli.py',
             '    require_packages()  ', '    #', ('test/core/test_extras.py',)),
    Mutation('extras: a broken package is called missing', 'zoe_ros/extras.py',
             'except ModuleNotFoundError as error:', 'except ImportError as error:',
             ('test/core/test_extras.py',)),
    Mutation('extras: a package that a list needs is told as a damaged list', _PUBLISHED,
             '(DatasetError, PackageError) as error:\n            raise DatasetError('
             "f'{self._source.title}: {error}') from None\n        except (OSError, ValueError",
             'DatasetError as error:\n            raise DatasetError('
             "f'{self._source.title}: {error}') from None\n        except (OSError, ValueError",
             _DATA),
    Mutation('extras: a package that depth needs is told as damaged depth', _PUBLISHED,
             '(DatasetError, PackageError) as error:\n            raise DatasetError('
             "f'{self._source.title}: {error}') from None\n        except (OSError, EOFError",
             'DatasetError as error:\n            raise DatasetError('
             "f'{self._source.title}: {error}') from None\n        except (OSError, EOFError",
             _DATA),
    Mutation('sizes: a text is not checked', 'zoe_ros/inference/choices.py',
             'if min(height, width) < multiple or height % multiple or width % multiple:',
             'if False:',
             ('test/core/test_training_batches.py::test_sizes',)),
    # --- evaluation -------------------------------------------------------------------------
    Mutation('zoe eval: measures what was learnt', _EVALUATE,
             "open_datasets(settings.data, 'test', settings)",
             "open_datasets(settings.data, 'train', settings)", _COMMANDS),
    Mutation('zoe eval: --flip is ignored', _EVALUATE, 'flip=settings.flip, ', '', _COMMANDS),
    Mutation('zoe eval: --router is ignored', _EVALUATE, ', router=settings.router)', ')',
             _COMMANDS),
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
             ' and other is not source', '', _FOLDERS),
    Mutation('zoe eval: predictions on RGB-D folders are clamped', 'zoe_ros/datasets/folders.py',
             'clamps=False', 'clamps=True', _FOLDERS),
    Mutation('zoe eval: the worst image is the best', _EVALUATE, 'order[-1]', 'order[0]',
             _FOLDERS),
    Mutation('zoe eval: predictions beyond the range count as they are', _DATASETS,
             'known.clip(self.min_depth, self.max_depth) if self.clamps else known', 'known',
             _FIGURES),
    Mutation('zoe eval: a forced head has an accuracy', _EVALUATE,
             " or estimator.router != 'auto'", '', _FIGURES),
    Mutation('zoe eval: the improvement has the wrong sign', _EVALUATE,
             'relative_improvement(result.figures, before[result.dataset])',
             'relative_improvement(before[result.dataset], result.figures)', _FIGURES),
    # --- training ---------------------------------------------------------------------------
    Mutation('zoe train: learns from the held-out split', _TRAINER,
             "open_datasets(settings.data, 'train', settings)",
             "open_datasets(settings.data, 'test', settings)", _COMMANDS),
    Mutation('zoe train: measures what it learns from', _TRAINER,
             "open_datasets(settings.held_out, 'test', settings)",
             "open_datasets(settings.held_out, 'train', settings)", _COMMANDS),
    Mutation('zoe train: gradients are not clipped', _TRAINER,
             '        nn.utils.clip_grad_norm_(trained, self.settings.clip)\n', '', _COMMANDS),
    Mutation('zoe train: --repeat by the group before the source', _MIXTURE,
             'return dataset.name, dataset.group', 'return dataset.group, dataset.name', _MIXED),
    Mutation('zoe train: --up-to-scale is ignored', _OBJECTIVE, 'if not metric:', 'if False:',
             _MIXED),
    Mutation('zoe train: canonical depth is multiplied', _CANONICAL,
             'return sample.depth / np.float32(factor)',
             'return sample.depth * np.float32(factor)', _ZOOMED),
    Mutation('zoe train: a crop keeps the principal point', 'zoe_ros/datasets/files.py',
             'cx=camera.cx - start[1]', 'cx=camera.cx', _ZOOMED),
    Mutation('zoe train: the mean of the weights is not kept over a restart', _TRAINER,
             "            self.mean.load_state_dict(state['mean'])", '            pass',
             _training('a_resumed_run_equals_the_uninterrupted_one')),
    Mutation('zoe train: a dense image counts more than a sparse one',
             'zoe_ros/training/losses.py',
             'mean = torch.stack([difference.mean() for difference in differences]).mean()',
             'mean = torch.cat(differences).mean()', ('test/core/test_losses.py',)),
    Mutation('zoe train: the same augmentation in every step', _BATCHES,
             '(self._seed, step, slot)', '(self._seed, slot)', _COMMANDS),
    Mutation('zoe train: the same augmentation in every slot', _BATCHES,
             '(self._seed, step, slot)', '(self._seed, step)', _COMMANDS),
    Mutation('zoe train: the same order in every epoch', _BATCHES,
             'np.random.default_rng((seed, turn, epoch))', 'np.random.default_rng((seed, turn))',
             _COMMANDS),
    Mutation('zoe train: samples are left out', _BATCHES,
             '(step // turns) * self._batch + slot', 'step * self._batch + slot',
             (f'{_TEST_BATCHES}::test_batches_take_turns_and_cover_every_sample',)),
    Mutation('zoe train: mixed batches of odd size repeat samples', _BATCHES,
             'each = -(-self._batch // turns)', 'each = self._batch // turns',
             (f'{_TEST_BATCHES}::test_mixed_batches_of_odd_size_repeat_no_sample',)),
    Mutation('zoe train: the last steps are not kept', _TRAINER,
             ' or self.step == settings.steps', '',
             _training('held_out_datasets_count_alike')),
    Mutation('zoe train: a continued run begins the schedule again', _TRAINER,
             "        self.schedule.load_state_dict(state['schedule'])\n", '',
             _training('a_resumed_run_equals_the_uninterrupted_one')),
    Mutation('zoe train: a continued run forgets the moments', _TRAINER,
             "        self.optimizer.load_state_dict(state['optimizer'])\n", '',
             _training('a_resumed_run_equals_the_uninterrupted_one')),
    Mutation('zoe train: the metrics of several datasets are added', _TRAINER,
             'for result in results) / len(results)', 'for result in results)',
             _training('held_out_datasets_count_alike')),
    Mutation('zoe train: all parts learn', _TRAINER, '    model.requires_grad_(False)\n', '',
             _training('only_the_asked_part_learns')),
    Mutation('zoe train: the encoder learns as fast as the decoder', _TRAINER,
             'rate * recipe.encoder_factor', 'rate * recipe.decoder_factor',
             _training('learning_rates_of_the_published_configurations')),
    Mutation('zoe train: each image teaches the first head', _OBJECTIVE,
             '[model.config.head_for(domain) for domain in batch.domains]',
             '[names[0] for _ in batch.domains]', _LOSS),
    Mutation('zoe train: the weight of the router is not used', _OBJECTIVE,
             'self._routing_weight * parts', 'parts', _LOSS),
    Mutation('zoe train: depth is not mirrored with its image', _AUGMENT,
             'image[:, ::-1], depth[:, ::-1]', 'image[:, ::-1], depth',
             (f'{_TEST_BATCHES}::test_augmentation_moves_image_and_depth_alike',)),
    Mutation('zoe train: depth is blended across edges', _AUGMENT,
             'plain.rotate(angle, Image.Resampling.NEAREST)',
             'plain.rotate(angle, Image.Resampling.BILINEAR)',
             (f'{_TEST_BATCHES}::test_augmentation_makes_no_depth_between_two_surfaces',)),
    # --- datasets ---------------------------------------------------------------------------
    Mutation('datasets: a patch of near depth counts as another unit',
             'zoe_ros/datasets/__init__.py', 'float(values.max())', 'float(values.min())', _DATA),
    Mutation('datasets: depth beyond the range of the protocol', _PUBLISHED,
             '        depth[depth > self.protocol.max_depth] = np.nan\n', '', _DATA),
    Mutation("datasets: KITTI's crop from the middle", _PUBLISHED,
             'top, left = height - _KB[0], ', 'top, left = (height - _KB[0]) // 2, ', _DATA),
    Mutation('DDAD: the farthest point of a pixel', 'zoe_ros/datasets/ddad.py',
             'np.minimum.at(depth, (v[inside].astype(int), u[inside].astype(int)), z[inside])',
             'depth[v[inside].astype(int), u[inside].astype(int)] = z[inside]', _DATA),
    Mutation('DDAD: scans are turned the wrong way', 'zoe_ros/datasets/ddad.py',
             'points @ turn.T + shift', 'points @ turn + shift', _DATA),
    Mutation('Hypersim: distance as depth', _LAYOUTS,
             'return distance / np.sqrt(1 + (rays ** 2).sum(axis=-1))', 'return distance', _DATA),
    Mutation('iBims-1: transparent pixels count', _LAYOUTS, '(known > 0) & (opaque > 0)',
             'known > 0', _DATA),
    Mutation('SUN RGB-D: the low bits of depth are lost', _LAYOUTS,
             '(values >> 3) | (values << 13)', 'values >> 3', _DATA),
    Mutation('Virtual KITTI 2: tests on what was learnt', _LAYOUTS,
             "(2 * number % 25 < 2) == (split == 'test')",
             "split == 'train' or 2 * number % 25 < 2", _DATA),
    Mutation('datasets: the principal point of resized images is half a pixel off',
             'zoe_ros/datasets/files.py', '(camera.cx + 0.5) * sx - 0.5', 'camera.cx * sx', _DATA),
    Mutation('zoe world: --domain is ignored', 'zoe_ros/datasets/open.py',
             'if not domain or name == domain]', 'if domain in (*DOMAINS, "")]', _COMMANDS),
    Mutation('zoe world: trees of a panorama are sky', 'zoe_ros/world/render.py',
             'np.zeros(len(rays)))[:, 0] > 0.5', 'np.zeros(len(rays)))[:, 0] > 0', _WORLD_SKY),
    Mutation('zoe world: the panorama is turned, the map of its sky is not', _PANORAMA,
             'return replace(panorama, pyramid',
             'return replace(panorama, shift=(0, 0.5), pyramid', _WORLD_SKY),
    Mutation('zoe world: the sky has holes where clouds are', _PANORAMA,
             'sky = ~_grow(~open_sky, ~above)', 'sky = open_sky', _WORLD_SKY),
    Mutation('zoe world: the lamps of a ceiling are sky', _PANORAMA,
             'row < _ZENITH', 'above', _WORLD_SKY),
    Mutation('zoe world: gaps between leaves are the sky', _PANORAMA,
             'sky.mean() > _LEAST / 2', 'sky.any()', _WORLD_SKY),
    Mutation('zoe world: the sky ends at the edge of the panorama', _PANORAMA,
             'more = found | np.roll(found, 1, 1) | np.roll(found, -1, 1)',
             'more = found.copy()\n    more[:, 1:] |= found[:, :-1]\n'
             '    more[:, :-1] |= found[:, 1:]', _WORLD_SKY),
    Mutation('zoe world: the sky of another frame', 'zoe_ros/world/make.py',
             'renderer.sky(poses[i], camera)', 'renderer.sky(poses[0], camera)', _WORLD_SKY),
    # --- distillation -----------------------------------------------------------------------
    Mutation('zoe distill: slow motion gives no frames', _CHOICE,
             'return False\n        self._last = small',
             'self._last = small\n            return False\n        self._last = small',
             _labels('a_frame_is_compared_with_the_last_chosen_one')),
    Mutation('zoe distill: a change of exposure is a new frame', _CHOICE,
             'return (grey - grey.mean()) / max(float(grey.std()), _LEAST_CONTRAST)',
             'return grey / 50', _labels('a_camera_that_stands_still_gives_one_frame')),
    Mutation('zoe distill: pixels teach that differ in the mirror image', _TEACHER,
             '(np.abs(first - second) <= MOST_DISAGREEMENT)',
             '(np.abs(first - second) <= np.inf)',
             _labels('pixels_of_which_the_teacher_is_not_sure')),
    Mutation('zoe distill: labels ignore the lidar', _LABEL,
             'opinion = opinion.corrected(scale.correction)', 'pass',
             _labels('labels_come_to_the_scale_of_a_lidar')),
    Mutation('zoe distill: the camera of a small image is that of the large one', _LABEL,
             'None if camera is None else scaled(camera, size)', 'camera',
             _labels('large_images_are_stored_small_with_their_camera')),
    Mutation('zoe distill: labels of another teacher are used', _LABEL,
             "['teacher'] * (then.get('teacher') != teacher.identity)",
             "['teacher'] * ('teacher' not in then)",
             _labels('labels_of_another_teacher_are_refused')),
    Mutation('zoe distill: the held-out frames are learnt', 'zoe_ros/datasets/labels.py',
             'else frames[:first])', 'else frames)',
             _labels('the_last_fifth_is_held_out_and_zoe_eval_measures_it')),
    Mutation('zoe distill: the worst pixels teach', 'zoe_ros/training/losses.py',
             'WORST = 0.1', 'WORST = 0.0',
             ('test/core/test_losses.py::test_the_worst_tenth_of_an_image_teaches_nothing',)),
    Mutation('zoe distill: the router learns the likely head, not the probability', _OBJECTIVE,
             'given or {head: 1.0} for', '{head: 1.0} for', _LOSS),
    Mutation('zoe distill: the share of the world is ignored', _BATCHES,
             'math.floor(n * self._labelled)', 'n',
             (f'{_TEST_BATCHES}::test_labels_of_a_teacher_have_their_share',)),
    Mutation('zoe distill: training destroys the pretrained encoder of a new student',
             'zoe_ros/distill/student.py', '_ENCODER_ALONE if settings.encoder_weights else 0.0',
             '0.0', ('test/core/test_distill.py', '-k learns_slowly')),
    Mutation('zoe distill: a finished run of other settings counts as done',
             'zoe_ros/distill/distill.py', 'theirs, _FREE, (_INPUTS,))]',
             'theirs, _FREE, (_INPUTS,)) if name in _FREE]',
             ('test/core/test_distill.py::test_a_folder_of_another_run',)),
    Mutation('streets are rendered under the ceiling of a panorama', _TEXTURES,
             '|bridge|esplanade|', '|', _FETCHED),
    Mutation('the sun of a panorama is a blue square', _TEXTURES,
             'np.where(lost[..., None], around, light)', 'light', _FETCHED),
    Mutation('zoe eval: one source without depth hinders the others', 'zoe_ros/datasets/open.py',
             'if not with_depth:', 'if without:', ('test/core/test_router_data.py',)),
    Mutation('dark things of a panorama, far from the sun, are lost', _TEXTURES,
             'lost = beside & ', 'lost = ', _FETCHED),
)
