"""Cost: how long operators, collectives and steps take; pure arithmetic on specs and profiles."""
