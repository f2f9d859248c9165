"""The HTTP service: one front-end file per protocol, all on the engine's services."""
