"""manage.py doctor: what is wrong with this installation, and what can be done about it."""

import json
import sys
from argparse import ArgumentParser

from trainingapp.accounts import audit
from trainingapp.management.base import StudioCommand
from trainingapp.operations.doctor import Finding, examine

SIGNS = {"ok": "+", "warning": "!", "error": "x"}
EXIT_CODES = {"ok": 0, "warning": 1, "error": 2}


class Command(StudioCommand):
    help = (
        "Examine database, queue, worker, disk, GPUs, runs and files. Exit status: 0 well, 1 warnings, 2 errors. "
        "With --fix it asks before each thing that it can mend."
    )
    requires_system_checks = []
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="As a JSON array of findings.")
        parser.add_argument("--fix", action="store_true", help="Mend what can be mended, asking before each.")
        parser.add_argument("--yes", action="store_true", help="With --fix: do not ask.")

    def handle(self, *, fix: bool, yes: bool, **options: object) -> None:
        found = examine()
        if options["json"]:
            self.stdout.write(json.dumps([finding.record() for finding in found]))
        else:
            for finding in found:
                self._show(finding)
        mended = [finding for finding in found if fix and self._mend(finding, sure=yes)]
        left = [finding for finding in found if finding not in mended]
        sys.exit(max((EXIT_CODES[finding.severity] for finding in left), default=0))

    def _show(self, finding: Finding) -> None:
        self.stdout.write(f"[{SIGNS[finding.severity]}] {finding.check}: {finding.message}")
        for line in filter(None, (finding.meaning, finding.fix and f"--fix: {finding.fix}")):
            self.stdout.write(f"      {line}")

    def _mend(self, finding: Finding, *, sure: bool) -> bool:
        """Whether it was mended. What goes wrong in one does not keep the others from being mended."""
        if finding.mend is None:
            return False
        if not sure and input(f"{finding.message}\n  {finding.fix} [y/N] ").strip().lower() not in ("y", "yes"):
            return False
        try:
            self.stderr.write(finding.mend())
        except (OSError, ValueError) as error:
            self.stderr.write(f"That did not work: {error}")
            return False
        audit.record("mend", details={"check": finding.check, "found": finding.message})
        return True
