"""The connection engine: finds a pod's TCP connections, takes them apart on the source, rebuilds them on the target.

`source` and `target` are its two halves, `backend` what a migration sees of it. The parts below them: `find` and
`survey` (sockets of processes), `tcp_info` (the kernel's figures), `options` (socket options), `repair` (TCP_REPAIR),
`drain` (nothing in flight), `wakeup` (window updates), `audit` (what became of each connection). Nothing here knows
about migrations, journals or the other agent.
"""
