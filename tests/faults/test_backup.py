"""A backup of a running run, restored elsewhere."""

import threading
from pathlib import Path

import psutil
import pytest

from tests.faults.test_kills import CONFIG, IMAGES, check_equal, curve, middle, undisturbed  # noqa: F401
from tests.helpers.studio import Studio, wait_for

pytestmark = pytest.mark.slow


@pytest.mark.long
def test_a_running_run_resumes_bit_exactly_after_a_restore(
    studio: Studio,
    tmp_path: Path,
    undisturbed: tuple[Path, list[object]],  # noqa: F811
) -> None:
    (run,) = studio.prepare(images=IMAGES, **CONFIG)
    worker = studio.start_worker()
    trainer = psutil.Process(middle(studio, run)["pid"])
    trainer.suspend()  # until the backup has started: otherwise a quick run could complete before it
    backup = threading.Thread(target=studio.manage, args=("backup", str(tmp_path / "studio.tar.zst")))
    backup.start()
    wait_for(lambda: list(studio.data_dir.glob(".backup-*")) or not backup.is_alive(), 60, "the backup begins")
    trainer.resume()
    backup.join()
    studio.wait_for_status(run, "completed", 120)  # the backup did not disturb it
    assert studio.stop(worker) == 0
    other = Studio(tmp_path / "elsewhere")
    try:
        said = other.manage("restore", str(tmp_path / "studio.tar.zst")).stdout
        assert "1 runs, 1 datasets" in said
        assert other.status(run) == "running"
        other.start_worker()
        other.wait_for_status(run, "completed", 120)
        check_equal(other, run, undisturbed)
    finally:
        other.cut_power()


@pytest.mark.long
@pytest.mark.postgres
def test_it_can_be_restored_to_another_database_engine(studio: Studio, tmp_path: Path, postgres_url: str) -> None:
    ids = studio.prepare(runs=2, start=False)
    studio.manage("backup", str(tmp_path / "studio.tar.zst"))
    other = Studio(tmp_path / "elsewhere", DATABASE_URL=postgres_url)
    other.manage("restore", str(tmp_path / "studio.tar.zst"))
    code = """
    from trainingapp.models import TrainingRun
    from django.contrib.auth.models import User
    made = TrainingRun.objects.create(owner=User.objects.get(), name="new", task="x", config={},
                                      dataset=TrainingRun.objects.first().dataset)
    runs = sorted(TrainingRun.objects.values_list("pk", flat=True))
    result = [runs, User.objects.get().check_password("correct horse")]
    """
    assert other.python(code) == [[*ids, max(ids) + 1], True]
    other.manage("backup", str(tmp_path / "again.tar.zst"))
    assert (tmp_path / "again.tar.zst").stat().st_size > 1000
