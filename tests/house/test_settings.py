"""The environment is read once, checked, and refused with a message that names the remedy."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cvstudio import settings as settings_module

REPOSITORY = Path(__file__).resolve().parents[2]


def run_python(env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], env=env, cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )


def setting(env: dict[str, str], expression: str) -> str:
    done = run_python(env, "-c", f"from cvstudio import settings; print({expression})")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEBUG", "tru"),
        ("HTTPS", "maybe"),
        ("SPARE_TRAINER", "2"),
        ("PORT", "abc"),
        ("PORT", "70000"),
        ("MAX_TRAINING_PROCESSES", "0"),
        ("REDIS_URL", "redis:/x:y"),
        ("REDIS_URL", "localhost:6379"),
        ("REDIS_URL", "redis://localhost:port/0"),
        ("DATABASE_URL", "foo"),
        ("DATABASE_URL", "mysql://localhost/cvstudio"),
        ("DATABASE_URL", "postgres://localhost"),
        ("LANGUAGE", "klingon"),
        ("TIME_ZONE", "Mars/Olympus"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
    ],
)
def test_an_invalid_value_is_refused_by_name(studio_env: dict[str, str], name: str, value: str) -> None:
    done = run_python({**studio_env, name: value}, "manage.py", "check")
    assert done.returncode != 0
    assert f"\n{name}: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_soft_time_limit_after_the_hard_one_is_refused(studio_env: dict[str, str]) -> None:
    """Runs would be killed at the hard limit without a chance to save."""
    done = run_python({**studio_env, "SOFT_TIME_LIMIT_HOURS": "30"}, "manage.py", "check")
    assert done.returncode != 0
    assert "\nHARD_TIME_LIMIT_HOURS: must not be below SOFT_TIME_LIMIT_HOURS (30)" in done.stderr
    for hard in ("0", "48"):
        env = {**studio_env, "SOFT_TIME_LIMIT_HOURS": "30", "HARD_TIME_LIMIT_HOURS": hard}
        assert setting(env, "settings.SOFT_TIME_LIMIT_HOURS") == "30.0"
    assert done.stdout == ""


def test_all_wrong_values_are_named_together(studio_env: dict[str, str]) -> None:
    done = run_python({**studio_env, "DEBUG": "tru", "PORT": "abc"}, "manage.py", "check")
    assert "DEBUG: " in done.stderr
    assert "PORT: " in done.stderr


def test_a_password_is_not_repeated_in_the_message(studio_env: dict[str, str]) -> None:
    done = run_python({**studio_env, "DATABASE_URL": "mysql://ada:hunter2@localhost/x"}, "manage.py", "check")
    assert "DATABASE_URL: " in done.stderr
    assert "hunter2" not in done.stderr


@pytest.mark.parametrize("name", ["DATA_DIR", "CHECKPOINTS_DIR"])
def test_a_folder_that_cannot_be_created_is_named(studio_env: dict[str, str], tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    done = run_python({**studio_env, name: str(tmp_path / "file" / "data")}, "manage.py", "check")
    assert done.returncode != 0
    assert done.stderr.startswith(f"{name}: ")
    assert "Traceback" not in done.stderr


def test_an_empty_variable_counts_as_not_set(studio_env: dict[str, str]) -> None:
    env = {**studio_env, "CHECKPOINTS_DIR": "", "PORT": "", "DEBUG": ""}
    assert setting(env, "settings.RUNS_DIR") == f"{studio_env['DATA_DIR']}/runs"
    assert setting(env, "settings.PORT, settings.DEBUG") == "8000 False"


def test_a_list_is_separated_by_commas(studio_env: dict[str, str]) -> None:
    env = {**studio_env, "ALLOWED_HOSTS": "a.example, b.example"}
    assert setting(env, "settings.ALLOWED_HOSTS") == "['a.example', 'b.example']"


def test_debug_is_off_and_https_settings_follow_one_switch(studio_env: dict[str, str]) -> None:
    assert setting(studio_env, "settings.DEBUG, settings.SESSION_COOKIE_SECURE") == "False False"
    names = "settings.SESSION_COOKIE_SECURE, settings.CSRF_COOKIE_SECURE, settings.SECURE_SSL_REDIRECT"
    assert setting({**studio_env, "HTTPS": "true"}, names) == "True True True"


def test_debug_does_not_make_the_queue_run_tasks_in_web_requests(studio_env: dict[str, str]) -> None:
    assert setting({**studio_env, "DEBUG": "true"}, "settings.HUEY['immediate']") == "False"


def test_redis_serves_queue_and_bell_once_its_url_is_set(studio_env: dict[str, str]) -> None:
    assert setting(studio_env, "settings.CHANNEL_LAYERS") == "{}"
    env = {**studio_env, "REDIS_URL": "redis://localhost:6379/3"}
    assert "RedisStudioHuey" in setting(env, "settings.HUEY['huey_class']")
    assert "redis://localhost:6379/3" in setting(env, "settings.CHANNEL_LAYERS")


def test_a_database_url_of_sqlite_keeps_the_production_options(studio_env: dict[str, str], tmp_path: Path) -> None:
    env = {**studio_env, "DATABASE_URL": f"sqlite:///{tmp_path}/other.sqlite3"}
    shown = setting(env, "settings.DATABASES['default']")
    assert "other.sqlite3" in shown
    assert "IMMEDIATE" in shown


def test_the_secret_key_is_created_once_and_private(studio_env: dict[str, str]) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: setting(studio_env, "settings.SECRET_KEY"), range(4)))
    assert len(keys) == 1
    assert len(keys.pop()) >= 64
    path = Path(studio_env["DATA_DIR"]) / "secret_key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert not list(path.parent.glob(".secret_key-*"))


LOGGING_PROGRAM = """
import logging
import django, structlog
django.setup()
logging.getLogger("trainingapp.x").info("claimed run %s", 7, extra={"run": 7})
structlog.get_logger("trainingapp.y").warning("spare trainer lost", pid=12)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("trainingapp.x").exception("broke")
"""


def test_the_log_is_json_lines_on_standard_error(studio_env: dict[str, str]) -> None:
    done = run_python({**studio_env, "LOG_FORMAT": "json"}, "-c", LOGGING_PROGRAM)
    assert done.stdout == ""
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert [record["event"] for record in records] == ["claimed run 7", "spare trainer lost", "broke"]
    assert records[0]["run"] == 7
    assert records[1] == {**records[1], "pid": 12, "level": "warning", "logger": "trainingapp.y"}
    assert "ZeroDivisionError" in records[2]["exception"]
    assert all(record["timestamp"].endswith("Z") for record in records)


def test_the_log_for_people_is_plain_text_without_colours_in_a_file(studio_env: dict[str, str]) -> None:
    done = run_python({**studio_env, "LOG_FORMAT": "text"}, "-c", LOGGING_PROGRAM)
    assert "claimed run 7" in done.stderr
    assert "run=7" in done.stderr
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "\x1b[" not in done.stderr


def test_the_log_level_is_a_setting(studio_env: dict[str, str]) -> None:
    done = run_python({**studio_env, "LOG_LEVEL": "WARNING"}, "-c", LOGGING_PROGRAM)
    assert "claimed run" not in done.stderr
    assert "spare trainer lost" in done.stderr


def test_the_console_command_is_manage_py(studio_env: dict[str, str]) -> None:
    by_module = run_python(studio_env, "-m", "cvstudio", "version")
    assert by_module.returncode == 0
    assert by_module.stdout == run_python(studio_env, "manage.py", "version").stdout


def test_tests_ignore_the_environment_of_the_developer() -> None:
    assert "cvstudio-tests-" in os.environ["DATA_DIR"]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ([], 2),
        (["gpus/0000:1b:00.0"], 2),
        ([f"gpus/0000:{bus:02x}:00.0" for bus in range(8)], 8),
        ([f"gpus/0000:{bus:02x}:00.0" for bus in range(99)], 64),
        # Two GPUs, of which the second is divided into three slices.
        (["gpus/a", "gpus/b", "capabilities/mig", *(f"capabilities/gpu1/mig/gi{slice}/ci0" for slice in range(3))], 4),
    ],
)
def test_as_many_runs_as_gpus_train_by_default(
    folders: list[str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the folders of a driver, which is not here."""
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setattr(settings_module, "_DRIVER_FOLDER", tmp_path)
    assert settings_module._default_training_processes() == expected
