"""What it costs: prices, the ledger, and the sums over it."""
