"""manage.py weights: the actions of the pages on the command line."""

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from PIL import Image
from safetensors.torch import save_file

from tests.helpers.jobs import no_worker, shared_engine
from tests.helpers.library import make_entry
from tests.helpers.tiny import make_dataset
from tests.weights.test_weights import state_of
from trainingapp.models import Weights

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def library_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.JOBS_DIR = tmp_path / "jobs"
    settings.WEIGHTS_DIR = tmp_path / "weights"
    settings.DATASETS_DIR = tmp_path / "datasets"
    no_worker(monkeypatch)  # the command does the job itself
    with shared_engine():
        yield


def test_an_alias_names_a_version(user: User, weights_command: Callable[..., str]) -> None:
    first, second = make_entry(user, name="tints"), make_entry(user, name="tints")
    weights_command("alias", "tints:1", "production")
    assert json.loads(weights_command("show", "tints@production", "--json"))["id"] == first.pk
    assert weights_command("alias", "tints:2", "production") == "Aliases of tints v2: production.\n"
    assert json.loads(weights_command("show", "tints@production", "--json"))["id"] == second.pk
    weights_command("alias", "tints:2", "production", "--remove")
    with pytest.raises(CommandError, match="There are no weights tints@production"):
        weights_command("show", "tints@production")


@pytest.fixture
def weights_command() -> Callable[..., str]:
    def call(*arguments: str) -> str:
        out = io.StringIO()
        call_command("weights", *arguments, stdout=out)
        return out.getvalue()

    return call


def test_list_and_show(user: User, weights_command: Callable[..., str]) -> None:
    assert weights_command("list").split() == "ID NAME ALIASES STATE TASK ARCHITECTURE BYTES FROM OWNER".split()  # noqa: SIM905
    entry = make_entry(user)
    make_entry(user, "detection", name="shapes", parent=entry)
    assert "tints v1" in weights_command("list", "--task", "detection")
    rows = json.loads(weights_command("list", "--json"))
    assert [(row["name"], row["version"], row["is_whole"]) for row in rows] == [("shapes", 1, True), ("tints", 1, True)]
    for name in ("tints", "tints:1", str(entry.pk)):
        assert json.loads(weights_command("show", name, "--json"))["sha256"] == entry.sha256
    with pytest.raises(CommandError, match="There are no weights tints:2"):
        weights_command("show", "tints:2")


def test_update_and_share(user: User, weights_command: Callable[..., str]) -> None:
    entry = make_entry(user)
    weights_command("update", "tints", "--note", "Better light.", "--licence", "CC0")
    weights_command("share", "tints:1", "--with", "private")
    entry.refresh_from_db()
    assert (entry.note, entry.licence, entry.visibility) == ("Better light.", "CC0", "private")
    assert "“hues v1”" in weights_command("update", "tints", "--name", "hues")
    with pytest.raises(CommandError, match="Give --name, --note or --licence"):
        weights_command("update", "hues")


def test_upload_export_and_delete(admin: User, tmp_path: Path, weights_command: Callable[..., str]) -> None:
    source = tmp_path / "mine.safetensors"
    save_file(state_of(), source)
    about = ["--name", "mine", "--task", "classification", "--architecture", "mobilenet_v3_small"]
    record = json.loads(
        weights_command("upload", str(source), *about, "--image-size", "32", "--classes", "blue,red", "--json")
    )
    assert (record["state"], record["is_whole"], source.exists()) == ("ready", True, True)
    target = tmp_path / "out.zip"
    found = json.loads(weights_command("export", "mine", "--format", "pt", "--out", str(target), "--json"))
    assert found["formats"]["pt"]["is_good"]
    with zipfile.ZipFile(target) as archive:
        assert "weights.pt" in archive.namelist()
    with pytest.raises(CommandError, match="only available for detection"):
        weights_command("export", "mine", "--format", "onnx", "--nms")
    choices = ["--batch", "dynamic", "--opset", "13", "--half"]
    found = json.loads(weights_command("export", "mine", "--format", "onnx", *choices, "--out", str(target), "--json"))
    made = found["formats"]["onnx"]
    assert made["options"] == {"batch": "dynamic", "size": "fixed", "opset": 13, "half": True, "nms": False}
    assert made["is_good"], made["problem"]
    size = f"{record['size_bytes']:,} bytes in 1 files"
    assert size in weights_command("delete", "mine", "--dry-run")
    assert Weights.objects.exists()
    assert size in weights_command("delete", "mine", "--yes")
    assert not Weights.objects.exists()


def test_an_invalid_upload_ends_with_its_reason(
    admin: User, tmp_path: Path, weights_command: Callable[..., str]
) -> None:
    about = ["--name", "mine", "--task", "classification", "--architecture", "mobilenet_v3_small"]
    wrong = tmp_path / "wrong.safetensors"
    save_file({"a": state_of()["classifier.3.bias"]}, wrong)
    with pytest.raises(CommandError, match="Nothing in the file fits"):
        weights_command("upload", str(wrong), *about, "--image-size", "32", "--classes", "blue,red")
    with pytest.raises(CommandError, match="no such file"):
        weights_command("upload", str(tmp_path / "no.pt"), *about, "--image-size", "32", "--classes", "blue,red")


def test_predict_images_and_a_dataset(user: User, tmp_path: Path, weights_command: Callable[..., str]) -> None:
    make_entry(user)
    image = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(image)
    line = json.loads(weights_command("predict", "tints", str(image)))
    assert (line["name"], line["width"], len(line["classes"])) == ("red.png", 40, 2)
    make_dataset(user)
    out = tmp_path / "all.jsonl"
    found = json.loads(weights_command("predict", "tints", "--dataset", "tints", "--out", str(out), "--json"))
    assert (found["images"], "top1" in found["values"]) == (12, True)
    assert len(out.read_text().splitlines()) == 12
    with pytest.raises(CommandError, match="no\\.png"):
        weights_command("predict", "tints", str(tmp_path / "no.png"))
