"""From the records of a run to its result: metrics, regime, energy and money, timeline, settings without effect."""
