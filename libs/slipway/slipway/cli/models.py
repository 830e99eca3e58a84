"""`slipway model …`."""

from typing import Annotated, Any

import typer
from slipway.cli.output import (
    AsJson,
    Limit,
    print_facts,
    print_json,
    print_table,
    short,
    state_name,
    to_dict,
    when,
)
from slipway.cli.platform_client import connect
from slipway.cli.platform_client import models as model_names
from slipway.client import pages, resource
from slipway.registry.v1 import registry_pb2 as reg

app = typer.Typer(no_args_is_help=True, help="Models and their immutable versions.")


@app.command("list")
def list_(limit: Limit = 50, as_json: AsJson = False) -> None:
    """List models."""
    rows = list(pages(connect().registry.ListModels, reg.ListModelsRequest(), "models", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (r.name.partition("/")[2], f"v{r.latest_version}", r.description, when(r.create_time)) for r in rows
    ]
    print_table(["model", "newest", "description", "created"], table, "no model yet: `slipway train submit`")


@app.command()
def show(
    model: Annotated[
        str, typer.Argument(help="Model, or MODEL/vN for a version.", autocompletion=model_names)
    ],
    as_json: AsJson = False,
) -> None:
    """Show a model, or a version with its evaluation."""
    client = connect()
    if "/" in model.removeprefix("models/"):
        version = client.registry.GetModelVersion(reg.GetModelVersionRequest(name=version_name(model)))
        print_json(version) if as_json else _print_version(version)
        return
    found = client.registry.GetModel(reg.GetModelRequest(name=resource("models", model)))
    if as_json:
        print_json(found)
        return
    facts = [("model", found.name), ("description", found.description), ("creator", found.creator)]
    print_facts([*facts, ("newest version", found.latest_version), ("created", when(found.create_time))])


@app.command()
def versions(
    model: Annotated[str, typer.Argument(help="The model.", autocompletion=model_names)],
    limit: Limit = 20,
    as_json: AsJson = False,
) -> None:
    """List the versions of a model, newest first."""
    request = reg.ListModelVersionsRequest(parent=resource("models", model))
    rows = list(pages(connect().registry.ListModelVersions, request, "model_versions", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        ("v" + r.name.rpartition("/")[2], _state(r), ", ".join(r.aliases), _figures(r), r.run,
         short(r.dataset_commit), when(r.create_time))
        for r in rows
    ]  # fmt: skip
    columns = ["version", "state", "aliases", "evaluation", "run", "commit", "created"]
    print_table(columns, table, "no version yet")


def version_name(text: str) -> str:
    """Return `models/{m}/versions/{n}` of MODEL/vN, MODEL/N or the whole name."""
    if "/versions/" in text:
        return text
    model, _, number = text.removeprefix("models/").partition("/")
    return f"models/{model}/versions/{number.removeprefix('v')}"


def _print_version(version: Any) -> None:
    facts = [("version", version.name), ("state", _state(version)), ("by", version.gate_verdict)]
    facts += [("aliases", ", ".join(version.aliases)), ("run", version.run)]
    facts += [("commit", version.dataset_commit), ("contains erased", ", ".join(version.contains_erased))]
    facts += [("code", version.code_digest), ("bundle", version.bundle), ("bytes", version.size_bytes)]
    facts += [
        ("parity, max. difference", version.parity_max_abs_diff),
        ("created", when(version.create_time)),
    ]
    print_facts(facts)
    evaluation = version.evaluation
    figures = to_dict(evaluation)
    rows = [(k, v, figures["baseline"].get(k, "")) for k, v in sorted(figures["metrics"].items())]
    print_table(
        [f"{evaluation.split} ({evaluation.example_count})", "value", "baseline"], rows, "no evaluation"
    )
    classes = [(c.label, c.support, c.precision, c.recall, c.f1) for c in evaluation.per_class]
    print_table(["class", "support", "precision", "recall", "f1"], classes)


def _state(version: Any) -> str:
    state = state_name(reg.ModelVersion.State, version.state)
    return state if version.gated else f"{state}, no gate"


def _figures(version: Any) -> str:
    return " ".join(f"{key}={value:.4g}" for key, value in sorted(version.evaluation.metrics.items())[:3])
