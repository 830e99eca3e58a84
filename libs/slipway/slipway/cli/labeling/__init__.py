"""`slipway label …`: projects, tasks, quality, snapshots."""

import typer
from slipway.cli.labeling import projects, quality, snapshots, tasks

app = typer.Typer(no_args_is_help=True, help="Labels that one can trust: tasks, consensus, snapshots.")
app.add_typer(projects.app, name="project")
app.add_typer(tasks.app, name="tasks")
app.add_typer(tasks.scores, name="scores")
app.add_typer(snapshots.app, name="snapshot")
app.command()(tasks.order)
app.command()(tasks.review)
quality.register(app)
app.command()(snapshots.export)
app.command("import")(snapshots.import_file)
app.command("open")(projects.open_page)

__all__ = ["app"]
