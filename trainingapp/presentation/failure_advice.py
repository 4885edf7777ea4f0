"""The advice for each class of failure: what happened, and what to do."""

from typing import NamedTuple

from django.utils.translation import gettext_lazy as _

from trainingapp.models import FailureRule
from trainingapp.presentation.text import Text


class Advice(NamedTuple):
    title: Text
    todo: Text


#: By `TrainingRun.error_class`.
ADVICE: dict[str, Advice] = {
    "out_of_memory": Advice(
        _("Out of memory"),
        _("Halve the batch size or the image size, choose a smaller model, or turn on mixed precision."),
    ),
    "bad_config": Advice(
        _("Invalid configuration"),
        _("Clone the run and change the setting that is named here."),
    ),
    "bad_data": Advice(
        _("Image or dataset could not be read"),
        _("Check the file that is named here; import the dataset again if it is corrupted."),
    ),
    "non_finite_loss": Advice(
        _("The loss is not a finite number"),
        _("Lower the learning rate, lengthen the warm-up, or turn off mixed precision."),
    ),
    "weights_unavailable": Advice(
        _("The pretrained weights could not be downloaded"),
        _("Check the network connection, place the file in the weights folder, or train without pretrained weights."),
    ),
    "dataset_unavailable": Advice(
        _("The dataset could not be fetched from the object store"),
        _("Check the connection to the object store; store the dataset again on its page if it is missing there."),
    ),
    "damaged_weights": Advice(
        _("The weights to start from are corrupted"),
        _("Restore the file from a backup, then resume; or start a new run from other weights."),
    ),
    "disk_full": Advice(
        _("The disk is full"),
        _("Delete runs or datasets that you no longer need, then resume: nothing that was saved is lost."),
    ),
    "read_only": Advice(
        _("The run's folder cannot be written to"),
        _("Check the disk (dmesg, mount), make it writable again, then resume: nothing that was saved is lost."),
    ),
    "lost_trainer": Advice(
        _("The trainer process died repeatedly"),
        _(
            "The lines show its last output. If the system killed it because of its memory use, reduce that; then "
            "resume."
        ),
    ),
    "lost_rank": Advice(
        _("A process of the run was lost repeatedly"),
        _(
            "A run on several devices has one process for each. The message names the one that ended, or its host; the "
            "log has its last output. Check that device, that host and the network between the hosts, then resume: the "
            "run continues from its newest checkpoint."
        ),
    ),
    "ranks_differ": Advice(
        _("The devices computed different weights"),
        _(
            "A failing device can cause this: resume the run on other devices, or clone it with one device. Nothing "
            "was saved that differs."
        ),
    ),
    "lost_worker": Advice(
        _("The worker was lost repeatedly"),
        _("Check the machine on which it ran, then resume: the run continues from its newest checkpoint."),
    ),
    "hang": Advice(
        _("The trainer stopped responding"),
        _(
            "The lines show the position of each of its threads. Loader processes that wait for each other are one "
            "cause."
        ),
    ),
    "stuck_trainer": Advice(
        _("The trainer cannot be ended"),
        _(
            "It hangs in the driver of the GPU, which was quarantined, or waits for a disk that does not respond. "
            "dmesg shows which; the host may have to be restarted."
        ),
    ),
    "device_error": Advice(
        _("The GPU or its driver reported an error"),
        _("A failing GPU or its driver can cause this: check the lines, then nvidia-smi and dmesg."),
    ),
    "device_assert": Advice(
        _("An index was out of range on the GPU"),
        _(
            "In most cases a label is outside the classes of the model. Clone the run with the device cpu: the error "
            "there names the line."
        ),
    ),
    "driver": Advice(
        _("The GPU, its driver and PyTorch do not suit each other"),
        _(
            "Update the driver and restart the machine, install a build of PyTorch that supports the GPU, or choose "
            "another device. A retry would fail again."
        ),
    ),
    "not_deterministic": Advice(
        _("The model has no deterministic algorithm on a GPU"),
        _("Clone the run and choose another value under “Determinism”: automatic or fast."),
    ),
    "shared_memory": Advice(
        _("The shared memory of the machine is too small"),
        _(
            "Loader processes pass images through /dev/shm, which has 64 MB in a container by default. Start the "
            "container with --shm-size=8g (shm_size in a compose file), or set the data loader workers to 0."
        ),
    ),
    "device_unavailable": Advice(
        _("torch cannot use the GPU"),
        _("The devices page shows the reason. The run never trains on another device than the assigned one."),
    ),
    "still_running": Advice(
        _("Another trainer is still working on this run"),
        _("The run is retried. If this persists, end the process that holds trainer.lock in the run's folder."),
    ),
    "superseded": Advice(
        _("The run was taken over by another host"),
        _("No action is needed: the trainer here noticed it and exited. Check that this machine reaches the database."),
    ),
    "time_limit": Advice(
        _("The time limit was reached"),
        _("Resume it to continue for the same time again, or raise its limit first."),
    ),
    "error": Advice(_("The run failed"), _("The lines show where. Resume it to retry from its newest checkpoint.")),
}


def advice(error_class: str) -> Advice:
    """What happened and what to do; the text of an administrator's rule has precedence."""
    title, todo = ADVICE.get(error_class, ADVICE["error"])
    rule = FailureRule.objects.filter(error_class=error_class, is_enabled=True).first()
    if rule is None:
        return Advice(title, todo)
    return Advice(title if error_class in ADVICE else rule.name, rule.advice or todo)
