#!/usr/bin/env python3
"""
Measure the live node end to end: age of depth and dropped images over the rate of the camera.

A node in a separate process receives 640 x 480 images over DDS at 1, 2, 4 and 8 times its maximum
rate, which is measured first. The age is the time from the stamp of an image to the arrival of its
depth here; the times of the stages come from the node's diagnostics. Publisher and node share one
processor.

    python bench/bench_live.py [--seconds 15] [--plot docs/live.png] [-- -p variant:=nk ...]
"""
from __future__ import annotations

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2

from zoe_ros.headers import nanoseconds
from zoe_ros.messages import pack_array

WIDTH, HEIGHT, FOCAL = 640, 480, 520.0
FACTORS = (1, 2, 4, 8)
STAGES = ('decode', 'network', 'images', 'cloud', 'publish')
START = 120.0       # timeout for the first depth [s]


class Camera:
    """A camera and a listener on one thread."""

    def __init__(self) -> None:
        """Create publishers and subscriptions."""
        self.node = rclpy.create_node('bench_live')
        qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
        self._images = self.node.create_publisher(Image, 'image_raw', qos)
        self._infos = self.node.create_publisher(CameraInfo, 'camera_info', qos)
        self.node.create_subscription(Image, 'depth/image', self._hear, qos)
        self.node.create_subscription(PointCloud2, 'depth/points', lambda _: None, qos)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self._diagnose, 10)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        self._image = Image(height=HEIGHT, width=WIDTH, encoding='rgb8', step=3 * WIDTH,
                            data=pack_array(pixels))
        self._info = CameraInfo(
            height=HEIGHT, width=WIDTH, distortion_model='plumb_bob', d=[0.0] * 5,
            k=[FOCAL, 0.0, WIDTH / 2, 0.0, FOCAL, HEIGHT / 2, 0.0, 0.0, 1.0])
        self.ages: list[float] = []
        self.reports: list[dict[str, str]] = []

    def send(self) -> None:
        """Publish an image and its CameraInfo, stamped now."""
        stamp = self.node.get_clock().now().to_msg()
        for message, publisher in ((self._info, self._infos), (self._image, self._images)):
            message.header.stamp, message.header.frame_id = stamp, 'camera_optical'
            publisher.publish(message)

    def film(self, rate: float, seconds: float) -> int:
        """Send images at a rate [Hz] for some time, and receive depth; return their number."""
        quiet = time.monotonic() + 0.5
        while time.monotonic() < quiet:     # depth of earlier images
            self._executor.spin_once(0.1)
        self.ages, self.reports = [], []
        begin, sent = time.monotonic(), 0
        while time.monotonic() - begin < seconds:
            if time.monotonic() - begin >= sent / rate:
                self.send()
                sent += 1
            self._executor.spin_once(max(0.0, begin + sent / rate - time.monotonic()))
        return sent

    def wait_for_depth(self) -> None:
        """Send images until depth arrives."""
        begin = time.monotonic()
        while not self.ages:
            if time.monotonic() - begin > START:
                raise TimeoutError(f'no depth within {START:g} s: see the output of the node')
            self.send()
            self._executor.spin_once(0.2)

    def _hear(self, message: Any) -> None:
        self.ages.append((time.time_ns() - nanoseconds(message.header.stamp)) / 1e9)

    def _diagnose(self, message: Any) -> None:
        self.reports.append({value.key: value.value for status in message.status
                             for value in status.values})


def measure(camera: Camera, factor: float, capacity: float, seconds: float) -> dict[str, Any]:
    """Return the results at ``factor`` times the node's maximum rate, times in ms."""
    sent = camera.film(factor * capacity, seconds)
    ages = np.array(camera.ages) * 1e3
    row: dict[str, Any] = {
        'factor': factor, 'in_hz': round(sent / seconds, 1),
        'out_hz': round(len(ages) / seconds, 1), 'dropped': round(1 - len(ages) / sent, 3)}
    row |= {f'age_p{p}': round(float(np.percentile(ages, p)), 1) for p in (5, 50, 95)}
    for stage in STAGES:
        for p in ('p50', 'p95'):
            values = [float(r[f'{stage} {p} [ms]']) for r in camera.reports[1:]
                      if f'{stage} {p} [ms]' in r]
            row[f'{stage}_{p}'] = round(float(np.median(values)), 2) if values else None
    return row


def memory_of(pid: int) -> float:
    """Return the peak memory of a process [MB]."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith('VmHWM'))


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw ages and stages over the input rate."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout='constrained')
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    names = [f'{row["factor"]} x\n{row["in_hz"]:.0f} Hz' for row in rows]
    middle = np.array([row['age_p50'] for row in rows])
    spread = [middle - [row['age_p5'] for row in rows], [row['age_p95'] for row in rows] - middle]
    left.errorbar(names, middle, yerr=spread, marker='o', capsize=4)
    load = 'input rate / maximum throughput'
    left.set(ylim=(0, None), title='age on arrival: median, 5th to 95th percentile',
             xlabel=load, ylabel='age of depth on arrival [ms]')
    left.grid(alpha=0.3)
    bottom = np.zeros(len(rows))
    for stage in STAGES:
        values = np.array([row[f'{stage}_p50'] or 0 for row in rows])
        right.bar(names, values, bottom=bottom, label=stage)
        bottom += values
    right.set(title='stages of a frame: medians', xlabel=load, ylabel='time per frame [ms]')
    right.legend(fontsize='small', loc='upper left', bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print a table, and one line of JSON last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.
                                     RawDescriptionHelpFormatter)
    parser.add_argument('--seconds', type=float, default=15, help='at each rate')
    parser.add_argument('--plot', type=Path, help='file of a picture')
    parser.add_argument('ros', nargs='*', help='ROS arguments of the node')
    options = parser.parse_args()
    # Only on this machine, and separate from other nodes.
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))
    begin = time.monotonic()
    process = subprocess.Popen([sys.executable, '-m', 'zoe_ros.ros.main', '--ros-args',
                                *options.ros])
    rclpy.init()
    try:
        camera = Camera()
        camera.wait_for_depth()
        started = time.monotonic() - begin
        camera.film(60.0, 4.0)      # warm-up
        camera.film(60.0, 6.0)
        capacity = len(camera.ages) / 6.0
        rows = [measure(camera, factor, capacity, options.seconds) for factor in FACTORS]
        memory = memory_of(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        rclpy.shutdown()
    print(f'from the start of the process to the first depth: {started:.1f} s; '
          f'peak memory {memory:.0f} MB; the node can do {capacity:.1f} frames/s')
    columns = list(rows[0])[:7]
    print('  '.join(f'{column:>8}' for column in columns))
    for row in rows:
        print('  '.join(f'{row[column]:8}' for column in columns))
    print('stages at 1 x, p50 / p95 [ms]: ' + ', '.join(
        f'{stage} {rows[0][f"{stage}_p50"]} / {rows[0][f"{stage}_p95"]}' for stage in STAGES))
    if options.plot:
        plot(rows, options.plot)
    print(json.dumps({'start_s': round(started, 1), 'peak_mb': round(memory),
                      'capacity_hz': round(capacity, 1), 'rows': rows}))


if __name__ == '__main__':
    main()
