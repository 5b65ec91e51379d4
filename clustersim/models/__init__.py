"""Models: their shape, memory and operators, without any device."""
