"""The classes of the admin are imported with the addresses, not by each process that starts Django."""

import subprocess
import sys

from tests.conftest import REPOSITORY

STARTED = "import django, sys; django.setup(); "


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_starting_django_imports_no_admin_class() -> None:
    asked = "print('trainingapp.admin' in sys.modules, 'trainingapp.datasets' in sys.modules)"
    assert run(STARTED + asked) == "False False"


def test_the_checks_see_all_admin_classes() -> None:
    """Also where they come before the check that imports the addresses: Django runs them in any order."""
    code = (
        "from django.contrib import admin; from django.core.checks import run_checks; from trainingapp import models; "
        "run_checks(tags=['admin']); print(admin.site.is_registered(models.TrainingRun))"
    )
    assert run(STARTED + code) == "True"
