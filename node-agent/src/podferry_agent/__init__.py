"""The node agent: freezes, saves, sends and restores the containers of a pod, and cuts their connections over.

One process a node, privileged, without a Kubernetes API token. It acts only on orders that the operator admitted, and
checks them again. Layers, top to bottom: rpc, migration, then connections, process and runtime, then net.
"""
