"""Which requests of a migration other rules take."""

import pytest

from proxy.keeper.rule_reach import taken_away
from proxy.migration.state import Rule

PAY = Rule("pay", "/payment/v2", ())


@pytest.mark.parametrize(
    ("after", "taken"),
    [
        ([PAY], ""),
        ([Rule("new", "/payment/v2/payments", ()), PAY], "DELETE /payment/v2/payments would go to the rule new"),
        ([PAY, Rule("new", "/payment/v2/payments", ())], ""),
        ([Rule("new", "/payment/v2/payments", ("GET",)), PAY], ""),
        ([Rule("new", "/payment", ("POST",)), PAY], "POST /payment/v2 would go to the rule new"),
        ([Rule("new", "/payment/*/x", ()), PAY], "DELETE /payment/v2/x would go to the rule new"),
        ([Rule("new", "/other", ()), PAY], ""),
        ([Rule("pay", "/payment/v2", ("GET",)), Rule("all", "/", ())], "DELETE /payment/v2 would go to the rule all"),
        ([Rule("pay", "/payment/v3", ()), Rule("all", "/payment", ())], "DELETE /payment/v2 would go to the rule all"),
        ([Rule("pay", "/payment/v3", ())], ""),
    ],
)
def test_what_another_rule_takes(after: list[Rule], taken: str) -> None:
    """Reads may go anywhere, and so may what no rule takes: that is refused."""
    assert taken_away([PAY], after, left={"pay"}, kept={"pay"}) == taken


def test_what_was_never_ours_may_go_anywhere() -> None:
    """A rule before ours had it already; and another rule of the same migration may take it."""
    special = Rule("special", "/payment/v2/special", ())
    assert taken_away([special, PAY], [Rule("other", "/payment/v2/special", ()), PAY], left={"pay"}, kept={"pay"}) == ""
    assert taken_away([PAY], [special, PAY], left={"pay"}, kept={"pay", "special"}) == ""
    assert taken_away([], [special], left={"pay"}, kept=set()) == ""
