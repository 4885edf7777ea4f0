"""The event stream of the API for every role. Its thread sees only what is committed, so that nothing is shared."""

from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.test import AsyncClient, override_settings

from tests.api.conftest import token_of
from tests.api.test_roles import MAY, PEOPLE, make_world
from tests.helpers.once import folder_settings


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("visibility", MAY)
async def test_the_event_stream_requires_the_permission_to_see_the_run(visibility: str, tmp_path: Path) -> None:
    with override_settings(**folder_settings(tmp_path)):
        world = await sync_to_async(make_world)(visibility)
    address = f"/api/v1/training/{world.numbers['run']}/events?max_s=0.1"
    for who in PEOPLE:
        for scopes in (("read",), ("control", "delete")):
            headers = {}
            if who in world.people:
                secret = await sync_to_async(token_of)(world.people[who], *scopes)
                headers = {"Authorization": f"Bearer {secret}"}
            response = await AsyncClient().get(address, headers=headers)
            seen = 200 if who in MAY[visibility]["see"] else 404
            wanted = 401 if who == "nobody" else seen if "read" in scopes else 403
            assert response.status_code == wanted, (who, scopes)
            response.close()
