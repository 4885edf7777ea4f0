"""What axe-core finds on a page, measured against the Web Content Accessibility Guidelines (WCAG) 2.2, level AA."""

from collections.abc import Mapping
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

LEVEL_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
#: All rules of these tags. That on the size of targets is the one of version 2.2, which axe leaves out by default.
#: Two good practices besides: landmarks with names of their own, and images that do not repeat the text beside them.
MORE = ("target-size", "landmark-unique", "image-redundant-alt")
WCAG = {"runOnly": {"type": "tag", "values": LEVEL_AA}, "rules": {name: {"enabled": True} for name in MORE}}
#: In the other theme only colors differ, and with them their contrast.
CONTRAST_ALONE = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
#: The API's documentation is drawn by Swagger UI, whose buttons within buttons are its own.
OUR_OWN = {"exclude": [[".swagger-ui"]]}


OPEN_MENUS = {"include": [["details.menu[open]"]]}


def violations(
    page: Page, name: str, options: Mapping[str, Any] = WCAG, *, context: Mapping[str, Any] = OUR_OWN
) -> list[str]:
    """Each rule that the page violates, with the first elements; `name` says which page it is."""
    found = Axe().run(page, context=dict(context), options=dict(options)).response["violations"]
    return [f"{name} {item['id']}: {[node['html'][:200] for node in item['nodes'][:3]]}" for item in found]
