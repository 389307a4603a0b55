"""Observe → plan → act → publish, one loop per unfinished migration. The only package that imports kopf."""
