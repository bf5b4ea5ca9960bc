#!/usr/bin/env python3
"""
Measure the time of the node outside the network: 640 x 480 image in, depth and cloud published.

The output of the network is synthetic (a slanted wall and a box). Everything else is the node's
code, with real rclpy publishers and a subscription. For comparison, the naive implementation: a
message filled by assigning an array, a cloud packed point by point. Medians of one run.

    python bench/bench_overhead.py [--frames 200]
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import os
import struct
from time import perf_counter

import numpy as np
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField
import torch

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.inference.engine import DepthEstimator, NetworkDepth
from zoe_ros.inference.malloc import keep_freed_memory
from zoe_ros.inference.preprocess import plan_sizes
from zoe_ros.inference.routing import known_choice
from zoe_ros.messages import pack_array
from zoe_ros.model.config import VARIANTS
from zoe_ros.model.zoedepth import ZoeDepth
from zoe_ros.outputs import CAMERA_INFO, DEPTH, POINTS
from zoe_ros.pipeline import Pipeline
from zoe_ros.ros.camera_stream import ROS_TYPES
from zoe_ros.settings import FrameSettings

WIDTH, HEIGHT = 640, 480
KINDS = {DEPTH: Image, CAMERA_INFO: CameraInfo, POINTS: PointCloud2}


def room(size: tuple[int, int]) -> torch.Tensor:
    """Return depth (H, W) [m] of a slanted wall with a box in front of it."""
    rows, columns = size
    depth = torch.linspace(2, 6, columns).repeat(rows, 1) + torch.linspace(0, 1, rows)[:, None]
    depth[rows // 3:rows // 2, columns // 4:columns // 2] = 1.5
    return depth


def naive(depth: np.ndarray, image: np.ndarray, focal: float) -> tuple[Image, PointCloud2]:
    """Make the same two messages in the naive way that many nodes use."""
    message = Image(height=HEIGHT, width=WIDTH, encoding='32FC1', step=4 * WIDTH)
    message.data = depth.view(np.uint8).ravel()
    points = []
    for v in range(0, HEIGHT, 4):
        for u in range(0, WIDTH, 4):
            z = float(depth[v, u])
            red, green, blue = (int(c) for c in image[v, u])
            points.append(struct.pack('<fffI', (u - WIDTH / 2) / focal * z,
                                      (v - HEIGHT / 2) / focal * z, z,
                                      red << 16 | green << 8 | blue))
    cloud = PointCloud2(
        height=HEIGHT // 4, width=WIDTH // 4, point_step=16, row_step=4 * WIDTH,
        fields=[PointField(name=n, offset=4 * i, datatype=7, count=1)
                for i, n in enumerate(('x', 'y', 'z', 'rgb'))])
    cloud.data = b''.join(points)
    return message, cloud


def main() -> None:
    """Print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument('--frames', type=int, default=200)
    frames = parser.parse_args().frames
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    keep_freed_memory()     # like the node
    rclpy.init()
    node = rclpy.create_node('bench_overhead')
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
    publishers = {name: node.create_publisher(kind, name, qos) for name, kind in KINDS.items()}
    # Names, not messages: stored messages would occupy memory that a frame frees for the next.
    received = set()
    for name, kind in KINDS.items():
        node.create_subscription(kind, name, lambda _, name=name: received.add(name), qos)

    # Only the sizes of the estimator matter here, so no weights are needed.
    config = VARIANTS['n']
    with torch.device('meta'):
        estimator = DepthEstimator(ZoeDepth(config))
    plan = plan_sizes((HEIGHT, WIDTH), config.image_size, 'stretch', pad=False)
    net = NetworkDepth(room(plan.net), None, plan, *known_choice('indoor', config.head_names),
                       torch.zeros(3, *plan.net))
    image = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    message = Image(height=HEIGHT, width=WIDTH, encoding='rgb8', step=3 * WIDTH,
                    data=pack_array(image))
    focal = 500.0
    info = CameraInfo(height=HEIGHT, width=WIDTH, distortion_model='plumb_bob', d=[0.0] * 5,
                      k=[focal, 0.0, WIDTH / 2, 0.0, focal, HEIGHT / 2, 0.0, 0.0, 1.0])
    infos = CameraInfoBuffer()
    infos.add(info)
    pipeline = Pipeline(estimator, ROS_TYPES, FrameSettings(), infos, rectified=False)

    times: dict[str, list[float]] = {
        'decode': [], 'images': [], 'cloud': [], 'publish': [], 'all': [], 'naive': []}
    for i in range(frames + 10):
        start = perf_counter()
        prepared = pipeline.prepare(message, KINDS)
        frame = pipeline.finish(prepared, dataclasses.replace(net), 0.0)
        made = perf_counter()
        for name, output in frame.messages.items():
            publishers[name].publish(output)
        end = perf_counter()
        if i >= 10:     # the first frames make the table of rays and warm up
            for name, value in (('decode', frame.seconds['decode']), ('publish', end - made),
                                ('images', frame.seconds['images']),
                                ('cloud', frame.seconds['cloud']), ('all', end - start)):
                times[name].append(value)
        if i % 20 == 10:
            start = perf_counter()
            for name, output in zip((DEPTH, POINTS), naive(frame.depth, image, focal)):
                publishers[name].publish(output)
            times['naive'].append(perf_counter() - start)
        for _ in range(4):
            rclpy.spin_once(node, timeout_sec=0)
    assert received == set(KINDS), f'only {received} arrived'
    medians = {f'{name}_ms': round(1e3 * float(np.median(values)), 3)
               for name, values in times.items()}
    p95 = round(1e3 * float(np.percentile(times['all'], 95)), 3)
    print(f'one {WIDTH} x {HEIGHT} rgb8 frame beside the network, median of {frames} frames')
    for name, value in medians.items():
        print(f'  {name:<12} {value:8.2f}')
    print(f'  all, p95     {p95:8.2f}')
    print(json.dumps({'frames': frames, 'threads': torch.get_num_threads(), **medians,
                      'all_p95_ms': p95}))
    node.destroy_node()
    rclpy.shutdown()


if __name__ == '__main__':
    main()
