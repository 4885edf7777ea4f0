"""Runs the cases of a section in child processes, within their budgets."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import TypedDict

from trainingapp.engine.gpu_check import process
from trainingapp.engine.gpu_check.case import Case, NotApplicable, Plan, Section, Values, error_record
from trainingapp.engine.gpu_check.process import BadFork, Child, ChildEnded, crash_record
from trainingapp.engine.gpu_check.training import fresh

#: Seconds within which a child begins its next case.
START_S = 120.0
#: Seconds that a case has at least once it has begun.
LEAST_S = 10.0


class CaseResult(TypedDict, total=False):
    """`status` is one of

    ok, problem         measured; with a problem, "problem" among the values says what is wrong
    failed, crashed     `error` says why
    timed_out           `error` has the traceback of each thread
    skipped             no time was left
    not_applicable      the device lacks what the case is about
    """

    name: str
    status: str
    seconds: float
    values: Values
    error: Values


class SectionResult(TypedDict):
    name: str
    title: str
    seconds: float
    cases: list[CaseResult]


class Runner:
    """Runs sections until `deadline` (as time.monotonic gives it), with progress on standard error."""

    def __init__(self, plan: Plan, deadline: float) -> None:
        self._plan = plan
        self._began = time.monotonic()
        self._deadline = deadline

    def run(self, section: Section, following: Sequence[Section] = ()) -> SectionResult:
        """All cases of a section; those for which no time is left are skipped.

        Where the time does not suffice for the budgets of this section and those that follow, each gets its share.
        """
        began = time.monotonic()
        budgets_s = section.budget_s + sum(one.budget_s for one in following)
        share = 1.0 if section.depends_on_it else min(1.0, max(0.0, self._deadline - began) / budgets_s)
        ends = began + share * section.budget_s
        pending = list(section.cases(self._plan))
        results: list[CaseResult] = []
        while pending:
            if time.monotonic() >= ends:
                results += [self._shown(section, _skipped(case)) for case in pending]
                break
            together = [pending[0]] if pending[0].alone else [*takewhile(lambda case: not case.alone, pending)]
            done = self._in_child(section, together, ends)
            results += done
            pending = pending[len(done) :]
        return {
            "name": section.name,
            "title": section.title,
            "seconds": round(time.monotonic() - began, 1),
            "cases": results,
        }

    def _in_child(self, section: Section, cases: Sequence[Case], ends: float) -> list[CaseResult]:
        """Results of the first of these cases: the child ends early where it crashes, hangs or loses the GPU."""
        child = Child(self._plan, work, self._plan, section.name, [case.name for case in cases], ends)
        done: list[CaseResult] = []
        try:
            for case in cases:
                began = time.monotonic()
                result = self._received(child, case, ends)
                if result is None:
                    break
                done.append(self._shown(section, {**result, "seconds": round(time.monotonic() - began, 2)}))
                if result["status"] in ("timed_out", "crashed"):
                    break
        except BadFork:
            process.START_METHOD = "spawn"
            self.say("CUDA was in use before the fork: from now on new interpreters are started, which takes longer.")
            return done
        finally:
            child.end()
        if not done and child.process.exitcode != 0:
            done.append(self._shown(section, _crashed(cases[0], child)))
        return done or [self._shown(section, _skipped(cases[0]))]

    def _received(self, child: Child, case: Case, ends: float) -> CaseResult | None:
        """The result of the case that the child works at; None where it ended before it began it."""
        try:
            # A process on a busy machine may take long to start, which is no fault of the case.
            began = child.receive(START_S)
            # The budget of the section only keeps a case from beginning; one that has begun has a few seconds at least.
            allowed_s = min(case.budget_s, max(LEAST_S, ends - time.monotonic())) if began else 0.0
            message = child.receive(allowed_s)
        except ChildEnded:
            return None if child.process.exitcode == 0 else _crashed(case, child)
        if message is None:
            error: Values = {"message": f"after {allowed_s:.0f} s", "traceback": [*child.where_it_hangs()]}
            return {"name": case.name, "status": "timed_out", "error": error}
        return message  # type: ignore[return-value]

    def _shown(self, section: Section, result: CaseResult) -> CaseResult:
        detail = str(result.get("values", {}).get("problem", "") or result.get("error", {}).get("last_line", ""))
        self.say(
            f"{section.name}: {result['name']}: {result['status']} {result.get('seconds', 0):.1f} s {detail[:160]}"
        )
        return result

    def say(self, text: str) -> None:
        """A line of progress."""
        sys.stderr.write(f"[{time.monotonic() - self._began:6.1f} s] {text.rstrip()}\n")
        sys.stderr.flush()


def work(send: Callable[[Values], None], plan: Plan, section_name: str, names: Sequence[str], ends: float) -> None:
    """The child: send the result of each of these cases, until the time is over or the GPU can no longer be used."""
    from trainingapp.engine.gpu_check.sections import SECTIONS  # which use this module

    section = next(one for one in SECTIONS if one.name == section_name)
    cases = {case.name: case for case in section.cases(plan)}
    for name in names:
        if time.monotonic() >= ends:
            return
        fresh(plan)
        send({"began": name})
        result = _result(cases[name], plan)
        send(json.loads(json.dumps(result, default=str)))  # plain values only, whatever a library gave
        if result.get("error", {}).get("error_class") in ("device_error", "device_assert"):
            return


def _result(case: Case, plan: Plan) -> CaseResult:
    try:
        values = case.check(plan)
    except NotApplicable as reason:
        return {"name": case.name, "status": "not_applicable", "values": {"reason": str(reason)}}
    except Exception as error:  # noqa: BLE001 - the other cases are to run
        return {"name": case.name, "status": "failed", "error": error_record(error)}
    return {"name": case.name, "status": "problem" if values.get("problem") else "ok", "values": values}


def _skipped(case: Case) -> CaseResult:
    return {"name": case.name, "status": "skipped", "values": {"reason": "no time left"}}


def _crashed(case: Case, child: Child) -> CaseResult:
    return {"name": case.name, "status": "crashed", "error": crash_record(child)}
