"""A small Kubernetes API server, in memory, for a lab that has no cluster.

What belongs here: what unmodified clients (kubectl, kopf, the official Python client) can observe over HTTP, and the
few controllers without which deleting would never end (owner references, namespaces, CRDs). What does not: scheduling,
kubelets, authentication, admission plugins, anything of podferry. `README.md` says what is left out.

    server       sockets, routes                       __main__     command line; kubeconfig: how clients find it
    reading      lists, watches                        writing      POST, PUT, PATCH, DELETE
    asking       what a request says                   answers      the forms of an answer; protobuf: a little of it
    rest         create, read, update                  deletion     graceful deletion and finalizers
    store        objects, revisions, history           watch        streams of changes
    resources    what a served kind is                 builtin      the built-in ones; crd: the installed ones
    schema       pruning, defaulting, validation       models       schemas of the built-in kinds
    rules        CEL                                   patch        merge, JSON, strategic; apply: server-side
    defaults     defaults of built-in kinds            validation   their immutability and required fields
    tables       what `kubectl get` prints             columns      the columns of the built-in kinds
    discovery    /api, /apis                           openapi      /openapi/v3
    controllers  garbage collection                    events       core/v1 and events.k8s.io/v1 are one kind

Everything below `server`, `reading` and `writing` is synchronous: one turn of the event loop is one transaction, so
there are no locks.
"""
