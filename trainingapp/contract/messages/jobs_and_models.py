"""Messages of jobs, as the worker that does them stores them. Those of engine processes are in another module."""

from trainingapp.contract.messages import define, gettext_noop, ngettext

# Phases of a job in progress

INSPECTING_ANNOTATIONS = define("job_inspecting_annotations", gettext_noop("Reading the annotations"))
IMPORTING_ANNOTATIONS = define("job_importing_annotations", gettext_noop("Opening the source and reading annotations"))
IMPORTING_IMAGES = define("job_importing_images", gettext_noop("Reading and checking the images"))
COMPUTING_INTERVALS = define("job_computing_intervals", gettext_noop("Drawing validation images"))

# How a job ended

JOB_CANCELLED = define("job_cancelled", gettext_noop("Cancelled."))
JOB_WORKER_LOST = define(
    "job_worker_lost",
    ngettext(
        "The worker was lost %(count)d time during this job.",
        "The worker was lost %(count)d times during this job.",
    ),
)
JOB_PROCESS_ENDED = define(
    "job_process_ended", gettext_noop("The process ended without a result (exit status %(exit_status)d).")
)
JOB_TIMED_OUT = define(
    "job_timed_out",
    ngettext(
        "The job was ended because it took longer than %(count)d minute.",
        "The job was ended because it took longer than %(count)d minutes.",
    ),
)
JOB_RESULT_NOT_STORED = define("job_result_not_stored", gettext_noop("The result could not be stored: %(error)s"))
JOB_ERROR = define("job_error", gettext_noop("The job failed: %(error)s"))

# Imports

IMPORT_CANCELLED = define("job_import_cancelled", gettext_noop("The import was cancelled. Nothing of it was kept."))
