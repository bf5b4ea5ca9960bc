"""What users choose: kinds, choices, ranges, and that no choice is without an effect."""
from dataclasses import dataclass, fields, FrozenInstanceError, replace
import math
import re

import bags
from hypothesis import given
from hypothesis import settings as options
from hypothesis import strategies as st
import numpy as np
import pytest

from zoe_ros.camera_info import CameraInfoBuffer
from zoe_ros.cli import main
from zoe_ros.outputs import CAMERA_INFO, COLORED, DEPTH, MILLIMETRES, POINTS, UNCERTAINTY
from zoe_ros.pipeline import Pipeline
from zoe_ros.settings import (
    ASPECTS,
    check_choice,
    FrameSettings,
    ModelSettings,
    PRECISIONS,
    ROUTERS,
    RunSettings,
    setting,
    Settings,
)

ALL = {item.name: item for item in fields(RunSettings) if item.metadata}
# What `zoe run` offers: all but what matters to the node only.
RUN = {name: item for name, item in ALL.items() if not item.metadata['live']}
WITH_RANGE = [name for name, item in ALL.items() if item.metadata['low'] is not None]
WITH_CHOICES = [name for name, item in ALL.items() if item.metadata['choices']]
slow = options(deadline=None)      # other processes of the machine may be at work
# Values of each kind; those of other kinds are refused.
SAMPLES = {
    str: ['', 'nk', '1', 'true'], bool: [True, False], int: [1, 2, 0, -1], float: [1.0, 0.5],
    tuple: [(), ('a', 'b')]}
NO_KIND = [None, [1.0], {}, b'nk', 1j, np.int64(1), np.bool_(True), math]


def kind_of(name):
    """Return the type of a setting."""
    return type(ALL[name].default)


# --- each on its own ------------------------------------------------------------------------


def test_every_setting_is_described():
    assert set(ALL) == {item.name for item in fields(RunSettings)} - {'data'}
    for name, item in ALL.items():
        text, choices = item.metadata['text'], item.metadata['choices']
        low, high = item.metadata['low'], item.metadata['high']
        assert text.strip() == text and text.endswith(('.', ')')), name
        assert kind_of(name) in SAMPLES
        # A number has a range, a text may have choices, and the default is among them.
        assert (low is not None) == (high is not None) == (kind_of(name) in (int, float)), name
        assert not choices or (kind_of(name) is str and item.default in choices)
        assert low is None or low <= item.default <= high
        # Those that are a length or a time say the unit.
        if re.search(r'depth$|value|range$|constant', name):
            assert re.search(r'\[(m|s)\]', text), name


def test_defaults_are_accepted_and_the_same_everywhere():
    run = RunSettings()
    for group in (FrameSettings(), ModelSettings()):
        for item in fields(group):
            assert getattr(run, item.name) == getattr(group, item.name) == item.default
    assert ALL['precision'].metadata['choices'] == PRECISIONS == (
        'auto', 'fp32', 'fp16', 'bf16')
    assert ALL['aspect'].metadata['choices'] == ASPECTS == ('stretch', 'keep')
    assert ALL['router'].metadata['choices'] == ROUTERS == ('auto', 'indoor', 'outdoor')
    # By default nothing is removed, scaled or cut.
    frame = FrameSettings()
    assert (frame.min_depth, frame.far_value, frame.edge_threshold,
            frame.max_relative_uncertainty) == (0, 0, 0, 0)
    assert frame.depth_scale == 1 and not frame.focal_correction


@pytest.mark.parametrize('name', ALL)
def test_values_of_another_kind_are_refused(name):
    kind = kind_of(name)
    others = [value for other, values in SAMPLES.items() for value in values
              if other is not kind and not (kind is float and other is int)]
    for value in [*others, *NO_KIND]:
        with pytest.raises(ValueError) as caught:
            RunSettings(**{name: value})
        kind_name = 'list of strings' if kind is tuple else kind.__name__
        assert f"'{name}'" in str(caught.value) and kind_name in str(caught.value)
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', [name for name in ALL if kind_of(name) is float])
def test_a_whole_number_is_taken_for_a_float(name):
    low, high = (ALL[name].metadata[end] for end in ('low', 'high'))
    # The others make room: far_value stays off, and both minima are as low as can be.
    room = {'min_depth': 0.0, 'color_min_depth': 0.01}
    value = 7 if name not in room else math.ceil(low)
    assert low <= value <= high
    taken = getattr(RunSettings(**{
        **room, name: value, **({'max_depth': 5} if name == 'far_value' else {})}), name)
    assert taken == value and type(taken) is float
    # A truth value is a whole number to Python only.
    with pytest.raises(ValueError, match=name):
        RunSettings(**{name: True})


@pytest.mark.parametrize('name', WITH_CHOICES)
def test_choices(name):
    choices = ALL[name].metadata['choices']
    for choice in choices:
        assert getattr(RunSettings(**{name: choice}), name) == choice
    for value in ('', choices[0].upper(), f' {choices[0]}', ', '.join(choices), 'other'):
        if value in choices:
            continue
        with pytest.raises(ValueError) as caught:
            RunSettings(**{name: value})
        assert f"'{name}' is '{value}', not one of {', '.join(choices)}" in str(caught.value)


@pytest.mark.parametrize('name', WITH_RANGE)
def test_ranges(name):
    kind, meta = kind_of(name), ALL[name].metadata
    low, high = kind(meta['low']), kind(meta['high'])
    # What is said of several together is another matter, see below: here is room for each.
    room = {'min_depth': {'max_depth': 1000.0}, 'max_depth': {'min_depth': 0.0},
            'far_value': {'max_depth': 1000.0}, 'color_min_depth': {'color_max_depth': 1000.0},
            'color_max_depth': {'color_min_depth': 0.01}}.get(name, {})
    # Each end of a range is within, but for those where minimum and maximum would meet.
    meet = {'min_depth': high, 'max_depth': low, 'color_min_depth': high, 'color_max_depth': low}
    for value in (low, high):
        if meet.get(name) != value:
            assert getattr(RunSettings(**{**room, name: value}), name) == value
    beyond = ([low - 1, high + 1, -10 ** 18, 10 ** 18] if kind is int else
              [np.nextafter(low, -np.inf).item(), np.nextafter(high, np.inf).item(),
               -math.inf, math.inf, math.nan])
    for value in beyond:
        with pytest.raises(ValueError) as caught:
            RunSettings(**{**room, name: value})
        assert f"'{name}' is {value}, not within" in str(caught.value)
        assert f'{low:g} ... {high:g}' in str(caught.value)


@slow
@given(st.sampled_from(WITH_RANGE), st.one_of(
    st.floats(), st.integers(-2 ** 63, 2 ** 63 - 1), st.text(max_size=5), st.booleans()))
def test_any_value_is_taken_as_it_is_or_refused(name, value):
    try:
        taken = getattr(RunSettings(**{name: value}), name)
    except ValueError as error:
        assert f"'{name}'" in str(error)
    else:
        assert taken == value and type(taken) is kind_of(name)
        assert ALL[name].metadata['low'] <= taken <= ALL[name].metadata['high']


def test_fields_without_a_description_are_left_alone():
    assert RunSettings(data='anywhere').data == 'anywhere'


def test_settings_cannot_be_changed_and_can_be_compared():
    settings = FrameSettings()
    with pytest.raises(FrozenInstanceError):
        settings.depth_scale = 2.0
    assert settings == FrameSettings() != FrameSettings(depth_scale=2.0)
    assert hash(FrameSettings(min_depth=1)) == hash(FrameSettings(min_depth=1.0))


def test_one_of():
    check_choice('colour', 'red', ('red', 'blue'))
    with pytest.raises(ValueError, match=r"^colour 'green' is not one of red, blue$"):
        check_choice('colour', 'green', ('red', 'blue'))


def test_the_base_checks_any_settings():
    @dataclass(frozen=True)
    class Kitchen(Settings):
        plates: int = setting(4, 'Plates.', low=1, high=8)
        heat: float = setting(0.5, 'Heat [1].', low=0, high=1)

    assert Kitchen(plates=8, heat=1) == Kitchen(8, 1.0)
    with pytest.raises(ValueError, match=r"'plates' is 9, not within 1 \.\.\. 8"):
        Kitchen(plates=9)
    assert [item.metadata['runtime'] for item in fields(Kitchen)] == [False, False]


# --- what they say together -----------------------------------------------------------------


@pytest.mark.parametrize('least, most', [
    ('min_depth', 'max_depth'), ('color_min_depth', 'color_max_depth')])
def test_minimum_is_less_than_maximum(least, most):
    for near, far in ((2.0, 1.0), (2.0, 2.0), (1000.0, 1000.0)):
        with pytest.raises(ValueError) as caught:
            FrameSettings(**{least: near, most: far})
        assert f"'{least}' is {near:g}, not less than '{most}' = {far:g}" in str(caught.value)
    FrameSettings(**{least: 2.0, most: np.nextafter(2.0, 3.0).item()})
    # Against the default of the other, too.
    with pytest.raises(ValueError, match=least):
        FrameSettings(**{least: ALL[most].default})


def test_far_value_is_not_less_than_max_depth():
    for far in (1e-6, 5.0, np.nextafter(10.0, 0).item()):
        with pytest.raises(ValueError, match=r"'far_value' is .*, less than 'max_depth' = 10"):
            FrameSettings(max_depth=10, far_value=far)
    for far in (0, 10, 10.5, 10000):
        assert FrameSettings(max_depth=10, far_value=far).far_value == far
    with pytest.raises(ValueError, match="'far_value' is 20, less than 'max_depth' = 1000"):
        FrameSettings(far_value=20)


def test_replace_checks_the_whole():
    settings = FrameSettings(min_depth=1, max_depth=2)
    # Either alone would not do.
    for change in ({'min_depth': 5}, {'max_depth': 0.5}, {'far_value': 1.5}):
        with pytest.raises(ValueError):
            replace(settings, **change)
    moved = replace(settings, min_depth=5, max_depth=10)
    assert (moved.min_depth, moved.max_depth) == (5.0, 10.0)
    assert type(moved.min_depth) is float
    with pytest.raises(ValueError, match='color_max_depth'):
        replace(settings, color_max_depth=0.5)
    with pytest.raises(ValueError, match='router'):
        replace(settings, router='space')
    with pytest.raises(TypeError):
        replace(settings, nonsense=1)
    assert settings == FrameSettings(min_depth=1, max_depth=2)
    with pytest.raises(ValueError, match='far_value'):
        replace(RunSettings(max_depth=10, far_value=20), max_depth=30)


@slow
@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(0, 10000))
def test_any_range_of_depth_makes_sense_or_is_refused(near, far, beyond):
    accepted = near < far and (beyond == 0 or beyond >= far)
    try:
        FrameSettings(min_depth=near, max_depth=far, far_value=beyond)
    except ValueError:
        assert not accepted
    else:
        assert accepted


# --- the command line -----------------------------------------------------------------------


def test_every_setting_is_an_option_with_its_text(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '400')
    with pytest.raises(SystemExit) as caught:
        main(['run', '--help'])
    assert caught.value.code == 0
    text = ' '.join(capsys.readouterr().out.split())
    for name, item in RUN.items():
        flag = item.metadata['flag'] or '--' + name.replace('_', '-')
        start = re.search(rf'(?<=\s){flag}(?=[ ,]).*', text[text.index('options:'):])
        assert start, f'no option {flag}'
        assert item.metadata['text'] in start[0], name
        if item.metadata['choices']:
            assert start[0].startswith(f'{flag} {"|".join(item.metadata["choices"])} ')
        if kind_of(name) is bool:
            assert start[0].startswith(f'{flag}, --no-{flag[2:]} ')
            default = 'yes' if item.default else 'no'
        else:
            default = item.default
        if default not in ('', ()):
            assert f'{item.metadata["text"]} (default: {default}) ' in f'{start[0]} '
    assert '%%' not in text


def test_no_option_is_without_a_setting(capsys, monkeypatch):
    monkeypatch.setenv('COLUMNS', '400')
    with pytest.raises(SystemExit):
        main(['run', '--help'])
    text = capsys.readouterr().out
    options = set(re.findall(r'^ +(--[a-z-]+)', text, re.MULTILINE))
    # A shard belongs to one call, not to the settings of the results.
    assert options == {item.metadata['flag'] or '--' + name.replace('_', '-')
                       for name, item in RUN.items()} | {'--shard'}


# --- the effect of each ---------------------------------------------------------------------

OUTPUTS = (DEPTH, CAMERA_INFO, POINTS, MILLIMETRES, COLORED, UNCERTAINTY)
# Name of the setting -> what is set before, its other value, and the outputs that change by that;
# all others stay as they are, to the last bit.
DEPTHS = {DEPTH, POINTS, MILLIMETRES, COLORED}
IMAGES = {DEPTH, MILLIMETRES, COLORED, UNCERTAINTY}
EFFECTS = {
    'router': ({}, 'outdoor', DEPTHS | {UNCERTAINTY}),
    'router_time_constant': ({}, 0.0, DEPTHS | {UNCERTAINTY}),
    'min_depth': ({}, 1.5, DEPTHS | {UNCERTAINTY}),
    'max_depth': ({}, 3.0, DEPTHS | {UNCERTAINTY}),
    'far_value': ({'max_depth': 3.0}, 12.0, DEPTHS | {UNCERTAINTY}),
    'depth_scale': ({}, 1.5, DEPTHS | {UNCERTAINTY}),
    'focal_correction': ({}, True, DEPTHS | {UNCERTAINTY}),
    'camera_view': ({}, 'training', DEPTHS | {UNCERTAINTY}),
    'edge_threshold': ({}, 0.5, DEPTHS | {UNCERTAINTY}),
    'max_relative_uncertainty': ({}, 0.4, DEPTHS | {UNCERTAINTY}),
    # The tiny model sees nothing far away.
    'sky': ({'router': 'outdoor', 'depth_scale': 100.0}, 'inf', DEPTHS | {UNCERTAINTY}),
    'interpolation': ({}, 'linear', DEPTHS | {UNCERTAINTY}),
    'output_size': ({}, 'network', IMAGES | {CAMERA_INFO}),
    'output_decimation': ({}, 2, IMAGES | {CAMERA_INFO}),
    'color_min_depth': ({}, 1.0, {COLORED}),
    'color_max_depth': ({}, 5.0, {COLORED}),
    'point_cloud_downsample': ({}, 2, {POINTS}),
    'point_cloud_max_range': ({}, 2.0, {POINTS}),
    'point_cloud_color': ({}, False, {POINTS}),
}


@pytest.fixture
def made(tiny_estimator, photos):
    """Return a function: settings -> name of an output -> its bytes, of a video of two frames."""
    # The first goes to the head indoor; the second on its own would go outdoor.
    video = [bags.picture(96, 128), next(
        p for p in photos if tiny_estimator.predict(p).head == 'outdoor')]
    assert tiny_estimator.predict(video[0]).head == 'indoor'

    def run(settings):
        infos = CameraInfoBuffer()
        pipeline = Pipeline(tiny_estimator, bags.ROSBAGS.types, settings, infos, rectified=False)
        found = dict.fromkeys(OUTPUTS, b'')
        for i, image in enumerate(video):
            stamp = bags.START + i * bags.SECOND // 10
            infos.add(bags.ROSBAGS.info(*image.shape[:2], stamp=stamp))
            frame = pipeline.process(bags.ROSBAGS.photo(image, stamp=stamp), OUTPUTS)
            assert set(frame.messages) == set(OUTPUTS)
            for name, message in frame.messages.items():
                found[name] += bags.ROSBAGS.to_bytes(message)
        return found

    return run


@pytest.mark.parametrize('name', [item.name for item in fields(FrameSettings)])
def test_every_setting_of_frames_has_an_effect(made, name):
    assert name in EFFECTS, f'{name} is new: say in EFFECTS what it changes'
    before, value, outputs = EFFECTS[name]
    settings = FrameSettings(**before)
    assert getattr(settings, name) != value
    one, other = made(settings), made(replace(settings, **{name: value}))
    assert {output for output in OUTPUTS if one[output] != other[output]} == outputs


@pytest.mark.parametrize('name', [
    name for name in WITH_CHOICES if name in {item.name for item in fields(FrameSettings)}])
def test_every_choice_has_an_effect_of_its_own(made, name):
    choices = ALL[name].metadata['choices']
    before = EFFECTS[name][0]
    found = {made(FrameSettings(**{**before, name: choice}))[DEPTH] for choice in choices}
    # The video is indoor, by its average: that choice is the one that is made anyway.
    assert len(found) == len(choices) - (name == 'router')


def test_effects_are_of_settings_that_exist():
    assert set(EFFECTS) == {item.name for item in fields(FrameSettings)}
    assert all(item.metadata['runtime'] for item in fields(FrameSettings))
