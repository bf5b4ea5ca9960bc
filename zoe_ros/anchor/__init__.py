"""Scale of predicted depth from a robot's own range sensors, in plain numpy."""
