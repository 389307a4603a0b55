"""The network around a pod: namespaces, the gate (hold, flush, lock), raw segments, links and neighbours, conntrack.

Everything here names packets, interfaces and tables; nothing knows about sockets of processes or about migrations.
No program is ever forked: netlink, libnftables and raw sockets only.
"""
