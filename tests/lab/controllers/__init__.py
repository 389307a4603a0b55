"""The controllers that the lab cannot do without, run on the host beside the API: services find their pods.

Only EndpointSlices of services with a selector, as the real controller makes them. `slices` decides and is pure,
`endpoint_slices` watches and writes, __main__ wires.
"""
