"""Backup and restore: complete or not at all, into an empty installation only; damage is reported."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from tests.helpers.backups import members
from tests.helpers.tiny import make_dataset, make_run
from trainingapp.contract.series import Point
from trainingapp.models import AuditEntry, Dataset, RunEvent, SeriesChunk, TrainingRun
from trainingapp.models.run import append_events
from trainingapp.scheduling.inventory import adopt_files
from trainingapp.supervision.identity import data_dir_id, runs_dir_id
from trainingapp.supervision.series_store import append_points

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def data(own_database: None, tmp_path: Path, settings: Any) -> Path:
    use(settings, tmp_path / "data")
    return tmp_path / "data"


def use(settings: Any, folder: Path) -> None:
    """Another installation, as far as files go."""
    folder.mkdir()
    settings.DATA_DIR = folder
    for name in ("DATASETS", "RUNS", "WEIGHTS", "UPLOADS"):
        setattr(settings, f"{name}_DIR", folder / name.lower())


@pytest.fixture
def run(user: User) -> TrainingRun:
    run = make_run(user, make_dataset(user))
    (run.folder / "checkpoints").mkdir(parents=True)
    (run.folder / "checkpoints" / "epoch_1.pt").write_bytes(b"sound")
    (run.folder / "events.jsonl").write_text("{}\n")
    append_events(run, [RunEvent(type="log", time=timezone.now(), data={"message": "é 😀"})])
    append_points(run.pk, [Point(number, 1, number, 1, number, "train", {"loss": 1 / number}) for number in (2, 3)])
    run.save()
    return run


def stored() -> list[Any]:
    return [list(model.objects.values()) for model in (TrainingRun, Dataset, RunEvent, SeriesChunk, User)]


def empty() -> None:
    RunEvent.objects.all().delete()
    SeriesChunk.objects.all().delete()
    TrainingRun.objects.all().delete()
    Dataset.objects.all().delete()
    User.objects.all().delete()


@pytest.mark.parametrize("portable", [False, True])
def test_everything_is_restored(run: TrainingRun, user: User, tmp_path: Path, settings: Any, portable: bool) -> None:
    before = stored()
    (settings.DATA_DIR / "secret_key").write_text("a key")
    call_command("backup", str(tmp_path / "b.tar.zst"), portable=portable)
    kind = {"sqlite": "studio.sqlite3", "postgresql": "studio.pgdump"}[connection.vendor]
    assert (f"database/{kind}" in members(tmp_path / "b.tar.zst")) is not portable
    empty()
    use(settings, tmp_path / "new")
    call_command("restore", str(tmp_path / "b.tar.zst"))
    assert stored() == before
    restored = TrainingRun.objects.get()
    assert restored.folder.is_relative_to(tmp_path / "new")
    assert (restored.folder / "checkpoints" / "epoch_1.pt").read_bytes() == b"sound"
    assert (restored.dataset.folder / "samples.jsonl").exists()
    assert (tmp_path / "new" / "secret_key").read_text() == "a key"
    assert not list((tmp_path / "new").glob(".restore-*"))
    assert not list((tmp_path / "data").glob(".backup-*"))
    assert TrainingRun.objects.create(owner=user, name="new", task="x", config={}, dataset=restored.dataset).pk > run.pk


def test_files_that_datasets_share_are_still_shared(user: User, tmp_path: Path, settings: Any) -> None:
    one, two = make_dataset(user, "one"), make_dataset(user, "two")
    image = next((one.folder / "images").rglob("*.png")).relative_to(one.folder)
    (two.folder / image).unlink()
    (two.folder / image).hardlink_to(one.folder / image)
    call_command("backup", str(tmp_path / "b.tar.zst"))
    empty()
    use(settings, tmp_path / "new")
    call_command("restore", str(tmp_path / "b.tar.zst"))
    assert (one.folder / image).samefile(two.folder / image)


def test_an_unwritable_target_is_named(run: TrainingRun, tmp_path: Path) -> None:
    target = tmp_path / "nowhere" / "b.tar.zst"
    with pytest.raises(CommandError, match=f"^{target}: No such file or directory.$"):
        call_command("backup", str(target))


def test_existing_data_is_never_overwritten(run: TrainingRun, tmp_path: Path) -> None:
    call_command("backup", str(tmp_path / "b.tar.zst"))
    with pytest.raises(CommandError, match="not empty"):
        call_command("restore", str(tmp_path / "b.tar.zst"))
    with pytest.raises(CommandError, match="exists already"):
        call_command("backup", str(tmp_path / "b.tar.zst"))


def flip(data: bytes) -> bytes:
    return data.replace(b"sound", b"wrong", 1)


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("spoil", "said"), [(flip, "files/runs/.*/epoch_1.pt has changed"), (cut, "not a complete backup|end is missing")]
)
def test_a_corrupted_backup_changes_nothing(
    run: TrainingRun, tmp_path: Path, settings: Any, spoil: Callable[[bytes], bytes], said: str
) -> None:
    file = tmp_path / "b.tar.zst"
    call_command("backup", str(file))
    empty()
    use(settings, tmp_path / "new")
    with file.open("rb") as stream:
        content = spoil(zstandard.ZstdDecompressor().stream_reader(stream).read())
    file.write_bytes(zstandard.ZstdCompressor().compress(content))
    with pytest.raises(CommandError, match=said):
        call_command("restore", str(file))
    assert not User.objects.exists()
    assert not list((tmp_path / "new").rglob("*.pt"))


def member(name: str, kind: bytes = tarfile.REGTYPE, linkname: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, linkname
    return made


@pytest.mark.parametrize(
    "outside",
    [
        member("files/runs/../../../../evil"),
        member("/etc/evil"),
        member("files/evil", tarfile.LNKTYPE, "/etc/passwd"),
        member("files/evil", tarfile.LNKTYPE, "files/../../evil"),
        member("files/evil", tarfile.SYMTYPE, "/etc/passwd"),
    ],
    ids=["parents", "absolute", "link", "link with parents", "symbolic link"],
)
def test_a_path_outside_the_target_is_refused(tmp_path: Path, outside: tarfile.TarInfo) -> None:
    file = tmp_path / "b.tar.zst"
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w|") as tar:
        tar.addfile(outside)
    file.write_bytes(zstandard.ZstdCompressor().compress(content.getvalue()))
    with pytest.raises(CommandError, match="unexpected member"):
        call_command("restore", str(file))


def test_a_file_that_is_not_a_backup_is_reported(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"something else")
    with pytest.raises(CommandError, match="not a complete backup"):
        call_command("restore", str(tmp_path / "b"))
    with pytest.raises(CommandError, match="does not exist"):
        call_command("restore", str(tmp_path / "nothing"))


def test_a_backup_and_a_restore_are_in_the_audit_trail(run: TrainingRun, tmp_path: Path, settings: Any) -> None:
    target = tmp_path / "b.tar.zst"
    call_command("backup", str(target))
    assert AuditEntry.objects.get(verb="backup").source == "command"
    empty()
    use(settings, tmp_path / "new")
    call_command("restore", str(target))
    assert AuditEntry.objects.get(verb="restore").details == {"file": str(target)}


def test_directories_of_a_restored_installation_have_other_ids(run: TrainingRun, tmp_path: Path, settings: Any) -> None:
    """The workers that have the files store which directories they are in; until then nobody trains without them."""
    settings.OBJECT_STORE_URL = str(tmp_path / "store")
    ours = runs_dir_id()
    TrainingRun.objects.update(runs_dir_id=ours)
    Dataset.objects.update(data_dir_id=data_dir_id())
    call_command("backup", str(tmp_path / "b.tar.zst"))
    empty()
    use(settings, tmp_path / "new")
    call_command("restore", str(tmp_path / "b.tar.zst"))
    restored = TrainingRun.objects.get()
    assert (restored.runs_dir_id, restored.dataset.data_dir_id) == ("", "")
    adopt_files()
    restored.refresh_from_db()
    assert restored.runs_dir_id == runs_dir_id() != ours
