"""``zoe run`` over many bags: each as if alone, finished once, and not hindered by a bad one."""
import csv
from pathlib import Path
import re

import bags
import pytest

from zoe_ros.run_many import find_data, results_folder, take_shard


@pytest.fixture
def four(tmp_path):
    """Return four bags in two folders; the last two have the same name."""
    paths = [tmp_path / name for name in ('a/kitchen', 'a/hall', 'a/street', 'b/street')]
    for i, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        bags.write_bag(path, bags.camera_messages(2 + i))
    return paths


def table(output, name='summary.csv'):
    """Return the rows of a table: path -> row."""
    with (output / name).open(encoding='utf-8') as file:
        return {Path(row['data']): row for row in csv.DictReader(file)}


def states(output, name='summary.csv'):
    """Return the state of each path in a table."""
    return {path: row['state'] for path, row in table(output, name).items()}


def content(folder):
    """Return the bytes of the bag in a folder of results."""
    file, = (folder / 'bag').glob('*.mcap')
    return file.read_bytes()


def test_each_is_as_if_alone(zoe, four, tmp_path):
    many = tmp_path / 'many'
    ran = zoe(*four, to=many)
    assert (ran.code, ran.err) == (0, '')
    assert ran.out.count('ZoeD-tiny in fp32 on cpu') == 1   # loaded once
    assert {path.name for path in many.iterdir()} - {'summary.parquet'} == {
        'summary.csv', *(results_folder(many, path).name for path in four)}
    for i, path in enumerate(four):
        alone = zoe(path, to=tmp_path / 'alone' / str(i))
        assert content(results_folder(many, path)) == content(alone.folder)
        row = table(many)[path]
        assert (row['state'], row['frames'], row['error']) == ('done', str(2 + i), '')
        assert float(row['depth_p50_m']) == alone.summary['depth_p50_m']
        assert str(path) in ran.out


def test_finished_ones_are_skipped(zoe, four, tmp_path):
    many = tmp_path / 'many'
    zoe(*four[:2], to=many)
    before = {path: path.stat().st_mtime_ns for path in many.rglob('*') if path.is_file()
              and path.stem != 'summary'}
    ran = zoe(*four[:3], to=many)
    assert ran.code == 0
    assert states(many) == {four[0]: 'done earlier', four[1]: 'done earlier', four[2]: 'done'}
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert table(many)[four[0]]['frames'] == '2'
    ran = zoe(*four[:3], to=many)
    assert ran.code == 0 and 'ZoeD-tiny' not in ran.out     # not even the model is loaded


def test_a_failed_one_does_not_hinder_the_others(zoe, four, tmp_path):
    many, bad = tmp_path / 'many', tmp_path / 'a' / 'broken.mcap'
    bad.write_bytes(b'no bag')
    ran = zoe(tmp_path / 'a' / '*', to=many)
    assert ran.code == 2
    assert ran.err == 'zoe: 1 of 4 failed; the same command tries them again\n'
    assert states(many) == {**dict.fromkeys(four[:3], 'done'), bad: 'failed'}
    assert 'broken.mcap cannot be read as a rosbag' in table(many)[bad]['error']
    # The same for people, with columns below their names.
    shown = ran.out[ran.out.index('  state'):].splitlines()
    of_bad, good = shown[1], shown[3]
    assert of_bad.startswith('  failed') and of_bad.endswith(table(many)[bad]['error'])
    assert good.startswith('  done') and good.endswith(str(four[0]))
    assert re.search(r' 2 +[.\d]+ +[.\d]+ - [.\d]+ +/', good)
    assert [shown[0].index('data')] * 2 == [line.index(f'  {end}') + 2 for line, end in (
        (of_bad, table(many)[bad]['error']), (good, four[0]))]
    assert not results_folder(many, bad).exists()
    bad.write_bytes(bags.storage_file(four[3]).read_bytes())
    assert zoe(tmp_path / 'a' / '*', to=many).code == 0
    assert states(many) == {**dict.fromkeys(four[:3], 'done earlier'), bad: 'done'}


def test_the_table_is_parquet_too(zoe, four, tmp_path):
    parquet = pytest.importorskip('pyarrow.parquet', reason="needs pip install '.[fleet]'")
    many, bad = tmp_path / 'many', tmp_path / 'a' / 'broken.mcap'
    bad.write_bytes(b'no bag')
    zoe(bad, four[0], to=many)
    rows = parquet.read_table(many / 'summary.parquet')
    found = {Path(row['data']): row for row in rows.to_pylist()}
    for path, row in table(many).items():
        assert {name: '' if value is None else str(value)
                for name, value in found[path].items()} == row
    # Without a figure, the columns have the same types: tables of several runs can be joined.
    zoe(bad, bad, four[0], '--shard', '1/2', to=many)
    alone = parquet.read_table(many / 'summary-1-of-2.parquet')
    assert alone.to_pylist()[0]['frames'] is None
    assert alone.schema == rows.schema


def test_one_with_several_topics_is_told_them(zoe, four, tmp_path):
    two = bags.write_bag(tmp_path / 'two', [
        *bags.camera_messages(1), *bags.camera_messages(1, name='/right', info='/info')])
    assert zoe(two, four[0], to=tmp_path / 'many').code == 2
    assert table(tmp_path / 'many')[two]['error'].endswith(
        'has several image topics: name one with --topic: /camera/image_raw, /right')


def test_a_killed_run_is_started_again(zoe, four, tmp_path):
    many = tmp_path / 'many'
    folder = results_folder(many, four[0])
    half = folder.with_name(folder.name + '.part') / '2020-01-01_00-00-00' / 'bag.part'
    half.mkdir(parents=True)
    (half / 'bag.mcap').write_bytes(b'half')
    assert zoe(four[0], four[1], to=many).code == 0
    assert states(many) == {four[0]: 'done', four[1]: 'done'}
    assert not list(many.glob('*.part'))


def test_results_of_other_settings_are_no_results(zoe, four, tmp_path):
    many = tmp_path / 'many'
    zoe(*four[:2], to=many)
    ran = zoe(*four[:2], '--max-depth', '2', to=many)
    assert ran.code == 2
    assert 'was made with another max_depth: choose another --output' in table(
        many)[four[0]]['error']


@pytest.mark.parametrize('name, text', [
    ('config.yaml', ''), ('config.yaml', 'output: ['), ('config.yaml', '\0'),
    ('summary.json', ''), ('summary.json', '{}'), ('summary.json', '[]')])
def test_damaged_results_are_told(zoe, four, tmp_path, name, text):
    many = tmp_path / 'many'
    zoe(*four[:2], to=many)
    folder = results_folder(many, four[0])
    (folder / name).write_text(text)
    ran = zoe(*four[:2], to=many)
    assert ran.code == 2
    assert states(many) == {four[0]: 'failed', four[1]: 'done earlier'}
    error = table(many)[four[0]]['error']
    assert error.startswith(f'{folder / name} is damaged (')
    assert error.endswith(f'): remove {folder} to run over the bag again')


def test_shards_share_the_work(zoe, four, tmp_path):
    many = tmp_path / 'many'
    for shard in ('1/3', '2/3', '3/3'):
        assert zoe(*four, '--shard', shard, to=many).code == 0
    parts = [states(many, f'summary-{i}-of-3.csv') for i in (1, 2, 3)]
    assert sorted(path for part in parts for path in part) == sorted(four)
    assert {state for part in parts for state in part.values()} == {'done'}
    assert set(zoe(*four, to=many).out.split()) >= {'earlier'}
    assert set(states(many).values()) == {'done earlier'}


def test_a_shard_may_be_empty(zoe, four, tmp_path):
    ran = zoe(four[0], '--shard', '2/2', to=tmp_path / 'many')
    assert (ran.code, ran.err) == (0, '')
    assert 'nothing to do' in ran.out
    assert not (tmp_path / 'many').exists()


@pytest.mark.parametrize('shard', ['0/4', '5/4', '1', '1/x', '-1/4', '1/0'])
def test_shards_that_are_none(four, shard):
    with pytest.raises(ValueError, match=r'is not I/N with I = 1 \.\.\. N, like 1/4'):
        take_shard(four, shard)


def test_patterns_and_lists(four, tmp_path):
    assert find_data([str(tmp_path / '*' / 'street')], tmp_path / 'out') == four[2:]
    assert find_data([str(tmp_path / '**' / 'metadata.yaml')], tmp_path / 'out') == sorted(four)
    listing = tmp_path / 'bags.txt'
    listing.write_text(f'{four[0]}\n\n{tmp_path}/*/street\n')
    assert find_data([f'@{listing}', str(four[3])], tmp_path / 'out') == [four[0], *four[2:]]
    with pytest.raises(ValueError, match=r"nothing matches the pattern '.*/c\*'"):
        find_data([str(tmp_path / 'c*')], tmp_path / 'out')
    listing.write_text('\n')
    with pytest.raises(ValueError, match=r'no path in .*bags\.txt'):
        find_data([f'@{listing}'], tmp_path / 'out')


def test_a_name_may_look_like_a_pattern(tmp_path):
    path = bags.write_bag(tmp_path / 'run[1]', bags.camera_messages(1))
    assert find_data([str(path)], tmp_path / 'out') == [path]
