"""manage.py doctor --gpu: the engine's check of the GPU from an installation."""

import io
import sys
from collections.abc import Callable

import pytest
import torch
from django.core.management import call_command
from django.core.management.base import CommandError

from tests.helpers import machines
from trainingapp.models import TrainingRun
from trainingapp.operations.doctor import gpu
from trainingapp.supervision.identity import HOST

MAKE = Callable[..., TrainingRun]
pytestmark = pytest.mark.django_db


def run_doctor(*arguments: str) -> tuple[int, str]:
    output = io.StringIO()
    with pytest.raises(SystemExit) as end:
        call_command("doctor", "--gpu", *arguments, stdout=output)
    return int(end.value.code or 0), output.getvalue()


@pytest.fixture
def lines_of_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], None]:
    """Replaces the child by one that prints lines and exits: the check itself takes minutes and needs a GPU."""

    def replace(lines: str, code: int) -> None:
        script = f"import sys; print({lines!r}); sys.exit({code})"
        monkeypatch.setattr(gpu, "COMMAND", (sys.executable, "-c", script))

    return replace


@pytest.mark.parametrize(("arguments", "shown"), [((), "table\n{}\n"), (("--json",), "{}\n")])
def test_the_gpu_check_is_shown_with_its_status(
    arguments: tuple[str, ...], shown: str, lines_of_check: Callable[[str, int], None]
) -> None:
    lines_of_check("table\n{}", 1)
    assert run_doctor(*arguments) == (1, shown)


def test_a_gpu_check_without_problems(lines_of_check: Callable[[str, int], None]) -> None:
    lines_of_check("table\n{}", 0)
    assert run_doctor() == (0, "table\n{}\n")


def test_no_gpu_check_while_a_run_holds_a_gpu(make: MAKE, lines_of_check: Callable[[str, int], None]) -> None:
    run = make(status="running", name="street scenes")
    machines.hold(run, machines.machine(HOST, gpus=1).devices.get(kind="gpu"))
    lines_of_check("table\n{}", 0)
    with pytest.raises(CommandError, match="Runs use a GPU of this machine: street scenes"):
        call_command("doctor", "--gpu")
    assert run_doctor("--yes")[0] == 0
    TrainingRun.objects.update(status="paused")
    assert run_doctor()[0] == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about a machine without a GPU")
@pytest.mark.slow
def test_without_a_gpu_the_check_says_so() -> None:
    assert run_doctor() == (2, "torch cannot use a GPU on this machine.\n")
