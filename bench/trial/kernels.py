"""The step that lists what runs on the device in a frame."""
from __future__ import annotations

from collections import defaultdict
from typing import TextIO

from bench.trial import models
from bench.trial.record import Trial
import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

FRAMES = 5
ROWS = 60           # of the table in profile.txt
TOP = 10            # kernels in the summary


def profile(trial: Trial) -> None:
    """Write profile.txt: a table by kernel, and one frame in order of time."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * trial.cuda
    est, image = models.estimator(trial, 'bf16'), models.photo()
    with (trial.out / 'profile.txt').open('a', encoding='utf-8') as file:
        for batch in (1, 2) if trial.tiny else (1, 8):
            with trial.attempt(f'batch {batch}'):
                for _ in range(3):
                    est.predict_batch([image] * batch)
                with torch.profiler.profile(activities=activities) as found:
                    for _ in range(FRAMES):
                        est.predict_batch([image] * batch)
                    trial.synchronize()
                file.write(f'=== batch {batch}, {FRAMES} frames\n' + found.key_averages().table(
                    sort_by=f'self_{trial.device.type}_time_total', row_limit=ROWS,
                    max_name_column_width=110) + '\n')
                kind = DeviceType.CUDA if trial.cuda else DeviceType.CPU
                _in_order(trial, file, batch, [
                    (event.time_range.start, event.time_range.elapsed_us(), event.name)
                    for event in found.events() if event.device_type == kind])


def _in_order(trial: Trial, file: TextIO, batch: int,
              events: list[tuple[float, float, str]]) -> None:
    """:param events: start [us], duration [us] and name of all frames."""
    events.sort()
    each = len(events) // FRAMES
    frame = events[len(events) - each:]
    file.write(f'=== batch {batch}, one frame in order: start, gap before, duration [us], name\n')
    end = zero = frame[0][0]
    busy = idle = 0.0
    for start, duration, name in frame:
        gap = max(0.0, start - end)
        file.write(f'{start - zero:10.1f} {gap:8.1f} {duration:8.1f} {name[:120]}\n')
        busy, idle, end = busy + duration, idle + gap, max(end, start + duration)
    trial.fact(f'frame, batch {batch}', kernels=each, busy_us=round(busy), idle_us=round(idle))
    totals: dict[str, list[float]] = defaultdict(list)
    for _, duration, name in frame:
        totals[name].append(duration)
    ranking = sorted(totals.items(), key=lambda item: -sum(item[1]))
    for name, durations in ranking[:TOP]:
        trial.fact(f'kernels, batch {batch}', us=round(sum(durations), 1), n=len(durations),
                   kernel=name.removeprefix('void ')[:50])
