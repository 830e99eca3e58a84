"""`slipway model judge | verdicts | override | policy … | alias …`: gates that refuse with a reason."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from slipway.checks.validation import finding_name
from slipway.cli.models import version_name
from slipway.cli.output import AsJson, Limit, console, print_facts, print_json, print_table, state_name, when
from slipway.cli.platform_client import aliases as alias_names
from slipway.cli.platform_client import connect, models
from slipway.cli.scoring import Version, find_version
from slipway.client import SlipwayError, pages, resource
from slipway.registry.v1 import registry_pb2 as reg

policy = typer.Typer(no_args_is_help=True, help="What a version of a model must be to be approved.")
aliases = typer.Typer(no_args_is_help=True, help="Names that point at versions, such as `champion`.")
Model = Annotated[str, typer.Argument(help="Id of the model.", autocompletion=models)]
Alias = Annotated[str, typer.Argument(help="The alias, such as champion.", autocompletion=alias_names)]
_COLORS = {"approved": "green", "refused": "red", "inconclusive": "yellow"}


def judge(
    version: Version,
    evaluation: Annotated[str, typer.Option(help="Id of the evaluation; default: the newest.")] = "",
    as_json: AsJson = False,
) -> None:
    """Judge a version by its model's policy; ends with 1 unless it is approved."""
    client = connect()
    name = find_version(client, version).name
    by = f"{name}/evaluations/{evaluation.rpartition('/')[2]}" if evaluation else ""
    verdict = client.registry.JudgeModelVersion(reg.JudgeModelVersionRequest(name=name, evaluation=by))
    print_json(verdict) if as_json else print_verdict(verdict)
    if verdict.verdict != reg.GateVerdict.APPROVED:
        raise typer.Exit(1)


def verdicts(version: Version, limit: Limit = 20, as_json: AsJson = False) -> None:
    """List the verdicts on a version, newest first; overrides too."""
    client = connect()
    request = reg.ListGateVerdictsRequest(parent=find_version(client, version).name)
    rows = list(pages(client.registry.ListGateVerdicts, request, "gate_verdicts", limit))
    if as_json:
        print_json(rows)
        return
    table = [
        (r.name.rpartition("/")[2], _said(r), f"v{r.policy_version}" if r.policy_version else "none",
         r.creator, when(r.create_time), why(r))
        for r in rows
    ]  # fmt: skip
    print_table(["verdict", "says", "policy", "by", "time", "why"], table, "not judged yet")


def override(
    version: Version,
    verdict: Annotated[str, typer.Argument(help="approve or refuse.")],
    reason: Annotated[
        str, typer.Option("--reason", "-m", help="Why; at least ten characters, kept for good.")
    ],
    as_json: AsJson = False,
) -> None:
    """Decide against the gate; it is kept with who and why. Admins."""
    wanted = {"approve": reg.GateVerdict.APPROVED, "refuse": reg.GateVerdict.REFUSED}.get(verdict)
    if wanted is None:
        text = f"{verdict!r} is no decision; say approve or refuse"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", text)
    client = connect()
    name = find_version(client, version).name
    made = client.registry.OverrideGate(reg.OverrideGateRequest(name=name, verdict=wanted, reason=reason))
    print_json(made) if as_json else print_verdict(made)


@policy.command("set")
def set_policy(
    model: Model,
    file: Annotated[Path, typer.Argument(help="YAML file; docs/gates.md tells what it holds.")],
    as_json: AsJson = False,
) -> None:
    """Give a model its gate policy; each change is a version of its own."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        said = f"{file} cannot be read ({error}); name a YAML file"
        raise SlipwayError("INVALID_ARGUMENT", "INVALID_FIELD", said) from error
    request = reg.SetGatePolicyRequest(parent=resource("models", model), yaml=text)
    made = connect().registry.SetGatePolicy(request)
    print_json(made) if as_json else print_facts([("policy", made.name), ("version", made.version)])


@policy.command("show")
def show_policy(model: Model, as_json: AsJson = False) -> None:
    """Show the policy in force."""
    request = reg.GetGatePolicyRequest(name=f"{resource('models', model)}/gatePolicy")
    found = connect().registry.GetGatePolicy(request)
    if as_json:
        print_json(found)
        return
    facts = [("policy", found.name), ("version", found.version), ("by", found.creator)]
    print_facts([*facts, ("set", when(found.create_time))])
    typer.echo(found.yaml.rstrip())


@aliases.command("set")
def set_alias(
    model: Model,
    alias: Alias,
    version: Annotated[str, typer.Argument(help="vN of the model.")],
    expected: Annotated[
        str, typer.Option(help="vN that you saw it at: refused when somebody moved it meanwhile.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Point an alias at a version; `champion` takes approved ones alone."""
    request = reg.SetAliasRequest(
        name=f"{resource('models', model)}/aliases/{alias}",
        model_version=_of_model(model, version),
        expected_version=_of_model(model, expected) if expected else "",
    )
    made = connect().registry.SetAlias(request)
    print_json(made) if as_json else print_facts([("alias", made.name), ("version", made.model_version)])


@aliases.command("list")
def list_aliases(model: Model, limit: Limit = 50, as_json: AsJson = False) -> None:
    """List the aliases of a model."""
    request = reg.ListAliasesRequest(parent=resource("models", model))
    rows = list(pages(connect().registry.ListAliases, request, "aliases", limit))
    if as_json:
        print_json(rows)
        return
    table = [(r.name.rpartition("/")[2], r.model_version, r.updater, when(r.update_time)) for r in rows]
    print_table(["alias", "version", "by", "set"], table, "no alias yet: `slipway model alias set`")


@aliases.command("delete")
def delete_alias(model: Model, alias: Alias, as_json: AsJson = False) -> None:
    """Take an alias away."""
    request = reg.DeleteAliasRequest(name=f"{resource('models', model)}/aliases/{alias}")
    gone = connect().registry.DeleteAlias(request)
    print_json(gone) if as_json else print_facts([("deleted", gone.name), ("was at", gone.model_version)])


def _of_model(model: str, version: str) -> str:
    if "/" in version:
        return version_name(version)
    return version_name(f"{model.removeprefix('models/')}/{version}")


def print_verdict(verdict: Any) -> None:
    """Print a verdict with every check, failed ones first."""
    said = _said(verdict)
    line = f"[{_COLORS.get(said, 'bold')}]{said.upper()}[/] {escape(verdict.name)}"
    console().print(line, soft_wrap=True)
    policy_said = f"version {verdict.policy_version}" if verdict.policy_version else "none"
    facts = [("policy", "" if verdict.override else policy_said), ("evaluation", verdict.evaluation)]
    facts += [("champion", verdict.champion_version), ("override", verdict.override_reason)]
    print_facts([*facts, ("by", verdict.creator)])
    rows = [
        (finding_name(f), state_name(reg.GateFinding.Outcome, f.outcome), f.value, f.bound, f.example_count,
         f.p_value, f.message)
        for f in verdict.findings
    ]  # fmt: skip
    if rows:
        print_table(["check", "outcome", "value", "bound", "n", "p", "says"], rows)


def why(verdict: Any) -> str:
    """Return in one line why a verdict is what it is."""
    if verdict.override:
        return f"override: {verdict.override_reason}"
    failed = [finding_name(f) for f in verdict.findings if f.outcome != reg.GateFinding.PASSED]
    return ", ".join(failed) or "every check passed"


def _said(verdict: Any) -> str:
    return state_name(reg.GateVerdict.Verdict, verdict.verdict)


def register(app: typer.Typer) -> None:
    """Add the commands to `slipway model`."""
    app.command()(judge)
    app.command()(verdicts)
    app.command()(override)
    app.add_typer(policy, name="policy")
    app.add_typer(aliases, name="alias")
