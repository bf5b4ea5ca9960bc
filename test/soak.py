"""
A long run of the node: python test/soak.py [--frames 5000] [--cycles 100].

The node with the tiny model gets images faster than it can process them. Its memory must stay
flat, its results must stay fresh, and a lifecycle manager may drive it round and round. Prints a
table; exits with 1 where a limit is exceeded. test_node_soak.py runs a short version.

Memory is judged under a malloc that gives back what is freed. Otherwise glibc keeps a few MB more
now and then, while large buffers of several threads find new places in its heap: that looks like
a slow leak for thousands of frames and is none. Giving back costs several milliseconds a frame,
which is why the node by itself asks for the opposite (zoe_ros/inference/malloc.py).

The camera has the node's profile of Fast DDS. With the default segment of shared memory it serves
worse and worse: after seven minutes at 33 images a second 11 of them arrived, for good
(FASTDDS_BUILTIN_TRANSPORTS=DEFAULT python test/soak.py --frames 15000).
"""
import argparse
from dataclasses import dataclass
import os
from pathlib import Path
import random
import sys
import tempfile
import time

if __name__ == '__main__':
    # As conftest.py does it, before anything joins DDS.
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    os.environ.setdefault('ROS_DOMAIN_ID', str(random.SystemRandom().randint(1, 100)))
    HERE = Path(__file__).resolve().parent
    sys.path[:0] = [str(HERE.parent), str(HERE / 'support')]
    from zoe_ros.ros.transport import transport
    os.environ.update(transport())

import bags
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import made_up
import numpy as np
from ros_support import Client, good_image, good_info, PATIENCE, READY, running_node, stamp, tiny

SIZE = 480, 640
# How much faster than the node the publisher is.
HURRY = 2.0
LEAK = 1.0              # [MB] per 1,000 frames
LEAK_OF_CYCLES = 0.1    # [MB] per cycle
LOSS = 10               # [%] of the images that may not arrive at the end of a long run
# Even a flat process moves by that much. A short run can tell the loss of a buffer or a message
# with each frame, not a slow leak; from LONG frames on the limit is LEAK itself.
NOISE = 6.0             # [MB]
LONG = 3000
WARM_UP = 1000          # frames of a long run until memory has found its shape
LOOK_EVERY = 20         # cycles between those in which a frame goes through
GIVES_BACK = {'MALLOC_ARENA_MAX': '1', 'MALLOC_MMAP_THRESHOLD_': '262144',
              'MALLOC_TRIM_THRESHOLD_': '262144'}
CYCLE = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE,
         Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)


@dataclass
class Row:
    """One line of the table."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def good(self):
        """Return whether the value is within its limit."""
        return self.limit is None or self.value <= self.limit

    def __str__(self):
        """Return the line."""
        limit = '' if self.limit is None else f'< {self.limit:.2f}'
        return (f'{self.name:44} {self.value:9.2f} {self.unit:14} {limit:10} '
                f'{"" if self.limit is None else "ok" if self.good else "FAILED"}').rstrip()


def status_of(pid, key):
    """Return a number of /proc/PID/status, such as 'Threads', or 'VmRSS' [kB]."""
    for line in Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith(f'{key}:'):
            return int(line.split()[1])
    raise ProcessLookupError(pid)


def resident(pid):
    """Return the resident memory of a process [MB]."""
    return status_of(pid, 'VmRSS') / 1024


def growth(samples):
    """
    Return the growth of memory in (x, MB) samples per x, from their first third to their last.

    Of each third counts the least: images under way come on top of that, for a moment.
    """
    first, last = samples[:len(samples) // 3], samples[-(len(samples) // 3):]
    return (min(y for _, y in last) - min(y for _, y in first)) / (last[0][0] - first[0][0])


def soak_frames(weights, frames, warm_up=200):
    """Send images until ``frames`` results have come after the warm-up; return rows."""
    types = bags.rclpy_family()
    images = [types.photo(bags.picture(*SIZE, seed=i)) for i in range(5)]
    info = types.info(*SIZE)
    with running_node(environment=GIVES_BACK,
                      **tiny(weights, diagnostics_period=0.5)) as node, \
            Client(node, compressed=False) as client:
        node.wait_for(READY)
        client.wait_for_match()
        times = []
        for i in range(20):
            begin = time.perf_counter()
            client.ask(stamp(images[i % 5], time.time()), stamp(info, time.time()))
            times.append(time.perf_counter() - begin)
        period = np.median(times) / HURRY
        samples, published = [], []
        done, total = 0, warm_up + frames
        start = due = last = time.monotonic()
        while done < total:
            now = time.monotonic()
            assert now - last < PATIENCE, f'no result for {PATIENCE} s'
            if now >= due:
                at = time.time()
                client.infos.publish(stamp(info, at))
                client.images.publish(stamp(images[len(published) % 5], at))
                published.append(now)
                due = max(due + period, now)
            client._executor.spin_once(timeout_sec=max(0, due - time.monotonic()))
            if client.depth:
                done, last = done + len(client.depth), now
                client.clear()
                if done > warm_up and (not samples or done - samples[-1][0] >= frames / 100):
                    samples.append((done, resident(node.process.pid)))
            if done <= warm_up:
                client.reports.clear()
                start, published = time.monotonic(), published[-1:]
        took = time.monotonic() - start
        reports = [{v.key: v.value for v in status.values} for status in client.reports[1:]]
        dropped = int(reports[-1].get('dropped: newer', 0))
        clean = node.end() == 0 and 'Traceback' not in node.output

    def over(key, reduce):
        """Reduce a number of the reports, which cover half a second each."""
        return reduce([float(r[key]) for r in reports if key in r])

    stages = ('decode', 'network', 'images', 'cloud', 'publish')
    work = sum(over(f'{stage} p50 [ms]', np.median) for stage in stages)
    slow = sum(over(f'{stage} p95 [ms]', np.median) for stage in stages)
    gaps = np.diff(published) * 1e3
    rates = [float(report['rate in [Hz]']) for report in reports]
    lost = 100 - np.mean(rates[-len(rates) // 3:]) * np.median(gaps) / 10
    return [
        Row('frames that came out', done - warm_up, ''),
        Row('frames that went in', len(published), ''),
        Row('lost on the way, last third', lost, '%', LOSS if frames >= LONG else None),
        Row('dropped for newer ones', dropped, ''),
        Row('rate out', (done - warm_up) / took, 'Hz'),
        Row('processing, median', work, 'ms'),
        Row('processing, p95', slow, 'ms'),
        Row('time between images, median', np.median(gaps), 'ms'),
        Row('time between images, p95', np.percentile(gaps, 95), 'ms'),
        Row('age at publish, median', over('age at publish p50 [ms]', np.median), 'ms',
            1.5 * work + np.median(gaps)),
        Row('age at publish, p95', over('age at publish p95 [ms]', np.median), 'ms',
            1.5 * slow + np.percentile(gaps, 95)),
        Row('memory after the warm-up', samples[0][1], 'MB'),
        Row('memory at the end', samples[-1][1], 'MB'),
        Row('growth', growth(samples) * 1000, 'MB/1000 frames',
            LEAK if frames >= LONG else 1000 * NOISE / frames),
        Row('unclean ends', 0 if clean else 1, '', 0)]


def soak_cycles(weights, cycles):
    """Configure, activate, deactivate and clean up, again and again; return rows."""
    memory, threads, failures = [], [], 0
    start = time.monotonic()
    with running_node(environment=GIVES_BACK, **tiny(weights, autostart=False)) as node, \
            Client(node, compressed=False) as client:
        for i in range(cycles):
            for transition in CYCLE:
                request = ChangeState.Request(transition=Transition(id=transition))
                failures += not client.call(ChangeState, 'change_state', request).success
                if transition == Transition.TRANSITION_ACTIVATE and i % LOOK_EVERY == 0:
                    client.wait_for_match()
                    client.ask(good_image(i), good_info(i))
            memory.append((i, resident(node.process.pid)))
            threads.append(status_of(node.process.pid, 'Threads'))
        took = time.monotonic() - start
        clean = node.end() == 0 and 'Traceback' not in node.output
    half = cycles // 2
    return [
        Row('lifecycle cycles', cycles, ''),
        Row('time for all', took, 's'),
        Row('failed transitions', failures, '', 0),
        Row('memory after the first cycle', memory[0][1], 'MB'),
        Row('memory after the last cycle', memory[-1][1], 'MB'),
        Row('growth', growth(memory), 'MB/cycle', max(LEAK_OF_CYCLES, NOISE / cycles)),
        Row('threads after the last cycle', threads[-1], '', max(threads[:half])),
        Row('unclean ends of the driven node', 0 if clean else 1, '', 0)]


def main():
    """Run both parts and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--frames', type=int, default=5000)
    parser.add_argument('--cycles', type=int, default=100)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights = made_up.write_tiny(Path(folder) / 'tiny.safetensors')
        good = show(soak_frames(weights, chosen.frames, WARM_UP))
        good &= show(soak_cycles(weights, chosen.cycles))
    return 0 if good else 1


def show(rows):
    """Print a part of the table; return whether all is within its limits."""
    sys.stdout.write('\n'.join(map(str, rows)) + '\n')
    sys.stdout.flush()
    return all(row.good for row in rows)


if __name__ == '__main__':
    sys.exit(main())
