"""The gate in front of a pod during a migration: one nftables table, installed ahead of time, whose stages are flipped.

Every stage is a set that is empty (off) or holds the protocol number of TCP (on). So going from one stage to the next
is a single element in a single transaction, about 0.1 ms, and nothing but a look-up when it is off.

    hold   incoming connection requests are dropped; the client's kernel repeats them a second later
    flush  what leaves carries a zero window and no data; so the peer stops sending and gets no more, while everything
           in flight still arrives and is acknowledged. A data segment refused here was never sent in the kernel's eyes
    lock   no TCP enters or leaves

Loopback traffic passes always. The table is named after the migration; deleting it undoes everything (crash recovery).
"""

from __future__ import annotations

import enum

from podferry import errors
from podferry_agent.net import namespace, nft

_ABSENT = "No such file or directory"


class Stage(enum.Enum):
    """A stage of the gate; the value is the name of its set."""

    HOLD = "holding"
    FLUSH = "flushing"
    LOCK = "locked"


def _ruleset(table: str) -> str:
    # nftables cannot subtract header lengths, so a segment without data is known by its total for each TCP header
    # length; first the three that occur in practice: timestamps, none, timestamps and one SACK block.
    offsets = [8, 5, 11, *(words for words in range(6, 16) if words not in {8, 11})]
    pure = "\n".join(
        f"tcp doff {words} ip length {20 + 4 * words} tcp window set 0 accept\n"
        f"tcp doff {words} ip6 length {4 * words} tcp window set 0 accept"
        for words in offsets
    )
    return f"""
add table inet {table}
delete table inet {table}
table inet {table} {{
    set {Stage.HOLD.value} {{ type inet_proto; }}
    set {Stage.FLUSH.value} {{ type inet_proto; }}
    set {Stage.LOCK.value} {{ type inet_proto; }}
    chain without_data {{
        {pure}
        drop
    }}
    chain incoming {{
        type filter hook input priority 0; policy accept;
        iif "lo" accept
        meta l4proto @{Stage.LOCK.value} drop
        meta l4proto @{Stage.HOLD.value} tcp flags & (syn | ack) == syn drop
    }}
    chain outgoing {{
        type filter hook output priority 0; policy accept;
        oif "lo" accept
        meta l4proto @{Stage.LOCK.value} drop
        meta l4proto @{Stage.FLUSH.value} tcp flags & (syn | rst) == 0 jump without_data
    }}
}}
"""


class Gate:
    """The table of one migration in one network namespace."""

    def __init__(self, where: namespace.NetworkNamespace, table: str) -> None:
        self._where = where
        self._table = table
        self._nft: nft.Nft = where.run(nft.Nft)
        self._installed = False
        self._on: frozenset[Stage] = frozenset()

    def install(self) -> None:
        """Put the table in place with all stages off; a table left from before is replaced. Once installed, nothing."""
        if not self._installed:
            self._run(_ruleset(self._table))
            self._installed, self._on = True, frozenset()

    def set(self, *stages: Stage) -> None:
        """Have exactly `stages` on, in one transaction."""
        self.install()
        wanted = frozenset(stages)
        commands = [f"add element inet {self._table} {stage.value} {{ tcp }}" for stage in wanted - self._on]
        commands += [f"delete element inet {self._table} {stage.value} {{ tcp }}" for stage in self._on - wanted]
        if commands:
            self._run("\n".join(commands))
            self._on = wanted

    @property
    def stages(self) -> frozenset[Stage]:
        """The stages that are on."""
        return self._on

    def find(self) -> frozenset[Stage]:
        """Return the stages that are on in the kernel, whoever switched them; none if there is no such table."""
        try:
            listed = self._run(f"list table inet {self._table}")
        except errors.Permanent as error:
            if _ABSENT in error.message:
                return frozenset()
            raise
        sets = listed.split("chain ")[0].split("set ")[1:]
        on = {text.split()[0] for text in sets if "elements" in text}
        return frozenset(stage for stage in Stage if stage.value in on)

    def remove(self) -> bool:
        """Remove the table, whoever made it; tell whether there was one."""
        self._installed, self._on = False, frozenset()
        try:
            self._run(f"delete table inet {self._table}")
        except errors.Permanent as error:
            if _ABSENT in error.message:
                return False
            raise
        return True

    def close(self) -> None:
        """Free what this process holds; the table stays."""
        self._where.run(self._nft.close)

    def _run(self, commands: str) -> str:
        return self._where.run(lambda: self._nft.run(commands))
