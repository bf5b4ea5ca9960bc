"""Fetching the released weights from a server that speaks as the Hugging Face hub does."""
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import os
import re
import subprocess
import sys
import threading

import made_up
import pytest

from zoe_ros.model.hub import fetch_weights
from zoe_ros.model.weights import WeightsError

pytestmark = pytest.mark.slow

COMMIT = '0123456789abcdef0123456789abcdef01234567'
FILE = '/Intel/zoedepth-nyu/resolve/main/model.safetensors'
DEPTH_ANYTHING = ('/spaces/LiheYoung/Depth-Anything/resolve/main/checkpoints_metric_depth/'
                  'depth_anything_metric_depth_indoor.pt')
PIECE = 10 << 20        # the client writes to disk in pieces of this size
CONTENT = made_up.normal('content', (PIECE // 16,)).tobytes() * 10      # two and a half pieces
ELSEWHERE = ('the weights of ZoeD-M12-N are not on this machine and could not be fetched from the '
             'Hugging Face hub ')
NOBODY = 'http://127.0.0.1:9'       # 'discard': nothing listens there

# Fetches once for each line: a variant, and how large a file may grow [bytes], -1 without limit.
CLIENT = """
import io, json, logging, resource, sys
from zoe_ros.model.hub import cached_weights, fetch_weights
log = io.StringIO()
logging.getLogger('zoe_ros').addHandler(logging.StreamHandler(log))
logging.getLogger('zoe_ros').setLevel(logging.INFO)
for line in sys.stdin:
    variant, limit = line.split()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), -1))
    try:
        answer = {'path': str(fetch_weights(variant)), 'error': None,
                  'cached': str(cached_weights(variant))}
    except Exception as error:
        answer = {'error': f'{type(error).__name__}: {error}'}
    answer['log'] = log.getvalue().splitlines()
    log.truncate(log.seek(0))
    print(json.dumps(answer), flush=True)
"""


class Hub(ThreadingHTTPServer):
    """
    One file of a hub.

    :ivar cuts: after how many bytes to hang up, one for each of the next transfers.
    :ivar always_cut: position [bytes] in the file that no transfer gets past.
    :ivar log: (method, path, Range header) of each request.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), HubRequest)
        self.content, self.sha256 = CONTENT, hashlib.sha256(CONTENT).hexdigest()
        self.cuts, self.always_cut, self.log = [], None, []
        self.stalled, self.release, self.stall = threading.Event(), threading.Event(), False
        self.status = 200
        self.headers = {'X-Repo-Commit': COMMIT, 'X-Linked-Etag': f'"{self.sha256}"'}
        self.url = f'http://127.0.0.1:{self.server_port}'

    @property
    def ranges(self):
        """Return the Range headers of the transfers."""
        return [span for method, _, span in self.log if method == 'GET']


class HubRequest(BaseHTTPRequestHandler):
    """Answers HEAD and GET of the file, with ranges."""

    protocol_version = 'HTTP/1.1'

    def log_message(self, *_):
        """Stay silent: the log is kept by the server."""

    def head(self):
        """Send the status and the headers; return the first byte that is asked for."""
        hub, span = self.server, self.headers.get('Range')
        hub.log.append((self.command, self.path, span))
        status = hub.status if self.path in (FILE, DEPTH_ANYTHING) else 404
        start = int(re.fullmatch(r'bytes=(\d+)-', span).group(1)) if span else 0
        self.send_response(206 if span and status == 200 else status)
        for name, value in hub.headers.items():
            self.send_header(name, value)
        self.send_header('ETag', f'"{hub.sha256}"')
        self.send_header('X-Linked-Size', str(len(hub.content)))
        self.send_header('Accept-Ranges', 'bytes')
        self.send_header('Content-Length', str(len(hub.content) - start))
        if span:
            last = len(hub.content) - 1
            self.send_header('Content-Range', f'bytes {start}-{last}/{last + 1}')
        self.end_headers()
        return start

    def do_HEAD(self):
        """Answer without the content."""
        self.head()

    def do_GET(self):
        """Answer with the content, or a part of it."""
        hub, start = self.server, self.head()
        end = len(hub.content)
        if hub.cuts:
            end = start + hub.cuts.pop(0)
        if hub.always_cut is not None:
            end = max(start, hub.always_cut)
        self.wfile.write(hub.content[start:end])
        self.wfile.flush()
        if hub.stall:
            hub.stalled.set()
            hub.release.wait(60)
        # Fewer bytes than announced: the client sees the connection break.
        self.close_connection = end < len(hub.content)


@pytest.fixture
def hub():
    """Return a running :class:`Hub`."""
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


class Machine:
    """A machine of its own: an empty home, the address of a hub, and a process that fetches."""

    def __init__(self, home, url, **environment):
        self.home = home
        # Nothing of the machine that runs the tests: tokens, caches, proxies, other hubs.
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith(('HF_', 'HUGGING')) and 'proxy' not in name.lower()}
        self.process = subprocess.Popen(
            [sys.executable, '-c', CLIENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env={
                **clean, 'HF_ENDPOINT': url, 'HF_HOME': str(home), 'HOME': str(home),
                'HF_HUB_DISABLE_XET': '1', 'HF_HUB_DISABLE_TELEMETRY': '1', **environment})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def start(self, variant='n', limit=-1):
        """Start a fetch; its answer comes from :meth:`answer`."""
        print(variant, limit, file=self.process.stdin, flush=True)

    def answer(self):
        """Wait for the end of a fetch; return the path and the error."""
        return json.loads(self.process.stdout.readline())

    def fetch(self, variant='n', limit=-1):
        """Fetch and wait."""
        self.start(variant, limit)
        return self.answer()

    def files(self):
        """Return all that is or could become weights under the home; locks and marks may stay."""
        return [path for path in self.home.rglob('*')
                if (path.is_file() or path.is_symlink())
                and ('blobs' in path.parts or 'snapshots' in path.parts)]


@pytest.fixture
def machine(tmp_path, hub):
    """Return a :class:`Machine` on the network of the hub."""
    with Machine(tmp_path, hub.url) as machine:
        yield machine


@pytest.fixture(scope='module', autouse=True)
def lonely(tmp_path_factory):
    """Start fetches without a hub early: the client takes half a minute to give up."""
    with Machine(tmp_path_factory.mktemp('lonely'), NOBODY) as machine:
        machine.start()
        yield machine


def assert_fetched(answer):
    """Check that the answer names a whole file."""
    assert answer['error'] is None
    assert answer['path'] == answer['cached']
    with open(answer['path'], 'rb') as file:
        assert file.read() == CONTENT


def assert_refused(answer, start):
    """Check that the answer is an error of ours, in one line."""
    assert answer['error'].startswith(f'WeightsError: {start}')
    assert '\n' not in answer['error']


def test_first_fetch_transfers_and_the_second_asks_nobody(hub, machine):
    assert_fetched(machine.fetch())
    assert [(method, path) for method, path, _ in hub.log] == [('HEAD', FILE), ('GET', FILE)]
    assert_fetched(machine.fetch())
    with Machine(machine.home, hub.url) as later:
        assert_fetched(later.fetch())
    assert len(hub.log) == 2


def test_progress_is_logged_where_no_terminal_shows_it(machine):
    begin, *steps = machine.fetch()['log']
    assert begin == ('fetching the weights of ZoeD-M12-N (1.4 GB, once) from '
                     'Intel/zoedepth-nyu')
    assert steps == [f'fetched {done} of 26 MB' for done in (10, 21, 26)]
    assert machine.fetch()['log'] == []


@pytest.mark.parametrize('environment', [{}, {'HF_HUB_OFFLINE': '1'}], ids=['no hub', 'offline'])
def test_cached_weights_need_no_network(hub, machine, environment):
    assert_fetched(machine.fetch())
    with Machine(machine.home, NOBODY, **environment) as later:
        assert_fetched(later.fetch())


def test_broken_transfer_goes_on_where_it_broke(hub, machine):
    hub.cuts = [PIECE + 5, PIECE + 5]
    assert_fetched(machine.fetch())
    assert hub.ranges == [None, f'bytes={PIECE}-', f'bytes={2 * PIECE}-']


@pytest.fixture
def broken(hub, machine):
    """Return the answer to a fetch over a line that never gets past the middle."""
    hub.always_cut = PIECE + 5
    return machine.fetch()


def test_line_that_stays_broken_leaves_no_weights(machine, broken):
    assert not [path for path in machine.files() if path.suffix != '.incomplete']
    assert_refused(broken, '')


def test_next_fetch_succeeds(hub, machine, broken):
    hub.always_cut = None
    assert_fetched(machine.fetch())


def test_killed_in_the_middle(hub, machine):
    hub.stall, hub.cuts = True, [PIECE + 5]
    machine.start()
    assert hub.stalled.wait(60)
    machine.process.kill()
    machine.process.wait()
    assert not [path for path in machine.files() if 'snapshots' in path.parts]
    hub.stall = False
    hub.release.set()
    with Machine(machine.home, hub.url) as later:
        assert_fetched(later.fetch())


def test_content_of_another_sha256_is_removed(hub, machine):
    hub.content = CONTENT[:-1] + bytes([CONTENT[-1] ^ 1])
    assert_refused(machine.fetch(), 'the downloaded model.safetensors does not have the SHA-256 '
                                    'that the hub states; the file was removed: try again')
    assert machine.files() == []
    hub.content = CONTENT
    assert_fetched(machine.fetch())


def test_content_that_is_not_the_release_is_removed(hub, machine):
    """Even if the hub states its SHA-256: that of Depth Anything is known here."""
    assert_refused(machine.fetch('da-n'), 'the downloaded depth_anything_metric_depth_indoor.pt '
                                          'does not have the SHA-256 of the release; the file was '
                                          'removed: try again')
    assert [path for method, path, _ in hub.log if method == 'GET'] == [DEPTH_ANYTHING]
    assert machine.files() == []


def test_full_disk(machine):
    assert_refused(machine.fetch(limit=PIECE), 'the weights of ZoeD-M12-N could not be stored '
                                               '([Errno 27] File too large')
    assert machine.files() == []
    assert_fetched(machine.fetch())


def test_other_replies(hub, machine):
    good = hub.headers
    for status, headers in (
            (404, {'X-Error-Code': 'RepoNotFound'}), (401, {}), (403, {}),
            (404, {'X-Error-Code': 'EntryNotFound'}),
            (200, {})):     # the login page of a hotel
        hub.status, hub.headers = status, headers
        assert_refused(machine.fetch(), ELSEWHERE + '(')
        assert machine.files() == []
    hub.status, hub.headers = 200, good
    assert_fetched(machine.fetch())


def test_offline(tmp_path):
    with Machine(tmp_path, NOBODY, HF_HUB_OFFLINE='1') as machine:
        answer = machine.fetch('nk')
        assert_refused(answer, ELSEWHERE.replace('M12-N', 'M12-NK') + '(')
        assert answer['error'].endswith(
            "or choose variant 'mobile-lite', which comes with the package")
        assert machine.files() == []


def test_no_hub(lonely):
    assert_refused(lonely.answer(), ELSEWHERE + (
        '(LocalEntryNotFoundError): connect once to fetch model.safetensors of '
        'Intel/zoedepth-nyu (1.4 GB), name a file that you have as weights, or choose variant '
        "'mobile-lite', which comes with the package"))
    assert lonely.files() == []


def test_variant_that_nobody_publishes():
    with pytest.raises(WeightsError) as error:
        fetch_weights('tiny')
    assert str(error.value) == (
        "no weights are published for variant 'tiny': give a weights file, or use n, k, nk, da-n, "
        'da-k')
