"""What a studio uses while nothing happens, and how soon a message wakes its worker.

    python benchmarks/idle.py [--quick] [--seconds N]

Starts `manage.py studio` in an installation of its own, without browsers, runs or jobs, and waits until the spare
trainer has got ready. Then it measures for some time, each process by itself:

    CPU         processor time as a part of one core, processes that start meanwhile included
    resident    memory that the process has mapped, as `top` shows it
    private     the part of it that is no copy of a file, and that the system cannot take back

`cpu_percent` is the sum over all processes; `spare_mb` and `spare_private_mb` are those of the spare trainer. A worker
has one thread for each concurrent run and five more. `wakeup_ms` is the median time from adding a message to the queue
until a waiting thread of another process has it.
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
MB = 1e6
DEADLINE_S = 300.0
#: How the processes of a studio are told apart, by a word of their command line.
NAMES = {"studio": "parent", "web": "web server", "run_huey": "worker", "--spare": "spare trainer"}
#: A worker's thread that reads the queue, and writes a line for each message.
READER = """
import sys, time
import django
django.setup()
from huey.contrib.djhuey import HUEY
if hasattr(HUEY.storage, "listen"):
    HUEY.storage.listen()
delay = 0.01
print("ready", flush=True)
while True:
    data = HUEY.storage.dequeue()
    if data is not None:
        print(time.time() - float(bytes(data)), flush=True)
        delay = 0.01
    elif not HUEY.storage.blocking:
        time.sleep(delay)
        delay = min(0.05, delay * 1.15)
"""


@dataclass
class Used:
    """What a process has used so far and has in memory now."""

    name: str
    cpu_s: float
    resident_bytes: int
    private_bytes: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="measure for 30 s instead of 120")
    parser.add_argument("--seconds", type=float, help="measure for so long")
    options = parser.parse_args()
    seconds = options.seconds or (30.0 if options.quick else 120.0)
    with tempfile.TemporaryDirectory(prefix="cvstudio-bench-") as folder:
        environment = installation(Path(folder))
        with studio(environment, Path(folder) / "log.txt") as root:
            wait_for_idle_spare(root)
            figures = measure(root, seconds)
        figures["wakeup_ms"] = wakeup_ms(environment, 10 if options.quick else 40)
    print(f"{'wake-up, median':<16}{figures['wakeup_ms']:>9.1f} ms")
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    print(json.dumps(figures))


def installation(folder: Path) -> dict[str, str]:
    """The environment of a new installation, which reads no setting of the caller's."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {"DATA_DIR": str(folder / "data"), "PORT": str(port), "DATABASE_URL": "", "REDIS_URL": ""}
    own |= {"DJANGO_SETTINGS_MODULE": "cvstudio.settings", "LOG_LEVEL": "WARNING", "SPARE_TRAINER": "true"}
    return {**os.environ, **own}


@contextmanager
def studio(environment: dict[str, str], log_file: Path) -> Iterator[psutil.Process]:
    with log_file.open("wb") as log:
        command = [sys.executable, "manage.py", "studio", "--no-demo"]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


def wait_for_idle_spare(root: psutil.Process) -> None:
    """Return when there is a spare trainer that has used no processor for three seconds, and everything has settled."""
    deadline, before, still_s = time.monotonic() + DEADLINE_S, -1.0, 0
    while still_s < 3:
        if time.monotonic() > deadline:
            raise SystemExit(f"There was no idle spare trainer within {DEADLINE_S:.0f} s.")
        time.sleep(1)
        used = sum(one.cpu_s for one in all_used(root).values() if one.name == NAMES["--spare"])
        still_s = still_s + 1 if used == before and used > 2 else 0
        before = used
    time.sleep(10)


def measure(root: psutil.Process, seconds: float) -> dict[str, float]:
    before, began = all_used(root), time.monotonic()
    time.sleep(seconds)
    after, passed_s = all_used(root), time.monotonic() - began
    percents = {
        pid: 100 * (one.cpu_s - (before[pid].cpu_s if pid in before else 0)) / passed_s for pid, one in after.items()
    }
    print(f"{'process':<16}{'CPU, % of a core':>18}{'resident MB':>13}{'private MB':>12}")
    for pid, one in after.items():
        sizes = f"{one.resident_bytes / MB:>13.0f}{one.private_bytes / MB:>12.0f}"
        print(f"{one.name:<16}{percents[pid]:>18.2f}{sizes}")
    spare = max((one for one in after.values() if one.name == NAMES["--spare"]), key=lambda one: one.resident_bytes)
    return {
        "cpu_percent": round(sum(percents.values()), 2),
        **{f"{one.name.split()[0]}_cpu_percent": round(percents[pid], 2) for pid, one in after.items()},
        "spare_mb": round(spare.resident_bytes / MB, 1),
        "spare_private_mb": round(spare.private_bytes / MB, 1),
        "seconds": round(passed_s, 1),
    }


def all_used(root: psutil.Process) -> dict[int, Used]:
    """All processes of the studio by their numbers."""
    found = {}
    for process in (root, *root.children(recursive=True)):
        try:
            words = process.cmdline()
            name = next((label for word, label in NAMES.items() if word in words), "other")
            user, system = process.cpu_times()[:2]
            status = (Path("/proc") / str(process.pid) / "status").read_text()
        except (psutil.NoSuchProcess, FileNotFoundError):
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) << 10 for line in status.splitlines() if line.endswith(" kB")}
        found[process.pid] = Used(name, user + system, sizes["VmRSS"], sizes["RssAnon"])
    return found


def wakeup_ms(environment: dict[str, str], messages: int) -> float:
    """Median time from a message in this process to a waiting thread of another one."""
    os.environ.update(environment)
    sys.path.insert(0, str(ROOT))
    import django

    django.setup()
    from huey.contrib.djhuey import HUEY

    command = [sys.executable, "-c", READER]
    reader = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    assert reader.stdout
    assert reader.stdout.readline() == "ready\n"
    found = []
    for number in range(messages):
        time.sleep(0.5 + 0.013 * number)  # longer than the longest delay between two looks
        HUEY.storage.enqueue(str(time.time()).encode())
        found.append(1000 * float(reader.stdout.readline()))
    reader.kill()
    reader.wait()
    return round(statistics.median(found), 2)


if __name__ == "__main__":
    main()
