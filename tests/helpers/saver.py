"""A process that saves until it is killed. It forks a child for each line of standard input: torch is loaded once.

A line is JSON: {"run_dir": ..., "form": ...}. The child prints "child PID", then "saved N" after each checkpoint.
"""

import json
import os
import sys
from pathlib import Path

from tests.helpers.saved import open_folder, save
from trainingapp.contract.storage.index import read_index


def save_for_ever(run_dir: Path, form: str) -> None:
    folder = open_folder(run_dir, last=3, every_epochs=7, form=form)  # type: ignore[arg-type]
    found = folder.newest_valid()
    epoch = found.entry.epoch if found else 0
    while True:
        epoch += 1
        save(folder, epoch, is_best=epoch % 5 == 0)
        print("saved", max(entry.epoch for entry in read_index(run_dir / "checkpoints")), flush=True)


def main() -> None:
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if not child:
            save_for_ever(Path(wanted["run_dir"]), wanted["form"])
        print("child", child, flush=True)
        os.waitpid(child, 0)
        print("gone", flush=True)


if __name__ == "__main__":
    main()
