"""Mutations of the scripts that fetch photographs for training."""
from mutations.mutation import Mutation

_FILES = 'experiments/photograph_files.py'
_PAIRS = 'experiments/photograph_pairs.py'
_FOLDERS = 'experiments/photograph_folders.py'
_SOURCES = 'experiments/photograph_sources.py'
_TABLE = 'experiments/fetch_photographs.py'
_TESTS = ('test/core/test_photographs.py',)

MUTATIONS = (
    # --- metres -----------------------------------------------------------------------------
    Mutation('photographs: depth is that of another moment', _FILES,
             'abs(stamp(other) - stamp(path))', 'stamp(other)', _TESTS),
    Mutation('photographs: rotated bits are taken as they are', _FILES,
             'values = values >> 3 | (values & 7) << 13', 'pass', _TESTS),
    Mutation('photographs: the highest bits of rotated depth are lost', _FILES,
             'values >> 3 | (values & 7) << 13', 'values >> 3', _TESTS),
    Mutation('photographs: the confidence of a telephone counts as metres', _FILES,
             'values & 0x1fff', 'values', _TESTS),
    Mutation('photographs: a PFM upside down', _FILES, '.reshape(height, width)[::-1]',
             '.reshape(height, width)', _TESTS),
    Mutation('photographs: a cloud in BGR', _FILES, '(16, 8, 0)', '(0, 8, 16)', _TESTS),
    Mutation('photographs: LZF that overlaps itself is cut', _FILES,
             'while len(part) < length + 2:', 'while False:', _TESTS),
    Mutation('photographs: depth beyond 65 m comes back near', _FILES,
             ' & (depth < 65536)', '', _TESTS),
    Mutation('photographs: intrinsics of the large image', _FILES,
             'scaled(view.lens, size, small)', 'view.lens', _TESTS),
    Mutation('photographs: intrinsics of depth for the image of a telephone', _FILES,
             'scaled(lens, size, image.shape[1::-1]))', 'lens)', _TESTS),
    Mutation('photographs: Middlebury without doffs', _PAIRS, '(disparity + self.offset)',
             'disparity', _TESTS),
    Mutation('photographs: doffs of the large image', _PAIRS,
             'self.offset * other[0] / size[0]', 'self.offset', _TESTS),
    Mutation('photographs: matched disparity in sixteenths', _PAIRS, 'found / np.float32(16)',
             'found', _TESTS),
    Mutation('photographs: no left-right check', _PAIRS,
             'sound[sound] = abs(there[sound] - agreed[sound]) <= LEFT_RIGHT', 'pass', _TESTS),
    Mutation('photographs: pairs have no depth at the left', _PAIRS,
             '(steps, 0), (0, 0)), mode=', '(0, steps), (0, 0)), mode=', _TESTS),
    Mutation('photographs: matched depth of far away', _PAIRS, 'depth > FAR', 'depth > 100',
             _TESTS),
    # --- sources ----------------------------------------------------------------------------
    Mutation('photographs: one absent file ends all', _FOLDERS,
             'except UnusableError as fault:\n                print',
             'except ZeroDivisionError as fault:\n                print', _TESTS),
    Mutation('photographs: the text of a licence is not read', _FOLDERS,
             'if STATED[source.licence] not in words and', 'if False and', _TESTS),
    Mutation('photographs: a folder in the wrong unit stays', _FOLDERS,
             '            open_folder(out)\n', '            pass\n', _TESTS),
    Mutation('photographs: a frame without depth stays', _FOLDERS, 'if not depth.any():',
             'if False:', _TESTS),
    Mutation('photographs: a pointer of Git LFS is taken for the image', _SOURCES,
             "if data.startswith(b'version https", "if data.startswith(b'no", _TESTS),
    Mutation('photographs: image 10 before image 9', _SOURCES,
             "(int(part), '') if part.isdigit() else (-1, part)", '(0, part)', _TESTS),
    Mutation('photographs: each source clones its repository again', _SOURCES,
             'if not folder.exists():', 'if True:', _TESTS),
    Mutation('photographs: the status does not tell what is left out', _TABLE,
             'sys.exit(1 if failed else 0)', 'sys.exit(0)', _TESTS),
)
