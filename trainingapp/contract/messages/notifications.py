"""Messages of notifications, and why one could not be delivered."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

RUN_COMPLETED = define("notify_run_completed", gettext_noop("The run “%(run)s” was completed."))
RUN_FAILED = define("notify_run_failed", gettext_noop("The run “%(run)s” failed. %(reason)s"))
RUN_INTERRUPTED = define("notify_run_interrupted", gettext_noop("The run “%(run)s” was interrupted. %(reason)s"))
SWEEP_COMPLETED = define("notify_sweep_completed", gettext_noop("The sweep “%(sweep)s” has ended. %(reason)s"))
SWEEP_PAUSED = define("notify_sweep_paused", gettext_noop("The sweep “%(sweep)s” was paused. %(reason)s"))
IMPORT_PROPOSED = define(
    "notify_import_proposed", gettext_noop("The source of “%(dataset)s” was read. Review and confirm its import.")
)
IMPORT_READY = define(
    "notify_import_ready",
    ngettext(
        "The dataset “%(dataset)s” is ready: %(count)d image.", "The dataset “%(dataset)s” is ready: %(count)d images."
    ),
)
IMPORT_REFUSED = define("notify_import_refused", gettext_noop("The import of “%(dataset)s” was refused. %(reason)s"))
DISK_LOW = define("notify_disk_low", gettext_noop("The disk is almost full: %(free)d GB of %(size)d GB are free."))
DEVICE_QUARANTINED = define(
    "notify_device_quarantined", gettext_noop("%(device)s (%(name)s) on %(host)s gets no more runs. %(reason)s")
)
TEST = define("notify_test", gettext_noop("This is a test. The webhook “%(webhook)s” works."))

# Why a delivery failed

ANSWERED = define("delivery_answered", gettext_noop("The receiver answered with status %(status)d."))
REFUSED_BY_RECEIVER = define("delivery_refused_by_receiver", gettext_noop("The receiver refused it: %(reason)s"))
UNREACHABLE = define("delivery_unreachable", gettext_noop("The receiver cannot be reached: %(reason)s"))
TOO_SLOW = define("delivery_too_slow", gettext_noop("The receiver did not answer within %(seconds)d s."))
PRIVATE_ADDRESS = define(
    "delivery_private_address",
    gettext_noop("%(host)s has the private address %(address)s, to which only webhooks of administrators may send."),
)
UNKNOWN_HOST = define("delivery_unknown_host", gettext_noop("The host %(host)s was not found."))
NO_MAIL_ADDRESS = define("delivery_no_mail_address", gettext_noop("The user has no e-mail address."))
NO_MAIL_SERVER = define("delivery_no_mail_server", gettext_noop("No mail server is configured."))
SWITCHED_OFF = define("delivery_switched_off", gettext_noop("The webhook was disabled."))
