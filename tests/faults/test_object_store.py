"""Two hosts without a common data folder: a dataset that was imported on one of them trains on the other."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.faults.test_lost_ranks import weights
from tests.faults.test_several_hosts import TOGETHER, kill_with_children, start_worker_on
from tests.helpers.studio import TINY, Studio, wait_for

pytestmark = pytest.mark.slow

#: Slow enough to be interrupted: a download takes a pause before each file.
IMAGES = 60
#: Pages of a run, and files of it.
PAGES = (
    "",
    "charts/",
    "system/",
    "config/",
    "activity/",
    "log/",
    "evaluation/",
    "checkpoints/",
    "report.html",
    "delete/",
)
FILES = ("checkpoints/last.pt", "evaluation/1.json")


class Hosts:
    """The host of the web server, with the database, and another one, which shares nothing but database and store."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.store.mkdir()
        database = f"sqlite:///{folder / 'barn' / 'studio.sqlite3'}"
        common = {"OBJECT_STORE_URL": str(self.store), "DATABASE_URL": database}
        self.barn = Studio(folder / "barn", HOST_NAME="barn", **{**common, "MAX_TRAINING_PROCESSES": "1"})
        self.shed = Studio(folder / "shed", HOST_NAME="shed", **{**common, "MAX_TRAINING_PROCESSES": "1"})
        self.shed.data_dir.mkdir()

    def prepare(self, **config: Any) -> tuple[int, int]:
        """An administrator, a dataset that is imported on the barn, and a run that is not started yet; their ids."""
        self.barn.data_dir.mkdir()
        self.barn.manage("migrate", "-v0", "--skip-checks")
        source = self.barn.data_dir / "source"
        dataset, run = self.barn.python(
            f"""
            from pathlib import Path
            from django.contrib.auth.models import User
            from tests.helpers.tiny import make_run, write_dataset
            from trainingapp.datasets import verbs
            from trainingapp.datasets.options import ImportOptions
            from trainingapp.jobs import execution, lease
            from trainingapp.jobs.kinds import Lane
            user = User.objects.create_superuser("admin", password="correct horse")
            write_dataset(Path({str(source)!r}), {IMAGES})
            dataset = verbs.start_import(
                owner=user, name="tints", source=Path({str(source / "images")!r}), source_is_upload=False,
                options=ImportOptions(), here=False,
            )
            execution.work(lease.claim_job(Lane.IMPORT))
            dataset.refresh_from_db()
            assert dataset.status == "ready", dataset.report
            run = make_run(user, dataset, **{ {**TINY, "epochs": 1, **config}!r})
            result = dataset.pk, run.pk
            """
        )
        shutil.rmtree(source)
        return dataset, run

    def stored(self, dataset: int) -> str:
        """The key of the dataset, once the barn has done the job that the import requested."""
        key: str = self.barn.python(
            f"""
            from trainingapp.jobs import execution, lease
            from trainingapp.jobs.kinds import Lane
            from trainingapp.models import Dataset
            execution.work(lease.claim_job(Lane.STORE))
            result = Dataset.objects.get(pk={dataset}).store_key
            """
        )
        assert key
        return key

    def statuses_of_pages(self, run: int) -> dict[str, int]:
        """The status of each page of the run on the web server, which does not have its files."""
        found: dict[str, int] = self.barn.python(
            f"""
            from django.contrib.auth.models import User
            from django.test import Client
            client = Client(raise_request_exception=False, HTTP_HOST="localhost")
            client.force_login(User.objects.get())
            result = {{page: client.get(f"/runs/{run}/{{page}}").status_code for page in {(*PAGES, *FILES)!r}}}
            """
        )
        return found

    def start(self, run: int) -> None:
        self.barn.python(
            f"""
            from trainingapp.models import TrainingRun
            from trainingapp.runs import verbs
            verbs.start_run(TrainingRun.objects.get(pk={run}))
            """
        )


@pytest.fixture
def hosts(tmp_path: Path) -> Any:
    found = Hosts(tmp_path)
    yield found
    found.barn.cut_power()
    found.shed.cut_power()


@pytest.mark.long
def test_a_dataset_of_one_host_trains_on_another(hosts: Hosts) -> None:
    dataset, run = hosts.prepare()
    hosts.start(run)
    worker = hosts.shed.start_worker()
    # Before it is stored, only the host with its files may train on it.
    wait_for(lambda: hosts.barn.rows("SELECT 1 FROM trainingapp_host WHERE name = 'shed'"), 60, "the shed reports")
    why = hosts.barn.manage("queue", "list").stdout
    assert "object store" in " ".join(why.split())
    key = hosts.stored(dataset)
    row = hosts.barn.wait_for_status(run, "completed", 240)
    assert (row["host"], row["attempt"], row["recoveries"]) == ("shed", 1, 0)
    copy = hosts.shed.data_dir / "cache" / "datasets" / key
    assert len(list(copy.glob("images/**/*.*"))) == IMAGES + IMAGES // 2
    assert not (hosts.shed.data_dir / "datasets" / str(dataset)).exists()
    assert hosts.barn.rows("SELECT 1 FROM trainingapp_hostdataset WHERE key = ?", key)
    assert not (hosts.barn.data_dir / "runs" / str(run)).exists()
    assert hosts.statuses_of_pages(run) == dict.fromkeys(PAGES, 200) | dict.fromkeys(FILES, 404)
    hosts.shed.stop(worker, timeout_s=60)


#: A worker whose downloads take long enough to be interrupted.
SLOW_WORKER = """
import sys, time
from trainingapp.object_store import download
step = download._Download._step
download._Download._step = lambda self: (time.sleep(0.4), step(self))
sys.argv = ["manage.py", "run_huey"]
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""


def slow_worker(studio: Studio) -> "subprocess.Popen[bytes]":
    script = studio.data_dir.with_name("slow_worker.py")
    script.write_text(SLOW_WORKER)
    with studio.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=studio.repository,
            env={**studio.env, "PYTHONPATH": str(studio.repository)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    studio.processes.append(process)
    return process


@pytest.mark.long
def test_a_worker_that_is_killed_while_it_fetches_costs_nothing(hosts: Hosts) -> None:
    dataset, run = hosts.prepare()
    key = hosts.stored(dataset)
    hosts.start(run)
    worker = slow_worker(hosts.shed)
    fetching = hosts.shed.data_dir / "cache" / "datasets" / f".fetching-{key}"

    def is_fetching() -> bool:
        row = hosts.barn.run(run)
        return row["phase"] == "fetching" and '"total": 0' not in row["fetching"] and fetching.exists()

    wait_for(is_fetching, 120, "the run fetches its dataset")
    kill_with_children(worker.pid)
    hosts.shed.start_worker()
    row = hosts.barn.wait_for_status(run, "completed", 240)
    assert (row["host"], row["attempt"]) == ("shed", 2)
    assert not fetching.exists()


@pytest.mark.parametrize(
    ("action", "status"), [("pause", "paused"), pytest.param("stop", "stopped", marks=pytest.mark.long)]
)
def test_a_download_ends_when_that_is_requested(hosts: Hosts, action: str, status: str) -> None:
    dataset, run = hosts.prepare()
    hosts.stored(dataset)
    hosts.start(run)
    worker = slow_worker(hosts.shed)
    wait_for(lambda: hosts.barn.run(run)["phase"] == "fetching", 120, "the run fetches its dataset")
    hosts.barn.manage("train", action, str(run))
    row = hosts.barn.wait_for_status(run, status, 60)
    assert (row["error_class"], row["recoveries"]) == ("", 0)
    hosts.shed.stop(worker, signal.SIGTERM, timeout_s=60)
    assert not hosts.shed.trainers()


@pytest.mark.long
def test_two_hosts_of_a_run_fetch_its_dataset_once(hosts: Hosts) -> None:
    """Shed and loft share their folders, but not those of the barn, on which the dataset was imported."""
    config = {"batch_size": 2, "accumulation_steps": 2}
    dataset, run = hosts.prepare(**config, **TOGETHER)
    key = hosts.stored(dataset)
    for host in ("shed", "loft"):
        start_worker_on(hosts.shed, host)
    hosts.start(run)
    row = hosts.barn.wait_for_status(run, "completed", 480)
    assert row["attempt"] == 1
    shares = hosts.barn.rows("SELECT host, exit_code FROM trainingapp_runshare WHERE run_id = ? ORDER BY host", run)
    assert shares == [{"host": "loft", "exit_code": 0}, {"host": "shed", "exit_code": 0}]
    assert [path.name for path in (hosts.shed.data_dir / "cache" / "datasets").glob("[!.]*")] == [key]
    assert not (hosts.shed.data_dir / "datasets" / str(dataset)).exists()
    alone: int = hosts.barn.python(
        f"""
        from tests.helpers.tiny import make_run
        from django.contrib.auth.models import User
        from trainingapp.models import Dataset
        result = make_run(User.objects.get(), Dataset.objects.get(), **{ {**TINY, "epochs": 1, **config}!r}).pk
        """
    )
    hosts.start(alone)
    hosts.barn.wait_for_status(alone, "completed", 480)
    ours, theirs = weights(hosts.shed, run, 1), weights(hosts.shed, alone, 1)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
