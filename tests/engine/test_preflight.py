"""The preflight check of a run: what it needs, whether it fits, and whether its first steps are finite."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.test_detection import boxes_dir  # noqa: F401 - a fixture
from tests.helpers.trainers import index_of, train_here
from trainingapp.contract.config import parse_config
from trainingapp.contract.disk_space import checkpoints_at_most, disk_space
from trainingapp.contract.errors import BadConfig, BadData, DeviceUnavailable
from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.retention import Item, choose
from trainingapp.engine.jobs import preflight as module
from trainingapp.engine.jobs.preflight import preflight

CONFIG = {
    "model": "mobilenet_v3_small",
    "image_size": 32,
    "batch_size": 8,
    "epochs": 4,
    "warmup_epochs": 0,
    "cpu_threads": 1,
    "device": "cpu",
}


def look(folder: Path, dataset_dir: Path, *, steps: int = 2, params: Any = None, **config: Any) -> dict[str, Any]:
    values = {"config": {**CONFIG, **config}, "dataset_dir": str(dataset_dir), **(params or {})}
    found = preflight(JobRequest(folder, "preflight", values), steps=steps)
    json.dumps(found, allow_nan=False)
    return found


def codes(found: dict[str, Any]) -> set[str]:
    return {warning["code"] for warning in found["warnings"]}


@pytest.mark.parametrize(
    "more", [{}, {"ema_decay": 0.9, "accumulation_steps": 2}, {"num_workers": 2, "optimizer": "SGD"}]
)
def test_the_reported_memory_is_what_the_run_needs(
    tmp_path: Path, dataset_dir: Path, new_run, more: dict[str, Any]
) -> None:
    found = look(tmp_path, dataset_dir, **more)
    run_dir = new_run(**{**CONFIG, **more, "epochs": 1})
    train_here(run_dir)
    (saved,) = index_of(run_dir)
    assert 0.5 < saved["size_bytes"] / found["disk"]["bytes_per_checkpoint"] < 1.02, "without compression, at most"
    assert found["steps_per_epoch"] == saved["step"]
    assert found["parameters"] == 1_519_906
    assert found["memory"]["fits"]
    assert found["memory"]["kind"] == "process"
    assert 100e6 < found["memory"]["peak_bytes"] < 20e9
    assert found["finite"] == {
        "loss": True,
        "gradients": True,
        "weights": True,
        "loss_value": found["finite"]["loss_value"],
    }
    assert 0 < found["finite"]["loss_value"] < 10
    assert not codes(found) & {"memory", "disk", "not_finite"}
    times = found["time"]
    assert times["seconds_per_step"] > 0
    epoch_s = found["steps_per_epoch"] * times["seconds_per_step"] + times["seconds_per_validation"]
    assert times["seconds_per_epoch"] == pytest.approx(epoch_s)
    assert times["seconds_in_all"] == pytest.approx(4 * epoch_s)
    assert found["loader"]["images_per_s"] > 0


def test_memory_is_measured_with_the_largest_images(
    tmp_path: Path,
    boxes_dir: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where no timed step has them, and after the optimizer has its state."""
    sides: list[int] = []
    step = module.training_step

    def seen(state: Any, batches: Iterator[Any], *rest: Any) -> Any:
        batch = next(batches)
        sides.append(batch.images_NCHW.shape[-1])
        return step(state, itertools.chain([batch], batches), *rest)

    monkeypatch.setattr(module, "training_step", seen)
    detector = {"task": "detection", "model": "pan_n", "image_size": 64, "batch_size": 2}
    fewest: set[tuple[int, ...]] = set()
    for seed in range(4):
        sides.clear()
        found = look(tmp_path, boxes_dir, steps=1, **detector, multi_scale=0.5, accumulation_steps=2, seed=seed)
        assert found["memory"]["fits"]
        assert 96 in sides[1:]
        fewest.add(tuple(sides))
    assert {len(one) for one in fewest} == {2, 3}  # a step more, unless the first timed one has the largest images
    sides.clear()
    look(tmp_path, boxes_dir, steps=1, **detector)
    assert sides == [64, 64]


def test_a_non_finite_loss_is_reported(tmp_path: Path, dataset_dir: Path) -> None:
    found = look(tmp_path, dataset_dir, steps=60, optimizer="SGD", learning_rate=10, momentum=0.99)
    assert not found["finite"]["weights"] or not found["finite"]["loss"]
    assert codes(found) == {"not_finite"}


def test_missing_disk_space_is_reported_with_the_amount(tmp_path: Path, dataset_dir: Path) -> None:
    found = look(tmp_path, dataset_dir, params={"free_bytes": 20_000_000})
    disk = found["disk"]
    assert disk["short_by_bytes"] == disk["bytes_in_all"] - 20_000_000 > 0
    (warning,) = [warning for warning in found["warnings"] if warning["code"] == "disk"]
    assert f"{disk['short_by_bytes'] / 1e6:.1f} MB too little" in warning["message"]


def test_a_batch_size_that_does_not_fit_is_answered_by_one_that_fits(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory really runs out: a step requires more memory the more images it has."""
    import torch

    step = module.training_step

    def hungry(state: Any, *arguments: Any) -> Any:
        torch.empty(10**15 if state.config.batch_size > 2 else 1)
        return step(state, *arguments)

    monkeypatch.setattr(module, "training_step", hungry)
    found = look(tmp_path, dataset_dir)
    assert found["memory"]["fits"] is False
    assert (found["memory"]["batch_size"], found["memory"]["accumulation_steps"]) == (2, 4)
    assert (found["batch_size"], found["steps_per_epoch"]) == (2, 6)
    (warning,) = [warning for warning in found["warnings"] if warning["code"] == "memory"]
    assert "A batch of 8 images does not fit" in warning["message"]


def test_without_a_fitting_batch_size_the_check_fails_with_advice(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hungry(*arguments: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(module, "training_step", hungry)
    with pytest.raises(BadConfig, match="Not even a batch of two"):
        look(tmp_path, dataset_dir)


def test_an_automatic_batch_size_is_found(tmp_path: Path, dataset_dir: Path) -> None:
    found = look(tmp_path, dataset_dir, auto_batch_size=True)
    assert 2 <= found["batch_size"] <= 11
    assert found["memory"]["fits"]


def test_errors_of_the_run_are_reported(tmp_path: Path, dataset_dir: Path) -> None:
    with pytest.raises(BadConfig, match="learning_rat"):
        look(tmp_path, dataset_dir, learning_rat=1)
    with pytest.raises(BadData, match=r"dataset\.json"):
        look(tmp_path, tmp_path / "nothing")
    (dataset_copy := tmp_path / "copy").mkdir()
    for name in ("dataset.json", "samples.jsonl"):
        (dataset_copy / name).write_text((dataset_dir / name).read_text())
    with pytest.raises(BadData, match="class_"):
        look(tmp_path, dataset_copy)


@pytest.mark.long
def test_the_process_of_the_job_has_the_lowest_priority(tmp_path: Path, dataset_dir: Path) -> None:
    """The lowest priority, the first to go when memory runs out, and a result that is whole."""
    params = {"config": CONFIG, "dataset_dir": str(dataset_dir), "runs_dir": str(tmp_path)}
    (tmp_path / "job.json").write_text(json.dumps({"kind": "preflight", "params": params}))
    process = subprocess.Popen(
        [sys.executable, "-m", "trainingapp.engine", "--job", str(tmp_path)], stdin=subprocess.PIPE
    )
    try:
        niceness: set[int] = set()
        bad: set[str] = set()
        while process.poll() is None:
            try:
                niceness.add(os.getpriority(os.PRIO_PROCESS, process.pid))
                bad.add(Path(f"/proc/{process.pid}/oom_score_adj").read_text().strip())
            except (ProcessLookupError, FileNotFoundError):
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.02)
        assert process.wait(60) == 0, (tmp_path / "error.json").read_text()
    finally:
        process.kill()
    assert max(niceness) == 19
    assert "1000" in bad
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["device"] == "cpu"
    assert found["disk"]["free_bytes"] > 0
    assert json.loads((tmp_path / "progress.json").read_text())["done"] == 4


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"epochs": 20, "keep_checkpoints": 3}, 5),
        ({"epochs": 1, "keep_checkpoints": 3, "autosave_minutes": 0}, 2),
        ({"epochs": 10, "checkpoint_every_epochs": 5, "keep_checkpoints": 9, "autosave_minutes": 0}, 11),
        ({"epochs": 20, "keep_checkpoints": 2, "keep_best": 4, "keep_every_epochs": 5, "autosave_minutes": 0}, 11),
    ],
)
def test_the_number_of_checkpoints_stored_together(config: dict[str, Any], count: int) -> None:
    assert checkpoints_at_most(parse_config({"warmup_epochs": 0, **config})) == count


@pytest.mark.parametrize("keep", [{}, {"keep_checkpoints": 9}, {"keep_best": 4}, {"keep_every_epochs": 3}])
@pytest.mark.parametrize("tops", [range(12), range(12, 0, -1), [5, 1, 9, 2, 8, 3, 7, 4, 6, 0, 11, 10]])
def test_never_are_more_checkpoints_stored_than_predicted(keep: dict[str, Any], tops: Any) -> None:
    """By the rules themselves, with results that get better, worse, or neither."""
    config = parse_config(
        {"epochs": 12, "warmup_epochs": 0, "checkpoint_every_epochs": 4, "autosave_minutes": 0, **keep}
    )
    items: list[Item] = []
    most = 0
    for epoch, value in enumerate(tops, 1):
        is_best = value > max([item.value or 0 for item in items], default=-1)
        if not is_best and epoch % config.checkpoint_every_epochs:
            continue
        items = [replace(item, is_best=item.is_best and not is_best) for item in items]
        items.append(Item(f"epoch_{epoch}.pt", epoch, epoch, value, is_best=is_best, is_epoch_end=True))
        most = max(most, len(items))
        kept = choose(items, config.retention_policy(), now=20.0, higher_is_better=True).kept
        items = [item for item in items if item.file in kept]
    assert most <= checkpoints_at_most(config)


def test_a_limit_in_gb_is_an_upper_bound() -> None:
    each = 10**9
    config = parse_config({"epochs": 50, "warmup_epochs": 0, "keep_checkpoints": 20, "keep_gb": 5})
    assert disk_space(config, bytes_per_checkpoint=each, free_bytes=0).bytes_in_all == 6 * each
    tight = config.model_copy(update={"keep_gb": 1})
    assert disk_space(tight, bytes_per_checkpoint=each, free_bytes=0).bytes_in_all == 4 * each, "three always stay"


def test_sufficient_disk_space_is_not_reported() -> None:
    space = disk_space(parse_config({}), bytes_per_checkpoint=10, free_bytes=1000)
    assert (space.bytes_in_all, space.short_by_bytes) == (50, 0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU check shows it on a GPU")
def test_the_gpu_that_the_studio_holds_for_the_check_is_not_swapped_for_the_cpu(
    tmp_path: Path, dataset_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(DeviceUnavailable):
        look(tmp_path, dataset_dir, params={"device": "cuda:1", "device_uuid": "GPU-1"}, device="auto")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-1"
