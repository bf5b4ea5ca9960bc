#!/usr/bin/env python3
"""
Draw the pictures of the README: the drive of the sample bag as the shipped model sees it.

The depth is that of `zoe run` and of the node; the code that draws it is that of `zoe run`, too.

    python docs/make_overview.py docs/overview.png docs/drive.gif
"""
from __future__ import annotations

from pathlib import Path
import sys

import numpy as np
from PIL import Image

from zoe_ros.bag import BagReader
from zoe_ros.bag_messages import BAG_TYPES
from zoe_ros.camera_info import camera_from_info
from zoe_ros.inference.engine import DepthEstimator
from zoe_ros.picture import frame_row, stack, View
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import FrameSettings

SAMPLE = Path(__file__).parents[1] / 'zoe_ros' / 'data' / 'sample'
PLACES = (range(16), range(16, 32))     # frames of the room and of the street
SHOWN = (0, 29)                         # in the still picture, one of each
BOX, SMALL_BOX = (420, 315), (256, 192)     # of a panel, in either picture [px]
FRAME_TIME, LAST_TIME = 150, 900        # of the moving picture [ms]
COLORS = 256


def views() -> list[View]:
    """Return the frames of the bag with the depth of the shipped model."""
    estimator = DepthEstimator.load('mobile', device='cpu', precision='fp32')
    pipeline = Pipeline(estimator, BAG_TYPES, FrameSettings(), rectified=False)
    found = []
    with BagReader(SAMPLE) as bag:
        for image in bag:
            frame = pipeline.process(image.message, bag.infos, ())
            info = bag.infos.find(image.message.header)
            found.append(View(frame.image, frame.depth, camera_from_info(
                info, frame.image.shape[:2], rectified=False)))
    return found


def main(still: Path, moving: Path) -> None:
    """Draw both pictures, each place on a scale of its own."""
    frames = views()
    rows, film, times = [], [], []
    for place, shown in zip(PLACES, SHOWN):
        depths = np.stack([frames[i].depth for i in place])
        near, far = (float(x) for x in np.nanpercentile(depths, (2, 98)))
        rows.append(stack([frame_row(frames[shown], near, far, BOX)], near, far))
        film += [stack([frame_row(frames[i], near, far, SMALL_BOX)], near, far) for i in place]
        times += [FRAME_TIME] * (len(place) - 1) + [LAST_TIME]
    sheet = Image.new('RGB', (rows[0].width, sum(row.height for row in rows)))
    for i, row in enumerate(rows):
        sheet.paste(row, (0, i * row.height))
    sheet.save(still, optimize=True)
    first, *rest = [picture.quantize(COLORS, dither=Image.Dither.NONE) for picture in film]
    first.save(moving, save_all=True, append_images=rest, duration=times, loop=0)
    print(f'wrote {still} and {moving}')


if __name__ == '__main__':
    main(Path(sys.argv[1]), Path(sys.argv[2]))
