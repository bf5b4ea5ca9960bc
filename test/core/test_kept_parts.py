"""Parts of a bag that outlive their fleet: used again only if one run would make the same."""
from dataclasses import replace
from pathlib import Path
import shutil

import bags
import made_up
import pytest

from zoe_ros import kept_parts
from zoe_ros.cuts import plan
from zoe_ros.jobs import jobs_of, tell_kept
from zoe_ros.model.calibration import Calibration, save_calibration
from zoe_ros.parts import join_parts, run_part
from zoe_ros.run import load_estimator
from zoe_ros.run_many import cut_folder, earlier, results_folder, run_one
from zoe_ros.settings import RunSettings

RECORDS, MESSAGES = 'records.jsonl', 'messages.cdr'


@pytest.fixture
def settings(tmp_path):
    """Return the settings of a run over a bag of eight images, by weights of its own."""
    bag = bags.write_bag(tmp_path / 'drive', bags.camera_messages(8))
    weights = made_up.write_tiny(tmp_path / 'own.safetensors')
    return RunSettings(data=str(bag), output=str(tmp_path / 'fleet'), variant='tiny',
                       weights=str(weights), device='cpu', precision='fp32')


@pytest.fixture
def parts(settings):
    """Return the parts of the bag, of which the first is complete."""
    found = jobs_of([settings], 2, 1)[0].parts
    run_part(settings, found[0], load_estimator(settings))
    return found


def files_of(folder):
    """Return what tells a file from another one of the same name."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder.iterdir()}


def is_run_again(settings, part):
    """Run over a part; tell whether its files are new."""
    folder = cut_folder(settings) / '1'
    before = files_of(folder)
    run_part(settings, part, load_estimator(settings))
    assert kept_parts.SEAL in files_of(folder)
    return files_of(folder) != before


def other_weights(settings):
    """Replace the weights by others."""
    made_up.write_tiny(Path(settings.weights), seed=1)


def calibration(settings):
    """Calibrate the weights."""
    save_calibration(Path(settings.weights), {'indoor': Calibration(2.0, 1.0, 0.01)}, [])


def recorded_again(settings):
    """Replace the bag by another recording."""
    shutil.rmtree(settings.data)
    bags.write_bag(Path(settings.data), bags.camera_messages(9))


def damage(name):
    """Return a function that flips a bit in the middle of a file of the part."""
    def damaged(settings):
        path = cut_folder(settings) / '1' / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return damaged


def lose(name):
    """Return a function that removes a file of the part."""
    return lambda settings: (cut_folder(settings) / '1' / name).unlink()


def test_a_part_that_is_complete_is_not_run_again(settings, parts):
    assert not is_run_again(settings, parts[0])
    # The command says which choices it leaves to the hardware; the part knows what they were.
    assert not is_run_again(replace(settings, variant=''), parts[0])
    copy = Path(settings.data).with_name('copy')
    shutil.copytree(settings.data, copy, copy_function=shutil.copyfile)
    shutil.rmtree(settings.data)
    copy.rename(settings.data)
    assert not is_run_again(settings, parts[0])


@pytest.mark.parametrize('change', [
    other_weights, calibration, recorded_again, damage(RECORDS), damage(MESSAGES),
    damage(kept_parts.SEAL), lose(RECORDS), lose(MESSAGES), lose(kept_parts.SEAL)])
def test_a_part_of_other_inputs_or_a_damaged_one_is_run_again(settings, parts, change):
    change(settings)
    assert is_run_again(settings, parts[0])
    assert not is_run_again(settings, parts[0])


def test_a_part_of_other_settings_cuts_or_versions_is_run_again(settings, parts, monkeypatch):
    assert is_run_again(replace(settings, sky='inf'), parts[0])
    assert is_run_again(settings, replace(parts[0], stop=parts[0].stop + 1))
    assert is_run_again(settings, parts[0])
    monkeypatch.setattr(kept_parts, '__version__', '0.0.1')
    assert is_run_again(settings, parts[0])


def test_a_part_of_another_device_or_precision_is_another(settings, parts):
    def origin(precision, device):
        return kept_parts.made_of(replace(settings, precision=precision), parts[0], {}, device)

    folder = cut_folder(settings) / '1'
    kept_parts.seal(folder, origin('fp32', 'cpu'))
    assert kept_parts.is_usable(folder, origin('fp32', 'cpu'))
    assert not kept_parts.is_usable(folder, origin('bf16', 'cpu'))
    assert not kept_parts.is_usable(folder, origin('fp32', 'cuda'))


def test_the_results_of_kept_parts_are_those_of_one_run(settings, parts, tmp_path):
    kept = files_of(cut_folder(settings) / '1')
    job, = jobs_of([settings], 2, 1)
    assert job.parts == parts and job.complete_parts() == 1
    estimator = load_estimator(settings)
    for part in job.parts:
        run_part(settings, part, estimator)
    assert files_of(cut_folder(settings) / '1') == kept
    assert not join_parts(settings, len(parts), estimator).error
    serial = replace(settings, output=str(tmp_path / 'serial'))
    run_one(serial, estimator)
    for name in ('bag/bag.mcap', 'overview.png', 'inputs.json'):
        one, other = (results_folder(Path(each.output), Path(each.data)) / name
                      for each in (settings, serial))
        assert one.read_bytes() == other.read_bytes()
    assert not cut_folder(settings).exists()


# --- the places of the cuts -----------------------------------------------------------------


def test_the_cuts_of_a_bag_stay_whoever_goes_on(settings, parts, tmp_path, caplog):
    other = replace(settings, data=str(bags.write_bag(tmp_path / 'other',
                                                      bags.camera_messages(8))))
    assert len(plan([settings], 4, 1)[0]) != len(parts)
    assert plan([settings, other], 2, 1)[0] == []
    with caplog.at_level('INFO', 'zoe_ros.jobs'):
        for workers in (1, 2, 4):
            job, = jobs_of([settings], workers, 1)
            assert job.parts == parts
        assert [job.parts for job in jobs_of([settings, other], 2, 1)] == [parts, []]
    assert set(caplog.messages) == {
        f'{settings.data} is cut into {len(parts)} parts, of which 1 are there'}


@pytest.mark.parametrize('change, more, least', [
    (recorded_again, {}, 1),
    (lambda settings: None, {'sky': 'inf'}, 1),
    (lambda settings: None, {'anchor': 'scan'}, 1),
    (lambda settings: None, {}, 2),
    (lambda settings: None, {}, 0),
    (lambda settings: (cut_folder(settings) / kept_parts.PLAN).write_text('[]'), {}, 1),
    (lambda settings: (cut_folder(settings) / kept_parts.PLAN).unlink(), {}, 1),
])
def test_parts_that_are_of_no_use_are_removed(settings, parts, change, more, least):
    change(settings)
    now = replace(settings, **more)
    planned, = plan([now], 2, least)
    job, = jobs_of([now], 2, least)
    assert job.parts == planned
    if planned:
        assert [path.name for path in cut_folder(settings).iterdir()] == [kept_parts.PLAN]
        return
    # It is run whole, after which there are results, or a reason to go on from the parts.
    assert job.complete_parts() == 0
    job.discard_parts()
    assert (cut_folder(settings) / '1').exists()


def test_parts_of_a_bag_that_is_not_there_wait_for_it(settings, parts):
    bag = Path(settings.data)
    away = bag.rename(bag.with_name('away'))        # on a disk that is not mounted
    job, = jobs_of([settings], 2, 1)
    assert job.parts == []
    assert job.end(run_one(settings, load_estimator(settings)), []) == []
    job.discard_parts()
    away.rename(bag)
    job, = jobs_of([settings], 2, 1)
    assert job.parts == parts and job.complete_parts() == 1


@pytest.mark.parametrize('name', ['1', '1.part'])
def test_a_part_that_cannot_be_replaced_is_told_before_the_work(settings, parts, name):
    at = cut_folder(settings) / name
    shutil.rmtree(cut_folder(settings) / '1')
    at.write_text('a file, or the folder of another user')
    with pytest.raises(OSError, match=f'{name} cannot be replaced .*: remove it, or choose an'):
        run_part(settings, parts[0], load_estimator(settings))
    assert {path.name for path in at.parent.iterdir()} == {kept_parts.PLAN, name}


# --- when they go ---------------------------------------------------------------------------


def test_parts_go_when_the_bag_has_results(settings, parts):
    assert earlier(settings) is None and cut_folder(settings).exists()
    assert not run_one(settings, load_estimator(settings)).error    # by zoe run
    assert not cut_folder(settings).exists()
    # The process was killed between results and removal.
    unfinished = results_folder(Path(settings.output), Path(settings.data))
    for end in ('.part', '.cut'):
        unfinished.with_name(unfinished.name + end).mkdir()
    assert earlier(settings).state == 'done earlier'
    assert [path.name for path in Path(settings.output).iterdir()] == [unfinished.name]


def test_parts_that_are_left_are_told(settings, parts, caplog):
    tell_kept(Path(settings.output))
    assert caplog.messages == [
        f'complete parts that are kept in {cut_folder(settings)}: 1; the command that made them '
        'goes on from them; to give them up, remove this folder']
    shutil.rmtree(cut_folder(settings) / '1')
    (Path(settings.output) / 'scene.cut').write_text('a file of the user')
    tell_kept(Path(settings.output))
    assert len(caplog.messages) == 1


def test_parts_go_with_a_bag_that_fails_but_not_with_workers_that_die(settings, parts):
    job, = jobs_of([settings], 2, 1)
    job.died('no memory')
    job.discard_parts()
    assert job.complete_parts() == 1
    job, = jobs_of([settings], 2, 1)
    job.discard_parts()
    assert not cut_folder(settings).exists()
