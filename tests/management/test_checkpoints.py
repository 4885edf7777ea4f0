"""manage.py checkpoints."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from django.core.management import CommandError, call_command

from tests.helpers.saved import content, flip_a_bit
from tests.helpers.stored import stored
from tests.helpers.trainers import assert_bit_equal
from trainingapp.models import TrainingRun

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def checkpoints(*arguments: object) -> str:
    output = StringIO()
    call_command("checkpoints", *map(str, arguments), stdout=output, stderr=StringIO())
    return output.getvalue()


def files(run: TrainingRun) -> list[str]:
    return list(run.checkpoints.order_by("step").values_list("file", flat=True))


def test_list_info_and_best(make: MAKE) -> None:
    run = stored(make("paused"), 3, best=2)
    listed = json.loads(checkpoints("list", run.pk, "--json"))
    assert [item["file"] for item in listed] == ["epoch_3.pt", "epoch_2.pt", "epoch_1.pt"]
    assert "epoch_2.pt" in checkpoints("list", run.pk)
    info = json.loads(checkpoints("info", run.pk, "epoch_1.pt", "--json"))
    assert (info["epoch"], info["format"], info["run"]) == (1, "compact", run.pk)
    assert "format: compact" in checkpoints("best", run.pk)
    assert json.loads(checkpoints("best", run.pk, "--json"))["file"] == "epoch_2.pt"


def test_verify_names_corrupted_checkpoints_and_fails(make: MAKE) -> None:
    sound, rotten = stored(make("paused")), stored(make("paused"))
    assert "4 compared, 0 damaged" in checkpoints("verify", sound.pk)
    flip_a_bit(sorted((rotten.folder / "checkpoints" / "packs").iterdir())[-1], 4000)
    output = StringIO()
    with pytest.raises(SystemExit):
        call_command("checkpoints", "verify", "--json", stdout=output)
    assert [(item["run"], item["file"]) for item in json.loads(output.getvalue())] == [(rotten.pk, "epoch_4.pt")]
    assert rotten.checkpoints.exclude(damage="").count() == 1


def test_delete_and_clean_show_the_effect_and_act_after_confirmation(make: MAKE, monkeypatch) -> None:
    run = stored(make("paused"), 6)
    said = checkpoints("delete", run.pk, "epoch_2.pt", "--dry-run")
    assert "packs/000002.pack" in said
    assert len(files(run)) == 6
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    checkpoints("delete", run.pk, "epoch_2.pt")
    assert len(files(run)) == 6
    deleted = json.loads(checkpoints("delete", run.pk, "epoch_2.pt", "--yes", "--json"))
    assert deleted["deleted"]
    assert deleted["freed_bytes"] > 0
    planned = json.loads(checkpoints("clean", run.pk, "--last", 2, "--dry-run", "--json"))
    assert planned["files"] == ["epoch_3.pt", "epoch_4.pt"]
    assert not planned["deleted"]
    checkpoints("clean", run.pk, "--last", 2, "--yes")
    assert files(run) == ["epoch_1.pt", "epoch_5.pt", "epoch_6.pt"]


def test_pin_and_unpin(make: MAKE) -> None:
    run = stored(make("paused"))
    checkpoints("pin", run.pk, "epoch_2.pt")
    assert run.checkpoints.get(is_pinned=True).file == "epoch_2.pt"
    with pytest.raises(CommandError, match="pinned"):
        checkpoints("delete", run.pk, "epoch_2.pt", "--yes")
    checkpoints("pin", run.pk, "epoch_2.pt", "--off")
    assert not run.checkpoints.filter(is_pinned=True).exists()


def test_export_writes_a_file_for_torch(make: MAKE, tmp_path: Path) -> None:
    run = stored(make("paused"))
    checkpoints("export", run.pk, "epoch_3.pt", tmp_path / "out.pt")
    assert_bit_equal(torch.load(tmp_path / "out.pt", weights_only=True), content(3))
    checkpoints("export", run.pk, "epoch_3.pt", tmp_path / "out.safetensors")
    with pytest.raises(CommandError, match=r"must end with \.pt or \.safetensors"):
        checkpoints("export", run.pk, "epoch_3.pt", tmp_path / "out.onnx")


@pytest.mark.parametrize("arguments", [("list", 99), ("info", 99, "epoch_1.pt"), ("clean", 99), ("verify", 99)])
def test_a_missing_run_is_named(arguments: tuple[object, ...]) -> None:
    with pytest.raises(CommandError, match="no run 99"):
        checkpoints(*arguments)


def test_a_missing_file_is_named(make: MAKE) -> None:
    run = stored(make("paused"))
    with pytest.raises(CommandError, match=r"no checkpoint epoch_9\.pt"):
        checkpoints("delete", run.pk, "epoch_9.pt", "--yes")
    run.checkpoints.update(is_best=False)
    with pytest.raises(CommandError, match="no best checkpoint"):
        checkpoints("best", run.pk)
