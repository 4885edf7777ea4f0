"""Imports hostile sources sequentially in a separate process, and records memory and all files written.

python -m tests.datasets.hostile_run RESULTS.jsonl [NAME ...]    with DATA_DIR set to an empty folder

A result line: {"name", "seconds", "peak_mb", "outside": [...], "strict": {...}, "lenient": {...}}. `peak_mb` is
the peak resident memory above that of the process after a valid import.
"""

import ctypes
import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cvstudio.settings")
#: Python audit events that change files, with the positions of paths in their arguments.
WRITES = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.link": (0, 1),
    "os.symlink": (1,),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.chmod": (0,),
    "os.truncate": (0,),
    "shutil.rmtree": (0,),
}
STARTS = {"os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "socket.connect", "os.fork"}
outside: list[str] = []
_LIBC = ctypes.CDLL(None)


def watch(data_dir: Path) -> None:
    """Record every file that Python writes elsewhere, every process that it starts and every connection."""
    inside = str(data_dir.resolve())

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in STARTS:
            outside.append(f"{event} {arguments!r}"[:200])
        elif event == "open":
            path, _mode, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                note(event, path)
        elif event in WRITES and (len(arguments) < 2 or arguments[-1] in (-1, None)):
            for place in WRITES[event]:  # otherwise relative to an open folder, which was already recorded
                note(event, arguments[place])

    def note(event: str, path: object) -> None:
        if isinstance(path, int) or path is None:
            return
        real = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]  # noqa: PTH100  no resolving: it would read
        if not real.startswith((f"{inside}/", "/dev/", "/proc/self/")) and real != inside:
            outside.append(f"{event} {real}")

    sys.addaudithook(hook)


def memory_mb(field: str) -> float:
    """VmRSS, or VmHWM (peak since `reset_peak`), in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def take_in(upload: Path, on_error: str) -> dict[str, Any]:
    """Run the steps of an upload: check in the web process, inspection, import."""
    from trainingapp.datasets.importing.importer import check_upload, run_import
    from trainingapp.datasets.importing.inspection import run_inspection
    from trainingapp.datasets.report import DatasetError
    from trainingapp.models import Dataset

    try:
        check_upload(upload)
    except DatasetError as error:
        return {"status": "refused", "report": error.items, "early": True}
    dataset = Dataset.objects.create(
        name=f"d{Dataset.objects.count()}", owner_id=1, source=str(upload), status="inspecting", source_is_upload=True
    )
    run_inspection(dataset)
    if dataset.status == Dataset.Status.PROPOSED:
        options = {"on_error": on_error, "split": "given" if dataset.proposal["has_splits"] else "stratified"}
        Dataset.objects.filter(pk=dataset.pk).update(status="importing", options=options)
        dataset.refresh_from_db()
        run_import(dataset)
    result = {"status": str(dataset.status), "report": dataset.report}
    dataset.delete()
    return result


def judge(name: str, content: Any, data_dir: Path, idle_mb: float) -> dict[str, Any]:
    from tests.helpers.hostile import zipped

    data = content if isinstance(content, bytes) else zipped(content)
    began = time.monotonic()
    result: dict[str, Any] = {"name": name}
    outside.clear()
    (data_dir / "uploads").mkdir(exist_ok=True)
    upload = data_dir / "uploads" / "upload.zip"
    del content
    for way, on_error in (("strict", "stop"), ("lenient", "leave_out")):
        if result.get("strict", {}).get("early"):  # the check of an upload does not depend on options
            result["lenient"] = result["strict"]
            break
        upload.write_bytes(data)
        if way == "lenient":
            data = b""
        gc.collect()
        _LIBC.malloc_trim(0)  # exclude the memory used to create the source
        reset_peak()
        try:
            result[way] = take_in(upload, on_error)
        except Exception:  # noqa: BLE001  it is what the test looks for
            result[way] = {"status": "crashed", "report": [], "trace": traceback.format_exc()[-1500:]}
        peak = memory_mb("VmHWM") - idle_mb
        result["peak_mb"] = max(result.get("peak_mb", 0), round(peak - (len(data) >> 20)))
        upload.unlink(missing_ok=True)
        result[way]["report"] = [{k: str(v)[:300] for k, v in item.items()} for item in result[way]["report"][:5]]
    left = [str(path.relative_to(data_dir)) for path in (data_dir / "datasets").glob("*")]
    ready = "ready" in (result["strict"]["status"], result["lenient"]["status"])
    return result | {
        "outside": list(outside),
        "left": [] if ready else left,
        "seconds": round(time.monotonic() - began, 1),
    }


def main(results: Path, names: list[str]) -> None:
    import shutil

    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command

    from tests.helpers import hostile
    from tests.helpers.sources import two_classes
    from trainingapp.datasets.importing import importer

    call_command("migrate", verbosity=0, skip_checks=True)
    User.objects.create_user("ada")
    importer._THREADS, importer._WINDOW = 4, 32  # as on a machine with more cores
    data_dir = Path(settings.DATA_DIR)
    chosen = [one for one in hostile.every() if not names or one.name in names]
    with results.open("w") as file:
        watch(data_dir)
        judge("warm", two_classes(), data_dir, 0)
        shutil.rmtree(data_dir / "datasets", ignore_errors=True)
        gc.collect()
        idle_mb = memory_mb("VmRSS")
        for one in chosen:
            file.write(json.dumps(judge(one.name, one.make(), data_dir, idle_mb)) + "\n")
            file.flush()
            shutil.rmtree(data_dir / "datasets", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
