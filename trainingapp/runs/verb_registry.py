"""The run verbs, one record each. Everything that lists verbs is derived from RUN_VERBS; see verb_record.py."""

from collections.abc import Callable

from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from trainingapp.accounts.permissions import Verb
from trainingapp.accounts.sharing import share
from trainingapp.contract.limits import (
    FILE_NAME_LENGTH,
    MAX_EPOCHS,
    MAX_PRIORITY,
    MAX_TAGS,
    NAME_LENGTH,
    NOTE_LENGTH,
    TAG_LENGTH,
)
from trainingapp.contract.tasks.registry import TASKS
from trainingapp.models import TrainingRun
from trainingapp.models.run import RequestedAction, Status
from trainingapp.runs.control import (
    checkpoint_now,
    evaluate_now,
    force_stop_run,
    pause_run,
    resume_run,
    start_run,
    stop_run,
    takes_requests,
)
from trainingapp.runs.epochs import extend_run
from trainingapp.runs.forks import clone_run, fork_from, retry_run
from trainingapp.runs.organizing import archive_run, can_be_archived, note_run, restore_run, tag_run
from trainingapp.runs.queue import can_be_moved, can_set_priority, move_in_queue, set_priority
from trainingapp.runs.records import (
    can_be_deleted,
    check_first,
    create_run,
    delete_run,
    preview_batch,
    update_run,
)
from trainingapp.runs.verb_record import Parameter, RunVerb, VerbRegistry

_NAME = Parameter(
    name="name", kind="text", label=_("Name"), help="name of the new run.", most=NAME_LENGTH, example="longer"
)


def _page(route: str) -> Callable[[TrainingRun], str]:
    return lambda run: reverse(route, args=[run.pk])


def _is_installed(run: TrainingRun) -> bool:
    """Whether the task of the run is installed: without it, the run can be viewed, ended and deleted only."""
    return run.task in TASKS


def _can_be_queued(run: TrainingRun) -> bool:
    """Whether it may be queued in a suitable status: an archived run must be restored first."""
    return _is_installed(run) and not run.is_archived


def _can_change_epochs(run: TrainingRun) -> bool:
    return _can_be_queued(run) and (run.status != Status.RUNNING or not run.requested_action)


def _can_resume(run: TrainingRun) -> bool:
    is_ended = run.status in (Status.PAUSED, Status.FAILED, Status.STOPPED)
    return _can_be_queued(run) and (is_ended or run.waits_until is not None)


def _can_pause(run: TrainingRun) -> bool:
    return run.status == Status.QUEUED or takes_requests(run)


def _can_stop(run: TrainingRun) -> bool:
    if run.status == Status.RUNNING:
        return run.requested_action in (RequestedAction.NOTHING, RequestedAction.PAUSE)
    return run.status in (Status.QUEUED, Status.PAUSED)


def _can_force_stop(run: TrainingRun) -> bool:
    """Offered only where a request to stop would not help: it gives up what was trained since the last checkpoint."""
    if run.status != Status.RUNNING or run.requested_action == RequestedAction.KILL:
        return False
    return run.is_unanswered or run.is_quiet or run.is_silent


def _can_fork(run: TrainingRun) -> bool:
    return _is_installed(run) and run.checkpoints.filter(damage="").exists()


def _from_a_form(run: TrainingRun) -> bool:
    """Verbs about a configuration that has no run yet are offered for none."""
    return False


RUN_VERBS = VerbRegistry(
    RunVerb(
        name="start",
        function=start_run,
        label=_("Start"),
        help="Queue new runs.",
        is_possible=lambda run: _can_be_queued(run) and run.status == Status.PENDING,
        is_lifecycle=True,
        placement="button",
        icon="bi-play-fill",
        style="btn-primary",
        already=_("The run is already queued or running."),
        api_action="start",
        admin_action="start",
        done=_("“%(name)s” was queued."),
        command="start",
        can_wait=True,
        audit_verb="start",
        audit_label=_("started"),
    ),
    RunVerb(
        name="resume",
        function=resume_run,
        label=_("Resume"),
        help="Resume paused, stopped or failed runs from their newest valid checkpoint.",
        is_possible=_can_resume,
        is_lifecycle=True,
        placement="button",
        icon="bi-play-fill",
        style="btn-primary",
        already=_("The run is already queued or running."),
        api_action="resume",
        admin_action="resume",
        done=_("“%(name)s” was queued."),
        command="resume",
        can_wait=True,
        audit_verb="resume",
        audit_label=_("resumed"),
    ),
    RunVerb(
        name="pause",
        function=pause_run,
        label=_("Pause"),
        help="Save a checkpoint and free the device.",
        is_possible=_can_pause,
        is_lifecycle=True,
        placement="button",
        icon="bi-pause-fill",
        hint=_("Saves and frees the device. The run stays unfinished: resume it whenever you like."),
        accepted=_("The run saves and frees the device. It stays unfinished until you resume it."),
        already=_("A pause has already been requested."),
        api_action="pause",
        admin_action="pause",
        done=_("A pause of “%(name)s” was requested."),
        command="pause",
        audit_verb="pause",
        audit_label=_("paused"),
    ),
    RunVerb(
        name="stop",
        function=stop_run,
        label=_("Stop"),
        help="End runs after saving a checkpoint.",
        is_possible=_can_stop,
        is_lifecycle=True,
        placement="button",
        icon="bi-stop-fill",
        hint=_("Saves and ends the run. It counts as finished, but can still be resumed."),
        accepted=_("The run saves and ends. It counts as finished, but can still be resumed."),
        already=_("A stop has already been requested."),
        api_action="stop",
        admin_action="stop",
        done=_("A stop of “%(name)s” was requested."),
        command="stop",
        audit_verb="stop",
        audit_label=_("stopped"),
    ),
    RunVerb(
        name="checkpoint",
        function=checkpoint_now,
        label=_("Save a checkpoint now"),
        help="Save a checkpoint at the next step of a running run.",
        is_possible=takes_requests,
        icon="bi-save",
        already=_("A checkpoint has already been requested; it is saved at the next step."),
        accepted=_("A checkpoint is saved at the next step."),
        api_action="checkpoint",
        admin_action="checkpoint",
        done=_("A checkpoint of “%(name)s” was requested."),
        command="checkpoint",
        audit_verb="order",
        audit_label=_("sent a request to"),
    ),
    RunVerb(
        name="evaluate",
        function=evaluate_now,
        label=_("Evaluate now"),
        help="Validate at the next step of a running run.",
        is_possible=takes_requests,
        icon="bi-clipboard-data",
        already=_("An evaluation has already been requested; it starts at the next step."),
        accepted=_("The evaluation starts at the next step; training continues after it."),
        api_action="evaluate",
        admin_action="evaluate",
        done=_("An evaluation of “%(name)s” was requested."),
        command="evaluate",
        audit_verb="order",
        audit_label=_("sent a request to"),
    ),
    RunVerb(
        name="epochs",
        function=extend_run,
        label=_("Change epochs"),
        help="Change the total epochs of a run; a completed run is queued again.",
        is_possible=_can_change_epochs,
        parameters=(
            Parameter(
                name="epochs",
                kind="number",
                label=_("Total epochs"),
                help="total epochs.",
                is_required=True,
                most=MAX_EPOCHS,
                example=40,
            ),
        ),
        icon="bi-arrows-expand-vertical",
        page=_page("run_epochs"),
        api_action="extend",
        admin_action="extend",
        done=_("The total epochs of “%(name)s” were changed."),
        command="epochs",
        can_wait=True,
        audit_verb="extend",
        audit_label=_("changed the total epochs of"),
    ),
    RunVerb(
        name="fork",
        function=fork_from,
        label=_("Fork from a checkpoint"),
        help="Create a run that starts from a checkpoint of another run.",
        permission=Verb.CREATE,
        is_possible=_can_fork,
        makes_run=True,
        parameters=(
            _NAME,
            Parameter(
                name="checkpoint",
                kind="text",
                label=_("Checkpoint"),
                help="file of the checkpoint; by default the best, or else the last.",
                most=FILE_NAME_LENGTH,
                example="epoch_5.pt",
            ),
            Parameter(
                name="mode",
                kind="choice",
                label=_("Start with"),
                help="continue from the step of the checkpoint, or take over its weights only.",
                choices=("continue", "weights"),
                most=20,
                example="continue",
            ),
            Parameter(
                name="config",
                kind="configuration",
                label=_("Configuration"),
                help="fields of the configuration that differ from those of the run.",
                most=0,
            ),
            Parameter(
                name="priority",
                kind="number",
                label=_("Priority"),
                help="by default that of the run.",
                least=-MAX_PRIORITY,
                most=MAX_PRIORITY,
            ),
        ),
        icon="bi-signpost-split",
        page=_page("run_fork"),
        api_action="fork",
        command="fork",
        can_wait=True,
        audit_verb="fork",
        audit_label=_("forked"),
    ),
    RunVerb(
        name="clone",
        function=clone_run,
        label=_("Clone and edit"),
        help="Create a run with the dataset and the configuration of another run.",
        permission=Verb.CREATE,
        is_possible=_is_installed,
        makes_run=True,
        parameters=(_NAME,),
        icon="bi-copy",
        page=lambda run: f"{reverse('run_new')}?clone={run.pk}",
        api_action="clone",
        admin_action="clone",
        admin_label=_("Clone"),
        done=_("“%(name)s” was cloned."),
        command="clone",
        can_wait=True,
        audit_verb="clone",
        audit_label=_("cloned"),
    ),
    RunVerb(
        name="retry",
        function=retry_run,
        label=_("Retry"),
        help="Queue failed runs again.",
        is_possible=lambda run: _can_be_queued(run) and run.status == Status.FAILED,
        icon="bi-arrow-repeat",
        already=_("The run is already queued or running."),
        api_action="retry",
        admin_action="retry",
        done=_("“%(name)s” was queued."),
        command="retry",
        can_wait=True,
        audit_verb="retry",
        audit_label=_("retried"),
    ),
    RunVerb(
        name="edit",
        function=update_run,
        label=_("Name and limits"),
        help="Change the name, the priority or the limits of a run.",
        permission=Verb.CHANGE,
        icon="bi-sliders",
        page=_page("run_edit"),
        starts_section=True,
        api_operation="change_run",
        own_command="train update",
        audit_verb="change",
    ),
    RunVerb(
        name="tag",
        function=tag_run,
        label=_("Tags and note"),
        help="Add tags to a run or remove them.",
        permission=Verb.CHANGE,
        parameters=(
            Parameter(
                name="add",
                kind="text",
                label=_("Add tags"),
                help="tags to add, separated by commas.",
                most=MAX_TAGS * (TAG_LENGTH + 2),
                example="baseline",
            ),
            Parameter(
                name="remove",
                kind="text",
                label=_("Remove tags"),
                help="tags to remove, separated by commas.",
                most=MAX_TAGS * (TAG_LENGTH + 2),
                example="baseline",
            ),
        ),
        icon="bi-tags",
        page=_page("run_labels"),
        api_action="tag",
        admin_action="tag",
        admin_label=_("Add or remove tags"),
        done=_("The tags of “%(name)s” were changed."),
        command="tag",
        in_selection=True,
        audit_verb="tag",
        audit_label=_("changed the tags of"),
    ),
    RunVerb(
        name="note",
        function=note_run,
        label=_("Note"),
        help="Set the note of a run; an empty text removes it.",
        permission=Verb.CHANGE,
        placement="elsewhere",
        parameters=(
            Parameter(
                name="text",
                kind="text",
                label=_("Note"),
                help="the note.",
                is_required=True,
                least=0,
                most=NOTE_LENGTH,
                example="Best with the smaller learning rate.",
            ),
        ),
        api_action="note",
        admin_action="note",
        done=_("The note of “%(name)s” was changed."),
        command="note",
        audit_verb="note",
        audit_label=_("changed the note of"),
    ),
    RunVerb(
        name="share",
        function=share,
        label=_("Sharing"),
        help="Set who else sees a run.",
        permission=Verb.SHARE,
        icon="bi-people",
        page=lambda run: f"{reverse('run_activity', args=[run.pk])}#sharing",
        api_operation="share_run",
        own_command="train share",
        audit_verb="share",
    ),
    RunVerb(
        name="force_stop",
        function=force_stop_run,
        label=_("Force stop"),
        help="End runs at once, without a checkpoint: for a trainer that does not respond.",
        is_possible=_can_force_stop,
        is_lifecycle=True,
        icon="bi-lightning-charge-fill",
        style="btn-outline-danger",
        page=_page("run_force_stop"),
        is_destructive=True,
        already=_("A force stop has already been requested."),
        api_action="force_stop",
        admin_action="force_stop",
        done=_("A force stop of “%(name)s” was requested."),
        command="force-stop",
        audit_verb="kill",
        audit_label=_("force-stopped"),
    ),
    RunVerb(
        name="archive",
        function=archive_run,
        label=pgettext_lazy("verb", "Archive"),
        help="Hide runs from lists; nothing of them is deleted.",
        permission=Verb.CHANGE,
        is_possible=can_be_archived,
        icon="bi-archive",
        starts_section=True,
        already=_("The run is already archived."),
        accepted=_("The run is archived: lists show it under “Archived”."),
        api_action="archive",
        admin_action="archive",
        done=_("“%(name)s” was archived."),
        command="archive",
        in_selection=True,
        audit_verb="archive",
        audit_label=_("archived"),
    ),
    RunVerb(
        name="restore",
        function=restore_run,
        label=_("Restore"),
        help="Show archived runs in lists again.",
        permission=Verb.CHANGE,
        is_possible=lambda run: run.is_archived,
        placement="button",
        icon="bi-arrow-counterclockwise",
        already=_("The run is not archived."),
        api_action="restore",
        admin_action="restore",
        done=_("“%(name)s” was restored."),
        command="restore",
        in_selection=True,
        audit_verb="unarchive",
        audit_label=_("restored from the archive"),
    ),
    RunVerb(
        name="delete",
        function=delete_run,
        label=_("Delete"),
        help="Delete runs with their files.",
        permission=Verb.DELETE,
        is_possible=can_be_deleted,
        is_lifecycle=True,
        icon="bi-trash3",
        style="btn-outline-danger",
        page=_page("run_delete"),
        is_destructive=True,
        admin_action="delete_with_files",
        admin_label=_("Delete with all files"),
        confirmation=_("These runs are deleted permanently, with their logs, charts and checkpoints."),
        done=_("“%(name)s” was deleted."),
        api_operation="delete_run",
        own_command="train delete",
        in_selection=True,
        audit_verb="delete",
    ),
    RunVerb(
        name="move",
        function=move_in_queue,
        label=_("Move in the queue"),
        help="Move a queued run before or after another one, or to an end of the queue.",
        is_possible=can_be_moved,
        placement="elsewhere",
        api_operation="move_in_queue",
        own_command="queue move",
        audit_verb="move",
        audit_label=_("moved in the queue"),
    ),
    RunVerb(
        name="priority",
        function=set_priority,
        label=_("Priority"),
        help="Change the priority of a run that is not finished.",
        is_possible=can_set_priority,
        placement="elsewhere",
        api_operation="change_run",
        own_command="queue priority",
        audit_verb="priority",
        audit_label=_("changed the priority of"),
    ),
    RunVerb(
        name="create",
        function=create_run,
        label=_("New run"),
        help="Create a run.",
        permission=Verb.CREATE,
        is_possible=_from_a_form,
        placement="elsewhere",
        icon="bi-plus-lg",
        api_operation="create_run",
        own_command="train create",
        audit_verb="create",
    ),
    RunVerb(
        name="check",
        function=check_first,
        label=_("Run preflight check"),
        help="Train a few steps of a configuration, to measure what a run of it needs.",
        permission=Verb.CREATE,
        is_possible=_from_a_form,
        placement="elsewhere",
        icon="bi-clipboard-check",
        api_operation="check_run",
        own_command="train check",
        audit_verb="check",
        audit_label=_("ran a preflight check on"),
    ),
    RunVerb(
        name="preview",
        function=preview_batch,
        label=_("Preview batch"),
        help="Draw the first training batch of a configuration.",
        permission=Verb.CREATE,
        is_possible=_from_a_form,
        placement="elsewhere",
        icon="bi-eye",
        audit_verb="",
    ),
)


def possible_verbs(run: TrainingRun) -> list[str]:
    """The lifecycle verbs that are possible for the run, in the order of the buttons."""
    return [verb.name for verb in RUN_VERBS if verb.is_lifecycle and verb.is_possible(run)]
