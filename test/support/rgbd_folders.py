"""RGB-D folders, written as docs/training.md describes them."""
import json

import numpy as np
from PIL import Image
from scenes import Planes, SIZE

CAMERA = {'fx': 90.0, 'fy': 91.0, 'cx': 48.0, 'cy': 32.0}


def write_folder(folder, domain='indoor', count=3, seed=0, factor=1.0, **about):
    """Write planes with their depth times a factor; further entries go into source.json."""
    folder.mkdir(parents=True)
    frames = []
    for index, sample in enumerate(Planes(domain, count, seed)):
        name = f'frame{index}'
        Image.fromarray(sample.image).save(folder / f'{name}.jpg', quality=95)
        write_depth(folder / f'{name}.depth.png', sample.depth * factor)
        frames.append({'name': name, 'scene': 'planes', 'width': SIZE[1], 'height': SIZE[0],
                       **CAMERA})
    write_json(folder, {'source': folder.name, 'domain': domain, 'depth_unit_m': 0.001,
                        'frames': frames, **about})
    return folder


def write_depth(path, depth):
    """Write depth (h, w) [m] as millimetres; NaN as 0."""
    Image.fromarray(np.nan_to_num(depth * 1000).round().astype(np.uint16)).save(path)


def write_json(folder, about):
    """Write source.json."""
    (folder / 'source.json').write_text(json.dumps(about))


def read_json(folder):
    """Read source.json."""
    return json.loads((folder / 'source.json').read_text())
