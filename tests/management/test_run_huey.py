"""manage.py run_huey: what its options accept; tests/faults starts it."""

import pytest
from django.core.management import CommandError, call_command


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--idle-seconds", "30"], "--idle-seconds needs --once"),
        (["--once", "--idle-seconds", "-1"], "-1 does not lie between 0 and"),
        (["--once", "--idle-seconds", "nan"], "nan does not lie between"),
        (["--leave-after", "soon"], "soon is not a number"),
        (["--leave-after", "1e9"], "1e9 does not lie between 0 and 527040"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: list[str], why: str) -> None:
    with pytest.raises(CommandError, match=why):
        call_command("run_huey", *options)
