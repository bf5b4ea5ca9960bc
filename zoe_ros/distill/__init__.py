"""A fast model of a robot, learnt from the depth of a teacher on its own recordings."""
