"""Photographs as phones, scanners and programs leave them."""
import struct
import zlib

import bags
import numpy as np
from PIL import Image
import pytest

from zoe_ros.photos import find_photos, holds_several, photo_camera, read_photo
from zoe_ros.run import run
from zoe_ros.settings import RunSettings

# Where the first row and column of the stored picture are seen: rows and columns of the picture
# swapped, rows from below, columns from the right (EXIF 2.3, tag 0x0112).
SEEN = {1: (False, False, False), 2: (False, False, True), 3: (False, True, True),
        4: (False, True, False), 5: (True, False, False), 6: (True, False, True),
        7: (True, True, True), 8: (True, True, False)}
DAMAGED_EXIF = {
    'no TIFF': b'nothing of the kind', 'empty': b'', 'cut header': b'II*\0',
    'BigTIFF': b'II+\0\x08\0\0\0\x0b\0\x11\x01$\0\0\x86\x10\0',
    'offset beyond the end': b'II*\0\xff\xff\xff\x7f',
    'too many entries': b'MM\0*\0\0\0\x08\xff\xff' + bytes(20),
    'orientation as a text': b'II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\x04\0\0\0six\0\0\0\0\0'}


def upright(pixels, orientation):
    """Return a picture as a viewer shows it."""
    swapped, below, right = SEEN[orientation]
    seen = pixels.swapaxes(0, 1) if swapped else pixels
    return seen[::-1 if below else 1, ::-1 if right else 1]


def png_chunk(kind, data):
    """Return a chunk of a PNG."""
    crc = struct.pack('>I', zlib.crc32(kind + data))
    return struct.pack('>I', len(data)) + kind + data + crc


def with_exif(pixels, exif):
    """Return a PNG with these bytes as its EXIF."""
    data = bags.encoded(pixels)
    return data[:33] + png_chunk(b'eXIf', exif) + data[33:]     # behind the header


@pytest.mark.parametrize('orientation', SEEN)
@pytest.mark.parametrize('form, compression', [
    ('TIFF', 'raw'), ('TIFF', 'tiff_lzw'), ('TIFF', 'tiff_deflate'), ('TIFF', 'packbits'),
    ('PNG', None), ('WEBP', None)])
def test_photographs_are_turned_once(tmp_path, form, compression, orientation):
    pixels = bags.picture(40, 72)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {'compression': compression} if compression else (
        {'lossless': True} if form == 'WEBP' else {})
    path = tmp_path / 'photo'
    path.write_bytes(bags.encoded(pixels, form, exif=exif, **options))
    assert np.array_equal(read_photo(path), upright(pixels, orientation))


@pytest.mark.parametrize('name', DAMAGED_EXIF)
def test_damaged_notes_do_not_spoil_a_picture(tmp_path, name):
    pixels = bags.picture()
    path = tmp_path / 'a.png'
    path.write_bytes(with_exif(pixels, DAMAGED_EXIF[name]))
    assert np.array_equal(read_photo(path), pixels)
    path.write_bytes(bags.encoded(pixels, 'JPEG', exif=b'Exif\0\0' + DAMAGED_EXIF[name]))
    assert read_photo(path).shape == pixels.shape


# --- numbers --------------------------------------------------------------------------------


def saved(path, pixels, form='TIFF'):
    """Write an array of any kind that Pillow knows as a picture; return the path."""
    Image.fromarray(pixels).save(path, form)
    return path


def test_floating_point_brightness_is_scaled(tmp_path):
    shades = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    image = read_photo(saved(tmp_path / 'a.tif', shades))
    assert np.array_equal(image, np.repeat(np.arange(256).reshape(16, 16, 1), 3, axis=2))
    assert (read_photo(saved(tmp_path / 'a.tif', shades * 0)) == 0).all()


@pytest.mark.parametrize('low, high', [(0, 255), (-0.1, 1), (0, 1.1), (0, np.nan), (0, np.inf)])
def test_other_floating_point_numbers_are_refused(tmp_path, low, high):
    values = np.full((8, 8), low, np.float32)
    values[3, 4] = high
    with pytest.raises(ValueError, match='are no brightness from 0 to 1'):
        read_photo(saved(tmp_path / 'a.tif', values))


@pytest.mark.parametrize('high', [1, 255, 65535, 2 ** 31 - 1])
def test_32_bit_whole_numbers_are_refused(tmp_path, high):
    with pytest.raises(ValueError, match='no known scale'):
        read_photo(saved(tmp_path / 'a.tif', np.full((8, 8), high, np.int32)))


@pytest.mark.parametrize('form', ['TIFF', 'PNG', 'PPM'])
def test_16_bits_are_scaled(tmp_path, form):
    values = np.array([[0, 129, 32768, 65535]], np.uint16)
    image = read_photo(saved(tmp_path / 'a', values, form))
    assert image[0, :, 0].tolist() == [0, 1, 128, 255]


def test_a_picture_that_is_too_large_says_what_to_do(tmp_path):
    # The header of a PNG of 20,000 x 20,000, and nothing behind it.
    data = (b'\x89PNG\r\n\x1a\n'
            + png_chunk(b'IHDR', struct.pack('>IIBBBBB', 20_000, 20_000, 8, 2, 0, 0, 0))
            + png_chunk(b'IDAT', b''))
    path = tmp_path / 'a.png'
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r'too large: 400000000 pixels, at most .* smaller copy'):
        read_photo(path)


def test_a_large_picture_brings_no_warning_of_pillow(tmp_path, recwarn, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 2000)
    path = saved(tmp_path / 'a.png', bags.picture(48, 64), 'PNG')
    assert read_photo(path).shape == (48, 64, 3)
    assert not list(recwarn)


@pytest.mark.parametrize('form', ['PNG', 'JPEG', 'TIFF', 'GIF', 'BMP', 'WEBP', 'PPM', 'JPEG2000'])
def test_a_cut_picture_is_damaged_whatever_its_decoder_raises(tmp_path, form):
    data = bags.encoded(bags.picture(64, 64), form)
    path = tmp_path / 'a'
    for size in range(0, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:size])
        try:
            image = read_photo(path)
        except ValueError as error:
            assert str(path) in str(error) and '\n' not in str(error)
        else:
            assert image.shape == (64, 64, 3)       # some decoders make do with less


def with_focal_length(path, focal, orientation=1):
    """Save an image of 48 x 64 pixels with a focal length [mm of 35 mm film]."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0xA405] = focal
    Image.fromarray(bags.picture(48, 64)).save(path, 'JPEG', exif=exif)
    return path


@pytest.mark.parametrize('orientation, size', [(1, (48, 64)), (6, (64, 48))])
def test_the_focal_length_of_exif(tmp_path, orientation, size):
    path = with_focal_length(tmp_path / 'a.jpg', 26, orientation)
    height, width = read_photo(path).shape[:2]
    assert (height, width) == size
    camera = photo_camera(path, size)
    # The diagonal of film is 43.27 mm, that of the image 80 pixels.
    assert camera.fx == camera.fy == pytest.approx(26 * 80 / 43.2666, rel=1e-5)
    assert (camera.cx, camera.cy) == ((width - 1) / 2, (height - 1) / 2)
    assert (camera.width, camera.height) == (width, height)


@pytest.mark.parametrize('focal', [0, 1, 60000])
def test_no_focal_length_that_is_none(tmp_path, focal):
    assert photo_camera(with_focal_length(tmp_path / 'a.jpg', focal), (48, 64)) is None


def test_no_exif_no_camera(tmp_path):
    for form in ('JPEG', 'PNG', 'GIF', 'PPM'):
        (tmp_path / 'a').write_bytes(bags.encoded(bags.picture(48, 64), form))
        assert photo_camera(tmp_path / 'a', (48, 64)) is None
    data = with_focal_length(tmp_path / 'b.jpg', 26).read_bytes()
    for place in range(20, 90):         # the EXIF block, damaged
        (tmp_path / 'c.jpg').write_bytes(data[:place] + bytes([data[place] ^ 255])
                                         + data[place + 1:])
        camera = photo_camera(tmp_path / 'c.jpg', (48, 64))
        assert camera is None or camera.fx > 0


# --- folders --------------------------------------------------------------------------------


def test_a_folder_gives_all_that_can_be_read(tmp_path):
    forms = {'a.jpg': 'JPEG', 'b.jfif': 'JPEG', 'c.JPE': 'JPEG', 'd.gif': 'GIF', 'e.ppm': 'PPM',
             'f.pnm': 'PPM', 'g.jp2': 'JPEG2000', 'h.webp': 'WEBP', 'i.TIF': 'TIFF',
             'j.bmp': 'BMP', 'k.tga': 'TGA', 'l.apng': 'PNG'}
    for name, form in forms.items():
        (tmp_path / name).write_bytes(bags.encoded(bags.picture(), form))
    photos, others = find_photos(tmp_path)
    assert [path.name for path in photos] == sorted(forms) and others == ''
    assert all(read_photo(path).shape == (48, 64, 3) for path in photos)
    for name in ('m.heic', 'n.HEIC', 'o.cr2', 'notes', '.hidden', 'p.pdf'):
        (tmp_path / name).write_bytes(b'?')
    (tmp_path / 'folder.jpg').mkdir()
    photos, others = find_photos(tmp_path)
    assert [path.name for path in photos] == sorted(forms)
    assert others == ('left out: 1 .cr2, 2 .heic, 1 .pdf, 1 without a suffix (not read here: '
                      'convert images to JPEG)')


ANIMATIONS = {'a.png': 'PNG', 'a.gif': 'GIF', 'a.webp': 'WEBP', 'a.tiff': 'TIFF', 'a.jpg': 'MPO',
              'a.avif': 'AVIF'}


def animation(path, second=None):
    """Write two pictures into a file; skips the test where Pillow cannot."""
    form = ANIMATIONS[path.name]
    Image.init()
    if form not in Image.SAVE_ALL:
        pytest.skip(f'this Pillow writes no {form} of several pictures')
    first, other = (Image.fromarray(bags.picture(seed=seed)) for seed in (0, 9))
    first.save(path, form, save_all=True, append_images=[other if second is None else second])


@pytest.mark.parametrize('name', ANIMATIONS)
def test_the_first_picture_of_an_animation_is_used_and_told(name, tmp_path):
    path = tmp_path / name
    animation(path)
    close = 0 if name in ('a.png', 'a.tiff') else 24
    assert np.abs(read_photo(path).astype(int) - bags.picture(seed=0)).mean() <= close
    assert holds_several(path)


def test_previews_do_not_count(tmp_path):
    animation(tmp_path / 'a.jpg', second=Image.new('RGB', (16, 16)))
    assert not holds_several(tmp_path / 'a.jpg')
    Image.fromarray(bags.picture()).save(tmp_path / 'one.jpg')
    assert not holds_several(tmp_path / 'one.jpg')


def test_a_run_tells_of_pictures_that_it_leaves_out(tmp_path, tiny_weights, caplog):
    (tmp_path / 'photos').mkdir()
    animation(tmp_path / 'photos/a.gif')
    Image.fromarray(bags.picture()).save(tmp_path / 'photos/one.jpg')
    run(RunSettings(data=str(tmp_path / 'photos'), output=str(tmp_path / 'out'),
                    weights=str(tiny_weights)))
    assert [text for text in caplog.messages if 'several pictures' in text] == [
        '1 image(s) hold several pictures, of which the first one is used; the first is '
        f'{tmp_path / "photos/a.gif"}: save the pictures as files of their own if all shall have '
        'depth']
