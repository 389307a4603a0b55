"""`make demo`: a live pod moves between two nodes while verified clients talk to it, and a person can watch.

    story     what happens, in order                scene    what is shown while it happens
    evidence  what was found, and whether it is well    report   what is shown at the end
    *.yaml    what is applied with kubectl

Only what a user of podferry could do is done here: kubectl, TCP clients, and a look at the nodes.
"""
