"""`slipway token …`: API tokens and the users behind them."""

from typing import Annotated, Any

import typer
from slipway.cli.output import AsJson, console, print_facts, print_json, print_table
from slipway.cli.platform_client import connect
from slipway.client import SlipwayError

app = typer.Typer(no_args_is_help=True, help="API tokens.")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.command()
def create(
    user: Annotated[str, typer.Option(help="Whose; default: yours.")] = "",
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            help="Create or change the user, with these roles: admin, engineer, reviewer, annotator.",
        ),
    ] = None,
    title: Annotated[str, typer.Option(help="What people read.")] = "",
    expires: Annotated[str, typer.Option(help="Such as 12h or 30d; default: never.")] = "",
    as_json: AsJson = False,
) -> None:
    """Make an API token; its secret is shown once."""
    client = connect()
    if role:
        if not user:
            raise SlipwayError(
                "INVALID_ARGUMENT", "INVALID_FIELD", "--role needs --user: say whose roles they are"
            )
        path = f"/v1/users/{user.removeprefix('users/')}"
        client.rest.send("PUT", path, token=client.token(), json={"roles": role})
    body = {"user": user, "displayName": title, "ttlS": parse_duration(expires) if expires else 0}
    made = client.rest.send("POST", "/v1/tokens", token=client.token(), json=body).json()
    if as_json:
        print_json(made)
        return
    print_facts([("token", made["name"]), ("user", made["user"]), ("expires", made["expireTime"] or "never")])
    console().print(
        f"[bold]{made['secret']}[/bold]\n[dim]keep it: it is not shown again[/dim]", soft_wrap=True
    )


def parse_duration(text: str) -> int:
    """Return seconds of `90s`, `15m`, `12h` or `30d`.

    Raises:
        SlipwayError: It is written otherwise.
    """
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not number.isdecimal() or not int(number):
        raise SlipwayError(
            "INVALID_ARGUMENT", "INVALID_FIELD", f"{text!r} is not a time; write 90s, 15m, 12h or 30d"
        )
    return int(number) * _UNITS[unit]


@app.command("list")
def list_(
    user: Annotated[str, typer.Option(help="Only this user's.")] = "",
    as_json: AsJson = False,
) -> None:
    """List API tokens, without their secrets."""
    client, rows, page_token = connect(), [], ""
    while True:
        params = {"user": user, "pageSize": "1000", "pageToken": page_token}
        page: dict[str, Any] = client.rest.send(
            "GET", "/v1/tokens", token=client.token(), params=params
        ).json()
        rows += page["tokens"]
        page_token = page["nextPageToken"]
        if not page_token:
            break
    if as_json:
        print_json(rows)
        return
    table = [
        (r["name"].partition("/")[2], r["user"], r["displayName"], _state(r), (r["lastUsedTime"] or "")[:19])
        for r in rows
    ]
    print_table(["token", "user", "title", "state", "last used"], table)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(help="Id of the token, as `slipway token list` shows it.")],
    as_json: AsJson = False,
) -> None:
    """End an API token."""
    client = connect()
    path = f"/v1/tokens/{token.removeprefix('tokens/')}:revoke"
    found = client.rest.send("POST", path, token=client.token()).json()
    print_json(found) if as_json else print_facts([("revoked", found["name"]), ("at", found["revokeTime"])])


def _state(row: dict[str, Any]) -> str:
    if row["revokeTime"]:
        return "revoked"
    return f"until {row['expireTime'][:19]}" if row["expireTime"] else "good"
