"""What all tests share. The environment is set here before Django reads its settings.

The test process keeps its data in a folder of its own that goes when it ends; the checkout's `data/` is never touched.

    TEST_DATABASE_URL   a PostgreSQL server for the tests that ask for `postgres_url`, and for `pytest --postgres`
    TEST_REDIS_URL      a Redis server for the tests that ask for `redis_url`; without it one is started where possible
    CI                  a test that would be skipped fails instead, unless it needs a GPU
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from django.test import Client

#: Variables that a developer's shell may hold and that must not leak into the tests.
STUDIO_VARIABLES = (  # noqa: SIM905
    "API_RATE_PER_MINUTE "
    "DEBUG SECRET_KEY ALLOWED_HOSTS CSRF_TRUSTED_ORIGINS HTTPS HOST PORT CHECKPOINTS_DIR DATABASE_POOL DATABASE_URL "
    "HOST_NAME LEAVE_GRACE_S REDIS_URL "
    "AUDIT_DAYS HANG_MINUTES HARD_TIME_LIMIT_HOURS IMPORT_DIRS KEEP_EVENT_DAYS KEEP_LOG_DAYS KEEP_SERIES_DAYS "
    "LANGUAGE LOGIN_ATTEMPTS LOGIN_LOCK_MINUTES MAIL_FROM MAIL_URL NOTIFICATION_DAYS "
    "LOG_FORMAT LOG_LEVEL MAX_RECOVERIES MAX_RUNS_PER_USER MAX_TRAINING_PROCESSES MAX_UPLOAD_MB OIDC_CLIENT_ID "
    "OIDC_CLIENT_SECRET OIDC_DEFAULT_ROLE OIDC_ISSUER OIDC_NAME RETRY_WAIT_S SCRUB_DAYS SESSION_HOURS "
    "SOFT_TIME_LIMIT_HOURS SPARE_TRAINER STOP_GRACE_S STUDIO_TASKS STUDIO_URL TIME_ZONE TRAINER_LOG_MB "
    "TRUSTED_PROXIES WEBHOOKS_TO_PRIVATE_ADDRESSES CLUSTER_INTERFACE HOST_NAME OBJECT_STORE_URL CACHE_DIR CACHE_GB "
    "PUBLISHED_WEIGHTS HF_ENDPOINT"
).split()
REPOSITORY = Path(__file__).resolve().parent.parent
#: Rooms whose tests that use the database store, lock, claim or migrate: they run on PostgreSQL too. Other files are
#: marked one by one.
DATABASE_ROOMS = ("accounts", "jobs", "models", "operations", "runs", "scheduling", "supervision", "weights", "worker")

#: The cache of published weights is empty: runs train from scratch, and none waits for a network.
NO_DOWNLOADS = {"PUBLISHED_WEIGHTS": "cache"}

_data_dir = Path(tempfile.mkdtemp(prefix="cvstudio-tests-"))
atexit.register(shutil.rmtree, _data_dir, ignore_errors=True)
for _name in STUDIO_VARIABLES:
    os.environ.pop(_name, None)
os.environ.update(DATA_DIR=str(_data_dir), DJANGO_SETTINGS_MODULE="cvstudio.settings", LOG_LEVEL="WARNING")
os.environ.update(NO_DOWNLOADS)
# Tests that train in this process share the cores with those beside them: threads that spin would slow all of them.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# A shell starts what it puts into the background with interrupts ignored. The studios that tests start and interrupt
# would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--postgres", action="store_true", help="Run the tests on TEST_DATABASE_URL instead of SQLite.")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Let each process of pytest-xdist load the settings after this file, with a data folder of its own.

    pytest-django loads them before it where this variable is inherited: all processes would share one folder.
    """
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("postgres"):
        if "TEST_DATABASE_URL" not in os.environ:
            raise pytest.UsageError("--postgres needs TEST_DATABASE_URL.")
        os.environ["DATABASE_URL"] = os.environ["TEST_DATABASE_URL"]
    import django

    django.setup()
    from django.conf import settings

    # Hashing passwords slowly is for real ones; the studios that tests start do it as in life.
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # Each test client makes the middleware anew: to list all static files took most of the time of a request.
    settings.WHITENOISE_AUTOREFRESH = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by room; browser tests go last: playwright leaves an event loop running in this thread."""
    for item in items:
        if item.path.is_relative_to(REPOSITORY / "tests" / "e2e"):
            item.add_marker(pytest.mark.e2e)
        is_in_room = item.path.parent.name in DATABASE_ROOMS and not item.get_closest_marker("any_database")
        if is_in_room and _uses_database(item):
            item.add_marker(pytest.mark.database)
    items.sort(key=lambda item: item.get_closest_marker("e2e") is not None)


def _uses_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db"}
    names = getattr(item, "fixturenames", ())
    return item.get_closest_marker("django_db") is not None or not fixtures.isdisjoint(names)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """In CI every server is there: a skip is a hole in the net."""
    report = yield
    if report.skipped and os.environ.get("CI") and not (hasattr(report, "wasxfail") or item.get_closest_marker("gpu")):
        report.outcome = "failed"
    return report


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite lies in a file here too: in memory it has neither WAL nor the locking of the real thing."""
    from django.db import connection

    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(_data_dir / "test.sqlite3")


@pytest.fixture(autouse=True)
def _playwright_beside_django(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Django takes playwright's event loop for an async view and would refuse the ORM."""
    if request.node.get_closest_marker("e2e"):
        monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")


@pytest.fixture(autouse=True)
def _own_board() -> None:
    """The queue and the devices are remembered for some seconds; each test has its own."""
    if module := sys.modules.get("trainingapp.runs.pause_cost"):
        module.remembered_board.cache_clear()


@pytest.fixture(autouse=True)
def _own_language() -> Iterator[None]:
    """A request leaves its reader's language active in the thread; the next test speaks that of the studio."""
    yield
    from django.utils import translation

    translation.deactivate()


@pytest.fixture
def user(db: None) -> "User":
    """Somebody who may train, without any administration. The password is "correct horse"."""
    from django.contrib.auth.models import User

    return User.objects.create_user("ada", password="correct horse")


@pytest.fixture
def other_user(db: None) -> "User":
    from django.contrib.auth.models import User

    return User.objects.create_user("grace")


@pytest.fixture
def admin(db: None) -> "User":
    """An administrator."""
    from django.contrib.auth.models import User

    return User.objects.create_superuser("root")


@pytest.fixture
def user_client(user: "User") -> "Client":
    return _logged_in(user)


@pytest.fixture
def staff_client(admin: "User") -> "Client":
    return _logged_in(admin)


def _logged_in(user: "User") -> "Client":
    from django.test import Client

    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def wait_until() -> Callable[..., Any]:
    """`wait_until(condition, timeout_s=30)` polls until `condition()` is true and returns it; fails at the deadline."""
    # Modules of the studio read its variables when they are imported, which are removed above.
    from tests.helpers.studio import wait_for

    return wait_for


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that reaches nothing: its proxy refuses every connection.

    urllib keeps the opener that its first call made, proxies and all, for as long as the process lives: each test with
    this fixture has one of its own, and leaves none behind.
    """
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture
def free_port() -> int:
    return _free_port()


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def studio_env(tmp_path: Path) -> dict[str, str]:
    """The environment of a studio (or of any command) in a process of its own, with its own data folder."""
    env = {name: value for name, value in os.environ.items() if name not in STUDIO_VARIABLES}
    return {**env, "DATA_DIR": str(tmp_path / "data"), "LOG_LEVEL": "INFO", "SPARE_TRAINER": "false", **NO_DOWNLOADS}


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a Redis server: TEST_REDIS_URL, or one started for this session. Each worker of xdist has a database."""
    if url := os.environ.get("TEST_REDIS_URL"):
        worker = os.environ.get("PYTEST_XDIST_WORKER")
        yield urlsplit(url)._replace(path=f"/{worker.removeprefix('gw')}").geturl() if worker else url
        return
    if not shutil.which("redis-server"):
        pytest.skip("no redis-server on the PATH and no TEST_REDIS_URL")
    port = _free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=_data_dir) as process:
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """URL of an empty Redis database."""
    import redis

    client = redis.Redis.from_url(redis_server)
    deadline = time.monotonic() + 10
    while True:
        try:
            client.flushdb()
            return redis_server
        except redis.ConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def postgres_database() -> Iterator[str]:
    """Within: the URL of an empty database on the PostgreSQL server of TEST_DATABASE_URL; skips where there is none."""
    import psycopg

    server = os.environ.get("TEST_DATABASE_URL")
    if not server:
        pytest.skip("no TEST_DATABASE_URL")
    name = f"cvstudio_{os.getpid()}_{time.time_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
        yield urlsplit(server)._replace(path=f"/{name}").geturl()
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """URL of an empty PostgreSQL database on the server of TEST_DATABASE_URL."""
    with postgres_database() as url:
        yield url
