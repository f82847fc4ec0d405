"""Which chains in a copy of the log belong to whom, and which keys may sign them."""

from collections.abc import Callable, Collection, Iterable

from proxy.records.chain_check import Tell
from proxy.records.checkpoint_key import fingerprint
from proxy.records.log_finding import Fault, Severity
from proxy.records.verdict import Instance


class Trust:
    """The *trusted* public keys, none for any, and the id of this data directory's chain, *own_chain*.

    In a *shared* copy, chains of other instances may be signed with their own keys.
    """

    def __init__(self, trusted: Iterable[str], *, shared: bool, own_chain: str) -> None:
        self._trusted = frozenset(trusted)
        self._shared = shared
        self._own_chain = own_chain

    def __repr__(self) -> str:
        return f"<Trust in {len(self._trusted)} keys>"

    def judge(self, chains: Collection[Instance], *, teller: Callable[[str], Tell]) -> None:
        """Determine the owners of *chains*, and report keys that should not have signed them."""
        for instance in chains:
            self._judge_keys(instance, teller(instance.name))
        self._name_strangers(chains, teller=teller)

    def may_prune(self, instance: Instance | None, *more: str) -> frozenset[str]:
        """Return the keys that may attest pruning of *instance*: the trusted ones, and its own if it had only one."""
        own = {*instance.keys, *instance.declared, *more} if instance is not None else set(more)
        return self._trusted | own if len(own) == 1 else self._trusted

    def _judge_keys(self, instance: Instance, tell: Tell) -> None:
        """Determine the owner of *instance*, and report keys that should not have signed it."""
        keys = instance.keys
        instance.own = self._own_chain in instance.ids or not self._trusted.isdisjoint([*keys, *instance.declared])
        instance.trusted = bool(keys) and self._trusted.issuperset(keys)
        if self._trusted and (instance.own or not self._shared):
            for key, signed in keys.items():
                if key not in self._trusted:
                    what = (
                        f"record {signed.sequence} is a checkpoint by the key {key}, {fingerprint(key)}, which is not "
                        "trusted: it is not this data directory's, and not named by --key"
                    )
                    tell(Fault.KEY, Severity.ERROR, signed.place, signed.sequence, what)
            return
        for key, signed in list(keys.items())[1:]:
            what = f"from record {signed.sequence} on, checkpoints are by another key, {key}"
            tell(Fault.KEY, Severity.WARNING, signed.place, signed.sequence, what)

    def _name_strangers(self, chains: Collection[Instance], *, teller: Callable[[str], Tell]) -> None:
        """Report chains that someone added beside this data directory's own, in a copy that no other instance has."""
        if self._shared or not any(one.own for one in chains):
            return
        for one in chains:
            if not one.own and not one.keys:
                what = f"{one.check.records} records are of a chain that is not this data directory's and is not signed"
                teller(one.name)(Fault.FORGED, Severity.ERROR, one.place, one.check.first, what)
