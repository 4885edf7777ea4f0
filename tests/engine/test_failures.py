"""Failures have a class and a message with the remedy."""

import errno
from pathlib import Path

import pytest
import torch
from django.utils import translation

from tests.helpers.gpu_errors import RECORDED
from tests.helpers.images import make_dataset
from tests.helpers.trainers import index_of, last_status, newest_content, train_here
from trainingapp.contract.errors import BadConfig, BadData, NonFiniteLoss, WeightsUnavailable, classify
from trainingapp.contract.events import EVENTS_FILE, EventLog
from trainingapp.engine.checkpoint import CheckpointFolder, load_checkpoint
from trainingapp.presentation.messages import rendered


def _caught(action) -> BaseException:
    try:
        action()
    except BaseException as error:  # noqa: BLE001
        return error
    raise AssertionError("nothing was raised")


def _fill_the_disk() -> None:
    with Path("/dev/full").open("wb", buffering=0) as file:
        file.write(b"x")


def _wrapped() -> None:
    try:
        _fill_the_disk()
    except OSError as error:
        raise RuntimeError("unexpected pos") from error


def _write_to_read_only() -> None:
    raise OSError(errno.EROFS, "Read-only file system")  # none can be counted on; tests/faults mounts one


@pytest.mark.parametrize(
    ("action", "error_class", "advice"),
    [
        (lambda: torch.empty(10**15), "out_of_memory", "batch_size"),
        (lambda: bytearray(1 << 60), "out_of_memory", "batch_size"),
        (_fill_the_disk, "disk_full", "Free some space"),
        (_wrapped, "disk_full", "Free some space"),
        (_write_to_read_only, "read_only", "No checkpoint was lost"),
        (lambda: torch.nn.BatchNorm1d(2)(torch.zeros(1, 2)), "bad_config", "batch_size 2"),
        (lambda: torch.zeros(2) @ torch.zeros(3), "error", "RuntimeError"),
    ],
)
def test_errors_are_classified(action, error_class: str, advice: str) -> None:
    failure = classify(_caught(action))
    assert failure.error_class == error_class
    assert advice in str(failure.message)
    assert 1 <= len(failure.lines) <= 15


def test_gpu_memory_counts_as_memory() -> None:
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    assert classify(error).error_class == "out_of_memory"


def test_the_error_of_onednn_without_memory_counts_as_memory() -> None:
    assert classify(RuntimeError("could not create a primitive")).error_class == "out_of_memory"


@pytest.mark.parametrize(("error_class", "text"), RECORDED)
def test_recorded_errors_of_gpus_are_classified(error_class: str, text: str) -> None:
    assert classify(RuntimeError(text)).error_class == error_class


def test_the_cause_counts_where_an_error_hides_it() -> None:
    """What comes after an allocation failed, as in a thread of the loader, is raised while the first is handled."""

    def hidden() -> None:
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        except RuntimeError:
            raise RuntimeError("cuDNN error: CUDNN_STATUS_MAPPING_ERROR")  # noqa: B904 - as torch's own code does

    assert classify(_caught(hidden)).error_class == "out_of_memory"


@pytest.mark.parametrize("language", ["en", "zh-hans"])
@pytest.mark.parametrize(
    ("text", "remedies"),
    [
        ("CUDA error: device-side assert triggered", ["cpu"]),
        ("The NVIDIA driver on your system is too old (found version 11040).", ["PyTorch", "cpu"]),
        ("CUDA error: no kernel image is available for execution on the device", ["PyTorch", "pytorch.org"]),
        ("DataLoader worker (pid 7) is killed by signal: Bus error. ", ["--shm-size=8g", "num_workers"]),
        (
            "adaptive_avg_pool2d_backward_cuda does not have a deterministic implementation, but you set "
            "'torch.use_deterministic_algorithms(True)'.",
            ["adaptive_avg_pool2d_backward_cuda", "auto", "fast"],
        ),
        ("GET was unable to find an engine to execute this computation", ["batch_size", "image_size"]),
    ],
)
def test_the_message_names_the_remedy_in_both_languages(language: str, text: str, remedies: list[str]) -> None:
    with translation.override(language):
        shown = rendered(classify(RuntimeError(text)).message)
    assert all(remedy in shown for remedy in remedies), shown
    assert any("\u4e00" <= letter <= "\u9fff" for letter in shown) == (language == "zh-hans")


def test_a_quota_is_a_full_disk() -> None:
    assert classify(OSError(errno.EDQUOT, "Disk quota exceeded")).error_class == "disk_full"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_bad_config(new_run) -> None:
    with pytest.raises(BadConfig, match="no GPU"):
        train_here(new_run(device="cuda:0"))


def test_a_missing_dataset_is_bad_data(new_run, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"dataset\.json"):
        train_here(new_run(dataset_dir=tmp_path / "nothing"))


def test_a_split_without_images_is_bad_data(new_run, tmp_path: Path) -> None:
    with pytest.raises(BadData, match="The val split has 0 images"):
        train_here(new_run(dataset_dir=make_dataset(tmp_path / "dataset", val_per_class=0)))


def test_divergence_fails_and_earlier_checkpoints_are_finite(new_run, start) -> None:
    run_dir = new_run(optimizer="SGD", learning_rate=10, momentum=0.99, epochs=100, autosave_minutes=0.0001)
    trainer = start(run_dir)
    assert trainer.wait() == 1, trainer.log()
    failed = last_status(run_dir)
    assert failed["error_class"] == "non_finite_loss"
    assert "Lower learning_rate" in failed["message"]
    for entry in index_of(run_dir):
        content = load_checkpoint(run_dir / "checkpoints" / entry["file"])
        assert all(tensor.isfinite().all() for tensor in content["model_state_dict"].values())


def test_weights_that_diverged_are_not_saved(new_run) -> None:
    """The loss can still be finite although the following step has made the weights non-finite."""
    run_dir = new_run(epochs=1)
    train_here(run_dir)
    content = newest_content(run_dir)
    content["model_state_dict"]["features.0.0.weight"][0] = float("nan")
    folder = CheckpointFolder(run_dir / "checkpoints", EventLog(run_dir / EVENTS_FILE, 2))
    folder.save(content, file="step_7.pt", reason="pause")
    with pytest.raises(NonFiniteLoss, match="weights features"):
        folder.drain()
    assert [entry["file"] for entry in index_of(run_dir)] == ["epoch_1.pt"]
    assert not list((run_dir / "checkpoints").glob("step_7*"))


@pytest.mark.usefixtures("no_network")
def test_pretrained_without_network_names_host_and_remedy(new_run) -> None:
    run_dir = new_run(pretrained=True)
    with pytest.raises(WeightsUnavailable, match=r"download\.pytorch\.org"):
        train_here(run_dir)
