"""A run of a fold trains on the images of the others and validates on its own."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.engine.test_detection import boxes_dir  # noqa: F401 - a fixture
from tests.engine.test_segmentation import masked_dir  # noqa: F401 - a fixture
from tests.helpers.images import make_dataset
from tests.helpers.library_weights import make_card, make_weights
from tests.helpers.trainers import HARD, EndAfter, assert_same_result, change_order, events_of, train_here
from trainingapp.contract.dataset_index import read_index
from trainingapp.contract.evaluation import evaluation_path, image_results_path
from trainingapp.contract.folds import folded
from trainingapp.contract.image_results import paths_digest, read_image_results
from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.run_directory import read_config_file, read_run_spec
from trainingapp.engine.jobs import predict_many
from trainingapp.engine.preview import draw_preview
from trainingapp.engine.tasks.registry import read_dataset


def validated_paths(run_dir: Path, epoch: int = 1) -> str:
    """The digest of the paths of all validated images."""
    return read_image_results(image_results_path(run_dir, epoch)).paths


def fold_paths(dataset_dir: Path, folds: int, fold: int) -> list[str]:
    return [sample.path for sample in folded(read_index(dataset_dir), folds, fold).split("val")]


def test_each_run_validates_on_its_fold_alone_and_trains_on_all_others(new_run, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set", classes=2, train_per_class=7, val_per_class=2)
    all_paths = sorted(sample.path for sample in read_index(dataset).samples)
    seen: list[str] = []
    for fold in range(3):
        run_dir = new_run(f"fold {fold}", dataset_dir=dataset, folds=3, fold=fold, epochs=1)
        assert train_here(run_dir) == "completed"
        own = fold_paths(dataset, 3, fold)
        assert validated_paths(run_dir) == paths_digest(own)
        content = json.loads(evaluation_path(run_dir, 1).read_text())
        assert content["paths"] == {str(index): path for index, path in enumerate(own)}
        spec = read_run_spec(run_dir, read_config_file(run_dir))
        trained = [sample.path for sample in read_dataset(spec).split("train")]
        assert sorted([*own, *trained]) == all_paths
        seen += own
        (line,) = [event for event in events_of(run_dir, "log") if event["code"] == "trains_on_folds"]
        assert line["params"] == {"fold": fold, "last": 2, "train": 12, "val": 6}
    assert sorted(seen) == all_paths


def test_training_needs_no_image_of_the_fold(new_run, tmp_path: Path) -> None:
    """With images of the fold that cannot be read, the training is complete and the validation fails."""
    dataset = make_dataset(tmp_path / "set", classes=2, train_per_class=7, val_per_class=2)
    for path in fold_paths(dataset, 3, 1):
        (dataset / path).write_bytes(b"no image")
    run_dir = new_run(dataset_dir=dataset, folds=3, fold=1, epochs=1, batch_size=4)
    with pytest.raises(Exception, match=r"images/.*\.png"):
        train_here(run_dir)
    assert [event["step"] for event in events_of(run_dir, "metrics") if event["split"] == "train"] == [1, 2, 3]


def test_a_paused_fold_resumes_bit_exact(new_run) -> None:
    config = {**HARD, "epochs": 2, "folds": 4, "fold": 3}
    straight, paused = new_run("straight", **config), new_run("paused", **config)
    assert train_here(straight) == "completed"
    assert train_here(paused, EndAfter(3)) == "paused"
    change_order(paused)
    assert train_here(paused) == "completed"
    verdicts = [event["verdict"] for event in events_of(paused, "status") if event["state"] == "resume_check"]
    assert verdicts == ["exact"]
    assert_same_result(paused, straight)
    assert image_results_path(paused, 2).read_bytes() == image_results_path(straight, 2).read_bytes()


@pytest.mark.parametrize(
    ("task", "folder", "model"),
    [("detection", "boxes_dir", "fcos_resnet18_fpn"), ("segmentation", "masked_dir", "lraspp_mobilenet_v3_large")],
)
def test_the_other_tasks_train_on_folds(
    new_run, request: pytest.FixtureRequest, task: str, folder: str, model: str
) -> None:
    dataset = request.getfixturevalue(folder)
    run_dir = new_run(dataset_dir=dataset, task=task, model=model, image_size=64, epochs=1, folds=2, fold=1)
    assert train_here(run_dir) == "completed"
    assert validated_paths(run_dir) == paths_digest(fold_paths(dataset, 2, 1))


def test_more_folds_than_images_end_with_the_reason(new_run, tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "set", classes=2, train_per_class=2, val_per_class=1)
    with pytest.raises(Exception, match="val"):
        train_here(new_run(dataset_dir=dataset, folds=20, fold=19))


def test_the_preview_shows_a_batch_of_the_other_folds(new_run, tmp_path: Path) -> None:
    """It needs no image of the fold: none of them can be read."""
    dataset = make_dataset(tmp_path / "set", classes=2, train_per_class=3, val_per_class=3)
    for path in fold_paths(dataset, 3, 0):
        (dataset / path).write_bytes(b"no image")
    run_dir = new_run(dataset_dir=dataset, folds=3, fold=0, batch_size=8, augmentation="none")
    draw_preview(read_run_spec(run_dir, read_config_file(run_dir)))
    assert Image.open(run_dir / "batch.webp").size[0] > 0


def test_a_model_of_a_fold_is_measured_on_its_fold(tmp_path: Path) -> None:
    """On its own dataset, whose validation split it was partly trained on; other datasets keep their splits."""
    dataset = make_dataset(tmp_path / "set", classes=2, train_per_class=4, val_per_class=2)
    card = make_card("classification", "mobilenet_v3_small", 32, ["class_0", "class_1"])
    path = make_weights(tmp_path / "entry", card)
    card["config"] = {**card["config"], "folds": 3, "fold": 2}
    for number, fingerprint in enumerate(("0" * 64, "1" * 64)):
        folder = tmp_path / f"job {number}"
        folder.mkdir()
        card["dataset_fingerprint"] = fingerprint
        params = {"card": card, "weights": str(path), "dataset_dir": str(dataset), "split": "val"}
        result = predict_many.run(JobRequest(folder, "predict_many", params))
        lines = [json.loads(line)["path"] for line in (folder / "predictions.jsonl").read_text().splitlines()]
        is_own = fingerprint == "0" * 64
        assert lines == fold_paths(dataset, 3 if is_own else 0, 2 if is_own else 0)
        assert ("notice" in result) == is_own
        assert "top1" in result["values"]  # type: ignore[operator]
