"""Mutations of the anchor: points, frames, pairs, fit, scale over time, messages."""
from mutations.mutation import Mutation

_ANCHOR = 'zoe_ros/anchor/anchor.py'
_FRAMES = 'zoe_ros/anchor/frames.py'
_FILTER = 'zoe_ros/anchor/filter.py'
_PAIRS = 'zoe_ros/anchor/pairs.py'
_FIT = 'zoe_ros/anchor/fit.py'
_TRACKS = 'zoe_ros/anchor/tracks.py'
_STEREO = 'zoe_ros/anchor/stereo.py'
_PAIR = 'zoe_ros/stereo_pair.py'
_STEADY = 'zoe_ros/anchor/steady.py'
_RANGE = 'zoe_ros/range_anchor.py'
_SWEEP = 'zoe_ros/anchor/sweep.py'
_POINTS = 'zoe_ros/anchor/points.py'
_OF_MESSAGES = 'zoe_ros/range_messages.py'
_CORE = ('test/core/test_anchor.py',)
_OF_FRAMES = ('test/core/test_anchor_frames.py',)
_OF_FILTER = ('test/core/test_anchor_filter.py', *_CORE)
_OF_PAIRS = ('test/core/test_anchor_pairs.py', *_CORE)
_OF_FIT = ('test/core/test_anchor_fit.py', *_CORE)
_OF_TRACKS = ('test/core/test_anchor_tracks.py',)
_OF_STEREO = ('test/core/test_anchor_stereo.py',)
_OF_PAIR = ('test/core/test_stereo_pair.py',)
_OF_STEADY = ('test/core/test_anchor_steady.py',)
_MESSAGES = ('test/core/test_anchor_messages.py',)
_REFUSALS = ('test/core/test_anchor_refusals.py',)
_OF_SWEEP = ('test/core/test_anchor_sweep.py',)
_RUN = ('test/core/test_run_anchor.py',)
_OF_DOUBT = (
    'test/core/test_pipeline_depth.py::test_the_uncertainty_of_an_anchored_frame',)
_OF_CALIBRATION = ('test/core/test_calibration.py',)

MUTATIONS = (
    Mutation('frames: the motion of the robot is left out', _FRAMES,
             'return self._between(steady, target, stop).after(',
             'return self._between(steady, target, start).after(', _OF_FRAMES),
    Mutation('frames: jumps of the map count as motion', _FRAMES,
             'return _ODOMETRY if _ODOMETRY in chain else chain[-1]', 'return chain[-1]',
             _OF_FRAMES),
    Mutation('frames: poses are not interpolated', _FRAMES, '(1 - share) * a + share * b',
             '0 * a + b', _OF_FRAMES),
    Mutation('frames: the last pose holds for ever', _FRAMES, 'stamp > last + _HOLD',
             'stamp > last + 1e9', _OF_FRAMES),
    Mutation('frames: memory grows', _FRAMES, '> 2 * _KEPT', '> 1e9 * _KEPT', _OF_FRAMES),
    Mutation('frames: an old pose serves where an exact one is asked', _FRAMES,
             'if exact and not all(', 'if False and not all(', _OF_FRAMES),
    Mutation('anchor: old points are used', _ANCHOR,
             'abs(nearest.stamp - stamp) > self._tolerance', 'abs(nearest.stamp - stamp) > 1e9',
             _CORE),
    Mutation('anchor: a report changes depth', _ANCHOR,
             'NOTHING if self._report_only else _correction(state)', '_correction(state)',
             (*_CORE, *_RUN)),
    Mutation('anchor: the common error of odometry is left out', _ANCHOR,
             'found.variance + common ** 2', 'found.variance', (*_CORE, *_MESSAGES)),
    Mutation('anchor: the heads share one scale', _ANCHOR, 'self._heads[head] = state',
             "self._heads['indoor'] = self._heads[head] = state", _CORE),
    Mutation('anchor: the shift is not carried', _ANCHOR,
             'return Correction(factor, amount, shift.centre, shift.low, shift.high)',
             'return Correction(factor)', _CORE),
    Mutation('filter: a jump of 10 % after a gap', _FILTER, 'STEP = math.log(1.02)',
             'STEP = math.log(1.2)', _OF_FILTER),
    Mutation('filter: a held scale stays as certain', _FILTER, '_PER_SECOND = 0.05 ** 2',
             '_PER_SECOND = 0.0', _OF_FILTER),
    Mutation('pairs: depth edges are crossed', _PAIRS, '_SAME_SURFACE = 1.06',
             '_SAME_SURFACE = 100', _OF_PAIRS),
    Mutation('pairs: hidden points count', _PAIRS, 'occluded[farther] = edge | hidden[farther]',
             'occluded[farther] = False', _OF_PAIRS),
    Mutation('fit: two groups flip', _FIT, '_KEEP = 0.5', '_KEEP = 1.1', _OF_FIT),
    Mutation('tracks: points without parallax', _TRACKS, '_PARALLAX = 6.0', '_PARALLAX = 0.0',
             _OF_TRACKS),
    Mutation('tracks: pixels of a smaller image', _TRACKS, '(points + 0.5) * scale - 0.5',
             'points', _OF_TRACKS),
    Mutation('fit: far points of a pair count as much as near ones', _FIT,
             'weight = weight / (1 + (pairs.deviation / _NETWORK) ** 2)', 'pass', _OF_FIT),
    Mutation('fit: the error of calibration is left out', _FIT,
             'variance += float(votes @ pairs.deviation / votes.sum()) ** 2', 'pass', _OF_FIT),
    Mutation('stereo: a pair that is not rectified counts', _STEREO, '_MISALIGNED = 1.0',
             '_MISALIGNED = 100.0', _OF_PAIR),
    Mutation('stereo: matches by chance count', _STEREO, '_MATCHED = 0.15', '_MATCHED = 0.0',
             _OF_STEREO),
    Mutation('stereo: no parts of a pixel', _STEREO, 'return points[good], now[good, 0]',
             'return points[good], np.rint(now[good, 0])', _OF_STEREO),
    Mutation('stereo: exposures differ', _STEREO, 'other = self._as_bright(other, one)', 'pass',
             _OF_STEREO),
    Mutation('stereo: the rotation of a camera is ignored', _PAIR,
             'if not np.allclose(np.reshape(info.r, (3, 3)), np.eye(3), atol=1e-6):', 'if False:',
             _OF_PAIR),
    Mutation('stereo: a right image of another moment', _PAIR, '_AT_ONCE = 3_000_000',
             '_AT_ONCE = 40_000_000', _OF_PAIR),
    Mutation('stereo: a slow network loses the right image', _PAIR,
             'self._kept = self._find(self._expected)', 'pass', _OF_PAIR),
    Mutation('stereo: right images run ahead of left ones', 'zoe_ros/ros/anchor_inputs.py',
             'gate = Gate(pair.is_behind) if every else None', 'gate = None',
             ('test/node/test_node_stereo.py',)),
    Mutation('messages: frames fill memory', _RANGE, '_MOST_FRAMES = 8', '_MOST_FRAMES = 8000',
             _MESSAGES),
    Mutation('messages: a sensor in two places', _RANGE, 'if known:\n', 'if False:\n',
             (*_MESSAGES, *_RUN)),
    Mutation('frames: odometry is mixed with TF', _FRAMES,
             'if not by_tf and child in self._parents and child not in self._untold:',
             'if False:', _OF_FRAMES),
    Mutation('tracks: a camera that turns changes the scale', _TRACKS, '_STANDING = 0.02',
             '_STANDING = -1.0', ('test/core/test_anchor_odometry.py',)),
    Mutation('sweep: the motion within a scan is left out', _SWEEP,
             'if times is None or not times.size:', 'if True:', _OF_SWEEP),
    Mutation('sweep: points jump from instant to instant', _SWEEP,
             'np.maximum(1 - np.abs(place_of - index), 0)', 'np.abs(place_of - index) <= 0.5',
             _OF_SWEEP),
    Mutation('sweep: a scan is placed at its stamp', _ANCHOR,
             'self._placed(source, taken + after, stamp)', 'self._placed(source, taken, stamp)',
             _MESSAGES),
    Mutation('sweep: a negative time increment counts', _POINTS,
             'if 0 < time_increment <=', 'if time_increment and time_increment <=', _OF_SWEEP),
    Mutation('sweep: a scan may take hours', _POINTS, '_LONGEST = 0.5', '_LONGEST = 1e9',
             _OF_SWEEP),
    Mutation('sweep: thinned points lose their times', _POINTS,
             '_plausible(times[index], dropped)', '_plausible(times[:len(index)], dropped)',
             _OF_SWEEP),
    Mutation('sweep: times since the epoch are not understood', _OF_MESSAGES,
             'return seconds - nanoseconds(cloud.header.stamp) / 1e9', 'return seconds',
             _OF_SWEEP),
    Mutation('messages: a scan in degrees is used', _OF_MESSAGES,
             'if _FARTHEST_ANGLE < max(abs(first), covered) < np.inf:', 'if False:', _REFUSALS),
    Mutation('messages: a scan without every second ray is used', _OF_MESSAGES,
             '_SAME_SPAN = 1.5', '_SAME_SPAN = 1e9', _REFUSALS),
    Mutation('messages: angle_max may not be a turn away', _OF_MESSAGES,
             'abs(stated - 2 * np.pi))', 'stated)', _REFUSALS),
    Mutation('sweep: the time increment is not read', _OF_MESSAGES,
             'message.range_min, message.range_max, message.time_increment)',
             'message.range_min, message.range_max)', _OF_SWEEP),
    Mutation('correction: the deviation is not scaled', 'zoe_ros/anchor/correction.py',
             'deviation * self.factor', 'deviation * 1.0', ('test/core/test_refine.py',)),
    Mutation('correction: the deviation has no shift', 'zoe_ros/anchor/correction.py',
             'else spread / divisor', 'else spread', ('test/core/test_refine.py',)),
    Mutation('doubt: that of the network stays beside an anchor', 'zoe_ros/pipeline.py',
             'if left is None or correction == NOTHING:', 'if True:', _OF_DOUBT),
    Mutation('doubt: a report changes the uncertainty', 'zoe_ros/pipeline.py',
             'if left is None or correction == NOTHING:', 'if left is None:', _OF_DOUBT),
    Mutation('doubt: that of the anchor is left out', 'zoe_ros/refine.py',
             'torch.hypot(correction.left * deviation, correction.doubt * depth)',
             'correction.left * deviation', ('test/core/test_refine.py',)),
    Mutation('doubt: a scan knows as much as points everywhere', _FIT,
             'sums > _OCCUPIED * sums.sum()', 'sums >= 0', _OF_FIT),
    Mutation('doubt: wrong returns cover the image', _FIT, '_OCCUPIED = 0.02', '_OCCUPIED = 0.0',
             _OF_FIT),
    Mutation('doubt: a held scale covers nothing', _FILTER, ', areas=fit.areas)), ',
             ')), ', _OF_FILTER),
    Mutation('doubt: shares of variances are shares of deviations',
             'zoe_ros/model/calibration.py',
             'math.sqrt((1 - coverage) * row ** 2 + coverage * image ** 2)',
             '(1 - coverage) * row + coverage * image', _OF_CALIBRATION),
    Mutation('doubt: each pixel has the scale of its own strip', 'zoe_ros/calibrate.py',
             'rows[np.arange(len(chosen)) % len(rows)]',
             'rows[chosen // truth.shape[1] * _STRIPS // truth.shape[0]]', _OF_CALIBRATION),
    Mutation('steady: the way of the camera does not count', _STEADY, ' + way / _WAY', '',
             _OF_STEADY),
    Mutation('steady: the first frame counts for long', _STEADY, 'max(1 / age, ', 'max(0, ',
             _OF_STEADY),
    Mutation('steady: another scene is not noticed', _STEADY, '_CONSISTENT = 0.5',
             '_CONSISTENT = 0.0', _OF_STEADY),
    Mutation('steady: things that move count', _STEADY, '_AGREE = 0.1 ', '_AGREE = 9.0 ',
             _OF_STEADY),
    Mutation('steady: a slow motion is overlooked', _STEADY,
             'expected, seen = past.depth.ravel(), now.depth.ravel()',
             'self._stood, expected, seen = now.gray, past.depth.ravel(), now.depth.ravel()',
             _OF_STEADY),
    Mutation('steady: heads share one scale', _STEADY, 'if past.head != now.head:',
             'if False:', _OF_STEADY),
    Mutation('steady: the anchor comes before', 'zoe_ros/pipeline.py', 'scale *= steadying',
             'pass', ('test/core/test_run_steady.py',)),
)
