"""Batches of items through a session: stages, tuning, progress, error policy, ledger."""
