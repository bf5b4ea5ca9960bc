"""The scripts beside the package: what they import, and what they change, exists."""
import ast
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for folder in ('bench', 'docs', 'experiments', 'launch', 'test')
                 for path in (ROOT / folder).rglob('*.py'))


def imported(path):
    """Yield (module, name) of all that a script takes from the package, in functions as well."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == 'zoe_ros':
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_script_imports_exists(path):
    for module, name in imported(path):
        if module.startswith('zoe_ros.ros') and find_spec('rclpy') is None:
            continue
        found = import_module(module)
        with suppress(ImportError):     # a module of a package, which nothing has imported yet
            import_module(f'{module}.{name}')
        assert hasattr(found, name), f'{module} has no {name}'


def test_mutations_can_be_made(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / 'bench'))
    for mutation in import_module('mutations').MUTATIONS:
        text = (ROOT / mutation.file).read_text()
        assert text.count(mutation.old) == 1, mutation.title
        assert mutation.new != mutation.old
        for test in mutation.tests:
            assert test.startswith('-') or (ROOT / test.partition('::')[0]).exists(), test
