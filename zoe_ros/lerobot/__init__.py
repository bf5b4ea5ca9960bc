"""``zoe run --format lerobot``: images and depth as a LeRobot data set, version 3.0."""
