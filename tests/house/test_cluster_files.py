"""The files of docs/cluster/ agree with the studio: settings, commands and their options, times, versions."""

import configparser
import re
import shlex
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import CommandError, get_commands, load_command_class
from django.core.management.base import BaseCommand

from cvstudio.settings import Environment

REPOSITORY = Path(__file__).resolve().parents[2]
GUIDE = REPOSITORY / "docs" / "cluster.md"
FOLDER = REPOSITORY / "docs" / "cluster"
UNITS = sorted(FOLDER.glob("*.service"))
SERVICES = ("migrate", "web", "worker")
SETTINGS = set(Environment.model_fields)
VERSION = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
#: The default of LEAVE_GRACE_S, and what a worker may take beyond it.
STOP_S = Environment.model_fields["LEAVE_GRACE_S"].default + 30


def compose() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def kubernetes() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((FOLDER / "worker-job.yaml").read_text())
    return content


def container() -> dict[str, Any]:
    (found,) = kubernetes()["spec"]["template"]["spec"]["containers"]
    return dict(found)


def unit(path: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def batch_script() -> str:
    return (FOLDER / "worker.sbatch").read_text()


def named_settings() -> Iterator[tuple[str, str]]:
    """(file, variable) of every environment variable that a process of the studio gets."""
    for line in (FOLDER / "studio.env").read_text().splitlines():
        if line and not line.startswith("#"):
            yield "studio.env", line.partition("=")[0]
    for service in SERVICES:
        yield from ((f"compose.yaml, {service}", name) for name in compose()["services"][service]["environment"])
    yield from (("worker-job.yaml", each["name"]) for each in container()["env"])
    yield from (("worker.sbatch", name) for name in re.findall(r"^export (\w+)=", batch_script(), re.MULTILINE))
    dockerfile = (FOLDER / "Dockerfile").read_text()
    yield from (("Dockerfile", name) for name in re.findall(r"^ENV (\w+)=", dockerfile, re.MULTILINE))


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """(file, words after `cvstudio`) of every command."""
    for path in UNITS:
        for name in ("ExecStartPre", "ExecStart"):
            if line := unit(path)["Service"].get(name):
                yield path.name, shlex.split(line)[1:]
    for service in SERVICES:
        yield "compose.yaml", compose()["services"][service]["command"]
    yield "worker-job.yaml", container()["args"]
    texts = {path.name: path.read_text() for path in (GUIDE, FOLDER / "compose.yaml", FOLDER / "worker.sbatch")}
    for name, text in texts.items():
        for line in re.findall(r"^(?:srun |\s*)(?:\S*/)?cvstudio (\w.*)$", text, re.MULTILINE):
            yield name, shlex.split(line, comments=True)
        for line in re.findall(r"docker compose .* run --rm web (\w+)$", text, re.MULTILINE):
            yield name, [line]


def parsed(words: list[str]) -> dict[str, Any]:
    """The options of a command. Raises CommandError for what it does not know."""
    app = get_commands()[words[0]]
    command = app if isinstance(app, BaseCommand) else load_command_class(app, words[0])
    return vars(command.create_parser("manage.py", words[0]).parse_args(words[1:]))


def test_every_variable_is_a_setting() -> None:
    found = list(named_settings())
    assert len({file for file, _name in found}) == 7
    assert {(file, name) for file, name in found if name not in SETTINGS} == set()


def test_the_guide_names_settings_only() -> None:
    words = set(re.findall(r"`([A-Z][A-Z_]{4,})`", GUIDE.read_text()))
    assert {"DATABASE_URL", "LEAVE_GRACE_S"} <= words
    assert words - {"SIGTERM", "SIGKILL"} <= SETTINGS


def test_every_command_exists_with_its_options() -> None:
    found = list(command_lines())
    names = {words[0] for _file, words in found}
    assert names == {"createsuperuser", "devices", "doctor", "migrate", "run_huey", "web"}
    for file, words in found:
        assert parsed(words), file
    with pytest.raises(CommandError):
        parsed(["run_huey", "--twice"])


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_a_unit_has_what_systemd_needs(path: Path) -> None:
    found = unit(path)
    assert found.sections() == ["Unit", "Service", "Install"]
    assert found["Unit"]["Description"].startswith("CV Studio: ")
    assert found["Install"]["WantedBy"] == "multi-user.target"
    service = found["Service"]
    assert {"User", "EnvironmentFile", "ExecStart", "Restart"} <= set(service)
    assert service["KillMode"] == "mixed", "trainers and jobs must not get the signal of the worker"
    for name in ("ExecStartPre", "ExecStart"):
        assert service.get(name, "/").startswith("/")


def test_there_are_units_for_both_processes() -> None:
    assert [path.name for path in UNITS] == ["cvstudio-web.service", "cvstudio-worker.service"]


def test_every_image_has_a_version_and_the_studio_its_own() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text()
    images = [service["image"] for service in compose()["services"].values()]
    images += [container()["image"], *re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)]
    assert len(images) == 7
    for image in images:
        name, _colon, tag = image.rpartition(":")
        assert re.match(r"\d+\.\d+", tag), f"{image} needs a version"
        assert tag == VERSION or not name.endswith("cvstudio")
    assert set(re.findall(r"cvstudio-(\d[\d.]*)-py3", dockerfile + GUIDE.read_text())) == {VERSION}


def test_a_worker_gets_the_time_to_leave() -> None:
    (worker,) = [unit(path) for path in UNITS if "worker" in path.name]
    assert int(worker["Service"]["TimeoutStopSec"]) >= STOP_S
    assert int(compose()["services"]["worker"]["stop_grace_period"].removesuffix("s")) >= STOP_S
    assert kubernetes()["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] >= STOP_S


def test_a_worker_leaves_before_its_scheduler_ends_it() -> None:
    script = batch_script()
    hours, minutes, seconds = (int(part) for part in re.findall(r"--time=(\d+):(\d+):(\d+)", script)[0])
    announced_s = int(re.findall(r"--signal=USR1@(\d+)", script)[0])
    (command,) = [words for file, words in command_lines() if file == "worker.sbatch"]
    options = parsed(command)
    assert options["once"]
    left_s = hours * 3600 + minutes * 60 + seconds - options["leave_after"] * 60
    assert left_s > announced_s > STOP_S
    job = kubernetes()["spec"]
    assert job["activeDeadlineSeconds"] - parsed(container()["args"])["leave_after"] * 60 > STOP_S


def test_the_job_manifest_is_one_of_kubernetes() -> None:
    content = kubernetes()
    assert (content["apiVersion"], content["kind"]) == ("batch/v1", "Job")
    pod = content["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "a worker that has left is not started again"
    assert {mount["name"] for mount in container()["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_the_compose_file_defines_what_it_uses() -> None:
    content = compose()
    assert set(content["services"]) == {*SERVICES, "postgres", "redis"}
    for service in content["services"].values():
        assert set(service.get("depends_on", {})) <= set(content["services"])
        mounted = {volume.partition(":")[0] for volume in service.get("volumes", [])}
        assert mounted <= set(content["volumes"])
    build = content["services"]["worker"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_shell_scripts_are_valid() -> None:
    subprocess.run(["bash", "-n", FOLDER / "worker.sbatch"], check=True)
    subprocess.run(["bash", "-n", FOLDER / "studio.env"], check=True)


def test_no_file_is_left_out() -> None:
    """Each is named in the guide, and known here."""
    files = {path.name for path in FOLDER.iterdir()}
    known = {"Dockerfile", "compose.yaml", "studio.env", "worker-job.yaml", "worker.sbatch"}
    assert files == known | {path.name for path in UNITS}
    assert {name for name in files if f"(cluster/{name})" not in GUIDE.read_text()} == set()
