"""A migration as the agent runs it: source, target, journal, undo, recovery. The order of things lives here, nothing
else.

How a process is saved or a connection rebuilt is the business of the packages below; who may ask is that of `rpc`
above.
"""
