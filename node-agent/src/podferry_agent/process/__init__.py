"""Processes of a container: freezing them, saving them with CRIU, carrying their files, starting and ending them.

Sockets are not looked at here: established connections are CRIU's blind spot on purpose (see `connections`).
"""
