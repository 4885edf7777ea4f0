import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Lower

LISTED_BY = ["archived_at", "status", "task", "dataset", "owner", "visibility", "team"]
SORTED_BY = [
    *("name", "best_metric", "val_loss", "total_epochs", "elapsed_s"),
    *("learning_rate", "batch_size", "image_size", "architecture"),
]


class Migration(migrations.Migration):
    """Tags, notes, stars, the archive and saved views; columns and indexes by which long lists of runs are sorted."""

    dependencies = [
        ("trainingapp", "0018_series"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            "Tag",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=40, verbose_name="name")),
            ],
            options={"ordering": ["name"], "verbose_name": "tag", "verbose_name_plural": "tags"},
        ),
        migrations.AddConstraint("tag", models.UniqueConstraint(Lower("name"), name="tag_name")),
        migrations.CreateModel(
            "SavedView",
            [
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120, verbose_name="name")),
                ("query", models.CharField(blank=True, max_length=2000, verbose_name="query")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="views",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="user",
                    ),
                ),
            ],
            options={"ordering": ["name"], "verbose_name": "saved view", "verbose_name_plural": "saved views"},
        ),
        migrations.AddConstraint(
            "savedview", models.UniqueConstraint(fields=["user", "name"], name="view_name_per_user")
        ),
        migrations.RemoveIndex("trainingrun", "run_newest"),
        migrations.RemoveIndex("trainingrun", "run_newest_of_status"),
        # These two are not null: SQLite copies the table for each. The others are added in place.
        migrations.AddField("trainingrun", "note", models.TextField(blank=True, verbose_name="note")),
        migrations.AddField(
            "trainingrun",
            "architecture",
            models.CharField(blank=True, editable=False, max_length=120, verbose_name="architecture"),
        ),
        migrations.AddField(
            "trainingrun", "archived_at", models.DateTimeField(blank=True, null=True, verbose_name="archived")
        ),
        migrations.AddField(
            "trainingrun",
            "val_loss",
            models.FloatField(blank=True, editable=False, null=True, verbose_name="last validation loss"),
        ),
        migrations.AddField(
            "trainingrun",
            "learning_rate",
            models.FloatField(blank=True, editable=False, null=True, verbose_name="learning rate"),
        ),
        migrations.AddField(
            "trainingrun",
            "batch_size",
            models.IntegerField(blank=True, editable=False, null=True, verbose_name="batch size"),
        ),
        migrations.AddField(
            "trainingrun",
            "image_size",
            models.IntegerField(blank=True, editable=False, null=True, verbose_name="image size"),
        ),
        migrations.AddField(
            "trainingrun",
            "tags",
            models.ManyToManyField(blank=True, related_name="runs", to="trainingapp.tag", verbose_name="tags"),
        ),
        migrations.AddField(
            "trainingrun",
            "starred_by",
            models.ManyToManyField(
                blank=True, related_name="starred_runs", to=settings.AUTH_USER_MODEL, verbose_name="starred by"
            ),
        ),
        migrations.AddIndex("trainingrun", models.Index(fields=["-created_at", "-id", *LISTED_BY], name="run_newest")),
        migrations.AddIndex(
            "trainingrun",
            models.Index(
                fields=["status", "-created_at", "-id", *(name for name in LISTED_BY if name != "status")],
                name="run_newest_of_status",
            ),
        ),
        *(
            migrations.AddIndex("trainingrun", models.Index(fields=[column, "id", *LISTED_BY], name=f"run_by_{column}"))
            for column in SORTED_BY
        ),
    ]
