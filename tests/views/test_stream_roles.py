"""The streams of the table of test_roles.py, on a committed database: they read it in separate threads."""

from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient

from tests.helpers.once import folder_settings
from tests.views.test_roles import LINES, PEOPLE, Line, cases, make_world, outcome


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("line", "visibility"), cases(LINES, streams=True), ids=str)
async def test_each_role_gets_the_stream_of_the_table(
    line: Line, visibility: str, tmp_path: Path, settings: Any
) -> None:
    for name, path in folder_settings(tmp_path).items():
        setattr(settings, name, path)
    world = await sync_to_async(make_world)(visibility)
    address = await sync_to_async(line.address)(world)
    got = {}
    for who in PEOPLE:
        client = AsyncClient()
        if who != "anonymous":
            await client.aforce_login(world.people[who])
        response = await client.get(address, line.data(world))
        got[who] = outcome(response)
        response.close()
    assert got == {who: line.expected(who, visibility) for who in PEOPLE}
