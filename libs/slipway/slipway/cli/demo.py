"""`slipway demo NAME`: runs the story of an example, `examples/NAME/story.py`."""

import importlib.util
import sys
from pathlib import Path
from typing import Annotated

import typer
from slipway.cli.output import console, errors_console
from slipway.cli.platform import STATE, PortOption

EXAMPLES = Path("examples")


def names() -> list[str]:
    """Return the examples that have a story."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/story.py"))


def demo(
    name: Annotated[str, typer.Argument(help="Which example's story.", autocompletion=names)] = "",
    json_path: Annotated[
        Path | None, typer.Option("--json", help="Write the figures of every step to this file.")
    ] = None,
    port_base: PortOption = None,
) -> None:
    """Start the platform and run an example's story from upload to a traced prediction."""
    from slipway_local.platform import layout_of

    screen = console()
    known = names()
    if name not in known:
        if known:
            hint = f"examples with a story: {', '.join(known)}"
        else:
            hint = f"there is no folder {EXAMPLES}/ here: run it from a clone of the repository"
        errors_console().print(f"[red]no story {name!r}[/red]; {hint}")
        raise typer.Exit(2)
    if json_path is not None and not json_path.absolute().parent.is_dir():
        raise typer.BadParameter(f"there is no folder {json_path.parent}; make it first", param_hint="--json")
    folder = (EXAMPLES / name).resolve()
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("story", folder / "story.py")
    assert spec is not None
    assert spec.loader is not None
    story = importlib.util.module_from_spec(spec)
    sys.modules["story"] = story
    spec.loader.exec_module(story)
    story.run(screen, port_base=layout_of(STATE, port_base).port_base, json_path=json_path)
