"""Mutations of the encoders of Depth Anything, of its files, and of exported graphs."""
from mutations.mutation import Mutation

_DINO = 'zoe_ros/model/dino.py'
_DECODER = 'zoe_ros/model/decoder.py'
_WEIGHTS = 'zoe_ros/model/weights.py'
_ENCODER = ('test/core/test_dino.py',)
_PAIR = ('test/core/test_pair.py',)
_WHOLE = 'test/core/test_depth_anything.py'
_EXPORT = 'zoe_ros/export.py'
_SOFTPLUS = ('test/core/test_export.py', '-k softplus')


def _tests(*names: str) -> tuple[str, ...]:
    """Return tests of test_depth_anything.py."""
    return tuple(f'{_WHOLE}::test_{name}' for name in names)


MUTATIONS = (
    Mutation('export: single pixels are wrong where runtimes round ln(1 + x)', _EXPORT,
             '        _use_exact_softplus(model)\n', '', _SOFTPLUS),
    Mutation('export: the series of softplus is too short', _EXPORT, 'range(15, 0, -2)',
             'range(7, 0, -2)', _SOFTPLUS),
    Mutation('da-n: positions as timm resamples them', _DINO, '_OFFSET = 0.1', '_OFFSET = 0.0',
             _ENCODER),
    Mutation('da-n: pixels in [-1, 1] for the encoder', _DINO,
             '(channel - (2 * mean - 1)) / (2 * deviation)', 'channel', _ENCODER),
    Mutation('da-n: taps without the final norm', _DINO,
             'add_norm(tokens, None, None, self.norm, self.cls_token.dtype, self.fused)[1]',
             'add_norm(tokens, None, None, self.norm, self.cls_token.dtype, self.fused)[0]',
             _ENCODER),
    Mutation('da-n: positions of half precision', _DINO,
             'self.positions.data = self.positions.data.float()', 'pass',
             _tests('half_precision_is_near_the_plain_model')),
    Mutation('da-n: odd grids are doubled', _DECODER, 'if level else None', 'if False else None',
             _tests('sizes_of_the_stages')),
    Mutation('da-n: aspect keep in multiples of 32', 'zoe_ros/inference/engine.py',
             'self.pad,\n                          config.backbone.size_multiple)', 'self.pad)',
             _tests('an_estimator_asks_the_encoder_for_the_multiple')),
    Mutation('da-n: the outdoor file passes for the indoor one', _WEIGHTS,
             'and (problems or len(found) == 1)', 'and problems',
             _tests('the_sha256_tells_the_domain')),
    Mutation('downloads: another file than the release is kept', 'zoe_ros/model/hub.py',
             "expected = sha256 or (blob.name if stated else '')",
             "expected = blob.name if stated else ''",
             ('test/core/test_hub.py::test_content_that_is_not_the_release_is_removed',)),
    Mutation('da-nk: the router runs for a forced head', 'zoe_ros/inference/pair_runner.py',
             'None if heads else host(self._route(pixels))', 'host(self._route(pixels))', _PAIR),
    Mutation('da-nk: all images go to the model of the first', 'zoe_ros/inference/pair_runner.py',
             'chosen = choose(logits)', 'chosen = choose(logits)[:1] * len(pixels)', _PAIR),
    Mutation('da-nk: the router sees what the models see', 'zoe_ros/model/pair.py',
             "pixels, self.router.config.image_size, mode='bilinear', antialias=True)",
             "pixels, self.router.config.image_size, mode='bilinear')", _PAIR),
    Mutation('a file that changed keeps its SHA-256', 'zoe_ros/files.py',
             '(about.st_ino, about.st_size, about.st_mtime_ns)', '(about.st_ino,)',
             ('test/core/test_files.py',)),
)
