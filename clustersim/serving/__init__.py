"""Serving: replicas with continuous batching, their schedulers, and the routers before them."""
