from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def _indexes_of_the_run(editor: BaseDatabaseSchemaEditor, table: str) -> list[str]:
    """The names of the indexes of the events on the column of the run alone."""
    with editor.connection.cursor() as cursor:
        constraints = editor.connection.introspection.get_constraints(cursor, table)
    return [
        name
        for name, about in constraints.items()
        if about["index"] and not about["unique"] and not about["primary_key"] and about["columns"] == ["run_id"]
    ]


def drop_index(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    """Drop the index by hand: AlterField copies the whole table on SQLite, which may have millions of rows."""
    table = apps.get_model("trainingapp", "RunEvent")._meta.db_table
    for name in _indexes_of_the_run(editor, table):
        editor.execute(editor.sql_delete_index % {"table": editor.quote_name(table), "name": editor.quote_name(name)})


def create_index(apps: StateApps, editor: BaseDatabaseSchemaEditor) -> None:
    model = apps.get_model("trainingapp", "RunEvent")
    if not _indexes_of_the_run(editor, model._meta.db_table):
        editor.execute(editor._create_index_sql(model, fields=[model._meta.get_field("run")]))


class Migration(migrations.Migration):
    """Indexes by which the lists of a large installation are read, and a mark of the events with an evaluation."""

    dependencies = [("trainingapp", "0013_dataset_reading")]

    operations = [
        migrations.AddIndex(
            "trainingrun",
            models.Index(fields=["-created_at", "-id", "owner", "visibility", "team"], name="run_newest"),
        ),
        migrations.AddIndex(
            "trainingrun",
            models.Index(
                fields=["status", "-created_at", "-id", "owner", "visibility", "team"], name="run_newest_of_status"
            ),
        ),
        migrations.AddIndex("trainingrun", models.Index(fields=["status", "-finished_at"], name="run_finished")),
        migrations.AddIndex("checkpoint", models.Index(fields=["-step", "-id"], name="checkpoint_step")),
        migrations.AddIndex("checkpoint", models.Index(fields=["created_at"], name="checkpoint_created")),
        migrations.AddIndex("forecast", models.Index(fields=["-made_at", "-id"], name="forecast_newest")),
        migrations.AddIndex(
            "forecast", models.Index(fields=["-finished_at", "run", "made_at", "id"], name="forecast_finished")
        ),
        migrations.AddIndex("auditentry", models.Index(fields=["-time", "-id"], name="audit_newest")),
        # Null and without a default: SQLite adds such a column without copying the table.
        migrations.AddField(
            "runevent", "is_evaluation", models.BooleanField(editable=False, null=True, verbose_name="evaluation")
        ),
        migrations.AddIndex("runevent", models.Index(fields=["run", "level", "seq"], name="event_run_level_seq")),
        migrations.AddIndex(
            "runevent",
            models.Index(condition=models.Q(("is_evaluation", True)), fields=["run", "seq"], name="event_evaluations"),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField(
                    "runevent",
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=models.deletion.CASCADE,
                        related_name="events",
                        to="trainingapp.trainingrun",
                        verbose_name="run",
                    ),
                )
            ],
            database_operations=[migrations.RunPython(drop_index, create_index)],
        ),
    ]
