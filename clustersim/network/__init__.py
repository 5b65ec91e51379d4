"""Networks between nodes."""
