"""Installs zoe_ros: by colcon (ament_python) on a ROS 2 distribution, or by pip alone."""
from glob import glob
from pathlib import Path

from setuptools import find_packages, setup

NAME = 'zoe_ros'
# colcon build --symlink-install runs a link to this file, from its build folder.
ROOT = Path(__file__).resolve().parent

setup(
    name=NAME,
    version='0.1.0',
    description='Metric depth images and point clouds from a single camera, with ZoeDepth',
    long_description=(ROOT / 'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    maintainer='The zoe_ros developers',
    maintainer_email='zoe-ros@users.noreply.github.com',
    packages=find_packages(include=[NAME, f'{NAME}.*']),
    package_data={NAME: ['py.typed', 'data/fastdds.xml', 'data/sample/*', 'data/weights/*']},
    data_files=[
        ('share/ament_index/resource_index/packages', [f'resource/{NAME}']),
        (f'share/{NAME}', ['package.xml']),
        (f'share/{NAME}/launch', glob('launch/*.launch.py')),
        (f'share/{NAME}/config', [*glob('config/*.*'), f'{NAME}/data/fastdds.xml']),
        (f'share/{NAME}/config/consumers', glob('config/consumers/*.yaml')),
    ],
    zip_safe=False,
    python_requires='>=3.10',
    install_requires=[
        'setuptools',
        'backports.zstd>=1.0; python_version < "3.14"',
        'huggingface_hub>=1.1',
        'lz4>=4.0',
        'numpy>=1.21',
        'pillow>=9.0',
        'pyyaml>=5.4',
        'rosbags>=0.10',
        'safetensors>=0.4',
        # Older versions fail: timm up to 1.0.30 cannot build all networks on the 'meta' device;
        # torch 2.1 has no float16 on a CPU, and 2.4 does not count operations for zoe bench.
        'timm>=1.0.31',
        'torch>=2.6',
        'tqdm>=4.57',
    ],
    extras_require={
        # ROS 2 from wheels, for machines without a ROS distribution. It is an extra, because it
        # would shadow the rclpy of a distribution.
        'ros': [
            'ros-rclpy[fastrtps]',
            'ros-geometry-msgs',
            'ros-sensor-msgs',
            'ros-std-msgs',
            'ros-diagnostic-msgs',
            'ros-lifecycle-msgs',
            'ros-nav-msgs',
        ],
        # The anchors 'odometry' and 'stereo'. An extra, because ROS brings an OpenCV of its own.
        'opencv': ['opencv-python-headless<5'],
        # Further requirements of zoe train, zoe world and two datasets (SUN RGB-D, Hypersim).
        # Embree has no wheels for Linux on ARM, so zoe world does not run there.
        'train': [
            'embreex>=2.17; platform_machine != "aarch64"',
            'h5py>=3.0',
            'matplotlib>=3.5',
            'scipy>=1.7',
        ],
        # Further requirements of zoe export.
        'export': ['onnx>=1.17', 'onnxruntime>=1.20', 'onnxscript>=0.5'],
        # Further requirements of zoe fleet, of bags on other machines, and of tables as Parquet.
        'fleet': ['fsspec[http]>=2024.2', 'pyarrow>=15', 'ray>=2.40', 'universal_pathlib>=0.2.6'],
        # Further requirements of zoe run --format lerobot.
        'lerobot': ['av>=14', 'pyarrow>=15'],
        # colcon test looks for pytest in an extra of this name.
        'test': ['pytest>=7.0', 'pytest-timeout>=2.1', 'hypothesis>=6.0',
                 'opencv-python-headless<5', 'colcon-common-extensions'],
        # Further requirements of `make test`.
        'dev': [
            'flake8',
            'mypy',
            'pydocstyle',
            'pytest-rerunfailures>=16.7',
            'pytest-xdist>=3.8',
            'ros-ament-flake8',
            'ros-ament-pep257',
            'flake8-builtins',
            'flake8-comprehensions',
            'flake8-docstrings',
            'flake8-import-order',
            'flake8-quotes',
            'ruff',
            'scikit-image>=0.19',      # the sources of the pictures in test/golden
            'transformers>=4.50',
            'types-PyYAML',
            'types-tqdm',
        ],
    },
    entry_points={
        'console_scripts': [
            'zoe = zoe_ros.cli:main',
            'depth_node = zoe_ros.ros.main:main',
        ],
    },
)
