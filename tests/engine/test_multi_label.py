"""Several labels per image: loss, metrics equal to scikit-learn's, thresholds, exact resume and learning."""

import json
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, log_loss
from torch.nn import functional as F

from tests.helpers.images import make_run_dir
from tests.helpers.library_weights import make_card, make_weights
from tests.helpers.multi_labels import CLASSES, make_multi_label_dataset
from tests.helpers.trainers import (
    EndAfter,
    assert_same_result,
    change_order,
    events_of,
    index_of,
    newest_content,
    train_here,
)
from trainingapp.contract.config import parse_config
from trainingapp.contract.dataset_index import read_index, write_index
from trainingapp.contract.errors import BadData
from trainingapp.contract.evaluation import read_evaluation
from trainingapp.contract.job_request import JobRequest
from trainingapp.contract.model_card import with_task
from trainingapp.contract.prediction import prepared
from trainingapp.contract.run_directory import RunSpec
from trainingapp.engine.export import drawn_images, export
from trainingapp.engine.jobs import predict_many
from trainingapp.engine.networks import load_network
from trainingapp.engine.predictor import network_of, predicted
from trainingapp.engine.tasks.classification.mixing import Mix
from trainingapp.engine.tasks.classification.multi_label import (
    MultiLabel,
    MultiLabelScores,
    average_precision,
    best_threshold,
    positive_weights,
)
from trainingapp.engine.tasks.classification.task import ClassificationTask

HARD = {
    "label_mode": "multi",
    "epochs": 3,
    "augmentation": "strong",
    "mixup": 0.2,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
    "class_balance": "weights",
    "dropout_rate": 0.3,
    "autosave_minutes": 0,
}


@pytest.fixture(scope="module")
def squares_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_multi_label_dataset(tmp_path_factory.mktemp("squares") / "data", train=44, val=20)


def results(seed: int, *, images: int = 200, classes: int = 7) -> tuple[Any, Any]:
    """Truth and probabilities with ties, a class that all images have, and one that only one has."""
    generator = np.random.default_rng(seed)
    truth_NC = generator.random((images, classes)) < generator.random(classes) * 0.6
    truth_NC[:, 0], truth_NC[:, 1] = True, False
    truth_NC[3, 1] = True
    chances_NC = (truth_NC * 0.3 + generator.random((images, classes)) * 0.7).round(2)
    return truth_NC, chances_NC


# Metrics


@pytest.mark.parametrize("seed", range(5))
def test_metrics_equal_scikit_learn(seed: int) -> None:
    truth_NC, chances_NC = results(seed)
    scores = MultiLabelScores.of(truth_NC, chances_NC)
    guessed_NC = chances_NC >= np.array(scores.thresholds_C)
    values = scores.values()
    assert values["map"] == pytest.approx(average_precision_score(truth_NC, chances_NC, average="macro"), abs=1e-12)
    assert values["macro_f1"] == pytest.approx(f1_score(truth_NC, guessed_NC, average="macro"), abs=1e-12)
    assert values["micro_f1"] == pytest.approx(f1_score(truth_NC, guessed_NC, average="micro"), abs=1e-12)
    of_classes = average_precision_score(truth_NC, chances_NC, average=None)
    assert scores.ap_C == pytest.approx(of_classes.tolist(), abs=1e-12)
    assert [row["f1"] for row in scores.table(list("abcdefg"))] == pytest.approx(
        f1_score(truth_NC, guessed_NC, average=None).tolist(), abs=1e-12
    )


def test_a_class_without_images_is_excluded() -> None:
    truth_NC, chances_NC = results(0)
    truth_NC[:, 2] = False
    scores = MultiLabelScores.of(truth_NC, chances_NC)
    others = [0, 1, 3, 4, 5, 6]
    assert (scores.ap_C[2], scores.thresholds_C[2]) == (None, 0.5)
    assert scores.values()["map"] == pytest.approx(
        average_precision_score(truth_NC[:, others], chances_NC[:, others], average="macro"), abs=1e-12
    )


def test_no_other_threshold_has_a_higher_f1() -> None:
    for seed in range(2):
        truth_NC, chances_NC = results(seed, images=30, classes=4)
        for truth_N, chances_N in zip(truth_NC.T, chances_NC.T, strict=True):
            chosen = f1_score(truth_N, chances_N >= best_threshold(truth_N, chances_N))
            assert chosen == max(f1_score(truth_N, chances_N >= cut) for cut in np.unique(chances_N))


def test_threshold_by_hand() -> None:
    """Cuts at 0.9, 0.6, 0.4 and 0.1 give F1 2/3, 1/2, 4/5 and 2/3: the middle between 0.4 and 0.1 is taken."""
    truth_N, chances_N = np.array([True, False, True, False]), np.array([0.9, 0.6, 0.4, 0.1])
    assert best_threshold(truth_N, chances_N) == pytest.approx(0.25)
    assert average_precision(truth_N, chances_N) == pytest.approx((1 + 2 / 3) / 2)


# Loss


def objective(**config: Any) -> MultiLabel:
    return MultiLabel(parse_config({"label_mode": "multi", **config}), 3, torch.device("cpu"))  # type: ignore[arg-type]


TARGETS_NC = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 0], [1, 0, 0]])


def test_loss_equals_scikit_learn() -> None:
    logits_NC = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    chances_NC = logits_NC.double().sigmoid().numpy()
    expected = np.mean([log_loss(TARGETS_NC[:, c], chances_NC[:, c], labels=[0, 1]) for c in range(3)])
    assert objective().loss(logits_NC, TARGETS_NC).item() == pytest.approx(expected, rel=1e-5)
    assert objective().losses(logits_NC, TARGETS_NC).mean().item() == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_by_hand() -> None:
    logits_NC = torch.zeros(4, 3)
    logits_NC[0, 0] = 2.0
    moved_NC = torch.where(TARGETS_NC > 0, 0.9, 0.1)
    expected = F.binary_cross_entropy(logits_NC.sigmoid(), moved_NC)
    assert objective(label_smoothing=0.2).loss(logits_NC, TARGETS_NC).item() == pytest.approx(expected.item(), rel=1e-6)


def test_class_weights_by_hand() -> None:
    assert positive_weights(TARGETS_NC).tolist() == pytest.approx([1 / 3, 3.0, 3.0])
    assert positive_weights(torch.zeros(4, 2)).tolist() == [1.0, 1.0]
    weighted = objective(class_balance="weights")
    weighted.prepare(TARGETS_NC)
    logits_NC = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    terms_NC = torch.where(
        TARGETS_NC > 0, -F.logsigmoid(logits_NC) * torch.tensor([1 / 3, 3.0, 3.0]), -F.logsigmoid(-logits_NC)
    )
    assert weighted.loss(logits_NC, TARGETS_NC).item() == pytest.approx(terms_NC.mean().item(), rel=1e-5)


def test_mixed_loss_equals_that_of_mixed_targets(squares_dir: Path) -> None:
    """With class weights and smoothing on: both are linear in the targets."""
    task = made_task(squares_dir, class_balance="weights", label_smoothing=0.1)
    batch = next(iter(task.train_batches(1, skip=0)))
    mixed_batch = type(batch)(batch.images_NCHW, batch.targets, batch.indices_N, Mix("mixup", keep=0.3))
    logits_NC = torch.randn(len(batch.targets), 3, generator=torch.Generator().manual_seed(2))
    found = task.loss(lambda _images: logits_NC, mixed_batch, task.training_meter())  # type: ignore[arg-type]  # no network needed
    soft_NC = 0.3 * batch.targets + 0.7 * batch.targets.roll(1, 0)
    assert found.item() == pytest.approx(task._objective.loss(logits_NC, soft_NC).item(), rel=1e-5)


# Runs


def made_task(folder: Path, **config: Any) -> ClassificationTask:
    values = {"label_mode": "multi", "image_size": 32, "batch_size": 8, "augmentation": "none", **config}
    spec = RunSpec(folder, parse_config(values), folder, folder / "weights", attempt=1)
    return ClassificationTask(spec, read_index(folder), torch.device("cpu"))


def test_a_run_needs_the_mode_of_its_dataset(squares_dir: Path, dataset_dir: Path) -> None:
    with pytest.raises(BadData, match="label_mode to multi"):
        made_task(squares_dir, label_mode="single")
    with pytest.raises(BadData, match="label_mode to single"):
        made_task(dataset_dir)


def test_the_batch_names_all_labels(squares_dir: Path) -> None:
    task = made_task(squares_dir)
    assert (task._names(torch.tensor([1.0, 0.0, 1.0])), task._names(torch.zeros(3))) == ("red, blue", "–")


@pytest.fixture(scope="module")
def straight_multi(tmp_path_factory: pytest.TempPathFactory, squares_dir: Path) -> Path:
    run_dir = make_run_dir(tmp_path_factory.mktemp("straight"), squares_dir, **HARD)
    assert train_here(run_dir) == "completed"
    return run_dir


@pytest.mark.parametrize(("looks", "workers"), [(4, 0), pytest.param(9, 2, marks=pytest.mark.long)])
def test_a_paused_run_resumes_bit_exactly(
    new_run: Any, squares_dir: Path, straight_multi: Path, looks: int, workers: int
) -> None:
    run_dir = new_run(dataset_dir=squares_dir, num_workers=workers, **HARD)
    assert train_here(run_dir, EndAfter(looks)) == "paused"
    change_order(run_dir, num_workers=workers)
    assert train_here(run_dir) == "completed"
    assert_same_result(run_dir, straight_multi)


def test_the_files_of_a_run(straight_multi: Path) -> None:
    """The thresholds are in the checkpoint and in the evaluation, and its values follow from its probabilities."""
    found = read_evaluation(straight_multi, 3)
    assert found
    assert found["thresholds"] == newest_content(straight_multi)["thresholds"]
    assert [row["threshold"] for row in found["per_class"]] == found["thresholds"]
    assert {"loss", "map", "macro_f1", "micro_f1"} == found["values"].keys()
    assert {curve["name"] for curve in found["curves"]} == {"precision_recall", "f1_threshold"}
    assert found["confusion"] is None
    for made in found["predictions"].values():
        reached = [label for label, share in made["classes"] if share >= found["thresholds"][label]]
        assert made["labels"] == pytest.approx(reached)
    trained = [event["values"] for event in events_of(straight_multi, "metrics") if event["split"] == "train"]
    assert all({"loss", "micro_f1"} <= values.keys() for values in trained)
    validated = [event for event in events_of(straight_multi, "metrics") if event["split"] == "val"]
    best = max(validated, key=lambda event: event["values"]["map"])
    assert [entry["epoch"] for entry in index_of(straight_multi) if entry["is_best"]] == [best["epoch"]]


@pytest.mark.slow
@pytest.mark.long
def test_learns_to_name_all_squares(tmp_path: Path, new_run: Any) -> None:
    """mAP above 0.95, and the metrics of the file equal to scikit-learn's from the network's own outputs."""
    folder = make_multi_label_dataset(tmp_path / "data", train=400, val=120)
    config = {"label_mode": "multi", "epochs": 3, "learning_rate": 0.003, "augmentation": "none", "batch_size": 16}
    run_dir = new_run(dataset_dir=folder, model="resnet18", image_size=64, **config)
    assert train_here(run_dir) == "completed"
    content = newest_content(run_dir)
    values = read_evaluation(run_dir, 3)["values"]  # type: ignore[index]
    task = made_task(folder, model="resnet18", image_size=64)
    network = task.build_network(parse_config(content["config"]), 3)
    network.load_state_dict(content["model_state_dict"])
    network.eval()
    chances, truth = [], []
    with torch.inference_mode():
        for batch in task.val_batches():
            chances.append(network(task._normalised(batch.images_NCHW)).sigmoid())
            truth.append(batch.targets)
    chances_NC, truth_NC = torch.cat(chances).double().numpy(), torch.cat(truth).numpy()
    guessed_NC = chances_NC >= np.array(content["thresholds"])
    assert values["map"] > 0.95
    assert values["map"] == pytest.approx(average_precision_score(truth_NC, chances_NC, average="macro"), abs=1e-6)
    assert values["macro_f1"] == pytest.approx(f1_score(truth_NC, guessed_NC, average="macro"), abs=1e-6)
    assert values["micro_f1"] == pytest.approx(f1_score(truth_NC, guessed_NC, average="micro"), abs=1e-6)


# Models


def card_of(**config: Any) -> dict[str, Any]:
    values = make_card("classification", "timm/resnet10t", 32, CLASSES, label_mode="multi", **config)
    return {**values, "thresholds": [0.0, 0.5, 1.0]}


def test_a_prediction_names_the_classes_that_reach_their_threshold(tmp_path: Path) -> None:
    card = card_of()
    network = network_of(card, make_weights(tmp_path / "entry", card))
    [path] = drawn_images(tmp_path / "drawn", 1)
    found = predicted(network, card, path)
    with torch.inference_mode():
        [chances_C] = network(torch.from_numpy(prepared(path, with_task(card)).image_NCHW))[0].tolist()
    assert dict(found.classes or []) == pytest.approx(dict(enumerate(chances_C)), abs=1e-5)
    reached = {label for label, threshold in enumerate(card["thresholds"]) if chances_C[label] >= threshold}
    assert set(found.labels or []) == reached
    assert 0 in reached
    assert 2 not in reached
    assert found.values["labels"] == found.labels


def test_a_dataset_with_another_order_of_classes_is_measured_alike(tmp_path: Path) -> None:
    """The labels of the dataset are renumbered by the names of its classes."""
    card = card_of()
    weights = make_weights(tmp_path / "entry", card)
    index = read_index(make_multi_label_dataset(tmp_path / "set", train=2, val=24))
    order = ["blue", "red", "green"]
    renumbered = [
        replace(sample, labels=tuple(sorted(order.index(CLASSES[label]) for label in sample.labels or ())))
        for sample in index.samples
    ]
    about = {"name": "other", "tasks": ["classification"], "fingerprint": "other", "classes": order}
    found = []
    for name, samples in (("set", None), ("renumbered", renumbered), ("as they were", index.samples)):
        if samples is not None:
            shutil.copytree(tmp_path / "set", tmp_path / name)
            write_index(tmp_path / name, samples=samples, **about)
        (tmp_path / f"job {name}").mkdir()
        params = {"card": card, "weights": str(weights), "dataset_dir": str(tmp_path / name), "split": "val"}
        result = predict_many.run(JobRequest(tmp_path / f"job {name}", "predict_many", params))
        found.append((result["values"], result["per_class"]))
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.long
@pytest.mark.slow
def test_the_export_has_a_sigmoid_for_each_class(tmp_path: Path) -> None:
    """The outputs of the file are the sigmoids of the network's logits, and predict.py uses the thresholds."""
    import onnxruntime

    card = card_of()
    weights = make_weights(tmp_path / "entry", card)
    images = drawn_images(tmp_path / "drawn", 2)
    found = export(card, weights, ["onnx"], images, tmp_path, lambda *_progress: None)
    folder = tmp_path / "out"
    with zipfile.ZipFile(tmp_path / found["file"]) as archive:
        archive.extractall(folder)
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    image = prepared(images[0], with_task(card)).image_NCHW
    with torch.inference_mode():
        expected = load_network(card, weights)(torch.from_numpy(image)).sigmoid().numpy()
    [outputs] = session.run(None, {"image": image})
    assert outputs == pytest.approx(expected, abs=1e-4)
    assert "a sigmoid for each class" in (folder / "README.md").read_text()
    about = json.loads((folder / "model.json").read_text())
    assert (about["thresholds"], about["label_mode"]) == ([0.0, 0.5, 1.0], "multi")
    command = [sys.executable, "predict.py", images[0], "--out", "drawn"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert line["labels"][-1:] != ["blue"]
    assert {one["class"]: one["threshold"] for one in line["classes"]} == {"red": 0.0, "green": 0.5, "blue": 1.0}
    assert "red" in line["labels"]
    assert (folder / "drawn" / f"{images[0].stem}.png").is_file()
