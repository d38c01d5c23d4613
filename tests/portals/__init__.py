"""Portals on loopback sockets that speak each engine's dialect, and misbehave when told to. For tests only."""
