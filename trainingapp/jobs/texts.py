"""The message of a job in the reader's language."""

from trainingapp.models import Job
from trainingapp.presentation.messages import rendered_data


def job_message(job: Job) -> str:
    """Why the job failed, or its phase while it works. One that an older version stored is shown unchanged."""
    return rendered_data({**job.message_data, "message": job.message})
