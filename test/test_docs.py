"""Documentation that others point to: citations in the code, and links between pages."""
from dataclasses import fields
from pathlib import Path
import re

import pytest

from zoe_ros.ros.parameters import DepthParameters

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md')),
         ROOT / 'bench' / 'README.md', ROOT / 'zoe_ros' / 'data' / 'weights' / 'README.md']
SECTION = re.compile(r'(?:\bsections? |specification, )(\d(?:\.\d)?)(?: and (\d\.\d))?')
TRAP = re.compile(r'\((?:trap )?(T\d+)|\btraps? (T\d+)(?:, (T\d+))*(?: and (T\d+))?')
LINK = re.compile(r'\[[^]]*\]\(([^)\s]+)\)')
ANCHOR = re.compile(r'<a id="([\w-]+)">')


def cited(text):
    """Return the anchors of docs/zoedepth.md that a text cites; sections of the paper are not."""
    text = re.sub(r'\s+(?:# )?', ' ', text)
    found = set()
    for match in SECTION.finditer(text):
        if not re.search(r"paper(?:'s|,)? $", text[:match.start()]):
            found |= {f'section-{number.replace(".", "-")}' for number in match.groups() if number}
    for match in TRAP.finditer(text):
        found |= {f'trap-{number.lower()}' for number in match.groups() if number}
    return found


def anchors(page):
    """Return the anchors of a page: explicit ones, and those that forges make of headings."""
    text = page.read_text()
    headings = re.findall(r'^#+ (.+)$', text, re.MULTILINE)
    slugs = [re.sub(r'<[^>]+>|[^\w\s-]', '', heading).strip().lower().replace(' ', '-')
             for heading in headings]
    return {*ANCHOR.findall(text), *slugs}


def test_citations_are_recognised():
    assert cited('paper section 3.2; specification section 3.5') == {'section-3-5'}
    assert cited("the paper's section 4.4") == cited('(paper, section 4.2)') == set()
    assert cited('(sections 4.1 and 6.3)') == {'section-4-1', 'section-6-3'}
    assert cited('(section 1.3, trap\n    # T12), (T5)') == {'section-1-3', 'trap-t12', 'trap-t5'}


def test_every_citation_in_the_code_has_its_anchor():
    page = ROOT / 'docs' / 'zoedepth.md'
    known = anchors(page)
    table = page.read_text().partition('<a id="citations">')[2]
    sources = sorted((ROOT / 'zoe_ros').rglob('*.py'))
    everything = set().union(*(cited(path.read_text()) for path in sources))
    assert len(everything) >= 20
    assert everything <= known
    assert everything <= set(re.findall(r'\(#([\w-]+)\)', table))


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    for link in LINK.findall(page.read_text()):
        if '://' in link or link.startswith('mailto:'):
            continue
        path, _, anchor = link.partition('#')
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def tree(text):
    """Return the paths of an indented tree of files: two spaces a level, folders end with /."""
    paths, folders = set(), []
    for indent, name in re.findall(r'^((?:  )*)(\S+)', text, re.MULTILINE):
        folders[len(indent) // 2:] = [name]
        paths.add(''.join(folders))
    return paths


def test_the_tree_names_every_module():
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    listed = tree(text.partition('### Files')[2].split('```')[1].strip('\n'))
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'zoe_ros').rglob('*.py')
               if path.name != '__init__.py'}
    assert {path for path in listed if path.endswith('.py')} == modules
    assert all((ROOT / path).is_dir() for path in listed if path.endswith('/'))


def test_answers_advise_what_exists():
    text = re.sub(r'\s+', ' ', (ROOT / 'docs' / 'answers.md').read_text())
    accepted = {item.name: item for item in fields(DepthParameters)}
    advised = re.findall(r'`([a-z_]+): ([^`]+)`', text)
    assert len(advised) >= 10
    for name, value in advised:
        kind = type(accepted[name].default)
        given = value == 'true' if kind is bool else kind(value.strip("'"))
        DepthParameters(**{name: given})
    for path in re.findall(r'`(config/[\w/.]+)`', text):
        assert (ROOT / path).exists(), path
