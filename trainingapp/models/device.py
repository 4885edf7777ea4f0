"""The machines that train, their devices, and who held which of them when."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from trainingapp.contract.limits import NAME_LENGTH
from trainingapp.models.job import Job

#: For so long after a GPU could last be used, a run that chooses its device waits for it rather than train on the CPU.
EXPECTED_FOR = timedelta(days=7)


class Host(models.Model):
    """A machine with a worker. Its worker writes the row; a host that is silent for longer than the lease is away."""

    class State(models.TextChoices):
        """What its worker last reported of itself."""

        WORKING = "working", _("working")
        #: It takes nothing new, and ends when its runs are saved.
        LEAVING = "leaving", _("leaving")
        #: It has ended as intended, and holds nothing.
        LEFT = "left", _("left")

    name = models.CharField(_("name"), max_length=120, unique=True)
    #: Identity of the worker process that reports: "host:pid:start".
    worker = models.CharField(_("worker"), max_length=120, blank=True)
    state = models.CharField(_("state"), max_length=8, choices=State.choices, default=State.WORKING)
    #: Its worker was started for a while only (`run_huey --once`): such a host is soon forgotten.
    is_temporary = models.BooleanField(_("temporary"), default=False)
    #: Runs that may train at the same time on it.
    slots = models.PositiveIntegerField(_("slots"), default=1)
    cpu_cores = models.PositiveIntegerField(_("cores"), default=1)
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    memory_free_bytes = models.BigIntegerField(_("free memory"), default=0)
    disk_free_bytes = models.BigIntegerField(_("free disk"), default=0)
    #: Share of the cores in use, 0 to 1.
    load = models.FloatField(_("load"), default=0)
    #: Versions of what trains there: {"python": ..., "torch": ..., "driver": ...}
    versions = models.JSONField(_("versions"), default=dict, blank=True)
    #: Where other hosts reach it, to train one run together; empty where they do not.
    address = models.CharField(_("address"), max_length=64, blank=True)
    #: Which directories of data and of runs it has, by their ids; empty where no object store is used.
    data_dir_id = models.CharField(_("data directory"), max_length=32, blank=True, editable=False)
    runs_dir_id = models.CharField(_("directory of runs"), max_length=32, blank=True, editable=False)
    #: Why no GPU of it can be used, as message data; empty where the driver can be asked.
    gpu_problem = models.JSONField(_("problem of the GPU driver"), default=dict, blank=True)
    started_at = models.DateTimeField(_("worker started"), null=True, blank=True)
    seen_at = models.DateTimeField(_("last seen"), null=True, blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name = _("host")
        verbose_name_plural = _("hosts")

    def __str__(self) -> str:
        return self.name

    @property
    def is_away(self) -> bool:
        """Its worker has left, or has sent no heartbeat for longer than the lease."""
        lease = timedelta(seconds=settings.HEARTBEAT_LEASE_S)
        return self.has_left or self.seen_at is None or self.seen_at < timezone.now() - lease

    @property
    def has_left(self) -> bool:
        return self.state == self.State.LEFT

    @property
    def is_leaving(self) -> bool:
        """Its worker is saving its runs, and then ends."""
        return self.state == self.State.LEAVING and not self.is_away

    @property
    def takes_work(self) -> bool:
        """Whether its worker reports and takes what is new."""
        return self.state == self.State.WORKING and not self.is_away


class HostDataset(models.Model):
    """A copy of a stored dataset on a host, written by its worker after the download and at each use."""

    host = models.ForeignKey(Host, models.CASCADE, related_name="copies", verbose_name=_("host"))
    key = models.CharField(_("key in the object store"), max_length=96)
    size_bytes = models.BigIntegerField(_("size"), default=0)
    used_at = models.DateTimeField(_("last used"))

    class Meta:
        ordering = ["used_at", "pk"]
        constraints = [models.UniqueConstraint(fields=["host", "key"], name="copy_per_host")]
        verbose_name = _("copy of a dataset")
        verbose_name_plural = _("copies of datasets")

    def __str__(self) -> str:
        return f"{self.key} on {self.host_id}"


def mark_away(host: str) -> None:
    """Let the host count as away until its worker reports again, which it does every few seconds."""
    lease = timedelta(seconds=settings.HEARTBEAT_LEASE_S)
    Host.objects.filter(name=host).update(seen_at=timezone.now() - lease)


class Device(models.Model):
    """Something that a run can be given: the processor of a host, one of its GPUs, or a slice of one (MIG)."""

    class Kind(models.TextChoices):
        CPU = "cpu", _("CPU")
        GPU = "gpu", _("GPU")

    class Problem(models.TextChoices):
        """Why no run can be given the device. `problem_data` explains it."""

        UNCHECKED = "unchecked", _("being checked")
        LOST = "lost", _("lost")
        UNREADABLE = "unreadable", _("unreadable")
        NO_SLICE = "no_slice", _("no MIG instance")
        PROHIBITED = "prohibited", _("compute prohibited")
        CPU_BUILD = "cpu_build", _("torch without CUDA")
        DRIVER = "driver", _("driver too old")
        ARCHITECTURE = "architecture", _("architecture not supported")
        BUSY = "busy", _("in exclusive use")
        TIMEOUT = "timeout", _("no response")
        ERROR = "error", _("error")

    class Cause(models.TextChoices):
        """Why a GPU was quarantined."""

        ERRORS = "errors", _("errors of runs")
        STUCK = "stuck", _("trainer that does not end")
        MANUAL = "manual", _("administrator")

    host = models.ForeignKey(Host, models.CASCADE, related_name="devices", verbose_name=_("host"))
    kind = models.CharField(_("kind"), max_length=8, choices=Kind.choices)
    #: 0 for the processor; the position of a GPU among those of its host, in the order of the PCI bus.
    index = models.PositiveIntegerField(_("number"), default=0)
    name = models.CharField(_("name"), max_length=200, blank=True)
    #: By which the driver knows a GPU ("GPU-...") or a slice ("MIG-..."); empty where it cannot be read.
    uuid = models.CharField(_("UUID"), max_length=100, blank=True)
    #: 0 where it cannot be read, as on boards that share their memory with the processor.
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    memory_free_bytes = models.BigIntegerField(_("free memory"), default=0)
    #: Share in use, 0 to 1; null where it cannot be read.
    load = models.FloatField(_("load"), null=True, blank=True)
    temperature_c = models.FloatField(_("temperature"), null=True, blank=True)
    #: Processes that are not ours: [{"pid": 1, "name": "python", "memory_bytes": 2, "is_graphics": false}, ...]. The
    #: pid is 0 for memory whose processes are invisible, as from within a container.
    foreign = models.JSONField(_("other processes"), default=list, blank=True)
    #: Whether the driver lets one process at a time use it.
    is_exclusive = models.BooleanField(_("exclusive-process mode"), default=False)
    #: Whether several runs that agree to it may be given this device at once.
    is_shareable = models.BooleanField(_("may be shared"), default=True)
    is_present = models.BooleanField(_("present"), default=True)
    #: Empty for a device that can be used.
    problem = models.CharField(_("problem"), max_length=16, choices=Problem.choices, blank=True)
    #: Message data.
    problem_data = models.JSONField(_("explanation"), default=dict, blank=True)
    #: The versions with which torch has tried the GPU; empty where it is to be tried.
    checked_as = models.CharField(_("checked with"), max_length=200, blank=True)
    #: When it is to be tried again; null where nothing would have changed.
    check_at = models.DateTimeField(_("next check"), null=True, blank=True)
    #: Since when no run is given it until it has passed a check, or an administrator releases it.
    quarantined_at = models.DateTimeField(_("quarantined"), null=True, blank=True)
    quarantine_cause = models.CharField(_("cause of the quarantine"), max_length=16, choices=Cause.choices, blank=True)
    #: Message data.
    quarantine_data = models.JSONField(_("reason of the quarantine"), default=dict, blank=True)
    #: The process that does not end: {"pid": 1, "create_time": Unix seconds}
    stuck_process = models.JSONField(_("process that does not end"), default=dict, blank=True)
    #: Quarantines since a run last ended on it without a failure. Each makes the next wait for a check longer.
    quarantines = models.PositiveIntegerField(_("quarantines in a row"), default=0)
    #: When the last quarantine ended: errors before it do not count again.
    released_at = models.DateTimeField(_("released"), null=True, blank=True)
    #: The job that has the GPU while it works; see `scheduling/job_devices.py`.
    job = models.ForeignKey(
        "Job", models.SET_NULL, null=True, blank=True, related_name="devices", verbose_name=_("job")
    )
    #: When a GPU could last be used.
    usable_at = models.DateTimeField(_("last usable"), null=True, blank=True)

    class Meta:
        ordering = ["host__name", "kind", "index"]
        constraints = [
            # A GPU that was removed keeps its row, and its number may then be that of another one.
            models.UniqueConstraint(
                fields=["host", "kind", "index"], condition=models.Q(is_present=True), name="device_per_host"
            )
        ]
        verbose_name = _("device")
        verbose_name_plural = _("devices")

    def __str__(self) -> str:
        return f"{self.host.name} {self.torch_name}"

    @property
    def is_usable(self) -> bool:
        """Whether runs can be given it."""
        return self.is_present and not self.problem and self.quarantined_at is None

    @property
    def explanation_data(self) -> dict[str, object]:
        """Why no run can be given it, as message data; empty for a device that can be used."""
        data: dict[str, object] = self.quarantine_data if self.quarantined_at else self.problem_data
        return data

    @property
    def working_job(self) -> Job | None:
        """The job that uses it now. One that has ended, or whose worker was lost and replaced, does not."""
        return self.job if self.job is not None and self.job.state == Job.State.WORKING else None

    @property
    def was_usable(self) -> bool:
        """Whether a GPU could be used within the last EXPECTED_FOR."""
        return self.usable_at is not None and timezone.now() - self.usable_at < EXPECTED_FOR

    @property
    def is_slice(self) -> bool:
        """Whether it is a slice of a GPU (MIG)."""
        return self.uuid.startswith("MIG-")

    @property
    def torch_name(self) -> str:
        """As torch and the configuration name it: cpu, cuda:0, cuda:1 ..."""
        return "cpu" if self.kind == self.Kind.CPU else f"cuda:{self.index}"

    def named_beside(self, other: "Device") -> str:
        """Its name beside a device: with its host where that is another one."""
        return self.torch_name if self.host_id == other.host_id else f"{self.torch_name} ({self.host.name})"


class DeviceHold(models.Model):
    """A run that has, or had, a device: what the timeline shows. `released_at` is null while it holds it."""

    device = models.ForeignKey(Device, models.CASCADE, related_name="holds", verbose_name=_("device"))
    run = models.ForeignKey(
        "TrainingRun", models.SET_NULL, null=True, blank=True, related_name="holds", verbose_name=_("run")
    )
    #: Stays when the run is deleted.
    run_name = models.CharField(_("name"), max_length=NAME_LENGTH, blank=True)
    attempt = models.PositiveIntegerField(_("attempt"), default=0)
    #: Slots of a processor, or 1 for a GPU.
    slots = models.PositiveIntegerField(_("slots"), default=1)
    #: Memory that is reserved for it; 0 where it is unknown.
    memory_bytes = models.BigIntegerField(_("memory"), default=0)
    is_shared = models.BooleanField(_("shared"), default=False)
    taken_at = models.DateTimeField(_("taken"))
    released_at = models.DateTimeField(_("released"), null=True, blank=True)
    #: The class of the failure with which the attempt ended; empty where it ended without one.
    error_class = models.CharField(_("class of the failure"), max_length=40, blank=True)

    class Meta:
        ordering = ["-taken_at", "-id"]
        indexes = [models.Index(fields=["device", "released_at"], name="hold_open")]
        verbose_name = _("hold of a device")
        verbose_name_plural = _("holds of devices")

    def __str__(self) -> str:
        return f"{self.run_name} on {self.device_id}"


def rank_devices(holds: models.QuerySet[DeviceHold]) -> list[Device]:
    """The devices that an attempt holds, in the order of its ranks: one for each, a CPU as often as it has slots.

    They were stored in this order: those of the host with rank 0 first, and those of one host by their numbers.
    """
    in_order = holds.select_related("device__host").order_by("pk")
    return [hold.device for hold in in_order for _slot in range(hold.slots)]


class Forecast(models.Model):
    """When a queued run was expected to start and to finish, kept to be compared with what came true."""

    run = models.ForeignKey("TrainingRun", models.CASCADE, related_name="forecasts", verbose_name=_("run"))
    made_at = models.DateTimeField(_("made"))
    start_earliest = models.DateTimeField(_("earliest start"), null=True, blank=True)
    start_latest = models.DateTimeField(_("latest start"), null=True, blank=True)
    finish_earliest = models.DateTimeField(_("earliest finish"), null=True, blank=True)
    finish_latest = models.DateTimeField(_("latest finish"), null=True, blank=True)
    #: Finished runs that the forecast was learnt from.
    basis = models.PositiveIntegerField(_("similar runs"), default=0)
    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)

    class Meta:
        ordering = ["-made_at", "-id"]
        indexes = [
            models.Index(fields=["-made_at", "-id"], name="forecast_newest"),
            models.Index(fields=["-finished_at", "run", "made_at", "id"], name="forecast_finished"),
        ]
        verbose_name = _("forecast")
        verbose_name_plural = _("forecasts")

    def __str__(self) -> str:
        return f"{self.run_id} at {self.made_at:%Y-%m-%d %H:%M}"
