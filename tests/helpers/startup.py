"""Real trainer failures: code that runs at the start of every trainer process of a studio.

Python imports `sitecustomize` at startup. A folder with such a module is put on the path of the studio. It acts in
trainers, and only in the selected attempts, determined from RUN_DIR/config.json; and in the worker, whose watchdog sees
an hour pass when the test says so (`let_an_hour_pass`).
"""

import textwrap
from pathlib import Path

from tests.helpers.studio import REPOSITORY, Studio

#: The file in the data folder whose existence moves the clock of the watchdog.
HOUR = "an hour has passed"
_FRAME = """
import sys
if "run_huey" in sys.orig_argv:
    import os, pathlib, threading, time
    def clock(hour=pathlib.Path(os.environ["DATA_DIR"], "{hour}")):
        return time.monotonic() + 3600 * hour.exists()
    def set_clock():
        while not hasattr(sys.modules.get("trainingapp.supervision.watchdog"), "Watchdog"):
            time.sleep(0.01)
        sys.modules["trainingapp.supervision.watchdog"].Watchdog.__init__.__defaults__ = (clock,)
    threading.Thread(target=set_clock, daemon=True).start()
if "trainingapp.engine" in sys.orig_argv and "--spare" not in sys.orig_argv:
    import json, pathlib
    RUN_DIR = pathlib.Path(sys.orig_argv[-1])
    if json.loads((RUN_DIR / "config.json").read_text())["attempt"] in {attempts}:
{code}
"""


def at_start(studio: Studio, folder: Path, code: str, attempts: tuple[int, ...] = (1,)) -> None:
    """Run `code` at the start of the trainers of these attempts, with RUN_DIR defined."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        _FRAME.format(attempts=attempts, hour=HOUR, code=textwrap.indent(textwrap.dedent(code), " " * 8))
    )
    studio.env["PYTHONPATH"] = f"{folder}:{REPOSITORY}"  # it may import this package, before the trainer itself does


def let_an_hour_pass(studio: Studio) -> None:
    """Move the clock of the watchdog of a worker that is started with `at_start`."""
    (studio.data_dir / HOUR).touch()


#: After step 3 the next poll between two steps never returns.
HANG = """
import threading, time
def hang():
    events = RUN_DIR / "events.jsonl"
    while not (events.exists() and '"step":3' in events.read_text()):
        time.sleep(0.02)
    from trainingapp.engine.requests import RequestHandler
    def never(self):
        (RUN_DIR / "hangs").touch()
        while True:
            time.sleep(3600)
    RequestHandler.between_steps = never
threading.Thread(target=hang, daemon=True).start()
"""

#: The trainer continues training and ignores commands, the end of its input and signals.
DEAF = """
from trainingapp.engine import control
control.Control.ending = lambda self: None
"""

#: The trainer hangs as soon as it is to save and exit.
NEVER_SAVED = """
import time
from trainingapp.engine import control
ending = control.Control.ending
control.Control.ending = lambda self: time.sleep(3600) if ending(self) else None
"""

#: A system limit provides less memory than a batch of the run needs.
LITTLE_MEMORY = """
import resource, threading, time
def limit():
    events = RUN_DIR / "events.jsonl"
    while not (events.exists() and '"started"' in events.read_text()):
        time.sleep(0.005)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + {spare}, resource.RLIM_INFINITY))
threading.Thread(target=limit, daemon=True).start()
"""

#: The trainer belongs to a cgroup, whose limit after the start of training is slightly above its current usage.
IN_GROUP = """
import os, pathlib, threading, time
group = pathlib.Path("{group}")
(group / "cgroup.procs").write_text(str(os.getpid()))
def limit():
    events = RUN_DIR / "events.jsonl"
    while not (events.exists() and '"started"' in events.read_text()):
        time.sleep(0.005)
    (group / "{limit}").write_text(str(int((group / "{used}").read_text()) + (64 << 20)))
threading.Thread(target=limit, daemon=True).start()
"""

#: Writes the given number of MB to standard output, line by line, while the run trains.
TALK = """
import os, threading
def talk():
    line = (b"all work and no play makes jack a dull boy " * 20)[:799] + b"\\n"
    block = line * 1250
    for _ in range({megabytes}):
        os.write(1, block)
threading.Thread(target=talk, daemon=True).start()
"""

#: Writes the given number of MB of log events while the run trains, at least an eighth before each of its next steps.
TALK_EVENTS = """
import json, os, threading, time
steps = written = 0
def pace(next_step):
    def between_steps(self):
        global steps
        steps += 1
        while written < min(steps / 8, 1) * {megabytes}:
            time.sleep(0.001)
        return next_step(self)
    return between_steps
def talk():
    global written
    events = RUN_DIR / "events.jsonl"
    while not (events.exists() and '"started"' in events.read_text()):
        time.sleep(0.02)
    place = dict(type="log", attempt=1, epoch=1, step=1, level="info")
    line = (json.dumps(dict(place, time=time.time(), message="all work and no play " * 30)) + "\\n").encode()
    block = line * (1000000 // len(line))
    fd = os.open(events, os.O_WRONLY | os.O_APPEND)
    from trainingapp.engine.requests import RequestHandler
    RequestHandler.between_steps = pace(RequestHandler.between_steps)
    for _ in range({megabytes}):
        os.write(fd, block)
        written += 1
threading.Thread(target=talk, daemon=True).start()
"""
