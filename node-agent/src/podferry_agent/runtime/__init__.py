"""The container runtime as the agent sees it: pods through CRI, OCI bundles, and the hook in front of runc.

What is done *to* the processes of a container is the business of `process`; what is decided about a migration, of
`migration`. containerd, its CRI plugin and runc are spoken to here and nowhere else.
"""
