"""Weights of another run, as far as they fit, with a report of what was copied."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.helpers.images import make_dataset
from tests.helpers.trainers import events_of, index_of, newest_content, train_here
from trainingapp.contract.errors import BadConfig, WeightsUnavailable
from trainingapp.engine.transfer import checkpoint_weights, load_matching


def test_matching_tensors_are_copied_and_the_others_reported() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4))
    untouched = model[1].weight.clone()
    state = {
        "0.weight": torch.full((3, 2), 7.0),
        "0.bias": torch.full((3,), 8.0),
        "1.weight": torch.zeros(9, 3),
        "9.weight": torch.zeros(1),
    }
    report = load_matching(model, state)
    assert report.matched == ["0.weight", "0.bias"]
    assert (report.other_shape, report.missing, report.unused) == (["1.weight"], ["1.bias"], ["9.weight"])
    assert torch.equal(model[0].weight, state["0.weight"])
    assert torch.equal(model[1].weight, untouched)
    lines = list(map(str, report.messages()))
    assert lines[0] == "2 of 4 tensors were loaded."
    assert len(lines) == 4


def test_long_lists_are_truncated() -> None:
    report = load_matching(nn.Linear(1, 1), {str(number): torch.zeros(1) for number in range(20)})
    assert str(report.messages()[-1]).endswith("and 12 more.")


def _start_from(run_dir: Path, checkpoint: Path) -> None:
    path = run_dir / "config.json"
    values = json.loads(path.read_text())
    values["start_from"] = str(checkpoint)
    path.write_text(json.dumps(values))


@pytest.mark.parametrize("ema_decay", [0.0, 0.5])
def test_a_run_starts_from_the_checkpoint_of_another(new_run, tmp_path: Path, ema_decay: float) -> None:
    source = new_run("source", epochs=1, ema_decay=ema_decay)
    train_here(source)
    content = newest_content(source)
    weights = content["ema_state_dict"] if ema_decay else content["model_state_dict"]
    dataset_dir = make_dataset(tmp_path / "other", classes=3)  # another head
    frozen = {"freeze": "backbone", "epochs": 1}
    run_dir = new_run("target", dataset_dir=dataset_dir, start_from="run/1/epoch_1.pt", **frozen)
    _start_from(run_dir, source / "checkpoints" / index_of(source)[-1]["file"])
    assert train_here(run_dir) == "completed"
    ours = newest_content(run_dir)["model_state_dict"]
    for name, tensor in weights.items():
        if not name.startswith("classifier.3."):
            assert torch.equal(ours[name], tensor), name
    logs = [event["message"] for event in events_of(run_dir, "log")]
    assert any("tensors were loaded" in line for line in logs)
    assert any("another shape" in line and "classifier.3.weight" in line for line in logs)


def test_another_network_is_refused(new_run) -> None:
    source = new_run("source", epochs=1)
    train_here(source)
    run_dir = new_run("target", model="timm/vit_tiny_patch16_224", start_from="run/1/epoch_1.pt")
    _start_from(run_dir, source / "checkpoints/epoch_1.pt")
    with pytest.raises(BadConfig, match="another network"):
        train_here(run_dir)


def test_unreadable_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnavailable, match=r"gone\.pt, no longer exists"):
        checkpoint_weights(tmp_path / "gone.pt")
    (tmp_path / "torn.pt").write_bytes(b"PK")
    with pytest.raises(WeightsUnavailable, match=r"torn\.pt, cannot be read"):
        checkpoint_weights(tmp_path / "torn.pt")
