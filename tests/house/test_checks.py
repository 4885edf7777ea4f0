"""Each system check reports its problem, and none reports anything on a plain workstation."""

from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage

from trainingapp.operations import checks

CHECKS = [
    checks.check_reachability,
    checks.check_secret_key,
    checks.check_folders,
    checks.check_redis,
    checks.check_sqlite_filesystem,
]


def ids(messages: list[CheckMessage]) -> list[str]:
    return [str(message.id) for message in messages]


@pytest.mark.parametrize("check", CHECKS)
def test_a_plain_workstation_gets_no_warning(check: Any, settings: Any) -> None:
    settings.MAX_TRAINING_PROCESSES = 2
    assert check() == []


def test_debug_that_others_can_reach_gets_a_warning(settings: Any) -> None:
    settings.DEBUG, settings.HOST, settings.HTTPS = True, "0.0.0.0", True
    assert ids(checks.check_reachability()) == ["cvstudio.W001"]
    settings.HOST = "127.0.0.1"
    assert checks.check_reachability() == []


def test_allowing_every_host_name_gets_a_warning(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert ids(checks.check_reachability()) == ["cvstudio.W002"]


def test_a_reachable_studio_without_https_gets_a_warning(settings: Any) -> None:
    settings.HOST = "studio.example.org"
    assert ids(checks.check_reachability()) == ["cvstudio.W003"]
    settings.HTTPS = True
    assert checks.check_reachability() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "[::1]", "localhost"])
def test_loopback_is_recognised(host: str) -> None:
    assert checks.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "studio.example.org"])
def test_a_reachable_address_is_recognised(host: str) -> None:
    assert not checks.is_loopback(host)


@pytest.mark.parametrize("key", ["short", "a" * 80])
def test_a_weak_secret_key_gets_a_warning(settings: Any, key: str) -> None:
    settings.SECRET_KEY = key
    assert ids(checks.check_secret_key()) == ["cvstudio.W004"]


def test_a_readable_secret_key_gets_a_warning(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    path = tmp_path / "secret_key"
    path.write_text("x")
    path.chmod(0o640)
    assert ids(checks.check_secret_key()) == ["cvstudio.W005"]
    path.chmod(0o600)
    assert checks.check_secret_key() == []


def test_a_folder_that_cannot_be_written_to_is_an_error(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings.RUNS_DIR = tmp_path / "file" / "runs"
    (message,) = checks.check_folders()
    assert message.id == "cvstudio.E006"
    assert message.is_serious()
    assert str(settings.RUNS_DIR) in message.msg


def test_a_folder_that_does_not_exist_yet_is_no_error(settings: Any, tmp_path: Path) -> None:
    settings.RUNS_DIR = tmp_path / "new" / "runs"
    assert checks.check_folders() == []


def test_an_unreachable_redis_gets_a_warning(settings: Any, free_port: int) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{free_port}/0"
    assert ids(checks.check_redis()) == ["cvstudio.W007"]


@pytest.mark.redis
def test_a_reachable_redis_gets_no_warning(settings: Any, redis_url: str) -> None:
    settings.REDIS_URL = redis_url
    assert checks.check_redis() == []


def test_sqlite_on_a_network_drive_gets_a_warning() -> None:
    mounts = [checks.Mount("/", "ext4"), checks.Mount("/mnt/share", "nfs4")]
    sqlite = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/mnt/share/data/studio.sqlite3"}
    assert ids(checks.sqlite_warnings(sqlite, mounts)) == ["cvstudio.W008"]
    assert checks.sqlite_warnings({**sqlite, "NAME": "/mnt/shared/studio.sqlite3"}, mounts) == []
    assert checks.sqlite_warnings({**sqlite, "ENGINE": "django.db.backends.postgresql"}, mounts) == []


def test_more_trainers_than_cores_get_a_warning(settings: Any) -> None:
    settings.MAX_TRAINING_PROCESSES = 10_000
    assert ids(checks.check_capacity()) == ["cvstudio.W009"]
    settings.MAX_TRAINING_PROCESSES = 1
    assert checks.check_capacity() == []


def test_an_interface_without_an_address_gets_a_warning(settings: Any) -> None:
    assert checks.check_cluster_interface() == []
    settings.CLUSTER_INTERFACE = "lo"
    assert checks.check_cluster_interface() == []
    settings.CLUSTER_INTERFACE = "nowhere0"
    (message,) = checks.check_cluster_interface()
    assert message.id == "cvstudio.W010"
    assert "lo" in str(message.hint)


def test_a_production_profile_passes_every_check_for_deployment(studio_env: dict[str, str]) -> None:
    import subprocess
    import sys

    repository = Path(__file__).resolve().parents[2]
    production = {"HTTPS": "true", "ALLOWED_HOSTS": "studio.example.org", "HOST": "0.0.0.0", "SESSION_HOURS": "12"}
    command = [sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING"]
    env = {**studio_env, **production, "MAX_TRAINING_PROCESSES": "1"}
    done = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
