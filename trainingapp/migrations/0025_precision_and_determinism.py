"""Mixed precision and determinism are choices of three, which were switches, in stored configurations."""

from collections.abc import Callable
from typing import Any

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

BATCH = 500

#: field: (the choice of true, the choice of false, that of a configuration without the field)
SWITCHES = {"amp": ("on", "off", "off"), "deterministic": ("exact", "fast", "exact")}


def with_choices(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with choices for the values of switches. Only those of runs and models are complete."""
    if "epochs" not in config:
        return config
    found = {}
    for name, (on, off, default) in SWITCHES.items():
        value = config.get(name, default)
        found[name] = (on if value else off) if isinstance(value, bool) else value
    return {**config, **found}


def with_switches(config: dict[str, Any]) -> dict[str, Any]:
    """The inverse. Automatic becomes what it was closest to: off, and deterministic."""
    found = {}
    for name, (on, off, default) in SWITCHES.items():
        if name in config:
            value = default if config[name] == "auto" else config[name]
            found[name] = {on: True, off: False}.get(value, value)
    return {**config, **found}


def rewrite(apps: Apps, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    for name in ("TrainingRun", "Weights"):
        manager: Any = apps.get_model("trainingapp", name).objects
        rows = []
        for row in manager.only("pk", "config").iterator(BATCH):
            changed = change(row.config)
            if changed != row.config:
                row.config = changed
                rows.append(row)
            if len(rows) == BATCH:
                manager.bulk_update(rows, ["config"])
                rows.clear()
        if rows:
            manager.bulk_update(rows, ["config"])


def forwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    rewrite(apps, with_choices)


def backwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    rewrite(apps, with_switches)


class Migration(migrations.Migration):
    dependencies = [("trainingapp", "0024_gpu_problems")]

    operations = [migrations.RunPython(forwards, backwards)]
