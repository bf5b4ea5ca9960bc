"""From images to metric depth: the estimator, and what a device needs to run it fast."""
