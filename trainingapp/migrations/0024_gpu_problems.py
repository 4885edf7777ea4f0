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
