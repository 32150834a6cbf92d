"""Write docs/commands.md from the command line itself, so that no option is missing and none is invented.

python docs/make_commands.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.main import get_command

from crgen.cli.main import app

PAGE = Path(__file__).parent / "commands.md"
HEAD = """# Commands and options

*Made by `python docs/make_commands.py`.* Options mean the same on the command line, in [Python](python.md) and in
[jobs files](jobs.md). `crgen COMMAND --help` shows them too. In brackets stands what is used where nothing is given.
"""


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield a command and those below it, each with its name."""
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from commands(below, f"{name} {word}")


def cell(text: str) -> str:
    """Return a text as a table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("[", "\\[")


def default(option: Any) -> str:
    """Return what is used where an option is not given, if its help does not say so itself."""
    value = option.default
    plain = value is None or value is False or value == "" or callable(value) or option.is_flag
    return "" if plain else f" (`{getattr(value, 'value', value)}`)"


def section(name: str, command: Any) -> str:
    """Return what stands of one command."""
    lines = [f"## {name}", "", (command.help or "").strip().replace("\n\n", "\n\n")]
    options = [option for option in command.params if not getattr(option, "hidden", False)]
    if options:
        lines += ["", "| option | what it does |", "|---|---|"]
    for option in options:
        spelled = (
            [*option.opts, *option.secondary_opts] if option.param_type_name == "option" else [option.name.upper()]
        )
        needed = " Needed." if option.required and option.param_type_name == "option" else ""
        text = cell((option.help or "") + needed) + default(option)
        lines.append(f"| {', '.join(f'`{one}`' for one in spelled)} | {text} |")
    return "\n".join(lines)


def page() -> str:
    """Return the page."""
    return (
        "\n\n".join([HEAD.strip(), *(section(name, command) for name, command in commands(get_command(app), "crgen"))])
        + "\n"
    )


if __name__ == "__main__":
    PAGE.write_text(page())
