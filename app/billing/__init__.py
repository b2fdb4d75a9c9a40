"""Billing: prices, the ledger, and the sums over it."""
