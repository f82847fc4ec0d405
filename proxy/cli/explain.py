"""`payproxy explain`: what a request would get, by the very plan that the data path executes."""

from pathlib import Path

import click

from proxy.callers.caller import ANONYMOUS, Caller
from proxy.cli.configuration import load_configuration
from proxy.cli.options import config_option
from proxy.cli.output import ExitCode, Failure, emit, facts, json_option
from proxy.errors import ProxyError
from proxy.routing.compile import route_table
from proxy.routing.plan import Plan, plan
from proxy.routing.target import parse_target
from proxy.settings.sections import Settings
from proxy.settings.values import snapshot_of


@click.command()
@click.argument("method")
@click.argument("path")
@click.option("--caller", "caller_name", default="", help="The caller's table name; default: an anonymous one.")
@config_option
@json_option
def explain(method: str, path: str, caller_name: str, config_path: Path | None, *, as_json: bool) -> None:
    """Print the rule, credential, audience, upstream URL and side that METHOD PATH would get, and why; sends nothing.

    PATH is what stands in the request line, with its query; http://HOST/... for what HTTP_PROXY makes of it.
    """
    settings = load_configuration(config_path).settings
    try:
        table = route_table(snapshot_of(settings, instance="explain"))
        found = plan(method.upper(), parse_target(path), _caller(settings, caller_name), table)
    except ProxyError as error:
        refusal = {"code": error.code, "status": error.status, "detail": error.detail, "sent_upstream": "no"}
        emit(refusal, as_json=as_json, human=f"{error.status} {error.code}: {error.detail}\nNothing would be sent.")
        raise click.exceptions.Exit(ExitCode.FAILED) from None
    answer = _answer(found)
    emit(answer, as_json=as_json, human=facts(list(answer.items())))


def _caller(settings: Settings, name: str) -> Caller:
    if not name:
        return ANONYMOUS
    if name not in settings.callers:
        raise Failure(f"there is no [callers.{name}]", code=ExitCode.USAGE)
    return Caller(name, "")


def _answer(found: Plan) -> dict[str, str]:
    route, key = found.route, found.token_key
    return {
        "route": route.name,
        "rule": f"{' '.join(sorted(route.methods)) or 'any method'} {route.path}",
        "credential": key.credential,
        "audience": key.audience,
        "scope": key.scope,
        "token_url": key.token_url,
        "upstream": route.upstream,
        "url": found.origin.removesuffix(":443").removesuffix(":80") + found.target,
        "side": found.side,
        "why": found.why,
    }
