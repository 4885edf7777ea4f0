"""Classes of failures: how they are recognized in a log, and whether a retry can help.

Rules are data. An administrator's own (`FailureRule`) are tried first, in their order; then the built-in ones below.
"""

import json
import logging
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

from trainingapp.contract.errors import SIGNS
from trainingapp.models import FailureRule
from trainingapp.models.run import LONGEST_WAIT_S

logger = logging.getLogger(__name__)

Action = FailureRule.Action

#: The part of a log that is searched: the end, where failures are reported.
LINES_SEARCHED = 200
LINE_CHARACTERS = 2048
#: Seconds that an administrator's pattern gets for a whole log.
PATTERN_S = 3.0
LINES_SHOWN = 20


@dataclass(frozen=True)
class Rule:
    """One class of failure and what to do about it."""

    error_class: str
    action: str = Action.FAIL
    #: Searched in each line where the trainer did not report a more specific class.
    pattern: str = ""
    #: None: as often as the run may be restarted automatically.
    max_retries: int | None = None
    #: Seconds before the first retry; None takes the studio's.
    wait_s: float | None = None
    #: The first retry does not wait: the run itself did not fail.
    first_at_once: bool = False

    def wait_before_retry_s(self, retries: int) -> float:
        """Seconds to wait after `retries` earlier retries: doubled each time, at most LONGEST_WAIT_S."""
        if self.first_at_once:
            retries -= 1
        first_s = float(settings.RETRY_WAIT_S) if self.wait_s is None else self.wait_s
        return min(LONGEST_WAIT_S, first_s * 2 ** min(retries, 30)) if retries >= 0 else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """The rule that applies to a failure, and the lines that show the failure."""

    rule: Rule
    lines: list[str]


#: By the class that the trainer or the supervisor assigned to the failure.
BY_CLASS: dict[str, Rule] = {
    rule.error_class: rule
    for rule in (
        Rule("out_of_memory", Action.HALVE_BATCH, max_retries=1, wait_s=0),
        Rule("lost_worker", Action.RETRY, first_at_once=True),
        Rule("lost_trainer", Action.RETRY),
        Rule("lost_rank", Action.RETRY, first_at_once=True),
        # A device may compute wrongly: the run is given others where there are enough.
        Rule("ranks_differ", Action.RETRY, max_retries=1),
        Rule("hang", Action.RETRY),
        Rule("stuck_trainer", Action.RETRY),
        # Its lock is held by a host that was taken for lost, and is free when that is back or its file system gives up.
        Rule("still_running", Action.RETRY, max_retries=20, wait_s=15),
        Rule("weights_unavailable", Action.RETRY, wait_s=30),
        Rule("dataset_unavailable", Action.RETRY, wait_s=30),
        Rule("device_error", Action.RETRY, max_retries=1),
        # The device is checked and left out meanwhile: the run is placed elsewhere, or waits for it.
        Rule("device_unavailable", Action.RETRY, first_at_once=True),
        Rule("device_assert"),
        Rule("driver"),
        Rule("not_deterministic"),
        Rule("shared_memory"),
        Rule("bad_config"),
        Rule("bad_data"),
        Rule("damaged_weights"),
        Rule("non_finite_loss"),
        Rule("read_only", Action.RETRY),
        Rule("disk_full"),
        Rule("error"),
    )
}

#: By the log, where the trainer ended without a message or could not classify the failure.
PATTERNS: tuple[tuple[str, str], ...] = (
    # First, because a full /dev/shm is reported as a device without space too.
    *((pattern, error_class) for error_class, pattern in SIGNS),
    (r"No space left on device|Disk quota exceeded", "disk_full"),
    (r"Read-only file system", "read_only"),
    (r"^Fatal Python error:", "lost_trainer"),
    (r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly)", "lost_trainer"),
)


def own_rules() -> list[tuple[str, Rule]]:
    """The administrators' rules, each with its pattern, in the order in which they are tried."""
    return [
        (
            rule.pattern,
            Rule(rule.error_class, rule.action, rule.pattern, rule.max_retries, float(rule.wait_s)),
        )
        for rule in FailureRule.objects.filter(is_enabled=True)
    ]


def diagnose(
    error_class: str, lines: Sequence[str], shown: Sequence[str], own: Sequence[tuple[str, Rule]] = ()
) -> Diagnosis:
    """The rule for a failure of `error_class` with the log `lines`. The rules in `own` are tried before all others.

    `shown` are the lines of the diagnosis where no pattern finds better ones.
    """
    searched = [line[-LINE_CHARACTERS:] for line in lines[-LINES_SEARCHED:]]
    for pattern, rule in own:
        if found := search_in_process(pattern, searched):
            return Diagnosis(rule, _around(searched, found))
    # A loader process without shared memory can end in silence: the trainer then waits for a batch that never comes.
    if error_class in ("error", "lost_trainer", "hang"):
        for pattern, named in PATTERNS:
            if found := [index for index, line in enumerate(searched) if re.search(pattern, line)]:
                return Diagnosis(BY_CLASS[named], _around(searched, found))
    rule = BY_CLASS.get(error_class) or Rule(error_class)
    return Diagnosis(rule, list(shown))


def _around(lines: Sequence[str], found: Sequence[int]) -> list[str]:
    """The first line that was found, with the lines around it: LINES_SHOWN in total."""
    start = max(0, found[0] - LINES_SHOWN // 2)
    return list(lines[start : start + LINES_SHOWN])


_SEARCH = """
import json, re, sys
order = json.load(sys.stdin)
found = re.compile(order["pattern"])
json.dump([index for index, line in enumerate(order["lines"]) if found.search(line)], sys.stdout)
"""


def search_in_process(pattern: str, lines: Sequence[str]) -> list[int]:
    """Indexes of the lines in which the pattern is found, searched in a process that is killed after PATTERN_S.

    Python's `re` cannot be interrupted, and a pattern with exponential backtracking must not block a supervisor.
    """
    command = [sys.executable, "-I", "-S", "-c", _SEARCH]
    order = json.dumps({"pattern": pattern, "lines": list(lines)})
    try:
        done = subprocess.run(command, input=order, capture_output=True, text=True, timeout=PATTERN_S, check=True)
    except subprocess.TimeoutExpired:
        logger.warning("The pattern %r of a failure rule takes too long; the rule is skipped.", pattern)
        return []
    except subprocess.CalledProcessError as error:
        logger.warning("The pattern %r of a failure rule cannot be used: %s", pattern, error.stderr[-200:])
        return []
    return [int(index) for index in json.loads(done.stdout)]
