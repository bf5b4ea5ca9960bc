"""A synthetic world with exact depth: rooms and streets, ray cast on the CPU."""
