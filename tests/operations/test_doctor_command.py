"""manage.py doctor: what it finds, what it means, and what --fix does."""

import io
import json
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from tests.helpers import nvml
from tests.helpers.saved import content, flip_a_bit
from tests.helpers.stored import stored
from tests.helpers.trainers import assert_bit_equal
from tests.supervision.test_recovery import lost_worker
from trainingapp.contract.device_report import failed_report
from trainingapp.contract.storage.index import read_index, write_index
from trainingapp.engine.checkpoint import load_checkpoint
from trainingapp.models import AuditEntry, Checkpoint, Dataset, Host, RunShare, TrainingRun
from trainingapp.operations import doctor
from trainingapp.operations.doctor import Finding, examination, machine
from trainingapp.supervision import device_checks

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _calm(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A separate studio with a worker, without loading torch."""
    for name in ("DATA_DIR", "UPLOADS_DIR", "WEIGHTS_DIR", "JOBS_DIR"):
        setattr(settings, name, tmp_path / name.lower())
        (tmp_path / name.lower()).mkdir()
    Host.objects.create(name="studio", seen_at=timezone.now())
    monkeypatch.setattr(examination, "torch_and_gpus", lambda: iter([Finding("torch", "ok", "torch")]))


def run_doctor(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("doctor", *arguments, stdout=output, stderr=output)
    return int(end.value.code or 0), output.getvalue()


def problems() -> list[Finding]:
    return [finding for finding in doctor.examine() if finding.severity != "ok"]


def the_problem() -> Finding:
    (found,) = problems()
    return found


def make_old(path: Path) -> None:
    os.utime(path, (1, 1))


def test_a_studio_without_problems(make: MAKE) -> None:
    make()
    Dataset.objects.get().folder.mkdir(parents=True)
    code, text = run_doctor()
    assert code == 0, text
    assert "[+] database: " in text
    code, text = run_doctor("--json")
    assert {item["severity"] for item in json.loads(text)} == {"ok"}


@pytest.mark.any_database
def test_torch_is_examined_in_a_separate_process() -> None:
    found = {finding.check: finding for finding in machine.torch_and_gpus()}
    assert found["torch"].severity == "ok"
    assert "torchvision" in found["torch"].message


def test_a_torch_that_cannot_be_loaded_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_ASK_TORCH", "raise ImportError('torchvision::nms does not exist')")
    (found,) = machine.torch_and_gpus()
    assert (found.severity, "nms does not exist" in found.message) == ("error", True)


def test_each_gpu_is_tried_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver is a stand-in: the second GPU is lost, and torch has no kernels for the third."""
    nvml.lost().install(monkeypatch)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(machine, "_ASK_TORCH", """print('{"torch": "2", "torchvision": "0", "cuda": "13.0"}')""")
    report = {**failed_report("architecture", "CUDA error: no kernel image"), "torch": "2.11.0"}
    good = json.dumps(failed_report("", ""))
    is_third = "'GPU-00000002' in os.environ['CUDA_VISIBLE_DEVICES']"
    probe = f"import os; print({json.dumps(report)!r} if {is_third} else {good!r})"
    monkeypatch.setattr(device_checks, "PROBE", (sys.executable, "-c", probe))
    first, second, third, torch = machine.torch_and_gpus()
    assert (first.severity, first.message) == ("ok", "cuda:0 (NVIDIA H200) can be used.")
    assert (second.severity, second.message.split(".")[0]) == ("error", "cuda:1 cannot be used")
    assert (third.severity, "torch 2.11.0 has no kernels for its architecture." in third.message) == ("error", True)
    assert torch.severity == "ok"


def test_a_driver_that_cannot_be_asked_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml.mismatch().install(monkeypatch)
    monkeypatch.setattr(machine, "_ASK_TORCH", """print('{"torch": "2", "torchvision": "0", "cuda": "13.0"}')""")
    found = next(machine.torch_and_gpus())
    assert (found.check, found.severity) == ("gpu", "error")
    assert "The GPU driver cannot be queried" in found.message


@pytest.fixture
def ready(dataset: Dataset) -> Dataset:
    dataset.folder.mkdir(parents=True)
    return dataset


def test_a_silent_run_is_recovered(make: MAKE, ready: Dataset) -> None:
    long_ago = timezone.now() - timedelta(seconds=60)
    run = make("running", attempt=1, worker=lost_worker(), heartbeat_at=long_ago)
    run.folder.mkdir(parents=True)
    (run.folder / "config.json").write_text("{}")
    code, text = run_doctor("--fix", "--yes")
    run.refresh_from_db()
    assert (run.status, code) == ("queued", 0), text
    assert "is now queued" in text
    repaired = AuditEntry.objects.get(verb="mend")
    assert (repaired.source, repaired.details["check"]) == ("command", "runs")


def test_runs_that_wait_without_a_worker(make: MAKE, ready: Dataset) -> None:
    Host.objects.all().delete()
    make("queued")
    assert {(finding.check, finding.severity) for finding in problems()} == {("worker", "warning"), ("runs", "error")}
    assert run_doctor()[0] == 2


def test_a_run_that_is_ending_for_too_long_can_be_force_stopped(make: MAKE, ready: Dataset, monkeypatch: Any) -> None:
    now = timezone.now()
    run = make("running", heartbeat_at=now, requested_action="pause", requested_at=now - timedelta(minutes=11))
    monkeypatch.setattr("builtins.input", lambda _question: "n")
    assert run_doctor("--fix")[0] == 1
    run.refresh_from_db()
    assert run.requested_action == "pause"
    monkeypatch.setattr("builtins.input", lambda _question: "y")
    assert run_doctor("--fix")[0] == 0
    run.refresh_from_db()
    assert run.requested_action == "kill"


@pytest.mark.parametrize("root", ["RUNS_DIR", "DATASETS_DIR", "WEIGHTS_DIR"])
def test_a_folder_without_its_row_is_removed_after_confirmation(ready: Dataset, settings: Any, root: str) -> None:
    folder = Path(getattr(settings, root)) / "99"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"x" * 1000)
    make_old(folder)
    found = the_problem()
    assert (found.severity, str(folder) in found.message) == ("warning", True)
    assert folder.exists(), "looking changes nothing"
    assert run_doctor("--fix", "--yes")[0] == 0
    assert not folder.exists()
    assert ready.folder.exists()


def test_files_of_jobs_and_uploads_without_a_row(ready: Dataset, settings: Any) -> None:
    job, upload = Path(settings.JOBS_DIR) / ("a" * 32), Path(settings.UPLOADS_DIR) / "b.zip"
    job.mkdir()
    upload.write_bytes(b"zip")
    assert problems() == [], "what is young may just be made"
    make_old(job)
    make_old(upload)
    assert len(problems()) == 2
    run_doctor("--fix", "--yes")
    assert not job.exists()
    assert not upload.exists()


def saved(run: TrainingRun, file: str) -> Checkpoint:
    fields = {"step": 1, "epoch": 1, "attempt": 1, "reason": "epoch", "size_bytes": 1, "sha256": "0"}
    return Checkpoint.objects.create(run=run, file=file, created_at=timezone.now(), **fields)


def test_checkpoints_without_files_and_files_without_rows(make: MAKE, ready: Dataset) -> None:
    run = make("paused")
    folder = run.folder / "checkpoints"
    folder.mkdir(parents=True)
    known, gone = saved(run, "epoch_1.pt"), saved(run, "epoch_2.pt")
    for name in (known.file, "indexed.pt", "stray.pt", "half.tmp"):
        (folder / name).write_bytes(b"x")
        make_old(folder / name)
    (folder / "index.json").write_text('[{"file": "indexed.pt"}]')
    assert len(problems()) == 3
    run_doctor("--fix", "--yes")
    assert {path.name for path in folder.iterdir()} == {known.file, "indexed.pt", "index.json"}
    assert not Checkpoint.objects.filter(pk=gone.pk).exists()
    assert Checkpoint.objects.filter(pk=known.pk).exists()


@pytest.fixture
def paused(make: MAKE, ready: Dataset) -> TrainingRun:
    """A run at rest with three checkpoints that share a frozen layer."""
    run = stored(make("paused"), 3)
    (run.folder / "config.json").write_text("{}")
    for path in packs_of(run):
        make_old(path)
    return run


def packs_of(run: TrainingRun) -> list[Path]:
    return sorted((run.folder / "checkpoints" / "packs").iterdir())


def forget(run: TrainingRun, file: str) -> None:
    """As after a crash during a removal: no longer listed or known."""
    folder = run.folder / "checkpoints"
    write_index(folder, [entry for entry in read_index(folder) if entry.file != file])
    run.checkpoints.filter(file=file).delete()


def test_the_object_store_is_tried_out(settings: Any, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    settings.OBJECT_STORE_URL = str(tmp_path / "store")
    assert [(found.check, found.severity) for found in doctor.examine() if found.check == "object store"] == [
        ("object store", "ok")
    ]
    assert list((tmp_path / "store").iterdir()) == []
    settings.OBJECT_STORE_URL = str(tmp_path / "away")
    problem = the_problem()
    assert (problem.check, problem.severity) == ("object store", "error")
    assert "the directory does not exist" in problem.message


def test_packs_that_checkpoints_need_belong_to_them(paused: TrainingRun) -> None:
    assert problems() == []
    assert len(packs_of(paused)) == 3


def test_an_unused_pack_is_found_and_removed(paused: TrainingRun) -> None:
    forget(paused, "epoch_3.pt")
    (paused.folder / "checkpoints" / "epoch_3.pt").unlink()
    half = paused.folder / "checkpoints" / "packs" / "000009.pack.tmp"
    half.write_bytes(b"half")
    orphaned = packs_of(paused)[2]
    assert [str(orphaned) in found.message for found in problems()] == [True], "what is young may just be made"
    make_old(half)
    assert len(problems()) == 2
    assert run_doctor("--fix", "--yes")[0] == 0
    assert [path.name for path in packs_of(paused)] == ["000001.pack", "000002.pack"]
    for number in (1, 2):
        assert_bit_equal(
            load_checkpoint(paused.folder / "checkpoints" / f"epoch_{number}.pt"), content(number, is_best=number == 1)
        )


def test_a_file_that_is_not_a_checkpoint_is_removed_with_packs_that_only_it_uses(paused: TrainingRun) -> None:
    forget(paused, "epoch_1.pt")
    assert problems() == [], "what is young may just be made"
    make_old(paused.folder / "checkpoints" / "epoch_1.pt")
    assert "epoch_1.pt" in the_problem().message
    run_doctor("--fix", "--yes")
    assert len(packs_of(paused)) == 3, "the first pack holds the layer that all of them share"
    forget(paused, "epoch_2.pt")
    make_old(paused.folder / "checkpoints" / "epoch_2.pt")
    run_doctor("--fix", "--yes")
    assert [path.name for path in packs_of(paused)] == ["000001.pack", "000003.pack"]
    assert_bit_equal(load_checkpoint(paused.folder / "checkpoints" / "epoch_3.pt"), content(3))


def test_with_a_missing_tensor_no_pack_is_called_unused(paused: TrainingRun) -> None:
    forget(paused, "epoch_3.pt")
    (paused.folder / "checkpoints" / "epoch_3.pt").unlink()
    flip_a_bit(packs_of(paused)[1], 0)  # the header: no tensor of this pack can be found
    for path in packs_of(paused):
        make_old(path)
    assert problems() == []
    manifest = paused.folder / "checkpoints" / "epoch_2.pt"
    manifest.write_bytes(b"{")
    assert problems() == [], "it may be put back, and then it needs them"


def test_a_pack_that_has_become_used_is_kept(paused: TrainingRun) -> None:
    forget(paused, "epoch_3.pt")
    manifest = paused.folder / "checkpoints" / "epoch_3.pt"
    whole = manifest.read_bytes()
    manifest.unlink()
    found = the_problem()
    manifest.write_bytes(whole)
    assert found.repair
    assert "was not removed" in found.repair()
    assert len(packs_of(paused)) == 3


def test_nothing_is_removed_while_a_trainer_runs(paused: TrainingRun) -> None:
    forget(paused, "epoch_3.pt")
    (paused.folder / "checkpoints" / "epoch_3.pt").unlink()
    found = the_problem()
    TrainingRun.objects.update(status="running")
    assert found.repair
    with pytest.raises(ValueError, match="A trainer works on run"):
        found.repair()
    assert len(packs_of(paused)) == 3


def test_findings_of_the_scrub_are_reported(paused: TrainingRun) -> None:
    paused.checkpoints.filter(file="epoch_2.pt").update(damage="is damaged (a hash in 000002.pack does not hold)")
    found = the_problem()
    assert (found.severity, found.repair) == ("warning", None)
    assert "epoch_2.pt is damaged" in found.message


def test_rows_without_their_folder_are_reported_only(make: MAKE, dataset: Dataset) -> None:
    make("completed", attempt=1)
    found = problems()
    assert [(finding.severity, finding.repair) for finding in found] == [("error", None), ("error", None)]
    assert run_doctor("--fix", "--yes")[0] == 2
    assert TrainingRun.objects.exists()


def test_interrupted_deletions_are_completed(ready: Dataset, settings: Any) -> None:
    folder = Path(settings.RUNS_DIR) / ".trash" / "7.abc"
    folder.mkdir(parents=True)
    assert "interrupted" in the_problem().message
    run_doctor("--fix", "--yes")
    assert not folder.exists()


def test_a_failed_repair_does_not_prevent_others(ready: Dataset, monkeypatch: Any) -> None:
    def fail() -> str:
        raise OSError("no right to")

    found = [
        Finding("files", "warning", "one", fix="x", repair=fail),
        Finding("files", "error", "two", fix="x", repair=str),
    ]
    monkeypatch.setattr("trainingapp.management.commands.doctor.examine", lambda: found)
    code, text = run_doctor("--fix", "--yes")
    assert (code, "no right to" in text) == (1, True)


def test_a_share_of_an_attempt_that_is_over_is_closed(make: MAKE) -> None:
    run = make("running", attempt=2, worker="w", host="studio", heartbeat_at=timezone.now())
    for attempt in (1, 2):
        RunShare.objects.create(run=run, attempt=attempt, node_rank=1, host="barn", heartbeat_at=timezone.now())
    found = [finding for finding in problems() if "barn" in finding.message]
    assert [finding.severity for finding in found] == ["warning"]
    assert "attempt 1 is over" in found[0].message
    assert found[0].repair is not None
    assert found[0].repair() == "The share was stored as ended."
    assert [share.attempt for share in RunShare.objects.filter(ended_at=None)] == [2]
