"""manage.py doctor: problems of this installation, and how to repair them."""

import json
import sys
from argparse import ArgumentParser

from django.core.management.base import CommandError

from trainingapp.accounts import audit
from trainingapp.management.base import StudioCommand
from trainingapp.operations.doctor import Finding, examine
from trainingapp.operations.doctor.gpu import gpu_check, runs_on_gpus

MARKS = {"ok": "+", "warning": "!", "error": "x"}
EXIT_CODES = {"ok": 0, "warning": 1, "error": 2}


class Command(StudioCommand):
    help = (
        "Examine database, queue, worker, disk, GPUs, runs and files. Exit status: 0 no problem, 1 warnings, 2 errors. "
        "With --fix, repair problems, with a confirmation for each."
    )
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--full", action="store_true", help="Read the complete database file, which takes minutes.")
        parser.add_argument("--json", action="store_true", help="Print the findings as a JSON array.")
        parser.add_argument("--fix", action="store_true", help="Repair problems, with a confirmation for each.")
        parser.add_argument("--yes", action="store_true", help="With --fix: do not ask. With --gpu: even beside runs.")
        parser.add_argument(
            "--gpu",
            action="store_true",
            help="Instead, train on the GPU for some minutes and measure resume, speed, memory and failures. "
            "Exit status: 0 no problem, 1 problems, 2 no GPU.",
        )

    def handle(self, *, fix: bool, yes: bool, full: bool, gpu: bool, **options: object) -> None:
        if gpu:
            sys.exit(self._check_gpu(sure=yes, only_json=bool(options["json"])))
        found = examine(full=True) if full else examine()
        if options["json"]:
            self.stdout.write(json.dumps([finding.record() for finding in found]))
        else:
            for finding in found:
                self.stdout.write(f"[{MARKS[finding.severity]}] {finding.check}: {finding.message}")
                for line in filter(None, (finding.meaning, finding.fix and f"--fix: {finding.fix}")):
                    self.stdout.write(f"      {line}")
        repaired = [finding for finding in found if fix and self._repair(finding, sure=yes)]
        left = [finding for finding in found if finding not in repaired]
        sys.exit(max((EXIT_CODES[finding.severity] for finding in left), default=0))

    def _check_gpu(self, *, sure: bool, only_json: bool) -> int:
        """Show the check of the GPU and return its exit status. Raises CommandError where runs hold a GPU."""
        names = runs_on_gpus()
        if names and not sure:
            # The check takes nearly all memory of the GPU for a while.
            raise CommandError(f"Runs use a GPU of this machine: {', '.join(names)}. Pause them, or add --yes.")

        def write(line: str) -> None:
            if not only_json or line.startswith("{"):
                self.stdout.write(line)

        return gpu_check(write)

    def _repair(self, finding: Finding, *, sure: bool) -> bool:
        """Repair a finding if the user agrees; returns whether it was. A failure does not prevent other repairs."""
        if finding.repair is None:
            return False
        if not sure and input(f"{finding.message}\n  {finding.fix} [y/N] ").strip().lower() not in ("y", "yes"):
            return False
        try:
            self.stderr.write(finding.repair())
        except (OSError, ValueError) as error:
            self.stderr.write(f"The repair failed: {error}")
            return False
        # The key of version 0.1: entries of both versions are found by one filter.
        audit.record("mend", details={"check": finding.check, "found": finding.message})
        return True
