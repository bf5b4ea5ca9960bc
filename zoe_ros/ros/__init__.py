"""The ROS layer: parameters, a worker for the newest frame, and the node. Thin on purpose."""
