"""The client that commands use, closed when the command ends; completion of names."""

from collections.abc import Callable

import typer
from slipway.cli.output import CLOSED_AT_THE_END
from slipway.client import Client, resource


def connect() -> Client:
    """Return the client of the platform here; closed with the command."""
    return CLOSED_AT_THE_END.get().enter_context(Client())


def names_of(service: str, method: str, field: str) -> Callable[[str], list[str]]:
    """Return a completion over the ids that a listing has; silent where nothing answers in a second."""

    def complete(incomplete: str) -> list[str]:
        try:
            with Client(timeout_s=1.0) as client:
                stub = getattr(client, service)
                page = getattr(stub, method)(stub.request(method, page_size=200))
                ids = [row.name.rpartition("/")[2] for row in getattr(page, field)]
        except Exception:
            return []
        return [name for name in ids if name.startswith(incomplete)]

    return complete


def names_below(
    service: str, method: str, field: str, *, collection: str, argument: str
) -> Callable[[typer.Context, str], list[str]]:
    """Return a completion over what a listing has below the thing that an earlier argument names."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        try:
            with Client(timeout_s=1.0) as client:
                stub = getattr(client, service)
                parent = resource(collection, str(context.params[argument]))
                page = getattr(stub, method)(stub.request(method, parent=parent, page_size=200))
                ids = [row.name.rpartition("/")[2] for row in getattr(page, field)]
        except Exception:
            return []
        return [name for name in ids if name.startswith(incomplete)]

    return complete


datasets = names_of("ingestion", "ListDatasets", "datasets")
endpoints = names_of("rollout", "ListEndpoints", "endpoints")
models = names_of("registry", "ListModels", "models")
experiments = names_of("registry", "ListExperiments", "experiments")
jobs = names_of("training", "ListTrainingJobs", "training_jobs")
scoring_jobs = names_of("training", "ListScoringJobs", "scoring_jobs")
_in_project = {"collection": "labelingProjects", "argument": "project"}
annotators = names_below("labeling", "ListAnnotators", "annotators", **_in_project)
snapshots = names_below("labeling", "ListSnapshots", "snapshots", **_in_project)
tasks = names_below("labeling", "ListTasks", "tasks", **_in_project)
aliases = names_below("registry", "ListAliases", "aliases", collection="models", argument="model")
projects = names_of("labeling", "ListProjects", "projects")
monitors = names_of("monitoring", "ListMonitors", "monitors")
alerts = names_of("monitoring", "ListAlerts", "alerts")
pipelines = names_of("pipelines", "ListPipelines", "pipelines")
drift_reports = names_below(
    "monitoring", "ListDriftReports", "drift_reports", collection="monitors", argument="endpoint"
)


def versions(incomplete: str) -> list[str]:
    """Complete MODEL, and after the slash MODEL/vN; silent where nothing answers in a second."""
    return _below(incomplete, "models", models, "ListModelVersions", "model_versions", "v")


def pipeline_runs(incomplete: str) -> list[str]:
    """Complete PIPELINE, and after the slash PIPELINE/RUN; silent where nothing answers in a second."""
    method, field = "ListPipelineRuns", "pipeline_runs"
    return _below(incomplete, "pipelines", pipelines, method, field, "", service="pipelines")


def runs(incomplete: str) -> list[str]:
    """Complete EXPERIMENT, and after the slash EXPERIMENT/RUN; silent where nothing answers in a second."""
    return _below(incomplete, "experiments", experiments, "ListRuns", "runs", "")


def _below(
    incomplete: str,
    collection: str,
    above: Callable[[str], list[str]],
    method: str,
    field: str,
    mark: str,
    *,
    service: str = "registry",
) -> list[str]:
    """Complete names of a service that have two parts; `mark` stands before the second."""
    first, slash, _ = incomplete.removeprefix(f"{collection}/").partition("/")
    if not slash:
        return above(incomplete)
    try:
        with Client(timeout_s=1.0) as client:
            stub = getattr(client, service)
            request = stub.request(method, parent=f"{collection}/{first}", page_size=200)
            found = getattr(getattr(stub, method)(request), field)
    except Exception:
        return []
    names = [f"{first}/{mark}{row.name.rpartition('/')[2]}" for row in found]
    return [name for name in names if name.startswith(incomplete)]
