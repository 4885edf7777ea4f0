"""What takes the space."""

import time
from datetime import UTC, datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from trainingapp.accounts.permissions import Verb
from trainingapp.operations.disk_usage import measure, usage
from trainingapp.runs.history import previews
from trainingapp.runs.series_migration import conversion
from trainingapp.views.access import require

SHOWN = 50
#: Seconds after which a measurement is repeated automatically.
FRESH_S = 24 * 3600.0


@require_http_methods(["GET", "HEAD", "POST"])
def disk(request: HttpRequest) -> HttpResponse:
    """Bytes by user, run, dataset and purpose, as measured last; POST measures again."""
    require(request, Verb.ADMINISTER)
    if request.method == "POST":
        measure()
        return redirect("disk")
    found = usage()
    if found is None or found.measured_at < time.time() - FRESH_S:
        found = measure()
    kinds = {"runs": found.runs, "datasets": found.datasets, "weights": found.weights}
    context = {
        "usage": found,
        "measured_at": datetime.fromtimestamp(found.measured_at, UTC),
        "kinds": [(kind, shares[:SHOWN], len(shares) - SHOWN) for kind, shares in kinds.items() if shares],
        "conversion": conversion(),
        "retention": previews(),
        "section": "disk",
    }
    return render(request, "disk.html", context)
