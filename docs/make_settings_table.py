"""Write the settings table of README.md anew from the descriptions in cvstudio.settings: `make readme`."""

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
START, END = "<!-- settings: written by `make readme` -->\n", "<!-- end of settings -->\n"


def settings_table() -> str:
    """The variables of `Environment` as a Markdown table."""
    from cvstudio.settings import Environment

    rows = [
        f"| `{name}` | {'' if field.default_factory else _shown(field.default)} | {field.description} |\n"
        for name, field in Environment.model_fields.items()
    ]
    return "| Variable | Default | What it is |\n|---|---|---|\n" + "".join(rows)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, list):
        default = ",".join(default)
    return f"`{default}`" if default not in ("", None) else ""


def with_table(readme: str) -> str:
    """The text of the README with its table replaced."""
    before, _, rest = readme.partition(START)
    return before + START + settings_table() + END + rest.partition(END)[2]


if __name__ == "__main__":
    sys.path.insert(0, str(REPOSITORY))
    path = REPOSITORY / "README.md"
    path.write_text(with_table(path.read_text()))
