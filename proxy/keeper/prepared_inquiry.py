"""One inquiry: which GET with which token by the configuration in force, and what the bank answers.

Only `Inquiries` imports this module, when the bank is first to be asked: with our HTTP client below it, it takes 1.4 MB
and 15 ms.
"""

from collections.abc import Awaitable, Callable
from dataclasses import fields

from proxy.clock import Clock
from proxy.errors import Overloaded, UpstreamFault
from proxy.keeper.generation import Generation
from proxy.keeper.inquiry import About, CantAsk, Verdict, side_of, target_of
from proxy.keeper.inquiry_answer import LOOKED_AT_BYTES, Reading, read_answer
from proxy.records.audit_records import Inquiry
from proxy.routing.plan import outbound_target
from proxy.routing.table import RouteSide
from proxy.routing.target import parse_target
from proxy.settings.inquiry import InquirySection
from proxy.tokens.refusals import source_of
from proxy.tokens.token import AccessToken
from proxy.upstream.opener import Upstream
from proxy.upstream.single_get import SingleAnswer, get_once
from proxy.upstream.tls import TlsUnusable

# Upper limit for each of connecting, sending and waiting for the answer.
SECONDS = 15.0


def prepared(about: About, generation: Generation) -> "PreparedInquiry":
    """Return what is to be asked by *generation*, with its token; raises CantAsk."""
    if about.environment != generation.snapshot.environment:
        raise CantAsk(f"the request is of another environment: {about.environment}")
    section = next((one for one in generation.settings.routes if one.name == about.route), None)
    if section is None or not section.inquiry.path:
        raise CantAsk(f"no rule {about.route} with an inquiry is configured: see routes.inquiry in settings.md")
    table = generation.table
    side = side_of(about, next(one for one in table.routes if one.name == about.route))
    target = parse_target(target_of(section.inquiry.path, about.index))
    token = generation.token_manager.live_token(side.token_key.digest)
    if token is None or side.origin not in token.origins:
        raise CantAsk(f"there is no token of credential {about.credential} at present; see `payproxy status`")
    values = next(one for one in generation.snapshot.upstreams if one.name == side.upstream)
    return PreparedInquiry(
        about,
        section.inquiry,
        target=outbound_target(target, strip_prefix=table.match("GET", target.path).strip_prefix, prefix=side.prefix),
        side=side,
        token=token,
        upstream=Upstream(**{field.name: getattr(values, field.name) for field in fields(Upstream)}),
        refused=lambda: generation.token_manager.replace(
            side.token_key.digest,
            token.mint,
            route=about.route,
            source=source_of(about.route, "inquiry", "GET", target.path),
        ),
    )


class PreparedInquiry:
    """One inquiry, with everything that it takes."""

    def __init__(
        self,
        about: About,
        inquiry: InquirySection,
        *,
        target: str,
        side: RouteSide,
        token: AccessToken,
        upstream: Upstream,
        refused: Callable[[], Awaitable[str]],
    ) -> None:
        self._about = about
        self._inquiry = inquiry
        self._target = target
        self._side = side
        self._token = token
        self._upstream = upstream
        self._refused = refused

    async def ask(self, *, who: str, clock: Clock) -> Inquiry:
        """Send the GET once and return what came; a token that was refused is replaced for the next inquiry."""
        answer, cause = SingleAnswer(status=0, content_type="", body=b""), ""
        try:
            answer = await get_once(
                self._upstream, self._target, host_header=self._side.host_header, token=self._token.value.encoded,
                clock=clock, seconds=SECONDS, most_bytes=LOOKED_AT_BYTES + 1,
            )  # fmt: skip
        except (UpstreamFault, Overloaded) as error:
            cause = f"{error.code}: {error.cause or error.detail}"
        except TlsUnusable as error:
            cause = str(error)
        if answer.status == 401:
            cause = f"the bank refused the token; a new one was asked for: {await self._refused()}"
        return self._result(who, answer, cause)

    def _result(self, who: str, answer: SingleAnswer, cause: str) -> Inquiry:
        key = self._side.token_key
        reading = Reading(Verdict.UNCLEAR)
        if answer.status:
            reading = read_answer(self._inquiry, answer.status, answer.body, encoded=answer.encoded)
        return Inquiry(
            exchange=self._about.id,
            who=who,
            route=self._about.route,
            side=self._about.side,
            upstream=self._side.upstream,
            upstream_url=self._side.url,
            credential=key.credential,
            client_digest=key.client_digest,
            audience=key.audience,
            token_fingerprint=self._token.fingerprint,
            asked=f"GET {self._target}",
            status=answer.status,
            cause=cause or reading.why,
            verdict=reading.verdict,
        )
