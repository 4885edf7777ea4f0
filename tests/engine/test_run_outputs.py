"""The files of a run: images of batches, evaluations, the best checkpoint; and runs with every option on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_class_weight

from tests.helpers.trainers import (
    EndAfter,
    assert_same_result,
    change_order,
    events_of,
    index_of,
    train_here,
)
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import Sample, read_index, write_index
from trainingapp.contract.evaluation import evaluated_epochs, fixed_indices, image_results_path, read_evaluation
from trainingapp.contract.image_results import read_image_results
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.data.batches import BatchSource
from trainingapp.engine.tasks.classification.task import ClassificationTask

#: 44 images in batches of 8, two of them a step, the last alone: three steps an epoch.
EVERYTHING: dict[str, Any] = {
    "epochs": 2,
    "augmentation": "strong",
    "mixup": 0.4,
    "cutmix": 1.0,
    "ema_decay": 0.9,
    "accumulation_steps": 2,
    "gradient_clip": 0.5,
    "class_balance": "sampler",
    "dropout_rate": 0.2,
    "label_smoothing": 0.1,
    "backbone_lr_factor": 0.5,
    "autosave_minutes": 0,
}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory, dataset_dir: Path) -> Path:
    from tests.helpers.images import make_run_dir

    run_dir = make_run_dir(tmp_path_factory.mktemp("whole"), dataset_dir, **EVERYTHING)
    assert train_here(run_dir) == "completed"
    return run_dir


def _evaluations(run_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run_dir / "evaluations").iterdir()}


@pytest.mark.parametrize(
    ("looks", "workers", "workers_then"), [(1, 0, 2), pytest.param(5, 2, 0, marks=pytest.mark.long)]
)
def test_everything_on_resumes_exactly(new_run, whole_run: Path, looks: int, workers: int, workers_then: int) -> None:
    run_dir = new_run(num_workers=workers, **EVERYTHING)
    assert train_here(run_dir, EndAfter(looks)) == "paused"
    change_order(run_dir, num_workers=workers_then)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, whole_run)
    assert _evaluations(run_dir) == _evaluations(whole_run)


@pytest.mark.long
def test_a_repeated_epoch_gives_the_same_evaluation(new_run, whole_run: Path) -> None:
    run_dir = new_run(**EVERYTHING)
    train_here(run_dir)
    before = _evaluations(run_dir)
    for path in (run_dir / "checkpoints").glob("epoch_2*"):
        path.write_bytes(b"torn")
    change_order(run_dir)
    assert train_here(run_dir) == "completed"
    assert _evaluations(run_dir) == before == _evaluations(whole_run)


def test_evaluation_file_has_what_pages_show(whole_run: Path) -> None:
    assert evaluated_epochs(whole_run) == [1, 2]
    found = read_evaluation(whole_run, 2)
    assert found
    assert {"top1", "top5", "macro_f1", "loss"} == set(found["values"])
    assert np.array(found["confusion"]["counts"]).sum() == 12
    assert set(map(int, found["paths"])) >= set(found["fixed"])
    assert found["fixed"] == fixed_indices(12)
    scores = [one["score"] for one in found["images"]]
    assert scores == sorted(scores, reverse=True)  # by loss, the worst first


def test_the_result_of_every_image_is_stored(whole_run: Path) -> None:
    evaluation = read_evaluation(whole_run, 2)
    stored = read_image_results(image_results_path(whole_run, 2))
    assert evaluation is not None
    assert stored.step == evaluation["step"]
    assert stored.results.quality_N.mean() == pytest.approx(evaluation["values"]["top1"])
    assert all(stored.results.arrays["truth_N"][one["index"]] == one["labels"][0] for one in evaluation["images"])


def test_batch_images_are_drawn(whole_run: Path) -> None:
    files = [event["file"] for event in events_of(whole_run, "sample")]
    assert files
    for file in files:
        with Image.open(whole_run / file) as image:
            assert image.format == "WEBP"


@pytest.mark.parametrize("metric", ["loss", "top1"])
def test_best_by_a_metric_that_should_fall_or_rise(new_run, metric: str) -> None:
    run_dir = new_run(best_metric=metric, epochs=3, learning_rate=0.003, keep_checkpoints=10)
    train_here(run_dir)
    values = {event["epoch"]: event["values"] for event in events_of(run_dir, "metrics") if event["split"] == "val"}
    choose = min if metric == "loss" else max
    best = choose(values, key=lambda epoch: values[epoch][metric])  # the earlier of equal ones
    assert [entry["epoch"] for entry in index_of(run_dir) if entry["is_best"]] == [best]


@pytest.fixture
def uneven_dir(tmp_path: Path, dataset_dir: Path) -> Path:
    """Class 0 with four times the images of class 1."""
    samples = read_index(dataset_dir).samples
    rest = [one for one in samples if one.split == "val"]
    counts = {0: 20, 1: 5}
    train: list[Sample] = []
    for label, count in counts.items():
        train += [one for one in samples if one.split == "train" and one.label == label][:count]
    folder = tmp_path / "uneven"
    folder.mkdir()
    (folder / "images").symlink_to(dataset_dir / "images")
    names = ["a", "b"]
    write_index(folder, name="u", tasks=["classification"], classes=names, fingerprint="u", samples=[*train, *rest])
    return folder


def _task(folder: Path, **config: Any) -> ClassificationTask:
    values = parse_config({"image_size": 32, "batch_size": 5, "augmentation": "none", **config})
    spec = RunSpec(folder, values, folder, folder / "weights", attempt=1)
    return ClassificationTask(spec, read_index(folder), torch.device("cpu"))


def test_class_weights_equal_scikit_learn(uneven_dir: Path) -> None:
    labels = np.array([0] * 20 + [1] * 5)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    found = _task(uneven_dir, class_balance="weights")._objective._weights_C
    assert found.tolist() == pytest.approx(expected.tolist())
    assert _task(uneven_dir)._objective._weights_C is None


def test_sampler_draws_every_class_equally_often(uneven_dir: Path) -> None:
    task = _task(uneven_dir, class_balance="sampler")
    drawn = torch.cat([batch.targets for epoch in range(1, 41) for batch in task.train_batches(epoch, skip=0)])
    assert len(drawn) == 40 * 25
    assert drawn.double().mean() == pytest.approx(0.5, abs=0.06)
    [first, again] = (torch.cat([b.indices_N for b in task.train_batches(3, skip=0)]) for _ in range(2))
    assert torch.equal(first, again)


class _Drawing:
    """Items that are nothing but a random number."""

    sample_count = 4

    def item(self, index: int) -> torch.Tensor:
        return torch.zeros(())

    def training_item(self, index: int) -> torch.Tensor:
        return torch.rand(())

    def collate(self, items: list[torch.Tensor], indices_N: torch.Tensor) -> torch.Tensor:
        return torch.stack(items)

    def mix(self, batch: torch.Tensor) -> torch.Tensor:
        return batch


def test_an_image_drawn_twice_is_augmented_differently() -> None:
    weights_N = torch.tensor([1.0, 0, 0, 0])
    source = BatchSource(_Drawing(), 4, seed=0, training=True, weights_N=weights_N)
    assert len(source[1, 0].unique()) == 4
