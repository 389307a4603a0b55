"""The operator: watches ServiceMigration, plans, creates the target pod, drives the source agent, publishes status.

Layers, top to bottom: handlers (the only user of kopf), clients (agents and Kubernetes), domain (pure decisions), api
(the resource as Python). It prepares and it cleans up; between freeze and resume the agents are on their own.
"""
