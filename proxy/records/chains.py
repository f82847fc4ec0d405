"""The chains in a copy of the log, and the assignment of records to them."""

from collections.abc import Callable

from proxy.records.chain import Link
from proxy.records.chain_check import ChainCheck, Tell
from proxy.records.checkpoint_key import Checkpoint
from proxy.records.delivered import Delivered
from proxy.records.log_finding import Place
from proxy.records.verdict import Instance


class Chains:
    """All chains found so far, `by_name` (a second one of a name with its id); *teller* makes a chain's reporter."""

    def __init__(self, teller: Callable[[str], Tell]) -> None:
        self.by_name: dict[str, Instance] = {}
        self._teller = teller
        self._named: dict[str, Instance] = {}
        self._by_id: dict[str, Instance] = {}

    def __repr__(self) -> str:
        return f"<Chains {', '.join(self.by_name)}>"

    def of(self, link: Link, name: str, chain: str) -> Instance | None:
        """Return the chain that *link* continues, else the chain of the last record named *name*.

        Ids, and hashes where there is no id yet, take precedence over names: a host may come back under another name,
        and commands run on other hosts. But records after a gap must not hide that gap by counting as a chain of their
        own.
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
        """Return a new chain, and whether *name* is already taken."""
        key = f"{name} {chain}" if name in self.by_name else name
        instance = Instance(name=name, check=ChainCheck(self._teller(key)), place=Place(0, ""))
        self.by_name[key] = instance
        return instance, key != name

    def note(self, instance: Instance, name: str, chain: str) -> None:
        """Note that *instance* has a record with *name* and the id *chain*."""
        instance.names[name] = None
        self._named[name] = instance
        if chain:
            instance.ids[chain] = None
            self._by_id[chain] = instance

    def anchored(self, claim: Checkpoint) -> Instance | None:
        """Return the chain that has the record of *claim*, else the one with that id or name, else the only chain."""
        if claim.chain in self._by_id:
            return self._by_id[claim.chain]
        only = next(iter(self.by_name.values())) if len(self.by_name) == 1 else None
        named = self._named.get(claim.instance, only)
        for instance in (named, *self.by_name.values()):
            if instance is not None and instance.check.remembers(claim.sequence, claim.hash):
                return instance
        return None if named is not None and claim.chain and named.ids else named

    def delivered(self, claim: Delivered, *, shared: bool) -> Instance | None:
        """Return the chain of this data directory in a copy; *shared*: the copy may hold other instances' chains."""
        if claim.chain in self._by_id:
            return self._by_id[claim.chain]
        for instance in self.by_name.values():
            if claim.hash and instance.check.remembers(claim.last, claim.hash):
                return instance
        # Records from before chain ids existed.
        own = [one for one in self.by_name.values() if not one.ids and (one.own or not shared)]
        return own[0] if len(own) == 1 else None
