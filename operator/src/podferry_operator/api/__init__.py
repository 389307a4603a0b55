"""The ServiceMigration resource as Python: what its fields mean, which words it may say. No I/O, no decisions."""
