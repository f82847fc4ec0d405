"""The chains in a copy of the log, and to which of them a record belongs."""

from collections.abc import Callable

from proxy.records.chain import Link
from proxy.records.chain_check import ChainCheck, Tell
from proxy.records.checkpoint_key import Checkpoint
from proxy.records.delivered import Delivered
from proxy.records.log_finding import Place
from proxy.records.verdict import Instance


class Chains:
    """All chains so far, `by_name`; *teller* makes what notes flaws of one. Two of one name have it with the id."""

    def __init__(self, teller: Callable[[str], Tell]) -> None:
        self.by_name: dict[str, Instance] = {}
        self._teller = teller
        self._named: dict[str, Instance] = {}
        self._by_id: dict[str, Instance] = {}

    def __repr__(self) -> str:
        return f"<Chains {', '.join(self.by_name)}>"

    def of(self, link: Link, name: str, chain: str) -> Instance | None:
        """Return the chain that *link* goes on, else the one of which a record by *name* was the last.

        Ids tell, and hashes where there is none yet, before names: a host may come back under another name, and
        commands run on other hosts. But what the named chain lacks must not be hidden by what stands behind it and
        begins as if it were a chain of its own.
        """
        if chain in self._by_id:
            return self._by_id[chain]
        named = self._named.get(name)
        if named is not None and named.check.precedes(link):
            return named
        for instance in self.by_name.values():
            if instance.check.precedes(link) and (named is None or instance.check.first <= named.check.last):
                return instance
        if chain and named is not None and (named.ids or link.sequence == 1):
            return None
        return named

    def begin(self, name: str, chain: str) -> tuple[Instance, bool]:
        """Return a new chain, and whether there is one of its *name* already."""
        key = f"{name} {chain}" if name in self.by_name else name
        instance = Instance(name=name, check=ChainCheck(self._teller(key)), place=Place(0, ""))
        self.by_name[key] = instance
        return instance, key != name

    def note(self, instance: Instance, name: str, chain: str) -> None:
        """Note that *instance* has a record by *name* of *chain*."""
        instance.names[name] = None
        self._named[name] = instance
        if chain:
            instance.ids[chain] = None
            self._by_id[chain] = instance

    def anchored(self, claim: Checkpoint) -> Instance | None:
        """Return the chain that has what *claim* claims, else the one of that id or name, else the only one."""
        if claim.chain in self._by_id:
            return self._by_id[claim.chain]
        only = next(iter(self.by_name.values())) if len(self.by_name) == 1 else None
        named = self._named.get(claim.instance, only)
        for instance in (named, *self.by_name.values()):
            if instance is not None and instance.check.remembers(claim.sequence, claim.hash):
                return instance
        return None if named is not None and claim.chain and named.ids else named

    def delivered(self, claim: Delivered, *, shared: bool) -> Instance | None:
        """Return this data directory's chain, in a copy that may be *shared* with others."""
        if claim.chain in self._by_id:
            return self._by_id[claim.chain]
        for instance in self.by_name.values():
            if claim.hash and instance.check.remembers(claim.last, claim.hash):
                return instance
        # Written before there were ids.
        own = [one for one in self.by_name.values() if not one.ids and (one.own or not shared)]
        return own[0] if len(own) == 1 else None
