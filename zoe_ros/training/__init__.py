"""The paper's recipe: relative depth, then metric heads and a router (specification, 6)."""
