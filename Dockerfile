# depth_node in a container, on any ROS 2 base image:
#
#   docker build -t zoe_ros .
#   docker build -t zoe_ros --build-arg BASE=ros:humble .
#   docker run --rm --network host --shm-size 1g zoe_ros
#   docker run --rm --network host --shm-size 1g --gpus all zoe_ros \
#     ros2 launch zoe_ros depth.launch.py image_topic:=/camera/image_raw device:=cuda
#
# The torch of PyPI runs on CPUs and on NVIDIA GPUs, and needs 5 GB. pytorch.org has an index of
# smaller ones for CPUs alone: --build-arg TORCH_INDEX=<its address>.
ARG BASE=ros:jazzy
FROM ${BASE}
ARG TORCH_INDEX=

SHELL ["/bin/bash", "-c"]
WORKDIR /ws
COPY . src/zoe_ros

# rviz2 is left out: it needs a display.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip python3-venv \
 && rosdep update --rosdistro "$ROS_DISTRO" \
 && rosdep install --from-paths src --ignore-src --default-yes --dependency-types exec \
      --skip-keys "python3-torch python3-timm-pip python3-huggingface-hub-pip \
        python3-rosbags-pip rviz2" \
 && rm -rf /var/lib/apt/lists/*

# Python packages that the distribution lacks go into an environment that sees those of the
# system. NumPy stays the one that rclpy and cv_bridge were built for.
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" \
 && python3 -m venv --system-site-packages venv \
 && touch venv/COLCON_IGNORE \
 && numpy="numpy==$(venv/bin/python -c 'import numpy; print(numpy.__version__)')" \
 && if [ -n "$TORCH_INDEX" ]; then \
      venv/bin/python -m pip install --no-cache-dir --index-url "$TORCH_INDEX" torch; fi \
 && venv/bin/python -m pip install --no-cache-dir "$numpy" ./src/zoe_ros \
 && venv/bin/python -m pip uninstall --yes zoe_ros

# By the Python of the environment, which then is the one of the installed commands.
RUN source "/opt/ros/$ROS_DISTRO/setup.bash" \
 && venv/bin/python -m colcon build --packages-select zoe_ros

# ros2 launch ends its nodes on SIGINT only.
STOPSIGNAL SIGINT
ENTRYPOINT ["bash", "-c", "source /ws/install/setup.bash && exec \"$@\"", "--"]
CMD ["ros2", "launch", "zoe_ros", "depth.launch.py"]
