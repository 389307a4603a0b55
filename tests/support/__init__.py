"""Helpers shared by the tests of every tier; nothing here is a test, and nothing outside tests/ imports it."""
