"""Models: a checkpoint or an upload becomes a usable model, and nothing is lost or kept by mistake."""

import io
import json
import pickle
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.helpers.jobs import no_worker, work_off
from tests.helpers.library import make_entry
from tests.helpers.tiny import make_run
from trainingapp.contract.config import parse_config
from trainingapp.engine.networks import build_network
from trainingapp.engine.transfer import checkpoint_weights
from trainingapp.jobs import verbs as job_verbs
from trainingapp.jobs.attempts import warm_process
from trainingapp.models import Checkpoint, Dataset, Job, TrainingRun, Weights, trash
from trainingapp.models.checkpoint import checkpoint_path
from trainingapp.models.verbs import VerbError
from trainingapp.runs import verbs as run_verbs
from trainingapp.scheduling.scheduler import claim_next
from trainingapp.supervision import HOST, supervise, worker_id
from trainingapp.weights import verbs as weights_verbs

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def library_folders(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_DIR = tmp_path / "jobs"
    settings.WEIGHTS_DIR = tmp_path / "weights"
    no_worker(monkeypatch)
    monkeypatch.setattr("trainingapp.worker.tasks.start_training", lambda: None)


@pytest.fixture
def trained(user: User, tints: Dataset) -> TrainingRun:
    """A run that a real trainer has trained, with averaged weights."""
    return train(user, tints, model="mobilenet_v3_small")


def train(user: User, tints: Dataset, **config: Any) -> TrainingRun:
    run = make_run(
        user,
        tints,
        "Tints",
        start=True,
        image_size=32,
        batch_size=8,
        epochs=1,
        warmup_epochs=0,
        ema_decay=0.9,
        device="cpu",
        cpu_threads=1,
        **config,
    )
    claimed = claim_next(HOST, worker_id())
    assert claimed is not None
    supervise(claimed)
    run.refresh_from_db()
    assert run.status == "completed", run.error_message
    return run


@pytest.fixture
def saved_row(run: TrainingRun) -> Checkpoint:
    """A best checkpoint without its file."""
    return Checkpoint.objects.create(
        run=run, file="epoch_1.pt", attempt=1, epoch=1, step=9, reason="epoch", size_bytes=1, sha256="",
        metrics={"top1": 0.9}, is_best=True, is_last=True, created_at=timezone.now(),
    )  # fmt: skip


def upload(user: User, path: Path, file_name: str = "", **changes: Any) -> Weights:
    values: dict[str, Any] = {
        "name": "mine", "task": "classification", "architecture": "mobilenet_v3_small", "image_size": 32,
        "classes": ["blue", "red"],
    }  # fmt: skip
    return weights_verbs.upload_weights(
        owner=user, path=path, file_name=file_name or path.name, **{**values, **changes}
    )


def state_of(classes: int = 2) -> dict[str, torch.Tensor]:
    config = parse_config({"task": "classification", "model": "mobilenet_v3_small", "image_size": 32})
    return dict(build_network(config, classes).state_dict())


# Saving


def test_a_checkpoint_becomes_a_model_with_its_origin(trained: TrainingRun, user: User) -> None:
    weights = weights_verbs.save_weights(trained, name="Tints", note="First", licence="CC0", by=user)
    assert (weights.state, weights.version, weights.path.exists()) == ("pending", 1, False)
    assert work_off().state == "done"
    weights.refresh_from_db()
    best = trained.checkpoints.get(is_best=True)
    assert (weights.state, weights.is_whole) == ("ready", True)
    assert (weights.architecture, weights.classes, weights.image_size) == ("mobilenet_v3_small", ["blue", "red"], 32)
    assert (weights.run, weights.checkpoint_file, weights.metrics) == (trained, best.file, best.metrics)
    assert (weights.dataset_fingerprint, weights.licence, weights.note) == ("0" * 64, "CC0", "First")
    assert weights.size_bytes == weights.path.stat().st_size
    # The averaged weights were evaluated, so they are the ones that are kept.
    stored, held = load_file(weights.path), checkpoint_weights(best.path)
    assert all(torch.equal(stored[name], held[name]) for name in held)


def test_a_model_normalises_as_its_checkpoint_and_has_no_adapters(user: User, tints: Dataset) -> None:
    run = train(user, tints, model="timm/test_vit", freeze="backbone", lora_rank=2)
    weights = weights_verbs.save_weights(run, name="Adapted", by=user)
    assert work_off().state == "done"
    weights.refresh_from_db()
    assert (weights.state, weights.is_whole) == ("ready", True)
    assert weights.normalisation == weights.card()["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert not [name for name in load_file(weights.path) if "lora" in name]


def test_saving_the_same_checkpoint_twice_gives_one_model(saved_row: Checkpoint, user: User) -> None:
    first = weights_verbs.save_weights(saved_row.run, name="Pets", by=user)
    assert weights_verbs.save_weights(saved_row.run, name=" Pets ", file="epoch_1.pt", by=user) == first
    other = weights_verbs.save_weights(saved_row.run, name="Other pets", by=user)
    assert (other.version, Weights.objects.count()) == (1, 2)


def test_another_checkpoint_of_a_name_is_its_next_version(saved_row: Checkpoint, user: User) -> None:
    weights_verbs.save_weights(saved_row.run, name="Pets", by=user)
    Checkpoint.objects.filter(pk=saved_row.pk).update(file="epoch_2.pt", epoch=2)
    assert weights_verbs.save_weights(saved_row.run, name="Pets", by=user).version == 2


def test_two_concurrent_saves_get_two_versions(saved_row: Checkpoint, user: User) -> None:
    files = ["epoch_1.pt", "epoch_2.pt", "epoch_3.pt", "epoch_4.pt"]
    for number, file in enumerate(files[1:], start=2):
        saved_row.pk, saved_row.file, saved_row.epoch, saved_row.is_best = None, file, number, False
        saved_row.save(force_insert=True)
    problems: list[Exception] = []

    def save(file: str) -> None:
        try:
            weights_verbs.save_weights(saved_row.run, name="Pets", file=file, by=user)
        except Exception as error:  # noqa: BLE001
            problems.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=save, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert sorted(Weights.objects.values_list("version", flat=True)) == [1, 2, 3, 4]


@pytest.mark.parametrize(("file", "words"), [(None, "no best checkpoint yet"), ("epoch_7.pt", "no checkpoint epoch_7")])
def test_a_run_without_such_a_checkpoint_cannot_be_saved(
    run: TrainingRun, user: User, file: str | None, words: str
) -> None:
    with pytest.raises(VerbError, match=words):
        weights_verbs.save_weights(run, name="x", file=file, by=user)
    assert not Job.objects.exists()


def test_a_checkpoint_deleted_meanwhile_is_reported_on_the_model(saved_row: Checkpoint, user: User) -> None:
    weights = weights_verbs.save_weights(saved_row.run, name="Pets", by=user)
    assert work_off().state == "failed"
    weights.refresh_from_db()
    assert (weights.state, "no longer exist" in weights.problem) == ("failed", True)
    # A failed entry does not stand in the way of another try.
    assert weights_verbs.save_weights(saved_row.run, name="Pets", by=user) != weights


def test_a_cancelled_job_leaves_no_pending_model(saved_row: Checkpoint, user: User) -> None:
    weights = weights_verbs.save_weights(saved_row.run, name="Pets", by=user)
    assert weights.job is not None
    job_verbs.cancel_job(weights.job)
    weights.refresh_from_db()
    assert (weights.state, weights.problem) == ("failed", "Cancelled.")


# Uploads


@pytest.mark.any_database
@pytest.mark.parametrize("suffix", [".safetensors", pytest.param(".pt", marks=pytest.mark.long)])
def test_an_upload_that_fits_is_ready(user: User, tmp_path: Path, suffix: str) -> None:
    path, state = tmp_path / f"mine{suffix}", state_of()
    if suffix == ".pt":
        torch.save({"epoch": 3, "state_dict": {f"module.{name}": value for name, value in state.items()}}, path)
    else:
        save_file(state, path)
    weights = upload(user, path)
    assert work_off().state == "done"
    weights.refresh_from_db()
    assert (weights.state, weights.is_whole, weights.source) == ("ready", True, "upload")
    assert weights.report["counts"] == {"matched": len(state), "other_shape": 0, "missing": 0, "unused": 0}
    stored = load_file(weights.path)
    assert all(torch.equal(stored[name], state[name]) for name in state)
    assert not path.exists()


@pytest.mark.any_database
def test_an_upload_that_fits_in_part_can_only_start_runs(user: User, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file(state_of(classes=5), path)
    weights = upload(user, path)
    work_off()
    weights.refresh_from_db()
    assert (weights.state, weights.is_whole) == ("ready", False)
    assert weights.report["names"]["other_shape"] == ["classifier.3.weight", "classifier.3.bias"]
    assert "classifier.3.weight" not in load_file(weights.path)
    with pytest.raises(VerbError, match="can only be used as initial weights"):
        weights_verbs.export_weights(weights, formats=["pt"], by=user)


@pytest.mark.long
def test_an_uploaded_classifier_may_have_several_labels_per_image(user: User, tmp_path: Path) -> None:
    """Its outputs are a sigmoid for each class, with the threshold 0.5: they do not add up to 1."""
    path = tmp_path / "mine.safetensors"
    state = state_of()
    state["classifier.3.bias"] += 5
    save_file(state, path)
    weights = upload(user, path, label_mode="multi")
    work_off()
    weights.refresh_from_db()
    assert (weights.state, weights.config["label_mode"]) == ("ready", "multi")
    weights_verbs.predict(weights, images=[("plain.png", image())], by=user)
    job = work_off()
    assert job.state == "done", job.message
    [found] = json.loads((job.folder / "predictions.json").read_text())["images"]
    assert found["labels"] == [label for label, share in found["classes"] if share >= 0.5]
    assert sum(share for _label, share in found["classes"]) > 1.5


class Harmful:
    def __reduce__(self) -> Any:
        return (exec, ("open('/tmp/weights-were-run', 'w')",))


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", b"\0" * 200_000_000)


BAD_UPLOADS: list[tuple[str, Callable[[Path], Any], str]] = [
    ("harm.pt", lambda path: path.write_bytes(pickle.dumps({"a": Harmful()})), "reasons: it names builtins.exec."),
    ("harm_zip.pt", lambda path: torch.save({"a": Harmful()}, path), "for security reasons: it names exec."),
    ("list.pt", lambda path: torch.save([1, 2], path), "a state dict"),
    ("numbers.pt", lambda path: torch.save({"epoch": 3}, path), "no tensors by name"),
    ("bomb.pt", bomb, "would grow to"),
    ("zip.pt", lambda path: zipfile.ZipFile(path, "w").close(), "not a PyTorch file"),
    ("sparse.pt", lambda path: torch.save({"features.0.0.weight": torch.eye(3).to_sparse()}, path), "sparse"),
    ("huge.pt", lambda path: torch.save({"a": torch.zeros(1).expand(10**6)}, path), "declares more numbers"),
    ("other.pt", lambda path: torch.save({"a": torch.zeros(2)}, path), "Nothing in the file fits"),
    ("nan.safetensors", lambda path: save_file(
        {name: value.float() * torch.nan for name, value in state_of().items()}, path), "not finite"),
    ("torn.safetensors", lambda path: (save_file(state_of(), path), path.write_bytes(path.read_bytes()[:5000])),
     "not a safetensors file"),
    ("x.safetensors", lambda path: path.write_bytes(b"nothing at all, surely"), "header is missing"),
    ("keras.pt", lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 50), "HDF5"),
    ("text.pt", lambda path: path.write_text("hello"), "not written by torch.save"),
    ("model.onnx", lambda path: path.write_bytes(b"\x08\x08"), "a file of ONNX"),
    ("empty.pt", lambda path: path.write_bytes(b""), "not written by torch.save"),
]  # fmt: skip


@pytest.mark.long
def test_characters_that_no_database_stores_are_replaced_visibly(user: User, tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    save_file({**state_of(), "odd\0name": torch.zeros(2)}, path)
    fits = upload(user, path)
    assert work_off().state == "done"
    fits.refresh_from_db()
    assert "odd\ufffdname" in str(fits.report)

    save_file({"odd\0name": torch.zeros(2)}, path)
    fits_not = upload(user, path, name="other")
    assert work_off().state == "failed"
    fits_not.refresh_from_db()
    assert "it has odd\ufffdname" in fits_not.problem


@pytest.mark.any_database
@pytest.mark.parametrize(("name", "make", "words"), BAD_UPLOADS, ids=[case[0] for case in BAD_UPLOADS])
def test_an_invalid_upload_is_refused_with_the_reason(
    user: User, tmp_path: Path, name: str, make: Callable[[Path], Any], words: str
) -> None:
    from trainingapp.contract.errors import BadData
    from trainingapp.contract.job_request import JobRequest
    from trainingapp.engine.jobs import check_weights

    path = tmp_path / name
    make(path)
    try:
        weights = upload(user, path)
    except VerbError as error:
        found = str(error)
    else:
        assert weights.job is not None
        order = JobRequest(weights.job.folder, weights.job.kind, weights.job.params)
        with pytest.raises(BadData) as caught:
            check_weights.run(order)
        found = str(caught.value)
        assert not (weights.job.folder / "weights.safetensors").exists()
    assert words in found
    assert not Path("/tmp/weights-were-run").exists()


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"architecture": "resnet9000"}, "architecture: Choose one of"),
        ({"image_size": 50}, "image_size: Must be a multiple of 32"),
        ({"classes": ["one"]}, "Name the classes"),
        ({"classes": ["one", "one"]}, "the same name"),
        ({"name": " "}, "A name is needed"),
        ({"licence": "x" * 300}, "more than 200 characters"),
        ({"task": "detection", "label_mode": "multi"}, "Only classification models"),
    ],
)
def test_errors_of_the_description_are_named(user: User, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(state_of(), path)
    with pytest.raises(VerbError, match=words):
        upload(user, path, **changes)
    assert not Weights.objects.exists()


# Using


@pytest.mark.any_database
def test_a_run_starts_from_a_model_and_its_own_models_record_that(
    user: User, tints: Dataset, trained: TrainingRun
) -> None:
    weights = make_entry(user)
    run = make_run(user, tints, "child", model="mobilenet_v3_small", image_size=32, start_from=weights.start_name,
                   batch_size=8, epochs=1, warmup_epochs=0, device="cpu", cpu_threads=1)  # fmt: skip
    assert checkpoint_path(run.config["start_from"]) == weights.path
    run_verbs.start_run(run)
    claimed = claim_next(HOST, worker_id())
    assert claimed is not None
    supervise(claimed)
    run.refresh_from_db()
    assert run.status == "completed", run.error_message
    assert any("tensors were loaded" in event.data.get("message", "") for event in run.events.filter(type="log"))
    child = weights_verbs.save_weights(run, name="tints", by=user)
    assert (child.parent, child.version) == (weights, 2)
    uses = weights_verbs.weights_uses(weights)
    assert (uses.children, uses.runs, uses.waiting) == ([child], [run], [])


@pytest.mark.parametrize(
    ("fields", "words"),
    [({"state": "pending"}, "being created"), ({"task": "detection"}, "for detection, not for classification")],
)
def test_a_run_cannot_start_from_an_unsuitable_model(
    user: User, tints: Dataset, fields: dict[str, str], words: str
) -> None:
    weights = make_entry(user)
    Weights.objects.filter(pk=weights.pk).update(**fields)
    with pytest.raises(VerbError, match=words):
        make_run(user, tints, start_from=weights.start_name)
    with pytest.raises(VerbError, match="does not exist"):
        make_run(user, tints, start_from="weights/999999")


def test_renaming_gives_the_next_version_of_the_other_name(user: User) -> None:
    make_entry(user, name="birds")
    weights = weights_verbs.update_weights(make_entry(user, name="tints"), name="birds", note=" seen ")
    assert (weights.name, weights.version, weights.note) == ("birds", 2, "seen")
    assert weights_verbs.update_weights(weights, name="birds").version == 2


def test_deletion_frees_every_byte_and_keeps_derived_models(user: User) -> None:
    weights = make_entry(user)
    child = make_entry(user, parent=weights)
    size = weights_verbs.delete_weights(weights)
    assert (size.bytes, size.files) == (weights.size_bytes, 1)
    assert not weights.folder.exists()
    child.refresh_from_db()
    assert child.parent is None
    with pytest.raises(VerbError, match="was deleted"):
        weights_verbs.delete_weights(weights)


@pytest.mark.parametrize("status", ["pending", "queued", "running", "paused"])
def test_models_that_a_waiting_run_needs_are_not_deleted(user: User, tints: Dataset, status: str) -> None:
    weights = make_entry(user)
    run = make_run(user, tints, "waiting", start_from=weights.start_name)
    TrainingRun.objects.filter(pk=run.pk).update(status=status)
    with pytest.raises(VerbError, match="The run waiting will start"):
        weights_verbs.delete_weights(weights)
    assert weights.path.exists()


def test_an_interrupted_deletion_is_completed_or_undone(user: User, settings: Any) -> None:
    kept, gone = make_entry(user, name="kept"), make_entry(user, name="gone")
    for weights in (kept, gone):
        target = trash.trash_name(weights.folder)
        target.parent.mkdir(exist_ok=True)
        weights.folder.rename(target)
    Weights.objects.filter(pk=gone.pk).delete()
    trash.sweep()
    assert (kept.path.exists(), gone.folder.exists()) == (True, False)
    assert not any((Path(settings.WEIGHTS_DIR) / ".trash").iterdir())


@pytest.mark.any_database
def test_an_export_is_a_zip_and_its_report_is_stored_on_the_model(user: User, tints: Dataset) -> None:
    weights = make_entry(user, dataset=tints)
    weights_verbs.export_weights(weights, formats=["pt", "safetensors"], by=user)
    job = work_off()
    assert job.state == "done", job.message
    assert (job.result["images"], job.result["are_drawn"]) == (10, False)
    with zipfile.ZipFile(job.folder / job.result["file"]) as archive:
        assert "weights.pt" in archive.namelist()
    weights.refresh_from_db()
    assert weights.report["exports"]["pt"]["is_good"]
    with pytest.raises(VerbError, match="Choose one or more of the formats"):
        weights_verbs.export_weights(weights, formats=["gif"], by=user)


# Predicting


def image(colour: str = "red", mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (40, 30)) -> io.BytesIO:
    file = io.BytesIO()
    Image.new("RGB", size, colour).convert(mode).save(file, kind)
    file.seek(0)
    return file


def flat(size: tuple[int, int]) -> io.BytesIO:
    """An image of many pixels in few bytes."""
    file = io.BytesIO()
    Image.new("1", size).save(file, "PNG")
    file.seek(0)
    return file


@pytest.mark.any_database
def test_images_are_predicted_by_a_warm_process_of_the_worker(user: User) -> None:
    weights = make_entry(user, "detection")
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 30)).save(turned, "JPEG", exif=exif)
    turned.seek(0)
    images = {
        "plain.png": image(), "grey.png": image(mode="L"), "alpha.png": image(mode="RGBA"),
        "print.jpg": image(mode="CMYK", kind="JPEG"), "turned.jpg": turned,
        "cut.jpg": io.BytesIO(image(kind="JPEG", size=(300, 300)).getvalue()[:900]),
    }  # fmt: skip
    try:
        for _again in range(2):
            for file in images.values():
                file.seek(0)
            weights_verbs.predict(weights, images=list(images.items()), by=user)
            job = work_off(is_shared=False)
            assert job.state == "done", job.message
        many = [(f"{number}.png", image()) for number in range(50)]
        weights_verbs.predict(weights, images=many, by=user)
        assert work_off(is_shared=False).result["images"] == 50
    finally:
        warm_process.drop()
    assert (job.result["images"], job.result["problems"]) == (5, 1)
    found = {one["name"]: one for one in json.loads((job.folder / "predictions.json").read_text())["images"]}
    assert (found["turned.jpg"]["width"], found["turned.jpg"]["height"]) == (30, 40)
    assert "cannot be read as an image" in found["cut.jpg"]["problem"]
    assert (job.folder / "shown" / "0.webp").exists()


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("images", "words"),
    [
        ([], "at least one image"),
        ([("a.png", b"")] * 51, "At most 50"),
        ([("a.txt", b"hello")], "a.txt is not a supported image"),
        ([("a.svg", b"<svg/>")], "not a supported image"),
        ([("huge.png", (20000, 20000))], "huge.png has too many pixels"),
        ([("../../x/large.png", (9500, 9500))], "large.png has 9500 × 9500 pixels"),
    ],
)
def test_a_file_that_is_not_an_image_is_refused_immediately(
    user: User, settings: Any, images: list[tuple[str, Any]], words: str
) -> None:
    weights = make_entry(user)
    files = [(name, io.BytesIO(one) if isinstance(one, bytes) else flat(one)) for name, one in images]
    with pytest.raises(VerbError, match=words):
        weights_verbs.predict(weights, images=files, by=user)
    assert not Job.objects.exists()
    assert not any(Path(settings.JOBS_DIR).glob("?" * 32))


@pytest.mark.any_database
@pytest.mark.long
def test_a_dataset_is_evaluated_as_the_run_evaluated_it(user: User, trained: TrainingRun) -> None:
    weights = weights_verbs.save_weights(trained, name="Tints", by=user)
    work_off()
    weights.refresh_from_db()
    weights_verbs.predict_dataset(weights, trained.dataset, split="val", by=user)
    job = work_off()
    assert job.state == "done", job.message
    for name, value in weights.metrics.items():
        assert job.result["values"][name] == pytest.approx(value, abs=1e-5), name
    lines = (job.folder / "predictions.jsonl").read_text().splitlines()
    assert len(lines) == trained.dataset.count("val")


@pytest.mark.any_database
def test_only_a_folder_of_class_folders_is_evaluated(user: User, tmp_path: Path, admin: User) -> None:
    weights = make_entry(user)
    for name in ("blue", "red"):
        (tmp_path / "shown" / name).mkdir(parents=True)
        Image.new("RGB", (32, 32), name).save(tmp_path / "shown" / name / "1.png")
    (tmp_path / "shown" / "link.png").symlink_to(tmp_path / "shown" / "red" / "1.png")
    with pytest.raises(VerbError, match="cannot be read"):
        weights_verbs.predict_folder(weights, tmp_path / "shown", by=user)
    weights_verbs.predict_folder(weights, tmp_path / "shown", by=admin)
    job = work_off()
    assert job.state == "done", job.message
    assert (job.result["images"], "top1" in job.result["values"]) == (2, True)
