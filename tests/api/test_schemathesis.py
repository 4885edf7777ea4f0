"""schemathesis over the whole OpenAPI document, against a real studio with real tokens and a real database.

No answer may be a server error, of an undocumented status or content type, or other than its schema; wrong input must
be refused, other methods too, and nothing may be had without authentication. Not checked is that whatever fits the
schema is accepted: whether a dataset is ready, say, is no matter of schemas.

    SCHEMATHESIS_EXAMPLES   requests that are drawn for each operation in each phase (1, and 10 in the long test);
                            300 give over ten thousand
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.schemathesis_hooks import CHECKPOINT, THINGS
from tests.helpers.studio import REPOSITORY, Studio, wait_for

#: Drawn requests of each operation, and the phases. What the document covers systematically takes two minutes.
CASES = [
    (int(os.environ.get("SCHEMATHESIS_EXAMPLES", "2")), "examples,fuzzing"),
    pytest.param(10, "examples,coverage,fuzzing,stateful", marks=pytest.mark.long),
]
#: Requests that each of the two makes at least. Those of the coverage come from the document itself.
LEAST_DRAWN, LEAST_COVERED = 100, 1000


def fill(studio: Studio) -> str:
    """Runs with a checkpoint, datasets, weights and a job, each from number 1 on; the secret of a token."""
    secret: str = studio.python(
        f"""
        from uuid import UUID
        from django.contrib.auth.models import User
        from django.utils import timezone
        from tests.helpers.tiny import board_of, make_dataset, make_run
        from trainingapp.accounts.tokens import create_token
        from trainingapp.models import Checkpoint, Dataset, Job, Weights

        user = User.objects.create_superuser("admin")
        for number in range(1, {THINGS} + 1):
            dataset = make_dataset(user, name=f"tints {{number}}", images=4)
            run = make_run(user, dataset, name=f"run {{number}}", start=number % 3 == 0)
            checkpoint = Checkpoint(run=run, file="{CHECKPOINT}", attempt=1, epoch=1, step=9, reason="epoch",
                                    size_bytes=3, sha256="0" * 64, is_best=True, is_last=True,
                                    created_at=timezone.now())
            checkpoint.save()
            checkpoint.path.parent.mkdir(parents=True)
            checkpoint.path.write_bytes(b"PK" + bytes([3, 4]))
            if number % 2:
                board_of(run)
            weights = Weights.objects.create(name="tints", version=number, owner=user, task="classification",
                                             architecture="resnet18", run=run, state="ready",
                                             report={{"is_whole": True}})
            weights.folder.mkdir(parents=True)
            weights.path.write_bytes(b"abc")
            state = "done" if number % 2 else "waiting"
            job = Job.objects.create(id=UUID(int=number), kind="export", owner=user, state=state)
            job.folder.mkdir(parents=True)
            (job.folder / "export.zip").write_bytes(b"PK")
        waiting = Dataset.objects.order_by("pk")[:5]
        Dataset.objects.filter(pk__in=[row.pk for row in waiting]).update(status="proposed")
        result = create_token(user, name="schemathesis", scopes=["read", "control", "delete"])[1]
        """
    )
    return secret


@pytest.mark.slow
@pytest.mark.parametrize(("examples", "phases"), CASES, ids=["short", "long"])
def test_every_response_conforms_to_the_document(tmp_path: Path, examples: int, phases: str) -> None:
    installation = Studio(tmp_path / "data", API_RATE_PER_MINUTE="0", LOG_LEVEL="ERROR")
    try:
        installation.migrate()
        secret = fill(installation)
        installation.spawn("web")
        wait_for(installation.answers, 60, "the web server answers")
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{installation.url}/api/v1/openapi.json"),
                *("--header", f"Authorization: Bearer {secret}", "--exclude-checks", "positive_data_acceptance"),
                *("--phases", phases, "--max-examples", str(examples), "--seed", "1", "--request-timeout", "60"),
                *("--continue-on-failure", "--no-color"),
            ],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"},
            capture_output=True,
            text=True,
        )
        print(done.stdout)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n{installation.log.read_text()[-5000:]}"
        found = re.search(r"(\d+) generated", done.stdout)
        assert found is not None
        assert int(found[1]) >= (10_000 if examples >= 300 else LEAST_COVERED if "coverage" in phases else LEAST_DRAWN)
    finally:
        installation.cut_power()
