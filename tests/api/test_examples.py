"""Every example in docs/api.md, unchanged, against a web server; and no operation without an example."""

import os
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from PIL import Image
from safetensors.numpy import save

from tests.api.conftest import Api, token_of
from tests.api.test_training import CONTENT, checkpoint_of
from tests.helpers.evaluations import evaluated, results
from tests.helpers.machines import machine
from tests.helpers.sources import two_classes, write_zip
from tests.helpers.studio import REPOSITORY
from tests.helpers.tiny import board_of, make_dataset, make_run
from tests.helpers.world import line, point, store_events
from trainingapp.models import Job, Team, TrainingRun, Weights, WeightsAlias

TEXT = (REPOSITORY / "docs" / "api.md").read_text()


def blocks(language: str) -> str:
    return "\n".join(re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def world(user: User, tmp_path: Path, settings: Any, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The objects of the examples, of an administrator: dataset 1, runs 1 to 4, weights 1, a job, a GPU (device 2), and
    images.zip in the current folder."""
    settings.WEIGHTS_DIR = tmp_path / "weights"
    settings.JOBS_DIR = tmp_path / "jobs"
    settings.WEIGHTS_CACHE_DIR, settings.PUBLISHED_WEIGHTS = tmp_path / "torch", "download"
    settings.ALLOWED_HOSTS = ["*"]
    dataset = make_dataset(user, images=4)
    done = make_run(user, dataset)
    checkpoint_of(done, 1, is_best=True, is_last=True)
    board_of(done)
    store_events(done, line("hello"), point(1))
    for epoch, guesses in ((1, [0, 0]), (2, [0, 1])):
        evaluated(done, epoch, images=[], predictions={}, image_results=results(guesses))
    TrainingRun.objects.filter(pk=done.pk).update(status="completed")
    for _ in range(3):
        make_run(user, dataset, start=True)
    weights = Weights.objects.create(
        name="birds",
        version=1,
        owner=user,
        task="classification",
        architecture="a",
        state="ready",
        report={"is_whole": True},
    )
    WeightsAlias.objects.create(name="birds", alias="production", weights=weights)
    weights.folder.mkdir(parents=True)
    weights.path.write_bytes(b"abc")
    Job.objects.create(kind="preflight", owner=user)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    settings.OBJECT_STORE_URL = str(tmp_path / "store")
    monkeypatch.setenv("URL", live_server.url)
    monkeypatch.setenv("TOKEN", token_of(user))
    write_zip(tmp_path / "images.zip", two_classes())
    (tmp_path / "mine.safetensors").write_bytes(save({}))
    Image.new("RGB", (4, 4)).save(tmp_path / "bird.png")
    Team.objects.create(name="birds").members.add(user)
    machine(gpus=1)
    user.groups.add(Group.objects.get_or_create(name="administrator")[0])
    return tmp_path


@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_the_examples_for_curl_work(world: Path) -> None:
    script = "set -euo pipefail\n" + blocks("sh")
    done = subprocess.run(["bash", "-c", script], env=os.environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert (world / "best.pt").read_bytes() == CONTENT
    assert (world / "birds.safetensors").read_bytes() == b"abc"
    compile((world / "train.py").read_text(), "train.py", "exec")
    assert zipfile.is_zipfile(world / "tensorboard.zip")
    assert (world / "metrics.csv").read_text().startswith("seq,time,attempt,epoch,step,split")


@pytest.mark.django_db(transaction=True, reset_sequences=True)
def test_the_examples_for_python_work(world: Path) -> None:
    done: dict[str, Any] = {}
    exec(blocks("python"), done)
    assert done["upload"]["is_complete"]
    assert (world / "best.pt").read_bytes() == CONTENT
    compile((world / "train.py").read_text(), "train.py", "exec")
    assert zipfile.is_zipfile(world / "tensorboard.zip")
    assert (world / "metrics.csv").read_text().startswith("seq,time,attempt,epoch,step,split")


def test_every_operation_has_an_example(db: None) -> None:
    missing = []
    for path in Api().get("openapi.json").json()["paths"]:
        shown = re.escape(path.removeprefix("/api/v1/")).replace(r"\{pk\}", r"(\d|\{\w+\['id'\]\})")
        shown = re.sub(r"\\{\w+\\}", r"[^/\\s]+", shown)
        if not re.search(shown, TEXT):
            missing.append(path)
    assert not missing
