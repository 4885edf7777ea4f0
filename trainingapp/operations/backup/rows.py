"""Rows in Django's serialization format: the database of a portable backup."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypedDict

from django.apps import apps as current_apps
from django.apps.registry import Apps
from django.core import serializers
from django.core.management.color import no_style
from django.core.management.sql import emit_post_migrate_signal
from django.core.serializers.base import DeserializedObject
from django.core.serializers.json import DjangoJSONEncoder
from django.db import DEFAULT_DB_ALIAS, connections, models, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.graph import MigrationGraph
from pydantic import JsonValue

from trainingapp.operations.backup.parts import BATCH_ROWS, ReportProgress, batches

OWN_APP = "trainingapp"
#: Models whose rows `migrate` creates again, or that are temporary.
LEFT_OUT = frozenset({"contenttypes.contenttype", "auth.permission", "sessions.session", "admin.logentry"})


class Record(TypedDict):
    """One line of a file of rows, in Django's serialization format."""

    model: str
    pk: JsonValue
    fields: dict[str, JsonValue]


class _Exact(DjangoJSONEncoder):
    """Keeps microseconds; Django's own encoder rounds times to milliseconds."""

    def default(self, o: object) -> object:
        return o.isoformat() if isinstance(o, datetime) else super().default(o)


def kept_models() -> list[type[models.Model]]:
    """The models whose rows are stored; a model comes after those that it refers to."""
    configs = [(config, None) for config in current_apps.get_app_configs()]
    found = serializers.sort_dependencies(configs, allow_cycles=True)
    return [model for model in found if model._meta.label_lower not in LEFT_OUT and model._meta.managed]


def rows_of(model: type[models.Model]) -> Iterator[tuple[int, bytes]]:
    """The rows of a model in batches: their number, and one line of JSON for each."""
    for batch in batches(model._default_manager.order_by("pk").iterator(chunk_size=BATCH_ROWS)):
        text = serializers.serialize("jsonl", batch, cls=_Exact, use_natural_foreign_keys=True, ensure_ascii=False)
        yield len(batch), text.encode()


def write_rows(folder: Path, report: ReportProgress) -> None:
    """Write the rows of every model to FOLDER/{model}.jsonl."""
    for model in kept_models():
        with (folder / f"{model._meta.label_lower}.jsonl").open("wb") as file:
            for _count, text in rows_of(model):
                file.write(text)
                report("database", len(text))


def load_rows(folder: Path, migrations: Collection[str], report: ReportProgress) -> None:
    """Create the tables of `migrations` in a database without tables and load the rows into them.

    The rows of an older version are loaded into the tables of that version, so that its successors' migrations convert
    them; the caller runs these.
    """
    connection = connections[DEFAULT_DB_ALIAS]
    executor = MigrationExecutor(connection)
    targets = _targets(executor.loader.graph, migrations)
    executor.migrate(targets)
    apps: Apps = executor.loader.project_state(targets).apps
    # Creates content types and permissions, which the rows of groups and users refer to by name.
    emit_post_migrate_signal(verbosity=0, interactive=False, db=DEFAULT_DB_ALIAS, apps=apps, plan=[])
    loader = _Loader(apps, report)
    with transaction.atomic():
        _delete_rows(apps)
        for path in _in_order(folder):
            with path.open(encoding="utf-8") as lines:
                loader.load(path.name.removesuffix(".jsonl"), lines)
        # Rows were inserted with their numbers: the sequences of PostgreSQL must continue after them.
        with connection.cursor() as cursor:
            for statement in connection.ops.sequence_reset_sql(no_style(), list(apps.get_models())):
                cursor.execute(statement)


def _targets(graph: MigrationGraph, migrations: Collection[str]) -> list[tuple[str, str]]:
    """The newest migration of every other app, and of this app the newest ones of `migrations`."""
    stored = {node for node in graph.nodes if node[0] == OWN_APP and ".".join(node) in migrations}
    own = [node for node in stored if not any(child.key in stored for child in graph.node_map[node].children)]
    return sorted([*own, *(node for node in graph.leaf_nodes() if node[0] != OWN_APP)])


def _delete_rows(apps: Apps) -> None:
    """Delete what migrations created: the backup contains those rows too."""
    connection = connections[DEFAULT_DB_ALIAS]
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            if model._meta.label_lower not in LEFT_OUT and model._meta.managed:
                cursor.execute(f"DELETE FROM {connection.ops.quote_name(model._meta.db_table)}")  # noqa: S608 - a quoted name of a table


def _in_order(folder: Path) -> list[Path]:
    """The files of rows, so that users and groups come before the rows that name them."""
    order = {f"{model._meta.label_lower}.jsonl": number for number, model in enumerate(kept_models())}
    paths = folder.glob("*.jsonl")
    return sorted(paths, key=lambda path: (path.name.startswith(OWN_APP), order.get(path.name, len(order)), path.name))


@dataclass
class _Loader:
    """Loads rows: those of this app by the models of the version that wrote them, all others by the present models."""

    apps: Apps
    report: ReportProgress
    #: Keys of rows by the label of the model and the values of the natural key.
    keys: dict[tuple[object, ...], object] = field(default_factory=dict)

    def load(self, label: str, lines: Iterable[str]) -> None:
        is_own = label.startswith(f"{OWN_APP}.")
        try:
            model = (self.apps if is_own else current_apps).get_model(label)
        except LookupError:  # of an app that this installation does not have
            return
        times = [field for field in model._meta.concrete_fields if isinstance(field, models.DateField)]
        # bulk_create would set automatic times to now and leave out many-to-many rows; a raw save does neither.
        saves_each = model._meta.many_to_many or any(field.auto_now or field.auto_now_add for field in times)
        for batch in batches(lines):
            if is_own:
                rows = [self._own_row(model, json.loads(line)) for line in batch]
            else:
                rows = list(serializers.deserialize("jsonl", iter(batch), ignorenonexistent=True))
            if saves_each:
                for row in rows:
                    row.save(force_insert=True)
            else:
                model._default_manager.bulk_create([row.object for row in rows])
            self.report("database", sum(map(len, batch)))

    def _own_row(self, model: type[models.Model], record: Record) -> DeserializedObject:
        """The row of a record. Django's deserializer knows the present models only."""
        row = model(pk=model._meta.pk.to_python(record["pk"]))
        many: dict[str, Sequence[object]] = {}
        for name, value in record["fields"].items():
            found = model._meta.get_field(name)
            if isinstance(found, models.ManyToManyField):
                assert isinstance(value, list)
                many[name] = [self._key(found.remote_field.model, key) for key in value]
            elif isinstance(found, models.ForeignKey):
                setattr(row, found.attname, None if value is None else self._key(found.remote_field.model, value))
            elif isinstance(found, models.Field) and not getattr(found, "generated", False):
                setattr(row, found.attname, found.to_python(value))
        return DeserializedObject(row, many)

    def _key(self, model: type[models.Model], value: JsonValue) -> object:
        """The key of a row of `model` that a record refers to by its key, or by the values of a natural key."""
        if not isinstance(value, list):
            return model._meta.pk.to_python(value)
        name = (model._meta.label, *value)
        if name not in self.keys:  # historical models lack what their natural keys need
            manager = current_apps.get_model(model._meta.label)._default_manager
            self.keys[name] = manager.get_by_natural_key(*value).pk
        return self.keys[name]
