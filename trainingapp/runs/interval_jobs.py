"""Intervals that take longer than a page may: a job computes them, and the page shows what it found."""

from collections.abc import Mapping
from dataclasses import asdict

from django.contrib.auth.models import User

from trainingapp.accounts.permissions import visible_to
from trainingapp.contract.messages.jobs_and_models import COMPUTING_INTERVALS
from trainingapp.jobs.kinds import ReportProgress
from trainingapp.jobs.lease import unfinished_jobs
from trainingapp.jobs.verbs import request_job
from trainingapp.models import Job, TrainingRun
from trainingapp.runs.comparison import Comparison, compare
from trainingapp.runs.resampling import RESAMPLES
from trainingapp.runs.significance import significance


def request_intervals(comparison: Comparison, key: str, *, owner: User, query: str) -> Job:
    """A job that computes the intervals with this key; the user's unfinished one where there is one already.

    `query` is that of the page that shows them.
    """
    params = {
        "key": key,
        "query": query,
        "runs": comparison.numbers,
        "hidden": [item.run.pk for item in comparison.items if item.is_hidden],
        "base": comparison.base.run.pk,
        "at": comparison.at,
    }
    return unfinished_job(key, owner) or request_job(Job.Kind.INTERVALS, owner=owner, params=params, total=RESAMPLES)


def unfinished_job(key: str, owner: User) -> Job | None:
    """The user's job that computes the intervals with this key and has not ended."""
    return unfinished_jobs().filter(kind=Job.Kind.INTERVALS, owner=owner, params__key=key).first()


def intervals(job: Job, report: ReportProgress) -> Mapping[str, object]:
    """The Work: the intervals against the baseline in the order of the runs, and their key.

    A run that the owner may not see any longer is left out; then, and after a new validation, the key is another one.
    """

    def on_draw(count: int) -> None:
        report(count, RESAMPLES, COMPUTING_INTERVALS())

    rows = visible_to(job.owner, TrainingRun.objects.all())
    params = job.params
    comparison = compare(rows, params["runs"], base=params["base"], hidden=params["hidden"], at=params["at"])
    if comparison is None:
        return {"key": "", "intervals": []}
    found = significance(comparison, on_draw)
    return {"key": found.key, "intervals": [asdict(row.interval) for row in found.rows if row.interval]}
