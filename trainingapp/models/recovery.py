"""What was found after a restart or a failure, what was done about it, and the rules by which it was done."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH


class FailureRule(models.Model):
    """A pattern in the log of a failed run, and what to do when it is found. Rules are tried in their order."""

    class Action(models.TextChoices):
        FAIL = "fail", _("give up")
        RETRY = "retry", _("try again")
        HALVE_BATCH = "halve_batch", _("try again with half the batch and twice the accumulation")

    name = models.CharField(_("name"), max_length=NAME_LENGTH, unique=True)
    #: A regular expression that is searched in the last lines of the log and in the error's message.
    pattern = models.CharField(_("pattern"), max_length=500)
    #: The class of the failure: out_of_memory, disk_full, bad_data ... or a custom one.
    error_class = models.SlugField(_("kind of error"), max_length=32)
    action = models.CharField(_("action"), max_length=16, choices=Action.choices, default=Action.FAIL)
    max_retries = models.PositiveIntegerField(_("retries"), default=3)
    #: Seconds before the first retry; doubled for each further one.
    wait_s = models.PositiveIntegerField(_("wait"), default=10)
    #: The advice for the user: what happened, and what to do.
    advice = models.TextField(_("advice"), blank=True)
    order = models.IntegerField(_("order"), default=100)
    is_enabled = models.BooleanField(_("enabled"), default=True)

    class Meta:
        ordering = ["order", "id"]
        verbose_name = _("failure rule")
        verbose_name_plural = _("failure rules")

    def __str__(self) -> str:
        return self.name


class JournalEntry(models.Model):
    """One run that was found without its worker: the evidence, and what was done for it."""

    run = models.ForeignKey(
        "TrainingRun", models.SET_NULL, null=True, blank=True, related_name="journal", verbose_name=_("run")
    )
    run_name = models.CharField(_("name"), max_length=NAME_LENGTH, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    #: The worker that found it; entries of one restart share it.
    found_by = models.CharField(_("found by"), max_length=120)
    found_at = models.DateTimeField(_("found"))
    #: {"heartbeat_at": ..., "worker": ..., "process": "alive" | "gone" | "elsewhere", "last_event": {...},
    #:  "checkpoint": {"file": ..., "step": ..., "sound": bool} | null, "steps_lost": int | null}
    evidence = models.JSONField(_("evidence"), default=dict)
    #: requeued, adopted, completed, paused, stopped, failed.
    action = models.CharField(_("what was done"), max_length=32, blank=True)
    #: English text, and the same as message data (`contract.messages`); rows of version 0.1 have the text alone.
    message = models.TextField(_("message"), blank=True)
    message_data = models.JSONField(_("message data"), default=dict, blank=True)
    done_at = models.DateTimeField(_("done"), null=True, blank=True)

    class Meta:
        ordering = ["-found_at", "-id"]
        verbose_name = _("journal entry")
        verbose_name_plural = _("downtime journal")

    def __str__(self) -> str:
        return f"{self.run_name} {self.found_at:%Y-%m-%d %H:%M}"
