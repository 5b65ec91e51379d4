"""Hardware as values: accelerators, links, nodes, sites; every figure with evidence, source and date."""
