"""Studies: replications, explanations, catalogues, assertions."""
