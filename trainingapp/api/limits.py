"""The rate limit: a number of requests per minute by token, by user or, for anonymous requests, by address."""

import logging
from time import time

from django.conf import settings
from django.core.cache import cache
from django.http import HttpRequest
from django.utils.translation import gettext as _
from redis.exceptions import RedisError

from trainingapp.accounts.audit import address_of
from trainingapp.api.callers import Caller
from trainingapp.api.problems import Problem

logger = logging.getLogger(__name__)

WINDOW_S = 60


def count_request(request: HttpRequest, caller: Caller | None) -> None:
    """Count the request. Raises Problem when there were too many in this minute."""
    most = settings.API_RATE_PER_MINUTE
    if not most:
        return
    window, passed_s = divmod(int(time()), WINDOW_S)
    who = caller.key if caller else f"address.{address_of(request)}"
    if _counted(f"api-rate.{who}.{window}") > most:
        wait_s = WINDOW_S - passed_s
        message = _("More than %(count)d requests in a minute. Wait %(seconds)d s.")
        headers = {"Retry-After": str(wait_s)}
        raise Problem(429, message % {"count": most, "seconds": wait_s}, headers=headers)


def _counted(key: str) -> int:
    """The number of requests including this one. Without the cache, no request is refused."""
    try:
        cache.add(key, 0, WINDOW_S * 2)
        return cache.incr(key)
    except ValueError:  # it was pushed out between the two
        return 1
    except (OSError, RedisError) as error:
        logger.warning("Requests cannot be counted: %s", error)
        return 1
