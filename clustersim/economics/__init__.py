"""Money, energy, carbon and water. Floats in, floats out: no hardware, no simulation."""
