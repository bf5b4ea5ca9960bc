"""Mutations of what the commands read and write: paths, lists, logs, options without effect."""
from mutations.mutation import Mutation

_MANY = 'zoe_ros/run_many.py'
_NAMED = 'zoe_ros/named_data.py'
_EVALUATE = 'zoe_ros/evaluate.py'
_SETTINGS = 'zoe_ros/settings.py'
_TRAINER = 'zoe_ros/training/trainer.py'
_IDLE = 'zoe_ros/idle_options.py'
_PLACES = 'test/core/test_command_places.py'
_LOGS = 'test/core/test_command_logs.py::test_a_log_has_no_progress_bars'
_TOLD = ('test/core/test_field_command.py', '-k options_that_do_nothing')


def _places(*names: str) -> tuple[str, ...]:
    """Return tests of test_command_places.py."""
    return tuple(f'{_PLACES}::test_{name}' for name in names)


MUTATIONS = (
    Mutation('commands: a log of zoe eval has progress bars', _EVALUATE,
             'disable=None if progress else True', 'disable=not progress', (f'{_LOGS}[eval]',)),
    Mutation('commands: a log of zoe calibrate has progress bars', 'zoe_ros/calibrate.py',
             'disable=None', 'disable=False', (f'{_LOGS}[calibrate]',)),
    Mutation('commands: a log of a training does not tell its loss', _TRAINER,
             "if name in ('loss', *_MEASURED)", 'if name in _MEASURED', (f'{_LOGS}[train]',)),
    Mutation('commands: results go into a folder named ~', _SETTINGS,
             'expanduser(str(value))', 'value', _places('an_output_is_a_folder_that_is_named')),
    Mutation('commands: an empty output is this folder', _SETTINGS,
             'if not value:', 'if False:', _places('an_output_is_a_folder_that_is_named')),
    Mutation('commands: an empty path is this folder', 'zoe_ros/cli.py',
             'if not text:', 'if False:', _places('an_empty_path_is_not_this_folder')),
    Mutation('commands: what cannot be the output is told after hours of work', _EVALUATE,
             '    check_output(Path(settings.output))\n', '',
             _places('an_output_that_cannot_be_is_told_before_the_work')),
    Mutation('many: what cannot be the output is told after hours of work', 'zoe_ros/run_table.py',
             '        check_output(self.path.parent)\n', '',
             _places('an_output_that_cannot_be_is_told_before_the_work')),
    Mutation('commands: a link to nowhere counts as a place for results', 'zoe_ros/results.py',
             'os.path.lexists(place)', 'place.exists()',
             _places('an_output_that_cannot_be_is_told_before_the_work')),
    Mutation('many: from another working folder a finished bag is run again', _MANY,
             '.resolve().joinpath(*path.parts[last:])', '.joinpath(*path.parts[last:])',
             _places('a_bag_has_one_name')),
    Mutation('many: the metadata of a bag are another bag', _MANY,
             'if path.name == METADATA:', 'if False:', _places('a_bag_has_one_name')),
    Mutation('many: results of a file that is gone are not found', _MANY,
             'if isinstance(data, Path) and data.exists()', 'if isinstance(data, Path)',
             _places('results_outlive_a_bag_that_is_a_file')),
    Mutation('many: results become data', _MANY, 'sorted(found - own', 'sorted(found',
             _places('results_among_the_data_are_no_data')),
    Mutation('many: photographs beside their results are left out', _MANY,
             ' and not find_photos(path)[0]', '',
             _places('photographs_beside_their_results_are_data')),
    Mutation('many: a list that names itself never ends', _NAMED,
             'if text in lists:', 'if False:', _places('lists_that_are_none')),
    Mutation('many: a file whose name begins with @ is a list', _NAMED,
             'text.startswith(LIST) and not Path(text).exists()', 'text.startswith(LIST)',
             _places('a_name_may_look_like_a_list')),
    Mutation('many: a pattern gives any order', _NAMED, 'sorted(glob.glob(', 'reversed(glob.glob(',
             _places('data_may_be_a_pattern_or_a_list')),
    Mutation('many: a list may name another machine', _NAMED, '        refuse_address(text)\n',
             '        pass\n', _places('data_that_is_not_named')),
    Mutation('train: held-out data cannot be a pattern', 'zoe_ros/cli.py',
             "_DATA = 'data', 'held_out'", "_DATA = 'data',",
             _places('data_that_is_not_named')),
    Mutation('eval: of two videos of one name none is known', 'zoe_ros/temporal.py',
             'zip(told_apart([path.stem for path in paths]), paths)',
             'zip([path.stem for path in paths], paths)',
             _places('videos_of_one_name_are_told_apart')),
    Mutation('eval: of two bags of one name only one has a picture', 'zoe_ros/results.py',
             "f'{name} ({names[:place].count(name) + 1})'", 'name',
             _places('bags_of_one_name_are_told_apart')),
    Mutation('eval: a mistake in --against is told after hours of work',
             'zoe_ros/evaluate_fleet.py',
             'evaluate.reference(settings, names)', 'None',
             _places('what_an_evaluation_cannot_use_is_told_first')),
    Mutation('eval: a topic is ignored where there is no bag', _EVALUATE,
             '    require_bag_for_topics(settings.data, settings)\n', '',
             _places('what_an_evaluation_cannot_use_is_told_first')),
    Mutation('temporal: a depth topic that is not there ends with a traceback',
             'zoe_ros/temporal.py', 'choose_depth(path, bag, settings.depth_topic)',
             'settings.depth_topic', _places('a_depth_topic_that_a_video_lacks')),
    Mutation('world: --scenes of a bag is ignored', 'zoe_ros/command_settings.py',
             'if self.bag and unused:', 'if False:', _places('a_bag_of_the_world_is_one_scene')),
    Mutation('train: images of another domain end the run in its middle', _TRAINER,
             "and settings.routing != 'auto' and others:", 'and False:',
             _places('parts_that_would_not_learn')),
    Mutation('run: options of an anchor are ignored without one', _IDLE,
             'if not settings.anchors():', 'if False:', _TOLD),
    Mutation('run: a topic that steadies the scale is said to do nothing', _IDLE,
             'if not settings.follows_robot():', 'if not settings.anchors():', _TOLD),
    Mutation('run: the size of depth of photographs is ignored', _IDLE,
             "('output_size', 'output_decimation',", '(', _TOLD),
)
