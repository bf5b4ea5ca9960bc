"""Mutations of the estimator: threads, choice of the head, sizes, mirrored passes."""
from mutations.mutation import Mutation

_THREADS = 'zoe_ros/inference/threads.py'
_ROUTING = 'zoe_ros/inference/routing.py'
_ENGINE = 'zoe_ros/inference/engine.py'
_PREPROCESS = 'zoe_ros/inference/preprocess.py'
_TEST_THREADS = 'test/core/test_threads.py'
_BUDGET = (_TEST_THREADS, '--deselect', f'{_TEST_THREADS}::'
           'test_depth_does_not_depend_on_the_number_of_threads', '--deselect',
           f'{_TEST_THREADS}::test_the_full_model_does_not_depend_on_the_number_of_threads')
_TEST_ROUTING = ('test/core/test_routing.py',)
_TEST_ENGINE = ('test/core/test_engine.py',)
_TEST_SIZES = ('test/core/test_preprocess.py',)

MUTATIONS = (
    # --- threads ----------------------------------------------------------------------------
    Mutation('threads: the limit of a container is not kept', _THREADS,
             'min(left, quota())', 'left',
             _BUDGET),
    Mutation('threads: the own use counts as that of others', _THREADS,
             '(self.own - before.own + self.idle - before.idle)', '(self.idle - before.idle)',
             _BUDGET),
    Mutation('threads: a core that waits for a disk counts as busy', _THREADS,
             'int(fields[3]) + int(fields[4])', 'int(fields[3])', _BUDGET),
    Mutation('threads: cores that this process may not use count, too', _THREADS,
             'if name in mine:', 'if name[3:].isdigit():', _BUDGET),
    Mutation('threads: of a long frame, too, only as many as cores are free', _THREADS,
             'self._shortest > _LONG', 'False', _BUDGET),
    Mutation('threads: of a short frame, too, sleep while they wait', _THREADS,
             'self._shortest > _LONG', 'self._shortest > 0', _BUDGET),
    Mutation('threads: the way back to the camera counts as a short frame', _THREADS,
             '        if network:\n', '        if True:\n', _BUDGET),
    Mutation('threads: of a crowd too few', _THREADS,
             'count = len(os.sched_getaffinity(0)) - threads + 2', 'count = 1', _BUDGET),
    Mutation('threads: those of a crowd stay when the cores are free', _THREADS,
             'elif not crowded:', 'elif False:', _BUDGET),
    Mutation('threads: a crowd outlives its estimator', _THREADS,
             '        weakref.finalize(self, self._leave.set)\n', '', _BUDGET),
    Mutation('training: threads sleep on idle cores, too', _THREADS,
             'if busy else None', 'if True else None', _BUDGET),
    Mutation('training: threads of the user sleep, too', _THREADS,
             'not _chosen_by_user() and', '', _BUDGET),
    Mutation('threads: another OpenMP gets a crowd', _THREADS,
             "return 'libgomp' in libraries and not any(", 'return True or any(', _BUDGET),
    Mutation('threads: always the mean since the start', _THREADS,
             '        self.before = usage\n', '', _BUDGET),
    Mutation('threads: more of them only after three measurements', _THREADS,
             '0 < self._more < _PATIENCE', '0 < self._more <= _PATIENCE', _BUDGET),
    Mutation('threads: any number, so that depth differs from run to run', _THREADS,
             '1 << (cores.bit_length() - 1)', 'cores', _BUDGET),
    Mutation('threads: those of a frame stay after it', _THREADS,
             '        torch.set_num_threads(before)\n', '        pass\n', _BUDGET),
    Mutation('threads: each change is told', _THREADS,
             'logging.DEBUG if text in self._told else logging.INFO', 'logging.INFO', _BUDGET),
    # --- the head ---------------------------------------------------------------------------
    Mutation('head: a bag that starts again keeps the average', _ROUTING,
             'not 0 <= gap <= _FORGET_AFTER', 'not gap <= _FORGET_AFTER', _TEST_ROUTING),
    Mutation('head: the average lasts over any gap', _ROUTING,
             'not 0 <= gap <= _FORGET_AFTER * time_constant', 'not 0 <= gap', _TEST_ROUTING),
    Mutation('head: images of one stamp count for nothing', _ROUTING,
             '(gap or _SHORTEST_GAP)', 'gap', _TEST_ROUTING),
    Mutation('head: taken over in the middle of the band', _ROUTING,
             '_TAKE_OVER = 0.6', '_TAKE_OVER = 0.5', _TEST_ROUTING),
    Mutation('head: the gap counts from the first frame', _ROUTING,
             '        self._stamp = stamp\n', '', _TEST_ROUTING),
    Mutation('head: a frame on which the network failed stays for ever', _ROUTING,
             'np.nan_to_num(np.array(logits, np.float64), nan=0, posinf=0, neginf=0)',
             'np.array(logits, np.float64)', _TEST_ROUTING),
    Mutation('head: the router does not run if one of several heads is forced', _ROUTING,
             'if not all(isinstance(chooser', 'if not any(isinstance(chooser',
             _TEST_ENGINE),
    # --- the estimator ----------------------------------------------------------------------
    Mutation('flip: upside down', _ENGINE, 'pixels.flip(-1)', 'pixels.flip(-2)', _TEST_ENGINE),
    Mutation('flip: the mirrored depth is not mirrored back', _ENGINE,
             '(straight + mirrored.flip(-1)) / 2', '(straight + mirrored) / 2', _TEST_ENGINE),
    Mutation('flip: the deviation is that of the image alone', _ENGINE,
             'None if deviations is None else _average_mirrored(deviations)', 'deviations',
             _TEST_ENGINE),
    Mutation('flip: heads go to the wrong images of a batch', _ENGINE,
             'choosers = choosers * 2', 'choosers = [c for c in choosers for _ in range(2)]',
             _TEST_ENGINE),
    Mutation('depth: not positive, but given', _ENGINE, ' & (values > 0)', '', _TEST_ENGINE),
    Mutation('batch: results in the order of the sizes', _ENGINE,
             '[results[i] for i in range(len(images))]', 'list(results.values())', _TEST_ENGINE),
    # --- sizes ------------------------------------------------------------------------------
    Mutation('border: rows and columns are mixed up when it comes off', _PREPROCESS,
             'rows, columns = self.pad', 'columns, rows = self.pad', _TEST_SIZES),
    Mutation('border: rows and columns are mixed up when it goes on', _PREPROCESS,
             '(plan.pad[1], plan.pad[1], plan.pad[0], plan.pad[0])',
             '(plan.pad[0], plan.pad[0], plan.pad[1], plan.pad[1])', _TEST_SIZES),
    Mutation('aspect: scaled by the factor that is farther from 1', _PREPROCESS,
             'abs(1 - by_width) < abs(1 - by_height)', 'abs(1 - by_width) > abs(1 - by_height)',
             _TEST_SIZES),
    Mutation('aspect: a narrow image has no columns', _PREPROCESS,
             'max(1, round(scale * side / multiple))', 'round(scale * side / multiple)',
             _TEST_SIZES),
    Mutation('depth: comes back half a pixel off', _PREPROCESS,
             "align_corners=plan.upsampling == 'bilinear'", 'align_corners=False', _TEST_SIZES),
    Mutation('pixels: differ with the number of threads', _PREPROCESS,
             'with torch_threads(1):', 'with torch_threads(torch.get_num_threads()):',
             (f'{_TEST_THREADS}::test_depth_does_not_depend_on_the_number_of_threads',)),
)
