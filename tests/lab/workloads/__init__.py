"""Traffic that can tell whether a single byte went wrong: the sample service and the clients that watch it.

`server.py` and `frames.py` run inside the sample image as /app/server.py and /app/frames.py under a pruned Python 3.11,
so they import little and nothing of this repository. The rest runs on the host, in the client's network namespace.
No Kubernetes and no lab in here: an address is all that a client gets.
"""
