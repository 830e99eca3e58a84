"""The command `slipway`."""

from importlib import import_module
from importlib.metadata import version as installed

import typer
from slipway.cli import (
    accounts,
    alerts,
    datasets,
    endpoints,
    erasures,
    evaluations,
    gates,
    labeling,
    lineage,
    model_tests,
    models,
    monitors,
    pipelines,
    predictions,
    reproduction,
    rollouts,
    runs,
    scoring,
    traces,
    training,
)
from slipway.cli.output import AsJson, Group, print_json

app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Slipway takes deep-learning models from raw data to production and back again.",
)


@app.callback()
def root() -> None:
    """Slipway takes deep-learning models from raw data to production and back again."""


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    if as_json:
        print_json({"version": installed("slipway")})
    else:
        typer.echo(f"slipway {installed('slipway')}")


def _mount_optional(module: str) -> None:
    """Add the commands of a module that is not always installed (the laptop platform, the demo)."""
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        return
    if hasattr(found, "register"):
        found.register(app)
    else:
        app.command()(getattr(found, module.rpartition(".")[2]))


_mount_optional("slipway.cli.platform")
_mount_optional("slipway.cli.demo")
erasures.register(datasets.app)
app.add_typer(datasets.app, name="dataset")
app.add_typer(datasets.branches, name="branch")
app.add_typer(labeling.app, name="label")
app.add_typer(training.app, name="train")
app.add_typer(runs.app, name="run")
app.add_typer(scoring.app, name="score")
evaluations.register(models.app)
gates.register(models.app)
app.add_typer(models.app, name="model")
app.add_typer(model_tests.app, name="test")
app.add_typer(endpoints.app, name="endpoint")
app.add_typer(rollouts.app, name="rollout")
app.add_typer(pipelines.app, name="pipeline")
app.add_typer(monitors.app, name="monitor")
app.add_typer(alerts.app, name="alert")
app.add_typer(accounts.app, name="token")
app.command()(predictions.predict)
app.command()(traces.trace)
app.command()(traces.traces)
app.command()(traces.edges)
app.command("impact")(lineage.impact_command)
app.command()(reproduction.reproduce)


if __name__ == "__main__":
    app()
