"""``zoe run`` on bad input: nothing starts, or one bad image among good ones is dropped."""
import os
from pathlib import Path
import re

import bags
import made_up
import pytest
from runs import check_bag, check_results, DEPTH, inputs, PUBLISHED, RAW, SAMPLE

from zoe_ros.cli import main

# --- nothing can start -----------------------------------------------------------------------


@pytest.mark.parametrize('storage', ['mcap', 'sqlite3'])
@pytest.mark.parametrize('share', [0, 0.02])
def test_truncated_or_empty_bag(refused, tmp_path, storage, share):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(3), storage)
    file = bags.storage_file(path)
    file.write_bytes(file.read_bytes()[:int(file.stat().st_size * share)])
    for data in (path, file):
        assert str(path) in refused(data)


def test_bag_without_images(refused, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', [('/info', bags.ROSBAGS.info(4, 4))])
    assert 'no images' in refused(path)
    assert 'nothing' in refused(bags.write_bag(tmp_path / 'empty', []))


def test_wrong_topic(refused, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(1))
    assert f'no images on /other; it has {RAW}' in refused(path, '--topic', '/other')


def test_missing_path(refused, tmp_path):
    assert 'nothing at' in refused(tmp_path / 'nowhere')
    assert 'nothing at' in refused(tmp_path / 'nowhere.mcap')


def test_not_a_picture(refused, tmp_path):
    text = tmp_path / 'notes.txt'
    text.write_text('buy milk')
    assert f'{text} is no picture' in refused(text)
    empty = tmp_path / 'empty.jpg'
    empty.write_bytes(b'')
    assert f'{empty} is no picture' in refused(empty)
    cut = tmp_path / 'cut.jpg'
    cut.write_bytes(bags.encoded(bags.picture(200, 200), 'JPEG')[:2000])
    assert f'{cut} is damaged' in refused(cut)
    cut = tmp_path / 'cut.png'
    cut.write_bytes(bags.encoded(bags.picture(200, 200))[:200])
    assert f'{cut} is damaged' in refused(cut)


def test_folder_without_photographs(refused, tmp_path):
    folder = tmp_path / 'empty'
    folder.mkdir()
    assert 'neither a bag' in refused(folder)
    (folder / 'notes.txt').write_text('')
    assert 'neither a bag' in refused(folder)
    (folder / 'metadata.yaml').write_text('')
    assert 'cannot be read as a rosbag' in refused(folder)


def test_unreadable_weights(refused, tmp_path):
    noise = tmp_path / 'noise.pt'
    noise.write_bytes(b'no weights at all' * 100)
    assert str(noise) in refused(SAMPLE, weights=noise)
    missing = tmp_path / 'missing.safetensors'
    assert str(missing) in refused(SAMPLE, weights=missing)
    empty = tmp_path / 'empty.safetensors'
    empty.write_bytes(b'')
    assert str(empty) in refused(SAMPLE, weights=empty)
    assert str(tmp_path) in refused(SAMPLE, weights=tmp_path)


def test_truncated_weights(refused, tmp_path, tiny_weights):
    cut = tmp_path / 'cut.safetensors'
    cut.write_bytes(Path(tiny_weights).read_bytes()[:-100])
    assert str(cut) in refused(SAMPLE, weights=cut)


def test_wrong_variant(refused):
    assert "'tiny'" in refused(SAMPLE, '--variant', 'nk')


@pytest.mark.parametrize('device', ['cuda:77', 'cuda:-1', 'tpu', 'gpu', 'meta', 'mps', '',
                                    'cuda:' + '9' * 30])
def test_missing_device(tmp_path, tiny_weights, capsys, news, device):
    code = main(['run', str(SAMPLE), '--variant', 'tiny', '--weights', str(tiny_weights),
                 '--device', device, '--output', str(tmp_path / 'results')])
    err = capsys.readouterr().err
    assert code == 2
    assert re.fullmatch(rf"zoe: no device '{device}'[^\n]+\n", err)
    assert 'on cpu' not in news.getvalue()
    assert not (tmp_path / 'results').exists()


@pytest.mark.parametrize('option, value', [
    ('--point-cloud-downsample', '0'), ('--point-cloud-downsample', '-3'),
    ('--point-cloud-downsample', 'many'), ('--point-cloud-downsample', '1.5'),
    ('--point-cloud-downsample', '65'), ('--min-depth', '-1'), ('--min-depth', 'nan'),
    ('--max-depth', 'inf'), ('--depth-scale', '0.0'), ('--depth-scale', 'twice'),
    ('--interpolation', 'cubic'), ('--output-size', '640x480'), ('--output-decimation', '0'),
    ('--precision', 'fp8'), ('--aspect', 'crop'), ('--router', 'space'), ('--nonsense', '1')])
def test_parameter_out_of_range(zoe, tmp_path, option, value):
    ran = zoe(SAMPLE, option, value)
    assert ran.code == 2 and not (tmp_path / 'results').exists()
    # One line, by the command line's name of it or by that of the parameter, and the value.
    assert re.fullmatch(r'zoe[^\n]*: [^\n]+\n', ran.err), ran.err
    assert option.removeprefix('--') in ran.err.replace('_', '-') and value in ran.err


def test_values_that_do_not_fit_together(refused):
    assert 'min_depth' in refused(SAMPLE, '--min-depth', 5, '--max-depth', 4)
    assert 'far_value' in refused(SAMPLE, '--far-value', 9, '--max-depth', 10)


def test_a_head_that_the_model_lacks(refused, tmp_path):
    weights = made_up.write_tiny(tmp_path / 'outdoor.safetensors', heads=('outdoor',))
    assert 'ZoeD-tiny has no indoor head, only outdoor' in refused(
        SAMPLE, '--router', 'indoor', weights=weights)


def test_impossible_output(zoe, tmp_path):
    file = tmp_path / 'file'
    file.write_text('')
    for output in (file, file / 'below', Path('/proc/zoe'), Path('/dev/null')):
        ran = zoe(SAMPLE, to=output)
        assert ran.code == 2
        assert re.fullmatch(r'zoe: [^\n]+\n', ran.err) and str(output) in ran.err
    assert file.read_text() == ''


@pytest.mark.skipif(os.geteuid() == 0, reason='root may write everywhere')
def test_read_only_output(zoe, tmp_path):
    folder = tmp_path / 'read only'
    folder.mkdir(mode=0o500)
    ran = zoe(SAMPLE, to=folder)
    assert ran.code == 2 and re.fullmatch(r'zoe: [^\n]+\n', ran.err)
    assert str(folder) in ran.err and list(folder.iterdir()) == []


# --- among good input ------------------------------------------------------------------------


def bad_images():
    """Return cause and message of every kind of image that cannot be used."""
    rosbags, stamp = bags.ROSBAGS, bags.START + 7
    jpeg = bags.encoded(bags.picture(), 'JPEG')
    raw = {'unknown encoding': ('encoding', (bytes(36), 3, 4, 12, 'purple')),
           'depth': ('encoding', (bytes(48), 3, 4, 16, '32FC1')),
           'step too small': ('data', (bytes(36), 3, 4, 11, 'rgb8')),
           'short data': ('data', (bytes(35), 3, 4, 12, 'rgb8')),
           'no data': ('data', (b'', 3, 4, 12, 'rgb8')),
           'zero width': ('size', (b'', 3, 0, 0, 'rgb8')),
           'zero height': ('size', (b'', 0, 4, 12, 'rgb8'))}
    packed = {'cut jpeg': ('corrupt', jpeg[:len(jpeg) // 2]),
              'garbage': ('encoding', b'garbage' * 9), 'empty': ('data', b'')}
    return {**{name: (cause, rosbags.image(*image, stamp=stamp))
               for name, (cause, image) in raw.items()},
            **{name: (cause, rosbags.compressed(data, stamp=stamp))
               for name, (cause, data) in packed.items()}}


BAD = bad_images()


@pytest.mark.parametrize('name', BAD)
def test_a_bad_image_among_good_ones_is_dropped(zoe, tiny_estimator, tmp_path, name):
    cause, bad = BAD[name]
    encoding = 'jpeg' if hasattr(bad, 'format') else 'rgb8'
    good = bags.camera_messages(3, encoding=encoding)
    messages = [*good[:2], (RAW, bad, good[1][2] + 1), (RAW, bad, good[1][2] + 2), *good[2:]]
    path = bags.write_bag(tmp_path / 'bag', messages)
    ran = zoe(path, *PUBLISHED)
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['dropped'] == {cause: 2}
    assert ran.out.count('is dropped:') == 1      # said once
    assert re.search(rf'frames +3, dropped 2 \({cause}\)', ran.out)
    check_results(ran, 3, path)
    images, infos = inputs(path, RAW, '/camera/camera_info')
    check_bag(ran, tiny_estimator, [images[0], *images[3:]], infos)


def test_a_message_that_was_cut_among_good_ones_is_dropped(zoe, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', bags.camera_messages(4, info=None), cut=[1])
    ran = zoe(path)
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames'] == 3 and sum(ran.summary['dropped'].values()) == 1
    kept = [recorded for recorded, _ in ran.bag[DEPTH]]
    assert kept == [when for i, when in enumerate(bags.recorded(4)) if i != 1]


def test_an_image_too_small_to_be_padded_among_good_ones_is_dropped(zoe, tmp_path):
    good = bags.camera_messages(2, info=None)
    small = (RAW, bags.ROSBAGS.photo(bags.picture(3, 3)), good[0][2] + 1)
    ran = zoe(bags.write_bag(tmp_path / 'bag', [good[0], small, good[1]]), '--pad')
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames'] == 2 and sum(ran.summary['dropped'].values()) == 1
    folder = tmp_path / 'photos'
    folder.mkdir()
    for name, size in (('a', 3), ('b', 60)):
        (folder / f'{name}.png').write_bytes(bags.encoded(bags.picture(size, size)))
    ran = zoe(folder, '--pad', to=tmp_path / 'results of photos')
    assert (ran.code, ran.err) == (0, '')
    assert ran.summary['frames'] == 1 and sum(ran.summary['dropped'].values()) == 1


@pytest.mark.parametrize('name', ['unknown encoding', 'step too small', 'short data',
                                  'zero width', 'cut jpeg'])
def test_a_bag_of_bad_images_only(zoe, tmp_path, name):
    cause, bad = BAD[name]
    ran = zoe(bags.write_bag(tmp_path / 'bag', [(RAW, bad), (RAW, bad)]))
    assert ran.code == 2
    assert ran.err == 'zoe: none of 2 images could be used\n'
    assert 'is dropped:' in ran.out
    assert ran.summary['complete'] is False and ran.summary['dropped'] == {cause: 2}
    assert ran.summary['depth_p50_m'] is None
    assert ran.bag == {}


def test_a_first_image_of_depth_makes_no_photograph_topic(refused, tmp_path):
    path = bags.write_bag(tmp_path / 'bag', [(RAW, BAD['depth'][1])])
    assert f'no images to work on; it has {RAW}' in refused(path)


@pytest.mark.parametrize('info', [None, '/camera/camera_info'])
def test_a_bag_damaged_in_the_middle_keeps_what_was_done(zoe, tmp_path, info):
    path, good = bags.damaged_in_the_middle(tmp_path / 'bag', info=info)
    ran = zoe(path)
    assert ran.code == 2
    assert re.fullmatch(r'zoe: [^\n]+ cannot be read as a rosbag [^\n]+\n', ran.err)
    assert ran.summary['complete'] is False and ran.summary['frames'] == good
    assert len(ran.bag[DEPTH]) == good
    assert (ran.folder / 'overview.png').is_file()
    assert (ran.folder.parent / 'latest').resolve() == ran.folder.resolve()


def test_only_damaged_photographs(zoe, tmp_path):
    folder = tmp_path / 'photos'
    folder.mkdir()
    (folder / 'a.png').write_bytes(b'')
    ran = zoe(folder)
    assert ran.code == 2 and ran.err == 'zoe: none of 1 image could be used\n'
    assert ran.summary['complete'] is False
