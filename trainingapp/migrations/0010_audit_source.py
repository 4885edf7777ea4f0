from django.db import migrations, models


class Migration(migrations.Migration):
    """Call the door of an audit entry its source. The stored values stay."""

    dependencies = [("trainingapp", "0009_jobs_for_imports")]

    operations = [
        migrations.RenameField("auditentry", "door", "source"),
        migrations.RenameIndex("auditentry", new_name="audit_of_object", old_name="audit_of_thing"),
        migrations.AlterField(
            "auditentry", "kind", models.CharField(blank=True, max_length=24, verbose_name="object type")
        ),
        migrations.AlterField(
            "auditentry",
            "source",
            models.CharField(
                choices=[
                    ("page", "web"),
                    ("admin", "admin"),
                    ("api", "API"),
                    ("command", "command"),
                    ("system", "system"),
                ],
                max_length=16,
                verbose_name="source",
            ),
        ),
    ]
