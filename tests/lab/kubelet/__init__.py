"""The lab's kubelet: runs the pods bound to its node through containerd's CRI, as the real kubelet does.

It does what a migration can feel of the real one: order of calls, names, labels, annotations and cgroups, one blocking
sync per pod, request time-outs, back-off, probes, status, graceful deletion, removal of cgroups that belong to no pod.
It knows nothing of what moves a pod.

What it is not: no image pulls, init containers, service account tokens, cluster DNS, service variables, eviction,
resource accounting, logs/exec server. A pod that asks for what it would get differently is refused with phase Failed.

Pure modules decide (pods, quantities, resources, security, env, sandbox, container, observation, plan, backoff, status,
probe); the others do (cri, volumes, cgroups, prober, events, worker, kubelet, node); __main__ wires.
"""
