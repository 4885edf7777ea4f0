from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("trainingapp", "0023_notifications"),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name="device",
            name="device_per_host",
        ),
        migrations.AddField(
            model_name="device",
            name="is_exclusive",
            field=models.BooleanField(default=False, verbose_name="exclusive-process mode"),
        ),
        migrations.AddField(
            model_name="device",
            name="problem",
            field=models.CharField(
                blank=True,
                choices=[
                    ("unchecked", "being checked"),
                    ("lost", "lost"),
                    ("unreadable", "unreadable"),
                    ("no_slice", "no MIG instance"),
                    ("prohibited", "compute prohibited"),
                    ("cpu_build", "torch without CUDA"),
                    ("driver", "driver too old"),
                    ("architecture", "architecture not supported"),
                    ("busy", "in exclusive use"),
                    ("timeout", "no response"),
                    ("error", "error"),
                ],
                max_length=16,
                verbose_name="problem",
            ),
        ),
        migrations.AddField(
            model_name="device",
            name="problem_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="explanation"),
        ),
        migrations.AddField(
            model_name="device",
            name="checked_as",
            field=models.CharField(blank=True, max_length=200, verbose_name="checked with"),
        ),
        migrations.AddField(
            model_name="device",
            name="check_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="next check"),
        ),
        migrations.AddField(
            model_name="device",
            name="quarantined_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="quarantined"),
        ),
        migrations.AddField(
            model_name="device",
            name="quarantine_cause",
            field=models.CharField(
                blank=True,
                choices=[
                    ("errors", "errors of runs"),
                    ("stuck", "trainer that does not end"),
                    ("manual", "administrator"),
                ],
                max_length=16,
                verbose_name="cause of the quarantine",
            ),
        ),
        migrations.AddField(
            model_name="device",
            name="quarantine_data",
            field=models.JSONField(blank=True, default=dict, verbose_name="reason of the quarantine"),
        ),
        migrations.AddField(
            model_name="device",
            name="stuck_process",
            field=models.JSONField(blank=True, default=dict, verbose_name="process that does not end"),
        ),
        migrations.AddField(
            model_name="device",
            name="quarantines",
            field=models.PositiveIntegerField(default=0, verbose_name="quarantines in a row"),
        ),
        migrations.AddField(
            model_name="device",
            name="released_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="released"),
        ),
        migrations.AddField(
            model_name="devicehold",
            name="error_class",
            field=models.CharField(blank=True, max_length=40, verbose_name="class of the failure"),
        ),
        migrations.AddField(
            model_name="device",
            name="usable_at",
            field=models.DateTimeField(blank=True, null=True, verbose_name="last usable"),
        ),
        migrations.AddField(
            model_name="host",
            name="gpu_problem",
            field=models.JSONField(blank=True, default=dict, verbose_name="problem of the GPU driver"),
        ),
        migrations.AddConstraint(
            model_name="device",
            constraint=models.UniqueConstraint(
                condition=models.Q(("is_present", True)), fields=("host", "kind", "index"), name="device_per_host"
            ),
        ),
    ]
