"""Equivariant networks of one interface: (inputs, times, mask) -> raw outputs."""
