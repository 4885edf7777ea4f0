"""Messages of the supervisor, the scheduler and the storage checks about a run: its log, its end and its files."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# How an attempt starts and ends

ATTEMPT_STARTS = define("attempt_starts", gettext_noop("Attempt %(attempt)d starts on %(host)s."))
COMPLETED = define("run_completed", gettext_noop("Completed."))
STOPPED = define("run_stopped", gettext_noop("Stopped."))
PAUSED = define("run_paused", gettext_noop("Paused."))
FORCED_STOP = define("run_forced_stop", gettext_noop("Stopped by force."))
STUDIO_STOPPED = define(
    "studio_stopped", gettext_noop("The studio was stopped; the run resumes when the studio starts again.")
)
WORKER_LEFT = define(
    "worker_left",
    gettext_noop("The worker on %(host)s has left. The run continues on any worker that has a device for it."),
)
NO_RESPONSE = define(
    "trainer_no_response",
    gettext_noop("The trainer did not respond within %(seconds)d s and was terminated."),
)
HARD_LIMIT_REACHED = define(
    "hard_limit_reached",
    gettext_noop("The hard time limit of %(hours)g h was reached: the trainer was terminated immediately."),
)
SOFT_LIMIT_REACHED = define(
    "soft_limit_reached",
    gettext_noop("The time limit of %(hours)g h was reached: the run saved a checkpoint and stopped."),
)
CAN_BE_RESUMED = define("run_can_be_resumed", gettext_noop("It can be resumed."))
NO_CHECKPOINT = define("run_without_checkpoint", gettext_noop("There is no checkpoint: it would restart from step 0."))
STEPS_REPEATED = define(
    "steps_repeated",
    ngettext(
        "When resumed, it continues from its checkpoint of step %(step)d; %(count)d step is repeated.",
        "When resumed, it continues from its checkpoint of step %(step)d; %(count)d steps are repeated.",
    ),
)

DATASET_UNAVAILABLE = define("dataset_unavailable", gettext_noop("The dataset is not available here. %(reason)s"))

# Automatic restarts

RESTART_PLANNED = define(
    "restart_planned",
    gettext_noop("The run resumes from its newest checkpoint (automatic restart %(number)d of %(max)d)."),
)
RESTARTS_USED = define(
    "restarts_used",
    ngettext(
        "It was already restarted automatically %(count)d time.",
        "It was already restarted automatically %(count)d times.",
    ),
)
BATCH_HALVED = define(
    "batch_halved",
    gettext_noop(
        "batch_size was reduced from %(old)d to %(new)d and accumulation_steps set to %(steps)d: memory ran out."
    ),
)
BATCH_AT_MINIMUM = define("batch_at_minimum", gettext_noop("The batch size cannot be reduced further."))

# Why an attempt failed

HANG = define(
    "trainer_hang",
    gettext_noop("The trainer reported nothing for more than %(minutes)g min and was terminated: it hung."),
)
TRAINER_STUCK = define(
    "trainer_stuck",
    gettext_noop(
        "The trainer on %(device)s was killed and does not end: it hangs in a driver, or waits for a disk that does "
        "not respond."
    ),
)
WORKER_LOST = define("worker_lost", gettext_noop("The worker on %(host)s was lost."))
INTERRUPTED = define("trainer_interrupted", gettext_noop("The trainer was interrupted by another process."))
DISK_FULL = define("run_disk_full", gettext_noop("The disk is full. Free some space, then resume the run."))
READ_ONLY = define(
    "run_read_only", gettext_noop("The run's folder cannot be written to: its file system is read-only.")
)
TRAINER_LOST = define("trainer_lost", gettext_noop("The trainer was lost."))
OUT_OF_MEMORY = define(
    "trainer_out_of_memory", gettext_noop("The trainer ended because memory ran out (exit status %(status)d).")
)
KILLED = define(
    "trainer_killed", gettext_noop("The trainer was killed (SIGKILL), possibly by the system because memory ran out.")
)
SIGNALLED = define("trainer_signalled", gettext_noop("The trainer was terminated by the signal %(signal)s."))
EXITED = define("trainer_exited", gettext_noop("The trainer exited without a message (exit status %(status)d)."))
START_FAILED = define("trainer_start_failed", gettext_noop("The trainer could not be started."))

# Lines that the supervisor adds to the log

EVENTS_TRUNCATED = define(
    "events_truncated",
    gettext_noop("events.jsonl was truncated by %(bytes)d bytes. The events that were already stored are kept."),
)
LATE_EVENTS = define(
    "late_events",
    gettext_noop(
        "An earlier attempt is still writing, on a host that was given up. Only events of attempt %(attempt)d are "
        "stored."
    ),
)
LINES_LEFT_OUT = define(
    "lines_left_out",
    ngettext(
        "%(count)d line was left out here: lines were written faster than the log is stored.",
        "%(count)d lines were left out here: lines were written faster than the log is stored.",
    ),
)
REQUEST_DROPPED = define(
    "request_dropped", gettext_noop("The request “%(command)s” was not carried out: the trainer had ended.")
)

# Files. `damage` completes the sentence ("is missing").

CHECKPOINT_VALID = define("checkpoint_valid", gettext_noop("Checkpoint %(file)s is valid again."))
CHECKPOINT_DAMAGED = define("checkpoint_damaged", gettext_noop("Checkpoint %(file)s %(damage)s."))
RUNS_AFFECTED = define("runs_affected", gettext_noop("These runs start from it: %(names)s."))
PRIVATE_RUNS = define("private_runs", ngettext("%(count)d private run", "%(count)d private runs"))
QUOTED_NAME = define("quoted_name", gettext_noop("“%(name)s”"))
WEIGHTS_VALID = define(
    "start_weights_valid",
    gettext_noop("The file of the weights “%(weights)s” that this run starts from is valid again."),
)
WEIGHTS_DAMAGED = define(
    "start_weights_damaged",
    gettext_noop("The file of the weights “%(weights)s” that this run starts from %(damage)s."),
)
CHECKPOINTS_DELETED = define(
    "checkpoints_deleted",
    ngettext(
        "%(count)d checkpoint was deleted, %(size)s freed: %(files)s.",
        "%(count)d checkpoints were deleted, %(size)s freed: %(files)s.",
    ),
)
DELETED_BY = define("deleted_by", gettext_noop("Deleted by %(name)s."))

# What a run starts from, in the messages of its trainer

START_CHECKPOINT = define("start_checkpoint", gettext_noop("checkpoint %(file)s of run %(number)d"))
START_WEIGHTS = define("start_weights", gettext_noop("file of the weights “%(weights)s” (number %(number)d)"))
