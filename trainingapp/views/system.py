"""What watches the studio rather than uses it."""

from django.contrib.auth.decorators import login_not_required
from django.db import DatabaseError, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from trainingapp.operations.doctor import health_checks


@login_not_required
@never_cache
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """200 while the database answers, 503 while it does not."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"status": "database unavailable"}, status=503)
    return JsonResponse({"status": "ok"})


@login_not_required
@never_cache
@require_safe
def ready(request: HttpRequest) -> JsonResponse:
    """200 when the studio can accept and execute work, else 503; each check has a sentence."""
    checks = health_checks()
    is_ready = all(check.ok for check in checks)
    record = {check.name: {"ok": check.ok, "detail": check.detail} for check in checks}
    body = {"status": "ok" if is_ready else "not ready", "checks": record}
    return JsonResponse(body, status=200 if is_ready else 503)
