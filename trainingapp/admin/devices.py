"""Machines, their devices and who held which of them when."""

from django.contrib import admin
from django.template.defaultfilters import filesizeformat
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from trainingapp.admin.base import ReadOnlyAdmin, StudioAdmin, admin_link, list_link
from trainingapp.models import Device, DeviceHold, Host, HostDataset, RunShare


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    list_display = ("name", "is_here", "state", "slots", "cpu_cores", "memory", "disk", "load", "seen_at", "started_at")
    list_filter = ("state", "is_temporary", "seen_at")
    search_fields = ("name", "worker")
    readonly_fields = ("devices_link",)

    @admin.display(description=_("in contact"), boolean=True)
    def is_here(self, host: Host) -> bool:
        return not host.is_away

    @admin.display(description=_("memory"), ordering="memory_bytes")
    def memory(self, host: Host) -> str:
        return filesizeformat(host.memory_bytes)

    @admin.display(description=_("free disk"), ordering="disk_free_bytes")
    def disk(self, host: Host) -> str:
        return filesizeformat(host.disk_free_bytes)

    @admin.display(description=_("devices"))
    def devices_link(self, host: Host) -> SafeString:
        return list_link(Device, host.devices.count(), host__id__exact=host.pk)


@admin.register(Device)
class DeviceAdmin(StudioAdmin):
    list_display = (
        "torch_name",
        "host_link",
        "kind",
        "name",
        "memory",
        "load",
        "problem",
        "is_shareable",
        "is_present",
    )
    list_filter = ("kind", "host", "problem", "is_shareable", "is_present")
    search_fields = ("name", "uuid", "host__name")
    list_select_related = ("host",)
    readonly_fields = ("host_link", "holds_link")
    editable = ("is_shareable",)

    @admin.display(description=_("host"), ordering="host__name")
    def host_link(self, device: Device) -> SafeString | str:
        return admin_link(device.host)

    @admin.display(description=_("memory"), ordering="memory_bytes")
    def memory(self, device: Device) -> str:
        return filesizeformat(device.memory_bytes)

    @admin.display(description=_("holds"))
    def holds_link(self, device: Device) -> SafeString:
        return list_link(DeviceHold, device.holds.count(), device__id__exact=device.pk)


@admin.register(DeviceHold)
class DeviceHoldAdmin(ReadOnlyAdmin):
    list_display = ("taken_at", "device_link", "run_name", "run_link", "attempt", "slots", "is_shared", "released_at")
    list_filter = ("device__host", "device", "is_shared", "taken_at")
    search_fields = ("run_name", "run__name", "device__name", "device__host__name")
    list_select_related = ("device__host", "run")
    date_hierarchy = "taken_at"
    readonly_fields = ("device_link", "run_link")

    @admin.display(description=_("device"), ordering="device")
    def device_link(self, hold: DeviceHold) -> SafeString | str:
        return admin_link(hold.device)

    @admin.display(description=_("run"), ordering="run")
    def run_link(self, hold: DeviceHold) -> SafeString | str:
        return admin_link(hold.run)


@admin.register(RunShare)
class RunShareAdmin(ReadOnlyAdmin):
    list_display = ("run_link", "attempt", "node_rank", "host", "heartbeat_at", "is_leaving", "exit_code", "ended_at")
    list_filter = ("host", "ended_at")
    search_fields = ("run__name", "host", "worker")
    list_select_related = ("run",)
    readonly_fields = ("run_link",)

    @admin.display(description=_("run"), ordering="run")
    def run_link(self, share: RunShare) -> SafeString | str:
        return admin_link(share.run)


@admin.register(HostDataset)
class HostDatasetAdmin(ReadOnlyAdmin):
    list_display = ("key", "host_link", "size", "used_at")
    list_filter = ("host", "used_at")
    search_fields = ("key", "host__name")
    list_select_related = ("host",)
    readonly_fields = ("host_link",)

    @admin.display(description=_("host"), ordering="host__name")
    def host_link(self, copy: HostDataset) -> SafeString | str:
        return admin_link(copy.host)

    @admin.display(description=_("size"), ordering="size_bytes")
    def size(self, copy: HostDataset) -> str:
        return filesizeformat(copy.size_bytes)
