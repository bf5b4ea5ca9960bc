"""Mutations of fleets of bags: workers, parts of bags, the table, remote files."""
from mutations.mutation import Mutation

_FLEET = 'zoe_ros/fleet.py'
_REMOTE = 'zoe_ros/storage/remote.py'
_MCAP = 'zoe_ros/storage/mcap.py'
_INDEX = 'zoe_ros/storage/mcap_index.py'
_MANY = 'zoe_ros/run_many.py'
_LEROBOT = 'zoe_ros/lerobot'
_CUTS = 'zoe_ros/cuts.py'
_KEPT = 'zoe_ros/kept_parts.py'
_PARTS = 'zoe_ros/parts.py'
_KILLED = ('test/core/test_fleet.py::test_killed_workers_lose_only_their_bags',)
_CTRL_C = ('test/core/test_fleet.py::test_ctrl_c_keeps_what_is_finished',)
_WORKER = ('test/core/test_fleet.py', '-m not slow')
_OF_REMOTE = ('test/core/test_remote.py',)
_OF_MANY = ('test/core/test_run_many.py',)
_STALE = ('test/core/test_stale_results.py',)
_PROVENANCE = 'zoe_ros/provenance.py'
_COMMANDS = 'test/core/test_fleet_commands.py'
_EVALUATED = (f'{_COMMANDS}::test_an_evaluation_by_a_fleet',)
_LABELLED = (f'{_COMMANDS}::test_labels_by_a_fleet',)
_OF_LEROBOT = ('test/core/test_lerobot.py',)
_OF_CUTS = 'test/core/test_cut_bags.py'
_JOINED = (_OF_CUTS, '-k test_joined_parts')
_OF_KEPT = ('test/core/test_kept_parts.py',)
_ANY = (_OF_CUTS, '-k test_any_bag')
_PLANNED = (_OF_CUTS, '-k not joined and not any_bag and not saves and not memory')

MUTATIONS = (
    Mutation('fleet: a killed worker loses its bag for good', _FLEET,
             'max_task_retries=RETRIES', 'max_task_retries=0', _KILLED),
    Mutation('fleet: Ray listens on the network', 'zoe_ros/cluster.py',
             "os.environ['RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER'] = '0'", 'pass', _CTRL_C),
    Mutation('fleet: threads do not adapt to busy processors', _FLEET,
             'if not threads_chosen:', 'if False:', _WORKER),
    Mutation('fleet: workers that fit on no machine of the cluster', _FLEET,
             'min(cpus // count, *(own for own, _ in nodes if own))', 'cpus // count', _WORKER),
    Mutation('fleet: warnings of workers are lost', _FLEET,
             'logger.addHandler(handler)', 'pass', _WORKER),
    Mutation('fleet: relative paths begin at the folder of the worker', _FLEET,
             'os.chdir(self._folder)', 'pass', _WORKER),
    Mutation('parts: frames keep the heads of their parts', _PARTS,
             'if other or index in shown:', 'if index in shown:', _JOINED),
    Mutation('parts: the average of the router forgets between frames of the join', _PARTS,
             'self._tracker.choose(np.array(logits)', 'HeadTracker().choose(np.array(logits)',
             _JOINED),
    Mutation('parts: the overlap is in the results', _PARTS,
             'if image.recorded < part.start:', 'if image.recorded < part.warm:', _JOINED),
    Mutation('parts: of images of one time the first is run again', _PARTS,
             'islice(same_time, record.place, None)', 'islice(same_time, 0, None)', _ANY),
    Mutation('parts: warnings about dropped images are lost', _PARTS,
             'report.drop(cause, f', 'str(f', _ANY),
    Mutation('parts: missing images are not told', _PARTS,
             'bag.require_whole(given)', 'bag.require_whole(bag.count)', _PLANNED),
    Mutation('parts: the next fleet runs complete parts again', _PARTS,
             'if is_usable(folder, origin):', 'if False:',
             ('test/core/test_fleet.py', '-k goes_on and kill_all_of')),
    Mutation('parts: Ctrl-C removes complete parts', _FLEET,
             'tell_kept(Path(settings.output))',
             '[job.discard_parts() for job in jobs_of(waiting, 2, least)]',
             ('test/core/test_fleet.py', '-k goes_on and interrupt')),
    Mutation('parts: those of other inputs, settings, cuts or devices are used', _KEPT,
             "sealed == {'made_of': origin, 'files': _hashes(folder)}",
             "sealed['files'] == _hashes(folder)", _OF_KEPT),
    Mutation('parts: damaged ones are used', _KEPT,
             "sealed == {'made_of': origin, 'files': _hashes(folder)}",
             "sealed['made_of'] == origin", _OF_KEPT),
    Mutation('parts: those of another version are used', _KEPT,
             "'version': __version__, ", '', _OF_KEPT),
    Mutation('parts: those of other cuts stay for ever', 'zoe_ros/jobs.py',
             'discard(folder)', 'pass', _OF_KEPT),
    Mutation('parts: another number of workers makes all parts useless', 'zoe_ros/jobs.py',
             'kept or parts', 'parts', _OF_KEPT),
    Mutation('parts: the cuts of a bag that was recorded again are those of the old one', _KEPT,
             "'data': data_digest(to_path(settings.data))", "'data': ''", _OF_KEPT),
    Mutation('parts: workers that die take complete parts with them', 'zoe_ros/jobs.py',
             'self._keeps_parts = True', 'pass', _OF_KEPT),
    Mutation('parts: those of a bag that is not there now are removed', 'zoe_ros/jobs.py',
             'if parts and not kept:', 'if not kept:', _OF_KEPT),
    Mutation('parts: a bag that fails in one piece removes parts', 'zoe_ros/jobs.py',
             'if self.parts and not', 'if not', _OF_KEPT),
    Mutation('parts: what cannot be replaced is told after the work', _PARTS,
             'discard(folder)  ', 'pass  ', _OF_KEPT),
    Mutation('parts: a file of a user ends the fleet', 'zoe_ros/jobs.py',
             "folder.glob('*'))", 'folder.iterdir())', _OF_KEPT),
    Mutation('parts: they stay beside complete results for ever', _MANY,
             '        _discard_unfinished(settings)   #', '        #', _OF_KEPT),
    Mutation('cuts: an image at a cut is in two parts', _CUTS,
             '[*times, EVER]', '[*(time + 1 for time in times), EVER]', _PLANNED),
    Mutation('cuts: the order of files that overlap is lost', _CUTS,
             ' and not _is_mixed(time, extent.spans)', '', _PLANNED),
    Mutation('cuts: a bag with an anchor is cut', _CUTS,
             'if settings.anchors():', 'if False:', _PLANNED),
    Mutation('cuts: messages of a chunk around a cut are lost', _MCAP,
             'if chunk.end < start or', 'if chunk.start < start or', _JOINED),
    Mutation('table: Parquet has types that depend on the rows', 'zoe_ros/run_table.py',
             'pyarrow.Table.from_pylist(rows, schema)', 'pyarrow.Table.from_pylist(rows)',
             _OF_MANY),
    Mutation('many bags: results of other settings pass', _MANY,
             '        _require_same(folder, settings)\n', '', _OF_MANY),
    Mutation('many bags: a bag that was recorded again gets the old results', _MANY,
             '        _require_unchanged(folder, settings)\n', '', _STALE),
    Mutation('many bags: a copy of a bag is another bag', _PROVENANCE,
             "return f'{size} {digest.hexdigest()}'",
             "return f'{size} {path.stat().st_mtime} {digest.hexdigest()}'", _STALE),
    Mutation('many bags: the end of a long bag does not count', _PROVENANCE,
             '(size - _BLOCK) / (_BLOCKS - 1)', '(size - _BLOCK) / _BLOCKS', _STALE),
    Mutation('many bags: other weights under the same path pass', _MANY,
             '**(weights_identity(weights) if weights else {})', '', _STALE),
    Mutation('many bags: an upgrade with a new setting refuses all results', _PROVENANCE,
             'then.get(name, default[name]) != value', 'then.get(name) != value', _STALE),
    Mutation('many bags: a server that changes the time of a file makes another bag', _REMOTE,
             "_VERSIONS = ('md5Hash', 'Content-MD5', 'ETag', ", '_VERSIONS = (', _OF_REMOTE),
    Mutation('labels: those of a bag that was recorded again are taken',
             'zoe_ros/distill/label.py', '    if other or changed:', '    if other:',
             ('test/core/test_distill_labels.py', '-krecorded_again')),
    Mutation('fleet: an error of one bag ends the others', _FLEET,
             'except PROBLEMS as problem:\n                return Done',
             'except OSError as problem:\n                return Done',
             (_COMMANDS, '-m not slow')),
    Mutation('zoe eval: a fleet orders the table by the end of bags', 'zoe_ros/evaluate_fleet.py',
             'zip(names, bags) if not ended[bag].error]',
             'zip(names, ended) if not ended[bag].error]',
             _EVALUATED),
    Mutation('zoe eval: a bag that fails gives its name to the next one',
             'zoe_ros/evaluate_fleet.py', 'zip(names, bags) if not',
             'zip(told_apart([b.stem for b in bags if not ended[b].error]), '
             '[b for b in bags if not ended[b].error]) if not',
             (f'{_COMMANDS}::test_a_bag_that_fails_does_not_hinder_an_evaluation',)),
    Mutation('labels: a fleet labels every bag again', 'zoe_ros/distill/label_fleet.py',
             'work_on_bags(task, waiting, fleet) if waiting',
             'work_on_bags(task, bags, fleet) if bags',
             _LABELLED),
    Mutation('remote: results go to a folder of the name of an address', 'zoe_ros/cli.py',
             'isinstance(text, str)', 'False', _OF_REMOTE),
    Mutation('log: other packages chat', 'zoe_ros/cli.py',
             'logging.basicConfig(format=', 'logging.basicConfig(level=logging.INFO, format=',
             _OF_REMOTE),
    Mutation('remote: much is read behind each message', _REMOTE, '_AHEAD = 1 << 15',
             '_AHEAD = 1 << 20', _OF_REMOTE),
    Mutation('remote: whole chunks are read', _MCAP,
             'parse_chunk_index(content) if self._in_parts else None', 'None', _OF_REMOTE),
    Mutation('remote: a damaged index leads to other bytes', _INDEX,
             '            raise IndexDamagedError\n        yield content',
             '            pass\n        yield content', _OF_REMOTE),
    Mutation('remote: errors of libraries are no sentence', _REMOTE,
             '    except Exception as error:\n        raise OSError',
             '    except OSError as error:\n        raise OSError', _OF_REMOTE),
    Mutation('lerobot: a pixel without depth has a code of depth', f'{_LEROBOT}/codes.py',
             'NO_DEPTH = 0', 'NO_DEPTH = 1', _OF_LEROBOT),
    Mutation('lerobot: stamps that tremble lose images', f'{_LEROBOT}/timeline.py',
             '_SLACK = 0.75', '_SLACK = 0.5', _OF_LEROBOT),
    Mutation('lerobot: a full disk leaves half of a data set', f'{_LEROBOT}/dataset.py',
             'shutil.rmtree(self._part, ignore_errors=True)\n\n    def write_frame',
             'pass\n\n    def write_frame', _OF_LEROBOT),
)
