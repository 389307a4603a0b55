"""The outside world: Kubernetes' API and the node agents. Foreign errors end here; no decisions here."""
